/** Two replicas of one cluster on one clock, with a store and an API server that are as a test wants them. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import type { Config } from '../../../src/config/controller.ts';
import { type Announcement, Failover } from '../../../src/controller/failover.ts';
import { type Seals, sealsOf } from '../../../src/controller/seals.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import { verdictsRecord } from '../../../src/federation/decided.ts';
import type { LocalCluster } from '../../../src/federation/local.ts';
import type { MemberView } from '../../../src/federation/view.ts';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import type { KubeRequest } from '../../../src/kube/api.ts';
import { openMetrics } from '../../../src/ops/metrics.ts';
import { decodeStatePart } from '../../../src/records/verdicts.ts';
import { SimClock } from '../../sim/clock.ts';
import { someService } from '../records/arbitrary.ts';
import { serviceView, memberView as shopMember, viewOf } from './shop.ts';

export const recordKey = generateKeyPairSync('ed25519').privateKey;
export const self = 'us-east';
export const peer = 'us-west';
const dirs: string[] = [];
afterEach(() => {
  // A journal may be writing its last entry.
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
});

export const memberView = (name: string, over: Partial<MemberView> = {}): MemberView =>
  shopMember(name, { grants: undefined, votes: undefined, ...over });
const recordOf = (name: string): ServiceRecord =>
  someService({ namespace: 'shop', name, hostname: `${name}.shop.svc.cluster.local` });
export const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `s${i}`);
const services = (of: readonly string[]) => new Map(of.map((name) => [`shop/${name}`, recordOf(name)]));

/** ConfigMaps, and nothing else. */
export class Api {
  readonly maps = new Map<string, { readonly binaryData?: Readonly<Record<string, string>> }>();
  readonly calls: string[] = [];
  dark = false;

  async request({ method, path, body }: KubeRequest): Promise<unknown> {
    this.calls.push(method);
    if (this.dark) throw new IsthmusError('kube/unavailable', 'the API server does not answer');
    const name = method === 'POST' ? (body as { metadata: { name: string } }).metadata.name : path.split('/').at(-1)!;
    if (method !== 'POST' && !this.maps.has(name)) {
      throw new IsthmusError('kube/not-found', name, { subject: { status: 404 } });
    }
    if (method === 'DELETE') this.maps.delete(name);
    else if (method !== 'GET') this.maps.set(name, body as object);
    return this.maps.get(name);
  }
}

/** What every replica of the cluster reads from the store. */
export class Store {
  readonly members = new Map<string, MemberView>([
    [self, memberView(self)],
    [peer, memberView(peer, { services: services(names(10)) })],
  ]);
  readonly replicas: Replica[] = [];
  readonly api = new Api();
  /** Of our own newest manifest. */
  head = { epoch: 3n, sequence: 41n };

  /** The peer's newest manifest covers just these. */
  peerHas(of: readonly string[]): void {
    this.members.set(peer, memberView(peer, { services: services(of) }));
    this.changed();
  }
  changed(): void {
    const keys = new Set(names(10).map((name) => `shop/${name}`));
    for (const replica of this.replicas) {
      replica.failover.records({ services: keys, members: new Set([self, peer]), policy: false });
    }
  }
  /** What the writer announces, as a watch brings it to all. */
  ship({ verdicts }: Announcement): void {
    const made = verdictsRecord(verdicts);
    if (!made.ok) throw made.error;
    const parts = made.value.parts.map((bytes) => {
      const part = decodeStatePart(bytes);
      if (!part.ok) throw part.error;
      return part.value;
    });
    this.members.set(
      self,
      memberView(self, {
        head: this.head,
        verdicts: made.value.head,
        stateParts: new Map(parts.map((part, n) => [n, part])),
      }),
    );
    this.changed();
  }
}

export class Replica {
  readonly logged: string[] = [];
  /** Services that changed without a record having come. */
  readonly touched: string[] = [];
  /** `shop/checkout`. */
  service = serviceView([2, 2], {});
  /** It holds the lease, and knows its keys. */
  mayShip = true;
  readonly failover: Failover;
  readonly clock: SimClock;
  readonly announced: Announcement[] = [];
  saved: Uint8Array | undefined;
  readBackMs = 300;
  seals: Seals = sealsOf({ now: recordKey });
  chosen: boolean;
  readonly #store: Store;

  constructor(store: Store, chosen: boolean, clock: SimClock, dir = mkdtempSync(join(tmpdir(), 'isthmus-replica-'))) {
    dirs.push(dir);
    this.#store = store;
    this.chosen = chosen;
    this.clock = clock;
    const config = {
      member: self,
      replica: 'a',
      namespace: 'isthmus-system',
      failover: { order: [], whenJournalUnwritable: 'spool' },
      publish: { silenceMs: 6_000, heartbeatMs: 1_000 },
      state: { dir },
    } as unknown as Config;
    this.failover = new Failover({
      config,
      recordKey: generateKeyPairSync('ed25519').privateKey,
      seals: () => this.seals,
      clock,
      rng: () => 0.5,
      log: (_level, message) => void this.logged.push(message),
      metrics: openMetrics('test'),
      epoch: () => 1n,
      chosen: () => this.chosen,
      recordsKnown: () => true,
      rawMembers: () => store.members,
      local: () => ({ failoverPolicies: new Map() }) as unknown as LocalCluster,
      readBackMs: () => this.readBackMs,
      roundTrips: () => new Map(),
      receivingSpill: () => new Set(),
      policySpec: () => undefined,
      anchors: () => [],
      wake: () => {},
      onServices: (services) => void this.touched.push(...services),
      save: async (bytes) => {
        this.saved = bytes;
      },
      announce: (announcement) => this.announced.push(announcement),
      beside: { api: store.api, mayShip: () => this.mayShip },
    });
    store.replicas.push(this);
  }

  /** A second passes: the upkeep of the controller, and a step. @param ship - what is announced reaches the others */
  async tick(ship = true): Promise<Announcement | undefined> {
    await this.clock.advance(1_000);
    this.failover.tick();
    await this.failover.decide(viewOf([this.service], [...this.failover.members.values()]));
    this.failover.announce();
    const announced = this.announced.splice(0).at(-1);
    if (ship && announced !== undefined) this.#store.ship(announced);
    return announced;
  }
  get held(): string[] {
    return [...(this.failover.withdrawing.held.get(peer) ?? [])].map(({ service, reason }) => `${service} ${reason}`);
  }
  get uses(): string[] {
    return [...(this.failover.members.get(peer)?.services.keys() ?? [])].map((key) => key.slice(5));
  }
  /** Probes of the path to the peer, as either replica makes them. */
  async pathFails(times: number): Promise<void> {
    for (let probe = 0; probe < times; probe++) {
      await this.clock.advance(300);
      this.#pathFailed();
    }
  }
  #pathFailed(): void {
    const nothing = { status: 503, reached: false, ms: undefined, head: undefined };
    const atMs = this.clock.monotonicMs();
    const to = { member: peer, service: undefined, atMs };
    this.failover.overheard.probe({ ...to, ok: false, denied: false, failedAt: 'tcp', ...nothing });
  }
  /** Whether calls may be sent to the peer. */
  get sends(): boolean {
    const { tiers } = this.failover.deciding.plan.services.get('shop/checkout')!;
    return tiers.flat().some(({ member }) => member === peer);
  }
  get state(): string | undefined {
    return this.failover.deciding.verdicts.members.get(peer)?.state;
  }
  probed(service: string, answer: 'gone' | 'answers'): void {
    const gone = answer === 'gone';
    this.failover.probe({
      member: peer,
      service: `shop/${service}`,
      atMs: this.clock.monotonicMs(),
      ok: !gone,
      denied: false,
      failedAt: gone ? 'connect' : undefined,
      status: gone ? 404 : 200,
      reached: true,
      ms: 5,
      head: undefined,
    });
  }
}

export const pair = async () => {
  const store = new Store();
  const clock = new SimClock();
  const writer = new Replica(store, true, clock);
  const other = new Replica(store, false, clock);
  for (const replica of [writer, other]) await replica.failover.open(undefined);
  store.changed();
  await writer.tick();
  return { store, clock, writer, other };
};
