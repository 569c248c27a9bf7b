/**
 * This member's record key and federation CA, and how they are replaced: made, stored in the Secret, announced, used (`trust/key_rotation.ts`).
 *
 * The Secret `isthmus-member` is the truth: what it holds is what every replica uses, and each step is one compare-and-swap of it by the
 * writer. So a replica that dies between two steps, or another that takes over, goes on where the Secret stands. Until the Secret was read
 * the files of the mounted bundle count.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { type FederationCa, makeFederationCa, parseFederationCa } from '../ca/federation.ts';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Federation } from '../federation/federation.ts';
import type { MemberView } from '../federation/view.ts';
import type { KeysSeen } from '../gen/isthmus/v1/keys_pb.ts';
import type { KubeApi } from '../kube/api.ts';
import { type Secret, type SecretWatch, watchSecret, writeSecret } from '../kube/secrets.ts';
import type { Log } from '../ops/log.ts';
import { stateSecret } from '../records/sealed_state.ts';
import { rawPublicKey } from '../records/signed.ts';
import { decodeKeys, encodeKeys } from '../records/succession.ts';
import { type RotationStep, rotationStep } from '../trust/key_rotation.ts';
import { firstKey, type Link, signLink, verifyChain } from '../trust/succession.ts';
import type { Credentials } from './credentials.ts';
import { EtcdCertificate, type EtcdPair } from './etcd_certificate.ts';
import type { MembershipInput } from './membership.ts';
import { previousSealFile, type Seals, sealsOf } from './seals.ts';

export interface MemberKeysOptions {
  readonly config: Config;
  readonly api: KubeApi;
  readonly credentials: Pick<Credentials, 'recordKey' | 'federation' | 'store'>;
  readonly isWriter: () => boolean;
  readonly federation: Federation;
  /** See `etcd_certificate.ts`. */
  readonly renewEtcd: ((request: string) => Promise<string>) | undefined;
  readonly onEtcd: (pair: EtcdPair) => void;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  /** Other keys are in use, or more links are to be announced. */
  readonly onKeys: () => void;
}

interface Pair {
  readonly recordKey: KeyObject;
  readonly federation: FederationCa;
}

/** What the Secret says. */
interface Stored {
  readonly now: Pair;
  readonly next: Pair | undefined;
  readonly links: readonly Uint8Array[];
  readonly chain: readonly Link[];
  readonly askedMs: number | undefined;
  readonly seals: Seals;
}

const secretName = 'isthmus-member';
export const keyFiles = {
  now: ['record-key.pem', 'federation-ca.pem', 'federation-ca-key.pem'],
  next: ['next-record-key.pem', 'next-federation-ca.pem', 'next-federation-ca-key.pem'],
} as const;
export const successionFile = 'succession';
/** A time in ms since 1970: keys that are older are replaced. */
export const rotateFile = 'rotate-keys';

const checkMs = 2_000;
const retryMs = 30_000;
const caTtlS = 10 * 365 * 86_400;
const random = (bytes: number): Uint8Array => new Uint8Array(randomBytes(bytes));
const rawOf = (key: KeyObject): Uint8Array => rawPublicKey(createPublicKey(key));
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

export class MemberKeys {
  readonly #o: MemberKeysOptions;
  readonly etcd: EtcdCertificate;
  readonly #watch: SecretWatch;
  #stored: Stored;
  #timer: Timer | undefined;
  #busy = false;
  #closed = false;
  #allSinceMs: number | undefined;
  #step: RotationStep | undefined;
  #problem: IsthmusError | undefined;
  /** After a failure, on the monotonic clock. */
  #notBeforeMs = 0;

  constructor(options: MemberKeysOptions) {
    this.#o = options;
    const { credentials, api, clock, rng, log, config } = options;
    const { certPem, keyPem } = credentials.federation;
    const now = { recordKey: credentials.recordKey, federation: parseFederationCa(certPem, keyPem, 'federation CA') };
    const seals = sealsOf({ now: now.recordKey });
    this.#stored = { now, next: undefined, links: [], chain: [], askedMs: undefined, seals };
    this.etcd = new EtcdCertificate({
      ...{ config, first: credentials.store, renew: options.renewEtcd, onNew: options.onEtcd, clock, rng, log },
      store: async (files) => {
        const secret = this.#watch.current;
        if (secret !== undefined) await this.#write(secret, { ...secret.data, ...files });
      },
    });
    this.#watch = watchSecret({
      ...{ api, clock, rng, log, at: { namespace: config.namespace, name: secretName } },
      onChange: (secret) => (secret === undefined ? this.#o.onKeys() : this.#take(secret)),
      onProblem: (error) => log('warn', 'member keys cannot be read', { error }),
    });
    this.#later();
  }

  /** The Secret was read: before that the files of the bundle may be keys that were replaced long ago, and nothing is signed by them. */
  get known(): boolean {
    return this.#watch.synced;
  }
  /** Signs manifests now. */
  get recordKey(): KeyObject {
    return this.#stored.now.recordKey;
  }
  /** Public keys under which manifests of ours may stand in the store. */
  get accepted(): readonly KeyObject[] {
    return this.#o.federation.keysOf(this.#o.config.member);
  }
  /** What our replicas seal the state under that they ship to each other. Another object when it changed. */
  get seals(): Seals {
    return this.#stored.seals;
  }
  get federationCa(): FederationCa {
    return this.#stored.now.federation;
  }
  /** To announce: as far as the Secret and our own records in the store go. */
  get links(): readonly Uint8Array[] {
    const standing = this.#own()?.keys?.links ?? [];
    return this.#watch.synced || this.#stored.links.length >= standing.length ? this.#stored.links : standing;
  }
  get step(): RotationStep | undefined {
    return this.#step;
  }
  /** Of the links of this member; 0: the keys of its membership. */
  get number(): number {
    const { now, chain } = this.#stored;
    return chain.find(({ recordKey }) => same(recordKey, rawOf(now.recordKey)))?.number ?? 0;
  }
  get madeMs(): number {
    const { now, chain } = this.#stored;
    const link = chain.find(({ recordKey }) => same(recordKey, rawOf(now.recordKey)));
    return link?.madeMs ?? now.federation.certificate.validFromDate.getTime();
  }
  /** What `status` and metrics say of it. */
  about(): MembershipInput {
    const { config, federation, clock } = this.#o;
    return {
      ...{ self: config.member, federation, keys: this },
      etcdCertificate: this.etcd.current.cert,
      wallMs: clock.wallMs(),
    };
  }
  problems(): readonly IsthmusError[] {
    const problems = [...(this.#step?.late === true ? [this.#late()] : []), ...this.etcd.problems];
    if (this.#watch.synced && (this.#own()?.succession?.number ?? 0) > (this.#stored.chain.at(-1)?.number ?? 0)) {
      const message = `peers know newer keys of ${this.#o.config.member} than the Secret ${secretName} has: they refuse what is signed here`;
      const hint = 'was it restored from a backup? Put the newest back, or revoke this member and let it in again';
      problems.push(new IsthmusError('keys/late', message, { hint }));
    }
    return this.#problem === undefined ? problems : [...problems, this.#problem];
  }

  /** How far we follow the keys of others: they wait for it. */
  seen(): readonly KeysSeen[] {
    return [...this.#o.federation.members].flatMap(([member, { succession }]) =>
      member === this.#o.config.member || succession === undefined || succession.number === 0
        ? []
        : [{ $typeName: 'isthmus.v1.KeysSeen' as const, member, number: succession.number }],
    );
  }

  /** Live peers that have not said that they know our next keys. */
  waiting(): readonly string[] {
    const { config, federation, clock } = this.#o;
    const newest = this.#stored.chain.at(-1)?.number ?? 0;
    const nowMs = clock.monotonicMs();
    return [...federation.members].flatMap(([name, { freshAtMs, keys }]) => {
      if (name === config.member || freshAtMs === undefined) return [];
      if (nowMs - freshAtMs > config.publish.silenceMs) return [];
      const known = keys?.seen.find(({ member }) => member === config.member)?.number ?? 0;
      return known >= newest ? [] : [name];
    });
  }

  /** Takes the next step when it is due. */
  check(): void {
    if (this.#closed) return;
    this.#later();
    this.etcd.check(this.#o.isWriter() && this.#watch.current !== undefined);
    const nowMs = this.#o.clock.wallMs();
    const newest = this.#stored.chain.at(-1);
    const announced = newest !== undefined && (this.#own()?.succession?.number ?? 0) >= newest.number;
    if (!announced || this.waiting().length > 0) this.#allSinceMs = undefined;
    else this.#allSinceMs ??= nowMs;
    const { now, next, askedMs } = this.#stored;
    const { certificate } = now.federation;
    const { rotateAfterS, overlapS } = this.#o.config.keys;
    this.#step = rotationStep(
      {
        madeMs: this.madeMs,
        caFromMs: certificate.validFromDate.getTime(),
        caUntilMs: certificate.validToDate.getTime(),
        overlapUntilMs: next === undefined ? newest?.previousUntilMs : undefined,
        next: next === undefined ? undefined : newest,
        askedMs,
      },
      { announced, allSinceMs: this.#allSinceMs },
      { afterMs: rotateAfterS * 1_000, overlapMs: overlapS * 1_000 },
      nowMs,
    );
    const secret = this.#watch.current;
    if (this.#busy || !this.#o.isWriter() || secret === undefined || this.#step.act === 'none') return;
    if (this.#o.clock.monotonicMs() < this.#notBeforeMs) return;
    this.#busy = true;
    (this.#step.act === 'make' ? this.#make(secret) : this.#use(secret))
      .then(
        () => {
          this.#problem = undefined;
        },
        (error: Error) => {
          this.#o.log('warn', 'keys not replaced', { error });
          this.#notBeforeMs = this.#o.clock.monotonicMs() + retryMs;
          if (error instanceof IsthmusError) this.#problem = error;
        },
      )
      .finally(() => {
        this.#busy = false;
      });
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#watch.close();
  }

  #later(): void {
    this.#timer?.cancel();
    this.#timer = this.#o.clock.after(checkMs, () => this.check());
  }

  #own(): MemberView | undefined {
    return this.#o.federation.members.get(this.#o.config.member);
  }

  /** Stored before anybody is told: keys that were announced and then lost would lock this member out. */
  async #make(secret: Secret): Promise<void> {
    const { config, clock, log } = this.#o;
    const { clusterset, member, keys } = config;
    const { now, links, chain } = this.#stored;
    if (links.length >= limits.successionLinksMax) {
      throw new IsthmusError(
        'member/expired',
        `the keys of ${member} were replaced ${links.length} times since its membership`,
        {
          hint: 'have the authority sign a membership that names the newest key',
        },
      );
    }
    const nowMs = clock.wallMs();
    const recordKey = generateKeyPairSync('ed25519').privateKey;
    const number = (chain.at(-1)?.number ?? 0) + 1;
    const ca = await makeFederationCa({ clusterset, member, number, ttlS: caTtlS, nowMs }, random);
    const link = signLink({
      ...{ clusterset, member, number, signer: now.recordKey, recordKey },
      federation: { certPem: ca.cert, keyPem: ca.key },
      madeMs: nowMs,
      previousUntilMs: nowMs + keys.overlapS * 1_000,
    });
    if (!link.ok) throw link.error;
    const succession = encodeKeys({
      $typeName: 'isthmus.v1.KeysRecord',
      links: [...links, link.value],
      seen: [],
      critical: [],
    });
    if (!succession.ok) throw succession.error;
    const [key, cert, caKey] = keyFiles.next;
    const pem = recordKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const data = {
      ...secret.data,
      ...{ [key]: Buffer.from(pem), [cert]: Buffer.from(ca.cert), [caKey]: Buffer.from(ca.key) },
      [successionFile]: succession.value,
    };
    await this.#write(secret, data);
    log('info', 'new keys are stored, and announced', { number });
  }

  async #use(secret: Secret): Promise<void> {
    await this.#write(secret, nextInUse(secret.data));
    this.#o.log('info', 'new keys are in use', { number: this.number });
  }

  async #write(secret: Secret, data: Readonly<Record<string, Uint8Array>>): Promise<void> {
    const { api, config } = this.#o;
    const at = { namespace: config.namespace, name: secretName };
    const { resourceVersion: replaces, labels, type } = secret;
    this.#take(await writeSecret(api, at, { data, replaces, labels, type }));
  }

  /** What does not fit together is a problem, and changes nothing. */
  #take(secret: Secret): void {
    this.etcd.take(secret);
    try {
      this.#stored = this.#read(secret);
      this.#problem = undefined;
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      this.#o.log('error', 'the keys in the Secret are unusable', { secret: secretName, error });
      this.#problem = error;
      return;
    }
    this.#o.onKeys();
    this.check();
  }

  #read(secret: Secret): Stored {
    const { config } = this.#o;
    const text = (file: string): string => Buffer.from(secret.data[file] ?? []).toString('utf8');
    const pair = (files: readonly [string, string, string]): Pair => {
      const [key, cert, caKey] = files;
      return {
        recordKey: privateKey(key, text(key)),
        federation: parseFederationCa(text(cert), text(caKey), `${secretName}/${cert}`),
      };
    };
    const now = pair(keyFiles.now);
    const bytes = secret.data[successionFile];
    const record = bytes === undefined ? undefined : decodeKeys(bytes);
    if (record?.ok === false) throw record.error;
    const context = { clusterset: config.clusterset, member: config.member };
    const own = rawOf(now.recordKey);
    const first = firstKey(record?.value.links ?? [], context);
    const found = verifyChain(record?.value.links ?? [], context, first ?? own, undefined);
    if (!found.ok) throw found.error;
    // Who joined anew has keys apart from all before: what was announced then is over.
    const ours = (first !== undefined && same(first, own)) || found.value.some(({ recordKey }) => same(recordKey, own));
    const links = ours ? (record?.value.links ?? []) : [];
    const chain = ours ? found.value : [];
    const next = secret.data[keyFiles.next[0]] === undefined ? undefined : pair(keyFiles.next);
    const asked = Number(text(rotateFile) || Number.NaN);
    const seals = sealsOf({ now: now.recordKey, next: next?.recordKey, previous: secret.data[previousSealFile] });
    return { now, next, links, chain, askedMs: Number.isFinite(asked) ? asked : undefined, seals };
  }

  #late(): IsthmusError {
    const { stage } = this.#step!;
    const waiting = this.waiting();
    const message =
      stage === 'announced'
        ? `the next keys of ${this.#o.config.member} were announced and are not in use${waiting.length === 0 ? '' : `: ${waiting.join(', ')} did not say that they know them`}`
        : `the keys of ${this.#o.config.member} are older than they should be`;
    return new IsthmusError('keys/late', message, {
      hint: 'see why no replica writes, or may not update the Secret isthmus-member (deploy/rbac.yaml)',
    });
  }
}

/** What the Secret holds once the announced keys are in use. */
export const nextInUse = (before: Readonly<Record<string, Uint8Array>>): Record<string, Uint8Array> => {
  const data: Record<string, Uint8Array> = { ...before };
  const [key] = keyFiles.now;
  data[previousSealFile] = stateSecret(privateKey(key, Buffer.from(before[key] ?? []).toString('utf8')));
  for (const [i, file] of keyFiles.next.entries()) {
    data[keyFiles.now[i]!] = data[file]!;
    delete data[file];
  }
  delete data[rotateFile];
  return data;
};

const privateKey = (file: string, pem: string): KeyObject => {
  let key: KeyObject | undefined;
  try {
    key = createPrivateKey(pem);
  } catch {
    key = undefined;
  }
  if (key?.asymmetricKeyType === 'ed25519') return key;
  throw new IsthmusError('files/invalid', `${secretName}/${file} does not hold an Ed25519 key in PEM`);
};
