/**
 * One run of a controller: the real federation, publisher, health and failover on simulated lines and clocks. It does what the
 * wiring of the real one does, in the same order: what the store says is merged, a step decides, the decision goes to the disk, and
 * only then to the proxies and to the other replica.
 */
import { Withdrawing } from '../../../src/controller/withdrawing.ts';
import type { ServiceKey } from '../../../src/core/names.ts';
import type { StoreWatch } from '../../../src/core/store.ts';
import type { Plan } from '../../../src/failover/plan.ts';
import { decodeState, encodeState } from '../../../src/failover/saved.ts';
import { type FailoverState, initialState, step } from '../../../src/failover/step.ts';
import type { FederationChange } from '../../../src/federation/change.ts';
import { Exports } from '../../../src/federation/exports.ts';
import { Federation } from '../../../src/federation/federation.ts';
import type { Times } from '../../../src/federation/head.ts';
import type { LocalCluster, LocalService } from '../../../src/federation/local.ts';
import { mergeService } from '../../../src/federation/merge.ts';
import type { ServiceView, View } from '../../../src/federation/view.ts';
import { readShipped } from '../../../src/federation/withdrawals_shipped.ts';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { Publisher } from '../../../src/store/publisher.ts';
import { clusterDomain, type KnownGateway } from './cluster.ts';
import type { Word } from './disk.ts';
import { authority } from './identities.ts';
import type { ProcessOptions } from './process-options.ts';
import { sense } from './senses.ts';

export const clusterset = 'demo';
const trustDomain = 'corp.example';
const gatewayAccount = 'isthmus-system/isthmus-gateway';
const roundMs = 1_000;
const saveMs = 5_000;
const soonMs = 10;
export const leaseTtlMs = 4_000;

const emptyCluster: LocalCluster = {
  services: new Map(),
  pods: new Map(),
  nodes: new Map(),
  problems: new Map(),
  policies: [],
  failoverPolicies: new Map(),
};

export class Process {
  readonly o: ProcessOptions;
  readonly federation: Federation;
  readonly #exports = new Exports({ clusterDomain });
  readonly #publisher: Publisher;
  readonly #watch: StoreWatch;
  readonly #views = new Map<ServiceKey, ServiceView>();
  readonly #rng: () => number;
  #local: ReadonlyMap<ServiceKey, LocalService> = new Map();
  #localKnown = false;
  #known = false;
  #dirty = new Set<ServiceKey>();
  readonly #withdrawing: Withdrawing;
  #heldVersion = 0;
  #state: FailoverState = initialState();
  #plan: Plan | undefined;
  #steps = 0;
  #leads = false;
  #leadsUntilMs = 0;
  #soon = false;
  #wake: { cancel(): void } | undefined;
  #savedAtMs = 0;
  #ended = false;

  constructor(o: ProcessOptions) {
    this.o = o;
    this.#rng = o.draw.fork('step').next;
    const self = o.cluster.name;
    this.federation = new Federation({ clusterset, self, trustDomain, authorityKey: authority.publicKey });
    this.#withdrawing = new Withdrawing({
      self,
      policies: () => o.policies,
      evicted: (member) => this.#state.health.members[member]?.state === 'evicted',
      chosen: () => this.#leading(),
      onLetGo: () => {},
      onHeld: () => {},
    });
    this.#restore();
    this.#publisher = new Publisher({
      store: o.store,
      clock: o.clock,
      clusterset,
      member: self,
      recordKey: o.identity.recordKey,
      heartbeatMs: o.heartbeatMs,
      epochFloor: () => this.federation.seen(self)?.epoch ?? 0n,
      onEvent: (event) => {
        if (event.kind === 'fenced') o.clock.after(leaseTtlMs, () => this.#leads && this.#publisher.lead());
      },
    });
    this.#watch = o.store.watch(storeKeys(clusterset).root, {
      snapshot: (snapshot) => {
        this.#known = true;
        this.#told(this.federation.snapshot(snapshot, this.#times()));
        this.#lead();
      },
      events: (events) => this.#told(this.federation.events(events, this.#times())),
      connected: () => {},
    });
    this.localChanged();
    this.#round();
    o.clock.after(roundMs * o.draw.next(), () => this.#rounds());
  }

  get publisherState(): string {
    return this.#publisher.state;
  }
  get leads(): boolean {
    return this.#leads;
  }
  get plan(): Plan | undefined {
    return this.#plan;
  }
  get view(): View {
    return { self: this.o.cluster.name, members: this.#withdrawing.members, services: this.#views };
  }
  get state(): FailoverState {
    return this.#state;
  }
  gateways(): Map<string, readonly KnownGateway[]> {
    const gateways = new Map<string, readonly KnownGateway[]>();
    for (const [name, { gateways: record }] of this.federation.members) {
      if (name !== this.o.cluster.name) gateways.set(name, record?.gateways ?? []);
    }
    return gateways;
  }

  /** Now, on the scale of the states. */
  scaleMs(): number {
    return this.o.clock.monotonicMs() + this.o.disk.offsetMs;
  }

  /** The API server has something new to tell. */
  localChanged(): void {
    if (this.o.cluster.apiDark > 0 && this.#localKnown) return;
    if (this.o.cluster.apiDark > 0) {
      if (this.o.disk.local === undefined) return;
      this.#local = this.o.disk.local;
    } else this.#local = this.o.cluster.localServices();
    this.#localKnown = true;
    this.o.disk.local = this.#local;
    this.#exports.update(this.#localCluster(), { services: this.#local.keys(), pods: [] });
    this.#publish();
    for (const key of this.#local.keys()) this.#dirty.add(key);
    this.#stepSoon();
    this.#lead();
  }

  /** From the replica that decides. */
  receive({ state, plan, holds, nowMs }: Word): void {
    if (this.#leads || this.#ended) return;
    this.o.disk.offsetMs = nowMs - this.o.clock.monotonicMs();
    const decoded = decodeState(state);
    if (!decoded.ok) throw decoded.error;
    this.#state = decoded.value;
    this.#plan = plan;
    this.o.disk.state = state;
    this.o.disk.plan = plan;
    const shipped = readShipped(holds, nowMs, 0);
    if (!shipped.ok) throw shipped.error;
    for (const key of this.#withdrawing.adopt(shipped.value, this.federation.members, nowMs)) this.#dirty.add(key);
    this.o.disk.held = this.#withdrawing.save();
    this.o.told.serve(plan, this.gateways());
  }

  /** As the system kills it: no last word. */
  end(): void {
    this.#ended = true;
    this.o.clock.end();
    this.#publisher.close();
    this.#watch.close();
    void this.o.store.close();
  }

  #restore(): void {
    const { disk } = this.o;
    if (disk.records !== undefined) {
      const restored = this.federation.restore(disk.records, this.#times());
      if (!restored.ok) throw restored.error;
      this.#known = true;
      for (const key of restored.value.services) this.#dirty.add(key);
    }
    if (disk.state !== undefined) {
      const decoded = decodeState(disk.state);
      if (!decoded.ok) throw decoded.error;
      this.#state = decoded.value;
    }
    this.#plan = disk.plan;
    const problem = this.#withdrawing.restore(disk.held, 0);
    if (problem !== undefined) throw problem;
  }

  #localCluster(): LocalCluster {
    return { ...emptyCluster, services: this.#local };
  }

  #times(): Times {
    return { nowMs: this.o.clock.monotonicMs(), wallMs: this.o.clock.wallMs() };
  }

  #told(change: FederationChange): void {
    for (const key of change.services) this.#dirty.add(key);
    this.#hold(change.services);
    if (change.topology.size > 0) {
      for (const { services } of this.federation.members.values())
        for (const key of services.keys()) this.#dirty.add(key);
    }
    if (change.topology.size > 0 && this.#plan !== undefined) this.o.told.serve(this.#plan, this.gateways());
    if (change.services.size + change.members.size > 0) this.#stepSoon();
    this.o.told.changed(this, change);
  }

  #publish(): void {
    const { cluster } = this.o;
    const plan = this.#plan;
    const gateways = Array.from({ length: cluster.spec.gateways }, (_, i) => ({
      id: `g${i}`,
      address: `${addressBase(cluster.name)}.0.${i + 1}`,
      federationPort: 15_028,
      hbonePort: 15_008,
      draining: false,
      locality: undefined,
    }));
    const set = [this.#exports.setGateways(gateways, gatewayAccount)];
    if (plan !== undefined) {
      set.push(this.#exports.setDraining(plan.draining, this.#localCluster()));
      set.push(this.#exports.setGrants(plan.grants));
      set.push(this.#exports.setVotes(plan.votes));
    }
    for (const result of set) if (!result.ok) throw result.error;
    this.#publisher.publish(this.#exports.take());
  }

  #lead(): void {
    if (this.#leads && this.#known && this.#localKnown) this.#publisher.lead();
  }

  #rounds(): void {
    this.#round();
    this.o.clock.after(roundMs, () => this.#rounds());
  }

  #round(): void {
    this.#renewLease();
    this.#told(this.federation.tick(this.#times()));
    if (this.#leading()) this.#step(true);
    if (this.o.clock.monotonicMs() - this.#savedAtMs >= saveMs && this.#known) {
      this.#savedAtMs = this.o.clock.monotonicMs();
      this.o.disk.records = Buffer.concat([...this.federation.save(this.#times())]);
      if (this.#leads) this.o.disk.state = encodeState(this.#state);
    }
  }

  /** As the election does: by the clock at each question, for whoever was stopped wakes up with its time run out. */
  #leading(): boolean {
    const inTime = this.o.clock.monotonicMs() < this.#leadsUntilMs;
    return this.#leads && (inTime || this.o.cluster.apiDark > 0);
  }

  /** With the API server dark nobody can take the lease, and who has it goes on. */
  #renewLease(): void {
    const { cluster, replica, ground } = this.o;
    if (cluster.apiDark > 0) return;
    const lease = cluster.lease;
    const mine = lease === undefined || lease.holder === replica || ground.nowMs > lease.untilMs;
    if (mine) {
      cluster.lease = { holder: replica, untilMs: ground.nowMs + leaseTtlMs };
      this.#leadsUntilMs = this.o.clock.monotonicMs() + leaseTtlMs;
    }
    if (mine === this.#leads) return;
    this.#leads = mine;
    if (mine) this.#lead();
    else this.#publisher.resign();
  }

  #stepSoon(): void {
    if (this.#soon || this.#ended) return;
    this.#soon = true;
    this.o.clock.after(soonMs, () => {
      this.#soon = false;
      if (this.#leading()) this.#step(false);
    });
  }

  /** @param measured - with a round of probes and load reports */
  #step(measured: boolean): void {
    if (!this.#known || !this.#localKnown) return;
    this.#merge();
    const view = this.view;
    const nowMs = this.scaleMs();
    const before = this.#state;
    const planBefore = this.#plan;
    const readBackMs = this.#publisher.readBackAgeMs();
    const canaries = this.#withdrawing.canaries;
    const senses = {
      ...this.o,
      nowMs,
      readBackMs,
      canaries,
      sinceMs: (atMs: number) => this.o.clock.monotonicMs() - atMs,
    };
    const signals = sense(senses, view, measured);
    for (const probe of signals.probes) this.#withdrawing.probed(probe);
    for (const command of signals.commands) {
      if (command.kind === 'confirm-withdrawal') this.#withdrawing.confirm(command.member, command.service);
    }
    const { policies, ground, disk, told } = this.o;
    const made = step(before, view, signals, policies, nowMs, this.#rng);
    this.#state = made.state;
    this.#plan = made.plan;
    const moved = made.journal.length > 0 || made.changed.size > 0 || planBefore === undefined;
    disk.journal.push(...made.journal);
    if (moved) {
      disk.state = encodeState(made.state);
      disk.plan = made.plan;
    }
    told.decided({
      process: this,
      atMs: ground.nowMs,
      nowMs,
      before,
      state: made.state,
      planBefore,
      plan: made.plan,
      view,
      signals,
      journal: made.journal,
      policies,
      first: this.#steps++ === 0,
      wakeAt: made.wakeAt,
    });
    if (moved) {
      told.serve(made.plan, this.gateways());
      this.#publish();
    }
    if (moved || this.#heldVersion !== this.#withdrawing.version) {
      this.#heldVersion = this.#withdrawing.version;
      disk.held = this.#withdrawing.save();
      told.ship({ state: disk.state!, plan: made.plan, holds: this.#withdrawing.ship(nowMs), nowMs });
    }
    this.#wake?.cancel();
    this.#wake =
      made.wakeAt === undefined
        ? undefined
        : this.o.clock.after(Math.max(1, made.wakeAt - nowMs), () => this.#leading() && this.#step(false));
  }

  #hold(touched: ReadonlySet<ServiceKey>): void {
    for (const key of this.#withdrawing.update(this.federation.members, touched, this.scaleMs())) this.#dirty.add(key);
  }

  /** Records, less what is held back of withdrawals, to views. */
  #merge(): void {
    const self = this.o.cluster.name;
    this.#hold(new Set());
    for (const key of this.#dirty) {
      const remotes = new Map<string, ServiceRecord>();
      for (const [name, { services }] of this.#withdrawing.members) {
        const record = name === self ? undefined : services.get(key);
        if (record !== undefined) remotes.set(name, record);
      }
      const view = mergeService(key, this.#local.get(key), remotes, { self, clusterDomain });
      if (view === undefined) this.#views.delete(key);
      else this.#views.set(key, view);
    }
    this.#dirty = new Set();
  }
}

/** Of a cluster's own addresses. */
export const addressBase = (cluster: string): string => `10.${Number(cluster.slice(1)) + 1}`;
