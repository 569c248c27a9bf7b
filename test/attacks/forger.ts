/**
 * Writes what a member's controller would, and what it never would: with the member's own record key, under its own prefix or
 * anybody's, as whichever etcd user it is given.
 */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { IsthmusError } from '../../src/core/errors.ts';
import type { Manifest, ServiceRecord } from '../../src/gen/isthmus/v1/records_pb.ts';
import { codec } from '../../src/records/codec.ts';
import { storeKeys } from '../../src/records/keys.ts';
import { signManifest } from '../../src/records/manifest.ts';
import { MerkleSet, valueHash } from '../../src/records/merkle.ts';
import type { EtcdStore } from '../../src/store/etcd.ts';
import { clusterset } from '../real/controller/harness.ts';

export const keys = storeKeys(clusterset);

export const value = <T>(result: { ok: true; value: T } | { ok: false; error: IsthmusError }): T => {
  if (!result.ok) throw result.error;
  return result.value;
};

/** By key relative to the member's prefix; undefined deletes. */
export type Changes = Readonly<Record<string, Uint8Array | undefined>>;

export const recordKeyOf = async (dir: string, member: string): Promise<KeyObject> =>
  createPrivateKey(await readFile(join(dir, 'bundles', member, 'record-key.pem')));

export class Forger {
  readonly member: string;
  readonly records = new Map<string, Uint8Array>();
  readonly #store: EtcdStore;
  readonly #key: KeyObject;
  /** The member's own controller would begin its terms by the clock: this is ahead of it. */
  epoch = BigInt(Date.now()) + 1_000_000n;
  #sequence = 0n;

  constructor(member: string, store: EtcdStore, key: KeyObject) {
    this.member = member;
    this.#store = store;
    this.#key = key;
  }

  get prefix(): string {
    return keys.memberPrefix(this.member);
  }

  /** What stands in the store under the member's name, manifest excluded. */
  async read(): Promise<void> {
    const { entries } = await this.#store.list(this.prefix);
    this.records.clear();
    for (const { key, value: bytes } of entries) {
      if (key !== keys.manifest(this.member)) this.records.set(key.slice(this.prefix.length), bytes);
    }
  }

  manifest(change: Partial<Manifest> = {}, key = this.#key): Uint8Array {
    const set = new MerkleSet();
    for (const [name, bytes] of this.records) set.set(name, valueHash(bytes));
    this.#sequence++;
    const manifest: Manifest = {
      $typeName: 'isthmus.v1.Manifest',
      clusterset,
      member: this.member,
      epoch: this.epoch,
      sequence: this.#sequence,
      root: new Uint8Array(set.root()),
      count: set.count,
      wallMs: BigInt(Date.now()),
      shuttingDown: false,
      critical: [],
      ...change,
    };
    return value(signManifest(manifest, key));
  }

  /** Writes values under their whole keys; undefined deletes. Who is attacked may put it right before anybody looks. */
  async strike(values: Readonly<Record<string, Uint8Array | undefined>>): Promise<bigint> {
    const puts = Object.entries(values).flatMap(([key, bytes]) => (bytes === undefined ? [] : [{ key, value: bytes }]));
    const deletes = Object.keys(values).filter((key) => values[key] === undefined);
    const done = await this.#store.commit({ compare: [], puts, deletes });
    if (!done.ok) throw new Error('the write was refused');
    return done.revision;
  }

  /** The same, and reads it back: an attack that never arrived proves nothing. */
  async put(values: Readonly<Record<string, Uint8Array | undefined>>): Promise<void> {
    const revision = await this.strike(values);
    for (const [key, bytes] of Object.entries(values)) {
      if (bytes === undefined) continue;
      const { entries } = await this.#store.list(key);
      const stands = entries.find((entry) => entry.key === key);
      if (stands === undefined || stands.modRevision < revision) throw new Error(`${key} is not in etcd`);
      if (stands.modRevision === revision && Buffer.compare(stands.value, bytes) !== 0) {
        throw new Error(`${key} holds something else`);
      }
    }
  }

  /** One tick as it should be, whatever is in it. */
  async tick(changes: Changes, manifest?: Uint8Array): Promise<void> {
    const values: Record<string, Uint8Array | undefined> = {};
    for (const [name, bytes] of Object.entries(changes)) {
      values[this.prefix + name] = bytes;
      if (bytes === undefined) this.records.delete(name);
      else this.records.set(name, bytes);
    }
    await this.put({ ...values, [keys.manifest(this.member)]: manifest ?? this.manifest() });
  }
}

/** A record of a service, changed, with the host name that goes with it. */
export const serviceFrom = (bytes: Uint8Array, change: Partial<ServiceRecord>): Uint8Array => {
  const record = { ...value(codec.service.decode(bytes)), ...change };
  const hostname = `${record.name}.${record.namespace}.svc.cluster.local`;
  return value(codec.service.encode({ ...record, hostname }));
};
