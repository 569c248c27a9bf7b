/**
 * The loop's middle: marks come in, resources come out.
 *
 * Adapters say which keys may have changed; one run a macrotask merges just those, has them decided, translates what is another
 * than before, and puts what really changed into the two tables. It has no sockets of its own, and a burst of a thousand events costs one run.
 */
import type { Clock, Timer } from '../core/clock.ts';
import type { ServiceKey } from '../core/names.ts';
import { noPlan, type Plan } from '../failover/plan.ts';
import type { FederationChange } from '../federation/change.ts';
import type { LocalChange, LocalCluster } from '../federation/local.ts';
import type { MemberView, View } from '../federation/view.ts';
import type { ViewKeeper } from '../federation/view_keeper.ts';
import type { GatewayInput, GatewaySecrets, GatewaySettings } from '../translate/envoy/input.ts';
import { roundTripsOf } from '../translate/envoy/resources.ts';
import { GatewayTranslation } from '../translate/envoy/translation.ts';
import type { ZtunnelConfig } from '../translate/ztunnel/inputs.ts';
import { ZtunnelTranslation } from '../translate/ztunnel/translation.ts';
import { type EgressRules, noEgressRules, restricts } from '../trust/egress_rules.ts';
import type { Member } from '../trust/membership.ts';
import { makeResource } from '../xds/encode.ts';
import { type TypeUrl, types } from '../xds/resource.ts';
import { ResourceTable } from '../xds/table.ts';
import type { Decided } from './deciding.ts';
import type { Programmed } from './programming.ts';

export interface EngineOptions {
  readonly self: string;
  readonly keeper: ViewKeeper;
  /**
   * What to do about a view. A promise: it takes effect when that resolves, and what happens meanwhile waits. When it rejects it is
   * asked again a moment later.
   */
  readonly decide: (view: View) => Decided | Promise<Decided>;
  readonly ztunnel: ZtunnelConfig;
  readonly gateway: Omit<GatewaySettings, 'self'>;
  /** Called once a macrotask while there is something to do. */
  readonly schedule: (run: () => void) => void;
  readonly local: () => LocalCluster;
  /** Rights and limits of our own workloads at the egress; default: everybody may call everything. */
  readonly egress?: () => EgressRules;
  readonly members: () => ReadonlyMap<string, MemberView>;
  /** After a run that changed a table. */
  readonly onResources: () => void;
  /** Before that, when it was a decision that changed it: which types of resources, and when it took effect. */
  readonly onProgrammed?: (types: Programmed, atMs: number) => void;
  /** After each run, when what it changed can have been flushed: which services were planned anew. */
  readonly onPlanned?: (services: ReadonlySet<ServiceKey>) => void;
  readonly onSeconds?: (seconds: number) => void;
  /** From the first mark that came from other members to the end of the run that served it. */
  readonly onPropagated?: (seconds: number) => void;
  readonly clock: Clock;
}

/** What one run is about. */
interface Batch {
  readonly start: number;
  readonly local: LocalCluster;
  readonly members: ReadonlyMap<string, MemberView>;
  /** Services whose view may be another. */
  readonly viewed: ReadonlySet<ServiceKey>;
  readonly pods: ReadonlySet<string>;
  readonly dirtyMembers: ReadonlySet<string>;
  readonly topologyChanged: boolean;
  readonly recordsSinceMs: number | undefined;
}

const retryMs = 1_000;

export class Engine {
  readonly tables = {
    ztunnel: new ResourceTable([types.address, types.authorization]),
    gateway: new ResourceTable([
      types.cluster,
      types.endpoints,
      types.listener,
      types.routes,
      types.secret,
      types.extension,
    ]),
  };
  readonly #aliasesOf = new Map<string, readonly string[]>();
  readonly #namesOf = new Map<string, Set<string>>();
  readonly #o: EngineOptions;
  readonly #ztunnel: ZtunnelTranslation;
  readonly #gateway = new GatewayTranslation();
  #services = new Set<ServiceKey>();
  #pods = new Set<string>();
  #namespaces: ReadonlySet<string> = new Set();
  #members = new Set<string>();
  /** Who is in the set, and through which gateways: every service is ordered anew. */
  #topologyChanged = false;
  #healthChanged = false;
  #secretsChanged = false;
  #scheduled = false;
  /** A decision waits for the journal. */
  #waiting = false;
  #closed = false;
  /** Undefined before the first decision. */
  #plan: Plan | undefined;
  /** Since when something of other members waits for a run. */
  #recordsSinceMs: number | undefined;
  /** After a decision that was not made. */
  #retry: Timer | undefined;
  /** When routes that wait for new classes may move. */
  #moves: Timer | undefined;
  #localKnown = false;
  /** Services not yet given to the gateways' translation, while it could not begin. */
  #deferred: Set<ServiceKey> | undefined = new Set();
  #secrets: GatewaySecrets | undefined;
  #told: Pick<GatewayInput, 'head' | 'revocations'> = {};
  #gatewayHealth: ReadonlyMap<string, boolean> = new Map();

  constructor(options: EngineOptions) {
    this.#o = options;
    this.#ztunnel = new ZtunnelTranslation(options.ztunnel);
  }

  /** True once the local cluster is known: before that nothing is translated, so that no proxy sees half a cluster. */
  get started(): boolean {
    return this.#localKnown;
  }
  /** False until gateways can be told all: one that connects before would be told that everything is gone. */
  get gatewaysKnown(): boolean {
    return this.#deferred === undefined;
  }
  /** What is being served. */
  get plan(): Plan {
    return this.#plan ?? noPlan;
  }
  get secrets(): GatewaySecrets | undefined {
    return this.#secrets;
  }
  get gatewayHealth(): ReadonlyMap<string, boolean> {
    return this.#gatewayHealth;
  }

  markLocal(change: LocalChange): void {
    if (!this.#localKnown) {
      this.#localKnown = true;
      for (const key of this.#o.local().services.keys()) this.#services.add(key);
      for (const key of this.#o.local().pods.keys()) this.#pods.add(key);
      this.#topologyChanged = true;
    }
    for (const key of change.services) this.#services.add(key);
    for (const key of change.pods) this.#pods.add(key);
    if (change.imports !== undefined) this.#namespaces = this.#namespaces.union(change.imports);
    this.wake();
  }
  markRecords(change: Pick<FederationChange, 'services' | 'members' | 'topology'>): void {
    for (const key of change.services) this.#services.add(key);
    for (const name of change.members) this.#members.add(name);
    if (change.topology.size > 0) this.#topologyChanged = true;
    this.#recordsSinceMs ??= this.#o.clock.monotonicMs();
    this.wake();
  }
  setGatewayHealth(health: ReadonlyMap<string, boolean>): void {
    this.#gatewayHealth = health;
    this.#healthChanged = true;
    this.wake();
  }
  /** What our gateways tell peers: how far our records are, anew every few seconds, and who was put out. */
  tell(told: Pick<GatewayInput, 'head' | 'revocations'>): void {
    this.#told = told;
    this.wake();
  }
  setSecrets(secrets: GatewaySecrets): void {
    this.#secrets = secrets;
    this.#secretsChanged = true;
    this.wake();
  }

  /** The names behind `network/ip`, for proxies that ask for addresses one by one. */
  readonly expandAlias = (typeUrl: string, alias: string): readonly string[] =>
    typeUrl === types.address ? [...(this.#namesOf.get(alias) ?? [])] : [];

  #alias(name: string, now: readonly string[]): void {
    for (const alias of this.#aliasesOf.get(name) ?? []) {
      const names = this.#namesOf.get(alias);
      names?.delete(name);
      if (names?.size === 0) this.#namesOf.delete(alias);
    }
    for (const alias of now) {
      const names = this.#namesOf.get(alias);
      if (names === undefined) this.#namesOf.set(alias, new Set([name]));
      else names.add(name);
    }
    if (now.length > 0) this.#aliasesOf.set(name, now);
    else this.#aliasesOf.delete(name);
  }

  /** There is something to decide about, besides what is marked. */
  wake(): void {
    if (this.#scheduled || this.#waiting || this.#closed || !this.#localKnown) return;
    this.#scheduled = true;
    this.#o.schedule(() => {
      this.#scheduled = false;
      if (!this.#closed) this.run();
    });
  }

  /** Decides about what is marked, and translates it: now, or when the decision is in the journal. */
  run(): void {
    const start = this.#o.clock.monotonicMs();
    const { keeper, decide, local } = this.#o;
    // The map is live, and a decision may take its time.
    const members = new Map(this.#o.members());
    const dirty = { services: this.#services, members: this.#topologyChanged, namespaces: this.#namespaces };
    const viewed = keeper.update(local(), members, dirty);
    const batch: Batch = {
      start,
      local: local(),
      members,
      viewed,
      pods: this.#pods,
      dirtyMembers: this.#members,
      topologyChanged: this.#topologyChanged,
      recordsSinceMs: this.#recordsSinceMs,
    };
    this.#services = new Set();
    this.#pods = new Set();
    this.#namespaces = new Set();
    this.#members = new Set();
    this.#topologyChanged = false;
    this.#recordsSinceMs = undefined;
    const decided = decide(keeper.view);
    if (!(decided instanceof Promise)) {
      this.#translate(batch, decided);
      return;
    }
    this.#waiting = true;
    decided.then(
      (late) => {
        this.#waiting = false;
        if (this.#closed) return;
        this.#translate(batch, late, true);
        // What came meanwhile was marked and woke nobody.
        this.wake();
      },
      () => this.#undecided(batch),
    );
  }

  /** It is asked again in a moment; meanwhile what is served follows the records by the plan that there is. */
  #undecided(batch: Batch): void {
    this.#waiting = false;
    if (this.#closed) return;
    this.#retry?.cancel();
    this.#retry = this.#o.clock.after(retryMs, () => this.wake());
    if (this.#plan !== undefined) {
      this.#translate(batch, { plan: this.#plan, changed: new Set() });
      return;
    }
    this.#services = this.#services.union(batch.viewed);
    this.#pods = this.#pods.union(batch.pods);
    this.#members = this.#members.union(batch.dirtyMembers);
    this.#topologyChanged ||= batch.topologyChanged;
    this.#recordsSinceMs = batch.recordsSinceMs ?? this.#recordsSinceMs;
  }

  /** @param decisive - something was decided, and is in the journal */
  #translate(batch: Batch, { plan, changed }: Decided, decisive = false): void {
    const { local } = batch;
    const effectiveMs = this.#o.clock.monotonicMs();
    this.#plan = plan;
    const planned = changed.size === 0 ? batch.viewed : batch.viewed.union(changed);
    const dirty = { pods: batch.pods, services: planned, members: batch.dirtyMembers };
    const { view } = this.#o.keeper;
    const workloads = this.#ztunnel.update(
      {
        local,
        view,
        plan,
        gatewayHealth: this.#gatewayHealth,
        gatewayOnly: restricts(this.#o.egress?.() ?? noEgressRules),
      },
      { ...dirty, gatewayHealth: this.#healthChanged },
    );
    this.#healthChanged = false;
    for (const name of workloads.removed) this.#alias(name, []);
    for (const { name, aliases } of workloads.changed) this.#alias(name, aliases);
    const upserts = workloads.changed.map((r) => makeResource(r.typeUrl, r.name, r.bytes));
    const removes = workloads.removed.map((name) => ({ typeUrl: types.address as TypeUrl, name }));
    const applied = this.tables.ztunnel.apply({ upserts, removes });
    const gatewayTypes = this.#gateways(batch, planned);
    const ztunnelTypes = new Set<string>(
      applied.upserted + applied.removed === 0 ? [] : [...upserts, ...removes].map(({ typeUrl }) => typeUrl),
    );
    if (gatewayTypes.size + ztunnelTypes.size > 0) {
      if (decisive && changed.size > 0)
        this.#o.onProgrammed?.({ gateway: gatewayTypes, ztunnel: ztunnelTypes }, effectiveMs);
      this.#o.onResources();
    }
    // Proxies first, who are sent theirs in a microtask too: what is told to stores and people takes its time.
    queueMicrotask(() => {
      if (!this.#closed) this.#o.onPlanned?.(planned);
    });
    const end = this.#o.clock.monotonicMs();
    this.#o.onSeconds?.((end - batch.start) / 1000);
    if (batch.recordsSinceMs !== undefined) this.#o.onPropagated?.((end - batch.recordsSinceMs) / 1000);
  }

  close(): void {
    this.#closed = true;
    this.#retry?.cancel();
    this.#moves?.cancel();
  }

  /**
   * Gateways need our own membership and certificates; until both are there they get nothing rather than half.
   * @returns the types of what changed
   */
  #gateways(batch: Batch, services: ReadonlySet<ServiceKey>): ReadonlySet<string> {
    const { members, local } = batch;
    const self: Member | undefined = members.get(this.#o.self)?.member;
    if (self === undefined || this.#secrets === undefined) {
      this.#deferred = (this.#deferred ?? new Set<ServiceKey>()).union(services);
      return new Set();
    }
    const { view } = this.#o.keeper;
    const { plan } = this;
    const input: GatewayInput = {
      settings: { ...this.#o.gateway, self },
      secrets: this.#secrets,
      members,
      services: view.services,
      plan,
      local,
      ...(this.#o.egress && { egress: this.#o.egress() }),
      roundTrips: roundTripsOf(members.get(this.#o.self)),
      ...this.#told,
    };
    const first = this.#deferred !== undefined;
    const dirty = {
      services: first ? services.union(this.#deferred ?? new Set<ServiceKey>()) : services,
      pods: batch.pods,
      members: first || batch.dirtyMembers.size > 0 || batch.topologyChanged || this.#secretsChanged,
    };
    const nowMs = this.#o.clock.monotonicMs();
    const delta = this.#gateway.update(input, dirty, nowMs);
    this.#moves?.cancel();
    this.#moves =
      delta.wakeAtMs === undefined
        ? undefined
        : this.#o.clock.after(Math.max(1, delta.wakeAtMs - nowMs), () => this.wake());
    this.#deferred = undefined;
    this.#secretsChanged = false;
    const applied = this.tables.gateway.apply({
      upserts: delta.changed.map((r) => makeResource(r.typeUrl, r.name, r.bytes)),
      removes: delta.removed,
    });
    if (applied.upserted + applied.removed === 0) return new Set();
    return new Set([...delta.changed, ...delta.removed].map(({ typeUrl }) => typeUrl));
  }
}
