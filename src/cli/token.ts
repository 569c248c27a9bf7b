/**
 * `isthmus token create`, `list` and `delete`: invitations for one cluster each, for a while. What is printed is a secret; what stays
 * here can check it and not make it.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { makeEtcdClient } from '../ca/etcdclient.ts';
import { parseDuration } from '../core/duration.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';
import { realClock } from '../ops/clock.ts';
import { isAccount, isLabelValue } from '../records/fields.ts';
import { storeKeys } from '../records/keys.ts';
import { rawPublicKey } from '../records/signed.ts';
import { AddressRanges } from '../trust/addresses.ts';
import type { Terms } from '../trust/joining.ts';
import { type Token, tokenText, tokenUser, tokenVerifier } from '../trust/tokens.ts';
import type { DeskOptions } from './authority_desk.ts';
import { fingerprintOf, type PassphraseOptions, writeSecretOnce } from './authority_key.ts';
import { type Desk, isMember, membersOf, openDesk } from './desk.ts';
import { Ledger, type LedgerToken } from './desk_ledger.ts';
import { readNamed } from './files.ts';
import { type Format, print, printData, step, table } from './output.ts';
import { rootsInFile } from './trust_register.ts';

export interface TermsOptions {
  readonly region?: string;
  readonly zone?: string;
  readonly network?: string;
  readonly addressRange: readonly string[];
  /** Also named --export-namespace, since --namespace is where Isthmus runs. */
  readonly exportNamespace: readonly string[];
  readonly serviceAccount: readonly string[];
  /** Files with the roots that its trust bundle may hold; none: as the cluster says. */
  readonly root?: readonly string[];
}

export interface TokenCreateOptions extends DeskOptions, PassphraseOptions, TermsOptions {
  readonly cluster: string;
  readonly ttl: string;
  readonly output: 'text' | 'file';
  readonly file?: string;
  readonly wait?: boolean;
  readonly acceptProposed: boolean;
}

const usage = (message: string, hint: string): IsthmusError => new IsthmusError('usage/invalid', message, { hint });

/** @throws IsthmusError usage/invalid, trust/invalid */
export const termsOf = (options: TermsOptions): Terms => {
  for (const name of ['region', 'zone', 'network'] as const) {
    const value = options[name] ?? '';
    if (value !== '' && !isLabelValue(value)) {
      throw usage(`--${name} "${value}" is not a name as in a Kubernetes label`, 'use letters, digits, - _ and .');
    }
  }
  const ranges = AddressRanges.parse(options.addressRange);
  if (!ranges.ok) throw ranges.error;
  for (const namespace of options.exportNamespace) {
    if (!isDnsLabel(namespace) && !(namespace === '*' && options.exportNamespace.length === 1)) {
      throw usage(`--export-namespace "${namespace}" is not a namespace`, 'name namespaces, or * alone for all');
    }
  }
  for (const account of options.serviceAccount) {
    if (!isAccount(account)) throw usage(`--service-account "${account}" is not <namespace>/<name>`, 'name both');
  }
  const roots = [...new Set((options.root ?? []).flatMap((path) => rootsInFile('--root', path)))];
  return {
    region: options.region ?? '',
    zone: options.zone ?? '',
    network: options.network ?? '',
    addressRanges: [...new Set(options.addressRange)],
    namespaces: [...new Set(options.exportNamespace)],
    serviceAccounts: [...new Set(options.serviceAccount)],
    ...(roots.length > 0 && { trustRoots: roots }),
  };
};

export const ttlOf = (text: string): number => {
  const ms = parseDuration(text);
  if (ms !== undefined && ms > 0 && ms <= limits.joinTokenTtlMaxMs) return ms;
  throw usage(`--ttl "${text}" is not a time up to 168h`, 'write it as 1h or 30m');
};

/** @throws IsthmusError usage/invalid, member/duplicate */
const mustBeFree = async (desk: Desk, cluster: string): Promise<void> => {
  const known = (await membersOf(desk.store, desk.clusterset, desk.authority)).get(cluster);
  if (known === undefined || !isMember(known)) return;
  throw new IsthmusError('member/duplicate', `"${cluster}" is a member of "${desk.clusterset}" already`, {
    hint: `choose another name, or take it out first: isthmus leave --cluster ${cluster}`,
    subject: { member: cluster },
  });
};

export interface Created {
  readonly token: Token;
  /** The secret, for its holder. */
  readonly text: string;
  readonly issued: LedgerToken;
}

/** Makes a token, its user in etcd, and what the ledger keeps of it. */
export const createToken = async (desk: Desk, cluster: string, ttlMs: number, terms: Terms): Promise<Created> => {
  if (!isDnsLabel(cluster) || cluster === 'root') {
    throw usage(`--cluster "${cluster}" is not a DNS label`, 'use a-z, 0-9 and -, at most 63, and not "root"');
  }
  await mustBeFree(desk, cluster);
  const { clusterset, file, authority, ledger } = desk;
  const id = randomBytes(16).toString('hex');
  const secret = new Uint8Array(randomBytes(32));
  const nowMs = realClock.wallMs();
  const ca = { cert: readNamed('etcd.ca', file.etcd.ca), key: readNamed('etcd.caKey', file.etcd.caKey) };
  const client = await makeEtcdClient(
    ca,
    { commonName: tokenUser(id), ttlS: Math.ceil(ttlMs / 1_000) + 60, nowMs },
    (bytes) => new Uint8Array(randomBytes(bytes)),
  );
  const token: Token = {
    ...{ clusterset, cluster, id, secret },
    authority: rawPublicKey(authority),
    expiresMs: nowMs + ttlMs,
    endpoints: file.etcd.endpoints,
    ...(file.etcd.writes === 'gateways' && { writeEndpoints: file.etcd.gateways }),
    etcdCa: ca.cert,
    etcdCert: client.cert,
    etcdKey: client.key,
  };
  const text = tokenText(token, authority);
  if (!text.ok) throw text.error;
  const issued = {
    ...{ id, clusterset, cluster, terms },
    verifier: tokenVerifier(secret),
    createdMs: nowMs,
    expiresMs: token.expiresMs,
  };
  ledger.issue(issued);
  await sweep(desk, nowMs);
  await step(`etcd user of token ${id.slice(0, 8)}: may write one request and read its answer`, () =>
    desk.admin.ensureJoiner(clusterset, id, file.etcd.writes),
  );
  if (file.etcd.writes === 'gateways') await openAtGateways(desk, issued);
  ledger.audit({ action: 'token', outcome: 'done', cluster, token: id, detail: `until ${iso(token.expiresMs)}` });
  return { token, text: text.value, issued };
};

/** The store gateways take writes by this token, as long as this stands there. */
const openAtGateways = async ({ store, clusterset }: Desk, { id, verifier }: LedgerToken): Promise<void> => {
  const puts = [{ key: storeKeys(clusterset).joinOpen(id), value: verifier }];
  await store.commit({ compare: [], puts, deletes: [] });
};

/** Users of tokens that ended unused go with the next command. */
const sweep = async (desk: Desk, nowMs: number): Promise<void> => {
  for (const { id, expiresMs } of desk.ledger.tokens()) {
    if (expiresMs >= nowMs || desk.ledger.used(id) !== undefined) continue;
    await withdraw(desk, id, 'expired');
  }
};

/** Nobody gets in by it any more. */
const withdraw = async (desk: Desk, id: string, why: string): Promise<void> => {
  desk.ledger.use(id, why);
  await desk.admin.removeJoiner(id);
  const { entries } = await desk.store.list(storeKeys(desk.clusterset).joinPrefix(id));
  const deletes = [...entries.map(({ key }) => key), storeKeys(desk.clusterset).writeNote(tokenUser(id))];
  await desk.store.commit({ compare: [], puts: [], deletes });
};

const iso = (ms: number): string => new Date(ms).toISOString();

export const tokenCreate = async (options: TokenCreateOptions): Promise<void> => {
  const ttlMs = ttlOf(options.ttl);
  const terms = termsOf(options);
  const desk = await openDesk(options);
  try {
    const { text, issued } = await createToken(desk, options.cluster, ttlMs, terms);
    if (options.output === 'file') {
      const path = options.file ?? join(process.cwd(), `${options.cluster}.token`);
      writeSecretOnce(path, `${text}\n`);
      print(path);
    } else print(text);
    process.stderr.write(
      `token for ${options.cluster}, once, until ${iso(issued.expiresMs)}; authority ${fingerprintOf(desk.authority)}\n` +
        'whoever has it gets in under that name: hand it over by a way that you trust\n' +
        `there: isthmus join --token-file ${options.cluster}.token\n` +
        (options.wait === true ? '' : `here:  isthmus approve ${issued.id}\n`),
    );
    if (options.wait !== true) return;
    const { approveWhenAsked } = await import('./approve.ts');
    await approveWhenAsked(desk, issued, {
      untilMs: issued.expiresMs,
      acceptProposed: options.acceptProposed,
    });
  } finally {
    await desk.close();
  }
};

const stateOf = (ledger: Ledger, { id, expiresMs }: LedgerToken): string => {
  const used = ledger.used(id);
  if (used !== undefined) return used;
  return expiresMs <= realClock.wallMs() ? 'expired' : 'open';
};

export const tokenList = async (options: DeskOptions & { readonly output: Format }): Promise<void> => {
  const ledger = new Ledger(options.authorityDir);
  const rows = ledger.tokens().map((token) => ({
    token: token.id,
    cluster: token.cluster,
    expires: iso(token.expiresMs),
    state: stateOf(ledger, token),
  }));
  if (options.output === 'json' || options.output === 'yaml') return printData(options.output, rows);
  print(
    table(
      ['TOKEN', 'CLUSTER', 'EXPIRES', 'STATE'],
      rows.map((r) => [r.token, r.cluster, r.expires, r.state]),
    ),
  );
};

export const tokenDelete = async (id: string, options: DeskOptions & PassphraseOptions): Promise<void> => {
  const desk = await openDesk(options);
  try {
    const { cluster } = desk.ledger.token(id);
    await step(`token ${id} lets nobody in any more`, () => withdraw(desk, id, 'withdrawn'));
    desk.ledger.audit({ action: 'token', outcome: 'done', cluster, token: id, detail: 'withdrawn' });
  } finally {
    await desk.close();
  }
};
