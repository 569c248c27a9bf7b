/**
 * `isthmus join --token-file`: a cluster's half of a join. All keys are made here and go into this cluster alone; what leaves is their
 * public halves, signed with the token.
 *
 * What can fail without the authority is tried before it is asked: the token is used up by the first answer, so a cluster that cannot be
 * written to must be noticed before.
 */
import { generateKeyPairSync, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { stringify } from 'yaml';
import { newEtcdRequest } from '../ca/etcd_request.ts';
import { makeFederationCa } from '../ca/federation.ts';
import { IsthmusError } from '../core/errors.ts';
import { realClock } from '../ops/clock.ts';
import { storeKeys } from '../records/keys.ts';
import { connectStore, type EtcdStore } from '../store/etcd.ts';
import { type Answer, requestDigest, signRequest, type Terms, verifyAnswer } from '../trust/joining.ts';
import { type Member, verifyMembership } from '../trust/membership.ts';
import { authorityOfToken, checkTokenTime, readToken, type Token, tokenKey } from '../trust/tokens.ts';
import { fingerprintOf, mustBePrivate } from './authority_key.ts';
import { readNamed } from './files.ts';
import { step } from './output.ts';

/** The member bundle, by file name. */
export type Bundle = Readonly<Record<string, Buffer>>;

export interface Joined {
  readonly token: Token;
  readonly member: Member;
  readonly bundle: Bundle;
  /** As the new member; open until `close`. */
  readonly store: EtcdStore;
  /** Tells the authority that the answer was taken. */
  done(): Promise<void>;
  close(): Promise<void>;
}

const yearS = 365 * 86_400;
const pollMs = 200;
const pause = (ms: number): Promise<void> => new Promise((resolve) => realClock.after(ms, resolve));

/** `-`: standard input. @throws IsthmusError token/…, files/invalid */
export const readTokenFile = (path: string): Token => {
  if (path !== '-') mustBePrivate('--token-file', path);
  const read = readToken(readNamed('--token-file', path === '-' ? '/dev/stdin' : path));
  if (!read.ok) throw read.error;
  return read.value;
};

export interface TokenChecks {
  /** The name that this cluster must get. */
  readonly cluster?: string;
  /** The authority's fingerprint, as told by another way than the token. */
  readonly authority?: string;
}

/** @throws IsthmusError token/expired, token/mismatch */
export const checkToken = (token: Token, { cluster, authority }: TokenChecks): void => {
  const inTime = checkTokenTime(token, realClock.wallMs());
  if (!inTime.ok) throw inTime.error;
  if (cluster !== undefined && cluster !== token.cluster) {
    throw new IsthmusError('token/mismatch', `the token is for cluster ${token.cluster}, not for ${cluster}`, {
      hint: `make one with --cluster ${cluster}`,
      subject: { token: token.id },
    });
  }
  const fingerprint = fingerprintOf(authorityOfToken(token));
  if (authority === undefined || authority === fingerprint) return;
  throw new IsthmusError('token/mismatch', `the token is by authority ${fingerprint}, not by ${authority}`, {
    hint: 'somebody may have exchanged it: ask for it again, by another way',
    subject: { token: token.id },
  });
};

interface Keys {
  readonly record: KeyObject;
  readonly federation: { readonly cert: string; readonly key: string };
  readonly etcd: { readonly request: string; readonly key: string };
}

const makeKeys = async (token: Token): Promise<Keys> => {
  const input = {
    clusterset: token.clusterset,
    member: token.cluster,
    ttlS: 10 * yearS,
    nowMs: realClock.wallMs(),
  };
  return {
    record: generateKeyPairSync('ed25519').privateKey,
    federation: await makeFederationCa(input, (bytes) => new Uint8Array(randomBytes(bytes))),
    etcd: await newEtcdRequest(),
  };
};

const storeOf = (
  token: Token,
  { cert, key, signs }: { readonly cert: string; readonly key: string; readonly signs?: KeyObject },
  allowUnsafe: boolean,
): EtcdStore =>
  connectStore({
    endpoints: token.endpoints,
    ca: Buffer.from(token.etcdCa),
    cert: Buffer.from(cert),
    key: Buffer.from(key),
    clock: realClock,
    allowUnsafeVersion: allowUnsafe,
    writes:
      token.writeEndpoints === undefined || signs === undefined
        ? undefined
        : { endpoints: token.writeEndpoints, recordKey: () => signs },
    log: () => {},
  });

/** A token whose user etcd does not know any more was used, or withdrawn. */
const asToken = (token: Token, error: unknown): unknown => {
  if (!(error instanceof IsthmusError) || error.code !== 'store/denied') return error;
  return new IsthmusError('token/used', `etcd lets nobody in by token ${token.id} any more: it was used or withdrawn`, {
    hint: 'ask for a new one (isthmus token create)',
    subject: { token: token.id },
    cause: error,
  });
};

const send = async (store: EtcdStore, token: Token, request: Uint8Array): Promise<void> => {
  const key = storeKeys(token.clusterset).joinRequest(token.id);
  const puts = [{ key, value: request }];
  const done = await store.commit({ compare: [{ key, modRevision: 0n }], puts, deletes: [] });
  if (done.ok) return;
  // For the authority to see that two had the token.
  const late = `${key}/${Buffer.from(requestDigest(request)).toString('hex').slice(0, 16)}`;
  await store.commit({ compare: [], puts: [{ key: late, value: Buffer.from('late') }], deletes: [] });
  throw new IsthmusError('token/used', `somebody else asks to join with token ${token.id}`, {
    hint: 'if that was not you, tell whoever gave you the token; ask for a new one',
    subject: { token: token.id },
  });
};

const awaitAnswer = async (store: EtcdStore, token: Token, request: Uint8Array, untilMs: number): Promise<Answer> => {
  const key = storeKeys(token.clusterset).joinAnswer(token.id);
  for (;;) {
    const entry = (await store.list(key)).entries.find((one) => one.key === key);
    if (entry !== undefined) {
      const answer = verifyAnswer(entry.value, token, request, authorityOfToken(token));
      if (!answer.ok) throw answer.error;
      return answer.value;
    }
    if (realClock.wallMs() >= Math.min(untilMs, token.expiresMs)) {
      throw new IsthmusError('join/timeout', `nobody approved token ${token.id} in time`, {
        hint: `at the authority: isthmus approve ${token.id}; then run this again with a new token`,
        subject: { token: token.id },
      });
    }
    await pause(pollMs);
  }
};

/** What the authority says must be of us: our name, our keys. @throws IsthmusError member/…, trust/invalid */
const checkAnswer = (token: Token, keys: Keys, answer: Answer): Member => {
  const verified = verifyMembership(answer.membership, {
    clusterset: token.clusterset,
    name: token.cluster,
    authorityKey: authorityOfToken(token),
    wallMs: realClock.wallMs(),
    highWater: undefined,
  });
  if (!verified.ok) throw verified.error;
  const { member } = verified.value;
  const same =
    Buffer.from(member.federationCa).equals(new X509Certificate(keys.federation.cert).raw) &&
    new X509Certificate(answer.etcdCert).subject === `CN=${token.cluster}`;
  if (same) return member;
  throw new IsthmusError('trust/invalid', 'the answer holds a certificate that is not of the keys made here');
};

const bundleOf = (token: Token, keys: Keys, answer: Answer, member: Member): Bundle => {
  const pem = (text: string): Buffer => Buffer.from(text);
  const config = {
    clusterset: token.clusterset,
    member: token.cluster,
    network: member.network,
    store: {
      endpoints: [...token.endpoints],
      ...(answer.writeEndpoints !== undefined && { writeEndpoints: [...answer.writeEndpoints] }),
    },
  };
  return {
    'member.yaml': pem(stringify(config)),
    'authority.pem': pem(authorityOfToken(token).export({ type: 'spki', format: 'pem' }) as string),
    'record-key.pem': pem(keys.record.export({ type: 'pkcs8', format: 'pem' }) as string),
    'federation-ca.pem': pem(keys.federation.cert),
    'federation-ca-key.pem': pem(keys.federation.key),
    'etcd-ca.pem': pem(token.etcdCa),
    'etcd-client.pem': pem(answer.etcdCert),
    'etcd-client-key.pem': pem(keys.etcd.key),
  };
};

export interface JoinByTokenSettings {
  readonly proposed: Terms;
  readonly waitMs: number;
  readonly allowUnsafeEtcd: boolean;
}

/** From a token to a member's bundle. It writes nothing but to etcd. @throws IsthmusError token/…, join/…, store/… */
export const joinByToken = async (token: Token, settings: JoinByTokenSettings): Promise<Joined> => {
  const keys = await step('keys made here: record key, federation CA, etcd client', () => makeKeys(token));
  const { etcdCert, etcdKey, secret } = token;
  const asJoiner = storeOf(token, { cert: etcdCert, key: etcdKey, signs: tokenKey(secret) }, settings.allowUnsafeEtcd);
  try {
    await step('etcd answers, and its version is safe', () => asJoiner.check());
    const signed = signRequest(
      token,
      {
        wallMs: realClock.wallMs(),
        federationCa: new Uint8Array(new X509Certificate(keys.federation.cert).raw),
        etcdRequest: keys.etcd.request,
        proposed: settings.proposed,
      },
      keys.record,
    );
    if (!signed.ok) throw signed.error;
    await step(`asked to join ${token.clusterset} as ${token.cluster}`, () => send(asJoiner, token, signed.value));
    const untilMs = realClock.wallMs() + settings.waitMs;
    const answer = await step('approved by the authority', () => awaitAnswer(asJoiner, token, signed.value, untilMs));
    const member = checkAnswer(token, keys, answer);
    const asMember = { cert: answer.etcdCert, key: keys.etcd.key };
    const store = storeOf(token, asMember, settings.allowUnsafeEtcd);
    const close = async (): Promise<void> => {
      await Promise.all([asJoiner.close(), store.close()]);
    };
    try {
      await step(`etcd knows ${token.cluster}: may read the cluster set, and write under its own name`, () =>
        store.check(storeKeys(token.clusterset).publicPrefix),
      );
    } catch (error) {
      await store.close();
      throw error;
    }
    const done = async (): Promise<void> => {
      const puts = [{ key: storeKeys(token.clusterset).joinDone(token.id), value: Buffer.from('done') }];
      // The authority stops waiting by itself: that it was not told is no failure of ours.
      await asJoiner.commit({ compare: [], puts, deletes: [] }).catch(() => {});
    };
    return { token, member, bundle: bundleOf(token, keys, answer, member), store, done, close };
  } catch (error) {
    await asJoiner.close();
    throw asToken(token, error);
  }
};
