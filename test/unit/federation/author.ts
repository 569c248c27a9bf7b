/** A member that writes: its records as store entries, its manifest signed, in a store that counts revisions. */
import type { KeyObject } from 'node:crypto';
import type { StoreEntry, StoreEvent, StoreSnapshot } from '../../../src/core/store.ts';
import { Federation, type FederationOptions } from '../../../src/federation/federation.ts';
import type { Manifest, ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { codec } from '../../../src/records/codec.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { signManifest } from '../../../src/records/manifest.ts';
import { MerkleSet, valueHash } from '../../../src/records/merkle.ts';
import { signMembership } from '../../../src/trust/membership.ts';
import { someService } from '../records/arbitrary.ts';
import { authority, type TestMember } from '../trust/certificates.ts';

export const keys = storeKeys('demo');
export const times = (nowMs = 0) => ({ nowMs, wallMs: 5_000 + nowMs });

export const federation = (change: Partial<FederationOptions> = {}): Federation =>
  new Federation({
    clusterset: 'demo',
    self: 'us-east',
    trustDomain: 'corp.example',
    authorityKey: authority.publicKey,
    ...change,
  });

const value = <T>(result: { ok: true; value: T } | { ok: false; error: Error }): T => {
  if (!result.ok) throw result.error;
  return result.value;
};

/** The store, without a network. */
export class Shelf {
  readonly content = new Map<string, StoreEntry>();
  revision = 1n;

  /** One revision. Undefined deletes. */
  write(changes: Record<string, Uint8Array | undefined>): StoreEvent[] {
    this.revision++;
    const modRevision = this.revision;
    return Object.entries(changes).map(([key, bytes]) => {
      if (bytes === undefined) {
        this.content.delete(key);
        return { type: 'delete', key, modRevision };
      }
      this.content.set(key, { key, value: bytes, modRevision });
      return { type: 'put', key, value: bytes, modRevision };
    });
  }

  snapshot(): StoreSnapshot {
    return { clusterId: 1n, revision: this.revision, entries: [...this.content.values()] };
  }
}

export const membershipOf = (
  { member }: TestMember,
  key: KeyObject = authority.privateKey,
): Record<string, Uint8Array> => ({
  [keys.member(member.name)]: value(signMembership(member, key)),
});

export class Author {
  readonly test: TestMember;
  readonly records = new Map<string, Uint8Array>();
  epoch = 100n;
  sequence = 0n;

  constructor(test: TestMember) {
    this.test = test;
  }
  get name(): string {
    return this.test.member.name;
  }
  key(relative: string): string {
    return keys.memberPrefix(this.name) + relative;
  }

  manifest(change: Partial<Manifest> = {}, signedBy: KeyObject = this.test.recordKey): Record<string, Uint8Array> {
    this.sequence++;
    const set = new MerkleSet();
    for (const [key, bytes] of this.records) set.set(key, valueHash(bytes));
    const manifest: Manifest = {
      $typeName: 'isthmus.v1.Manifest',
      clusterset: 'demo',
      member: this.name,
      epoch: this.epoch,
      sequence: this.sequence,
      root: new Uint8Array(set.root()),
      count: set.count,
      wallMs: 0n,
      shuttingDown: false,
      critical: [],
      ...change,
    };
    return { [keys.manifest(this.name)]: value(signManifest(manifest, signedBy)) };
  }

  /** One tick: the changes and the manifest over everything. */
  tick(changes: Record<string, Uint8Array | undefined>): Record<string, Uint8Array | undefined> {
    const puts: Record<string, Uint8Array | undefined> = {};
    for (const [relative, bytes] of Object.entries(changes)) {
      puts[this.key(relative)] = bytes;
      if (bytes === undefined) this.records.delete(relative);
      else this.records.set(relative, bytes);
    }
    return { ...puts, ...this.manifest() };
  }

  gateways(address: string, account = 'isthmus-system/isthmus-gateway'): Record<string, Uint8Array> {
    const gateway = {
      $typeName: 'isthmus.v1.Gateway' as const,
      id: 'g0',
      address,
      federationPort: 15028,
      hbonePort: 15008,
      draining: false,
    };
    const record = { $typeName: 'isthmus.v1.GatewaysRecord' as const, gateways: [gateway], account, critical: [] };
    return { gateways: value(codec.gateways.encode(record)) };
  }
}

export const serviceBytes = (name = 'checkout', change: Partial<ServiceRecord> = {}): Record<string, Uint8Array> => {
  const namespace = change.namespace ?? 'shop';
  const record = someService({ name, hostname: `${name}.${namespace}.svc.cluster.local`, ...change });
  return { [`services/${namespace}/${name}`]: value(codec.service.encode(record)) };
};
