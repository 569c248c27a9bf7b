/**
 * What a member must not get away with, written into etcd by somebody who may write everything: the other cluster refuses it,
 * says why, and goes on with what it had.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Manifest, ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { codec } from '../../../src/records/codec.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { signManifest } from '../../../src/records/manifest.ts';
import { MerkleSet, valueHash } from '../../../src/records/merkle.ts';
import type { EtcdStore } from '../../../src/store/etcd.ts';
import { types } from '../../../src/xds/resource.ts';
import { eventually } from '../kube/objects.ts';
import type { TestCluster } from './cluster.ts';
import { clusterset, Harness } from './harness.ts';
import type { TestProxy } from './proxy.ts';
import { namespace, remoteWorkload, shareBoth } from './shop.ts';

const keys = storeKeys(clusterset);
const value = <T>(result: { ok: true; value: T } | { ok: false; error: Error }): T => {
  if (!result.ok) throw result.error;
  return result.value;
};

/** Writes as the member `east` would, or as nobody should. */
class Forger {
  readonly records = new Map<string, Uint8Array>();
  readonly #store: EtcdStore;
  readonly #key: KeyObject;
  epoch = BigInt(Date.now()) + 1_000_000n;
  #sequence = 0n;

  constructor(store: EtcdStore, key: KeyObject) {
    this.#store = store;
    this.#key = key;
  }

  async read(): Promise<void> {
    const prefix = keys.memberPrefix('east');
    const { entries } = await this.#store.list(prefix);
    this.records.clear();
    for (const { key, value: bytes } of entries) {
      if (key !== keys.manifest('east')) this.records.set(key.slice(prefix.length), bytes);
    }
  }

  manifest(change: Partial<Manifest> = {}, key = this.#key): Uint8Array {
    const set = new MerkleSet();
    for (const [name, bytes] of this.records) set.set(name, valueHash(bytes));
    this.#sequence++;
    const manifest: Manifest = {
      $typeName: 'isthmus.v1.Manifest',
      clusterset,
      member: 'east',
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

  /** Writes values under their whole keys; undefined deletes. */
  async put(values: Readonly<Record<string, Uint8Array | undefined>>): Promise<void> {
    const puts = Object.entries(values).flatMap(([key, bytes]) => (bytes === undefined ? [] : [{ key, value: bytes }]));
    const deletes = Object.keys(values).filter((key) => values[key] === undefined);
    const done = await this.#store.commit({ compare: [], puts, deletes });
    if (!done.ok) throw new Error('the write was refused');
  }

  /** One tick as it should be, whatever is in it. */
  async tick(changes: Readonly<Record<string, Uint8Array | undefined>>, manifest?: Uint8Array): Promise<void> {
    const values: Record<string, Uint8Array | undefined> = {};
    for (const [name, bytes] of Object.entries(changes)) {
      values[keys.memberPrefix('east') + name] = bytes;
      if (bytes === undefined) this.records.delete(name);
      else this.records.set(name, bytes);
    }
    await this.put({ ...values, [keys.manifest('east')]: manifest ?? this.manifest() });
  }
}

let harness: Harness;
let west: TestCluster;
let store: EtcdStore;
let forger: Forger;
let ztunnel: TestProxy;
/** The record of checkout as east wrote it. */
let checkout: ServiceRecord;
let good: ReadonlyMap<string, Uint8Array>;

beforeAll(async () => {
  harness = await Harness.start({ replicas: 1 });
  west = harness.cluster('west');
  await shareBoth(harness, 'checkout', 2);
  await west.pod(namespace, 'client', 'client');
  ztunnel = await west.ztunnel(namespace, 'client', 'client');
  ztunnel.connect(west.first.ports.token);
  await eventually('checkout is there', () => ztunnel.names(types.address).includes(remoteWorkload('checkout')));
  // Its own controller would put everything right at once.
  await harness.cluster('east').first.stop();
  store = await harness.rootStore();
  const pem = await readFile(join(harness.dir, 'bundles', 'east', 'record-key.pem'));
  forger = new Forger(store, createPrivateKey(pem));
  await forger.read();
  good = new Map(forger.records);
  checkout = value(codec.service.decode(forger.records.get('services/shop/checkout')!));
});
afterAll(async () => {
  ztunnel?.close();
  await store?.close();
  await harness?.stop();
});

const workloadBytes = (): string =>
  Buffer.from(ztunnel.get(types.address, remoteWorkload('checkout')) ?? []).toString('base64');
const service = (change: Partial<ServiceRecord>): Uint8Array => {
  const record = { ...checkout, ...change };
  const hostname = `${record.name}.${record.namespace}.svc.cluster.local`;
  return value(codec.service.encode({ ...record, hostname }));
};
const problem = (code: string, about: RegExp) =>
  west.first.until(
    `${code} is shown`,
    (s) => s.peers[0]?.problems.some((p) => p.code === code && about.test(p.message)) === true,
  );
/** Puts back what was good. */
const restore = async (): Promise<void> => {
  const changes: Record<string, Uint8Array | undefined> = {};
  const now = await store.list(keys.memberPrefix('east'));
  for (const { key } of now.entries) changes[key.slice(keys.memberPrefix('east').length)] = undefined;
  delete changes['manifest'];
  for (const [name, bytes] of good) changes[name] = bytes;
  await forger.read();
  await forger.tick(changes);
  await west.first.until('nothing is wrong any more', (s) => s.peers[0]?.problems.length === 0);
};

describe('a record that the membership does not allow', () => {
  it('of a namespace that was not granted', async () => {
    const before = workloadBytes();
    await forger.tick({ 'services/bank/vault': service({ namespace: 'bank', name: 'vault', accounts: [] }) });
    await problem('record/not-granted', /bank/);
    const seen = await west.first.status();
    expect(seen.services.map((s) => s.service)).not.toContain('bank/vault');
    expect(workloadBytes()).toBe(before);
    await restore();
  });

  it.each([
    ['loopback', '127.0.0.1'],
    ['link-local', '169.254.169.254'],
    ['outside', '203.0.113.7'],
    ['ours', 'west'],
  ])('with a gateway address that is %s', async (_what, address) => {
    const gateways = value(codec.gateways.decode(good.get('gateways')!));
    const target = address === 'west' ? west.gatewayPods[0]!.address : address;
    const changed = {
      ...gateways,
      gateways: gateways.gateways.map((g, i) => (i === 0 ? { ...g, address: target } : g)),
    };
    await forger.tick({ gateways: value(codec.gateways.encode(changed)) });
    await problem('record/address-refused', new RegExp(target.replaceAll('.', '\\.')));
    expect((await west.first.status()).peers[0]?.data.gateways).toBe(2);
    await restore();
  });

  it('that is truncated, and the last good one stays', async () => {
    const before = workloadBytes();
    const bytes = good.get('services/shop/checkout')!;
    await forger.tick({ 'services/shop/checkout': bytes.slice(0, bytes.length - 3) });
    await problem('record/malformed', /checkout/);
    expect(workloadBytes()).toBe(before);
    await restore();
  });

  it('that is oversized', async () => {
    const before = workloadBytes();
    await forger.tick({ 'services/shop/checkout': new Uint8Array(200_000) });
    await problem('record/too-large', /checkout/);
    expect(workloadBytes()).toBe(before);
    await restore();
  });
});

describe('a manifest that proves nothing', () => {
  it('for it does not cover what stands there', async () => {
    const before = workloadBytes();
    await forger.put({ [keys.service('east', 'shop', 'checkout')]: undefined });
    await problem('manifest/root', /east/);
    expect(workloadBytes()).toBe(before);
    await forger.put({ [keys.service('east', 'shop', 'forged')]: service({ name: 'forged' }) });
    expect((await west.first.status()).services.map((s) => s.service)).not.toContain('shop/forged');
    await restore();
  });

  it('for another key signed it', async () => {
    const before = workloadBytes();
    const other = generateKeyPairSync('ed25519').privateKey;
    forger.records.set('services/shop/checkout', service({ capacity: [] }));
    await forger.tick({ 'services/shop/checkout': service({ capacity: [] }) }, forger.manifest({}, other));
    await problem('manifest/signature', /record key/);
    expect(workloadBytes()).toBe(before);
    await restore();
  });

  it('for its epoch is lower than one seen', async () => {
    const before = workloadBytes();
    const old = { 'services/shop/checkout': service({ capacity: [] }) };
    forger.records.set('services/shop/checkout', old['services/shop/checkout']);
    await forger.tick(old, forger.manifest({ epoch: 5n, sequence: 1n }));
    await problem('manifest/stale', /epoch|5/);
    expect(workloadBytes()).toBe(before);
    await restore();
  });

  it('for it is garbage', async () => {
    const before = workloadBytes();
    await forger.put({ [keys.manifest('east')]: Buffer.from('garbage') });
    await problem('manifest/malformed', /./);
    expect(workloadBytes()).toBe(before);
    await restore();
  });
});

describe('somebody whom the authority does not know', () => {
  it('is ignored, and shown', async () => {
    await forger.put({ [keys.service('mallory', 'shop', 'checkout')]: good.get('services/shop/checkout')! });
    const seen = await west.first.until('it is shown', (s) => s.problems.some((p) => p.code === 'member/unknown'));
    expect(seen.peers.map((p) => p.member)).toEqual(['east']);
    await forger.put({ [keys.service('mallory', 'shop', 'checkout')]: undefined });
  });

  it('is refused with a membership of its own making', async () => {
    const bytes = (await store.list(keys.membersPrefix)).entries.find((e) => e.key === keys.member('east'))!.value;
    const forged = Uint8Array.from(bytes);
    forged[forged.length - 1]! ^= 1;
    await forger.put({ [keys.member('east')]: forged });
    const seen = await west.first.until('it is shown', (s) =>
      [...s.problems, ...(s.peers[0]?.problems ?? [])].some((p) => p.code === 'member/signature'),
    );
    expect(seen.peers.map((p) => p.member)).toEqual(['east']);
    expect(seen.services.map((s) => s.service)).toContain('shop/checkout');
    await forger.put({ [keys.member('east')]: bytes });
  });
});
