/**
 * A member that turned against the others: its controllers are gone, and somebody with its keys and its etcd user writes instead.
 * When it ends, its own controllers come back and publish what is true.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { limits } from '../../../src/core/limits.ts';
import { serviceRecord } from '../../../src/federation/service_record.ts';
import type { Manifest } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { codec } from '../../../src/records/codec.ts';
import { signManifest } from '../../../src/records/manifest.ts';
import { MerkleSet, valueHash } from '../../../src/records/merkle.ts';
import { clusterDomain, localService } from './cluster.ts';
import type { HostileAct } from './fault.ts';
import { addressBase, clusterset } from './process.ts';
import { guardedNamespace } from './scenario.ts';
import type { Slot } from './slot.ts';
import { keys, type World } from './world.ts';

const manifestKey = 'manifest';
const stranger = generateKeyPairSync('ed25519').privateKey;

/** What it found under its prefix, and changes. */
class Forger {
  readonly #world: World;
  readonly #name: string;
  readonly #prefix: string;
  readonly records = new Map<string, Uint8Array>();
  readonly #before: ReadonlyMap<string, Uint8Array>;
  /** The manifest as it stood. */
  readonly standing: Uint8Array | undefined;
  #sequence: bigint;

  constructor(world: World, name: string) {
    this.#world = world;
    this.#name = name;
    this.#prefix = keys.memberPrefix(name);
    for (const { key, value } of world.etcd.snapshot('root', this.#prefix).entries) {
      this.records.set(key.slice(this.#prefix.length), value);
    }
    this.#before = new Map(this.records);
    this.standing = this.records.get(manifestKey);
    this.records.delete(manifestKey);
    this.#sequence = (world.registry.newest(name)?.sequence ?? 0n) + 1n;
  }

  get services(): string[] {
    return [...this.records.keys()].filter((key) => key.startsWith('services/'));
  }

  /** All of it, under a manifest by its own key or another. */
  write(key: KeyObject = this.#world.identities.get(this.#name)!.recordKey): void {
    const set = new MerkleSet();
    for (const [name, bytes] of this.records) set.set(name, valueHash(bytes));
    const manifest: Manifest = {
      $typeName: 'isthmus.v1.Manifest',
      clusterset,
      member: this.#name,
      epoch: this.#world.registry.newest(this.#name)?.epoch ?? 1n,
      sequence: this.#sequence++,
      root: new Uint8Array(set.root()),
      count: set.count,
      wallMs: 0n,
      shuttingDown: false,
      critical: [],
    };
    const signed = signManifest(manifest, key);
    if (!signed.ok) throw signed.error;
    this.put(signed.value);
    if (key !== stranger) {
      const { etcd, registry, nowMs } = this.#world;
      registry.note(this.#name, this.#prefix, etcd.snapshot('root', this.#prefix), nowMs);
    }
  }

  put(manifest: Uint8Array | undefined): void {
    const puts = [...this.records].map(([key, value]) => ({ key: this.#prefix + key, value }));
    if (manifest !== undefined) puts.push({ key: this.#prefix + manifestKey, value: manifest });
    const deletes = [...this.#before.keys()]
      .filter((key) => key !== manifestKey && !this.records.has(key))
      .map((key) => this.#prefix + key);
    this.#world.etcd.commit(this.#name, { compare: [], puts, deletes });
  }

  service(key: string, ready: number): void {
    const local = localService(key, 1, 1);
    const record = serviceRecord(local, 1, new Map(), clusterDomain);
    const capacity = record.capacity.map((c) => ({ ...c, ready, total: ready }));
    const bytes = codec.service.encode({ ...record, capacity });
    if (bytes.ok) this.records.set(`services/${key}`, bytes.value);
  }
}

const gateways = (address: string): Uint8Array => {
  const gateway = {
    $typeName: 'isthmus.v1.Gateway' as const,
    id: 'g0',
    address,
    federationPort: 15_028,
    hbonePort: 15_008,
    draining: false,
  };
  const account = 'isthmus-system/isthmus-gateway';
  const bytes = codec.gateways.encode({
    $typeName: 'isthmus.v1.GatewaysRecord',
    gateways: [gateway],
    account,
    critical: [],
  });
  if (!bytes.ok) throw bytes.error;
  return bytes.value;
};

const write = (world: World, name: string, act: HostileAct): void => {
  const forger = new Forger(world, name);
  const shared = world.scenario.services.filter(({ key }) => !key.startsWith(`${guardedNamespace}/`));
  let key: KeyObject | undefined;
  let again: Uint8Array | undefined;
  switch (act) {
    case 'bad-signature':
      for (const { key: service } of shared) forger.service(service, 77);
      key = stranger;
      break;
    case 'replayed':
      // Writes, then goes back to the manifest of before.
      again = forger.standing;
      break;
    case 'uncovered':
      // Records change, and no manifest says so.
      for (const { key: service } of shared) forger.service(service, 77);
      forger.put(undefined);
      return;
    case 'mass-withdrawal':
      for (const service of forger.services) forger.records.delete(service);
      world.truth.withdrew(name, world.nowMs);
      break;
    case 'absurd-capacity':
      for (const { key: service } of shared) forger.service(service, limits.capacityMax);
      break;
    case 'foreign-names':
      for (const { key: service } of world.scenario.services) forger.service(service, 100);
      forger.service(`${guardedNamespace}/s0`, 100);
      forger.service('kube-system/kube-dns', 100);
      break;
    case 'foreign-addresses': {
      const victim = [...world.clusters.keys()].find((other) => other !== name)!;
      forger.records.set('gateways', gateways(`${addressBase(victim)}.0.1`));
      break;
    }
    case 'foreign-prefix':
      for (const victim of world.clusters.keys()) if (victim !== name) intrude(world, name, victim);
  }
  forger.write(key);
  if (again !== undefined) forger.put(again);
};

/** Its etcd user may not. */
const intrude = (world: World, name: string, victim: string): void => {
  const puts = [{ key: keys.manifest(victim), value: Uint8Array.of(1) }];
  try {
    world.etcd.commit(name, { compare: [], puts, deletes: [] });
  } catch {
    return;
  }
  throw new Error(`etcd let ${name} write what is ${victim}'s`);
};

export const actHostile = (
  world: World,
  act: HostileAct,
  takeDown: (slots: readonly Slot[]) => () => void,
): (() => void) => {
  const name = world.scenario.hostile;
  if (name === undefined) return () => {};
  const back = takeDown(world.slotsOf(name));
  world.hostileActs++;
  write(world, name, act);
  return () => {
    world.hostileActs--;
    back();
  };
};
