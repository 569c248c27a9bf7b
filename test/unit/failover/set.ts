/**
 * A small cluster set for decisions: members and what they export, verdicts given by hand, time that the test moves. Every step
 * is checked for what must always hold.
 */
import { expect } from 'vitest';
import type { ServiceKey } from '../../../src/core/names.ts';
import { type Verdict as Assessed, decide, type Step } from '../../../src/failover/decide.ts';
import type { Decision, Placement } from '../../../src/failover/decision.ts';
import type { Role } from '../../../src/failover/guards.ts';
import { recentMoves } from '../../../src/failover/moves.ts';
import type { ServicePlan } from '../../../src/failover/plan.ts';
import { defaultPolicies, defaultPolicy, type FailoverPolicy, type Policies } from '../../../src/failover/policy.ts';
import { decodeState, encodeState } from '../../../src/failover/saved.ts';
import { type FailoverState, initialState } from '../../../src/failover/state.ts';
import { mergeService } from '../../../src/federation/merge.ts';
import type { MemberView, ServiceView, View } from '../../../src/federation/view.ts';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { initialHealth } from '../../../src/health/assess.ts';
import { type Command, type DrainTarget, noSignals, type Signals } from '../../../src/health/signals.ts';
import {
  type CellKey,
  type CellState,
  cellKey,
  type MemberVerdict,
  type Reason,
  type Verdict,
} from '../../../src/health/verdict.ts';
import type { Member } from '../../../src/trust/membership.ts';
import { localService } from '../federation/local.ts';
import { someService } from '../records/arbitrary.ts';

export const checkout = 'shop/checkout';
export const home = 'us-east-1';

export const memberOf = (name: string, region: string): Member => ({
  clusterset: 'demo',
  name,
  sequence: 1n,
  region,
  zone: '',
  network: name,
  addressRanges: [],
  namespaces: ['*'],
  serviceAccounts: [],
  federationCa: new Uint8Array(),
  recordKey: new Uint8Array(),
  notBeforeMs: 0,
  notAfterMs: 1,
});

/** One entry a gateway: whether it drains. */
export const memberView = (name: string, region: string, gateways: readonly boolean[] = [false]): MemberView => ({
  member: memberOf(name, region),
  head: undefined,
  freshAtMs: undefined,
  shuttingDown: false,
  gateways: {
    $typeName: 'isthmus.v1.GatewaysRecord',
    gateways: gateways.map((draining, i) => ({
      $typeName: 'isthmus.v1.Gateway',
      id: `g${i}`,
      address: `10.0.0.${i}`,
      federationPort: 15028,
      hbonePort: 15008,
      draining,
    })),
    account: 'isthmus-system/isthmus-gateway',
    critical: [],
  } as MemberView['gateways'],
  trust: undefined,
  vantage: undefined,
  services: new Map(),
  problems: [],
});

export const recordOf = (ready: number, total = ready): ServiceRecord =>
  someService({ capacity: [{ $typeName: 'isthmus.v1.Capacity', ready, total }] });

export const endpoints = (ready: number, total: number) =>
  Array.from({ length: total }, (_, i) => ({
    address: `10.1.0.${i}`,
    pod: undefined,
    ready: i < ready,
    serving: i < ready,
    terminating: false,
    ports: new Map(),
  }));

export interface Setting {
  /** Remote members, by region. */
  readonly members?: Record<string, string>;
  readonly policy?: Partial<FailoverPolicy>;
  readonly partialSpill?: boolean;
  /** Ready of all, here; undefined: no Service of ours. */
  readonly local?: readonly [ready: number, total: number] | undefined;
  /** Each as many ready endpoints; default 2. */
  readonly ready?: Record<string, number>;
  readonly services?: readonly ServiceKey[];
}

const fresh: MemberVerdict = {
  state: 'fresh',
  reason: 'Healthy',
  detail: 'nothing speaks against it',
  sinceMs: 0,
  deadlineMs: undefined,
  penalty: 0,
  control: 'fresh',
  data: 'reachable',
};

export class ClusterSet {
  readonly members = new Map<string, MemberView>();
  readonly views = new Map<ServiceKey, ServiceView>();
  policies: Policies;
  state: FailoverState = initialState();
  now = 1_000_000;
  role: Role = 'writer';
  signals: Signals = noSignals;
  journal: Decision[] = [];
  last: Step | undefined;
  /** Whether the state goes through its bytes between any two steps. */
  restarting = false;
  /** Each step looks at every service, as the first after a restart does, be there news or not. */
  thorough = false;
  readonly #verdicts = new Map<string, MemberVerdict>();
  readonly #cells = new Map<CellKey, Verdict>();
  readonly #regions = new Map<string, Verdict>();
  readonly #changed = { members: new Set<string>(), cells: new Set<CellKey>(), regions: new Set<string>() };

  constructor(setting: Setting = {}) {
    const { members = { 'us-west': 'us-west', eu: 'eu' }, policy = {}, partialSpill = true } = setting;
    this.policies = { ...defaultPolicies, default: { ...defaultPolicy, ...policy }, capabilities: { partialSpill } };
    this.members.set(home, memberView(home, 'us-east'));
    for (const [name, region] of Object.entries(members)) {
      this.members.set(name, memberView(name, region));
      this.#verdicts.set(name, fresh);
    }
    for (const key of setting.services ?? [checkout]) {
      const remotes = Object.fromEntries(Object.keys(members).map((name) => [name, setting.ready?.[name] ?? 2]));
      this.export(remotes, 'local' in setting ? setting.local : [2, 2], key);
    }
  }

  get policy(): FailoverPolicy {
    return this.policies.default;
  }
  set policy(policy: FailoverPolicy) {
    this.policies = { ...this.policies, default: policy };
  }
  get view(): View {
    return { self: home, members: this.members, services: this.views };
  }
  get plan(): ServicePlan {
    return this.planOf(checkout);
  }
  planOf(key: ServiceKey): ServicePlan {
    return this.last!.plan.services.get(key)!;
  }

  /** Who exports how many ready endpoints (of 4, or so many), and what is ready here. */
  export(
    remotes: Record<string, number | readonly [ready: number, total: number]>,
    local: readonly [ready: number, total: number] | undefined,
    key: ServiceKey = checkout,
  ): void {
    const records = new Map(
      Object.entries(remotes).map(([name, count]) => {
        const [ready, total] = typeof count === 'number' ? [count, Math.max(4, count)] : count;
        return [name, recordOf(ready, total)];
      }),
    );
    const [namespace, name] = key.split('/') as [string, string];
    const own =
      local === undefined ? undefined : localService({ key, namespace, name, endpoints: endpoints(...local) });
    const view = mergeService(key, own, records, { self: home, clusterDomain: 'cluster.local' });
    if (view === undefined) this.views.delete(key);
    else this.views.set(key, view);
  }

  member(name: string, state: CellState, reason: Reason = 'ProbeFailed', more: Partial<MemberVerdict> = {}): void {
    const data = state === 'fresh' ? 'reachable' : 'unreachable';
    this.#verdicts.set(
      name,
      state === 'fresh'
        ? { ...fresh, sinceMs: this.now, ...more }
        : { ...fresh, state, reason, detail: `${name}: ${reason}`, data, sinceMs: this.now, ...more },
    );
    this.#changed.members.add(name);
  }
  cell(
    member: string,
    state: CellState,
    reason: Reason = 'GrayFailure',
    more: Partial<Verdict> = {},
    key = checkout,
  ): void {
    const at = cellKey(key, member);
    const { control: _control, data: _data, ...verdict } = fresh;
    if (state === 'fresh' && more.penalty === undefined) this.#cells.delete(at);
    else {
      const why = state === 'fresh' ? verdict : { ...verdict, state, reason, detail: `${member}: ${reason}` };
      this.#cells.set(at, { ...why, sinceMs: this.now, ...more });
    }
    this.#changed.cells.add(at);
  }
  region(name: string, down: boolean): void {
    const { control: _control, data: _data, ...verdict } = fresh;
    if (down)
      this.#regions.set(name, { ...verdict, state: 'quarantined', reason: 'RegionCondemned', detail: 'voted down' });
    else this.#regions.delete(name);
    this.#changed.regions.add(name);
  }

  #assessed(): Assessed {
    const changed = {
      members: new Set(this.#changed.members),
      cells: new Set(this.#changed.cells),
      regions: new Set(this.#changed.regions),
    };
    for (const set of Object.values(this.#changed)) set.clear();
    const verdicts = { members: new Map(this.#verdicts), cells: new Map(this.#cells), regions: new Map(this.#regions) };
    return { state: { ...initialHealth() }, verdicts, changed, wakeAt: undefined };
  }

  step(ms = 0, change: Partial<Signals> = {}): Step {
    this.now += ms;
    const before = this.last?.plan;
    if (this.restarting) {
      const read = decodeState(encodeState(this.state));
      if (!read.ok) throw read.error;
      this.state = read.value;
    }
    if (this.thorough) for (const name of this.members.keys()) this.#changed.members.add(name);
    const assessed = this.#assessed();
    const signals = { ...this.signals, ...change };
    const args = [this.view, assessed, signals, this.policies, this.now, this.role] as const;
    const made = decide(this.state, ...args);
    const again = decide(this.state, ...args);
    expect(again.journal).toEqual(made.journal);
    expect(again.plan).toEqual(made.plan);
    this.state = made.state;
    this.last = made;
    this.journal.push(...made.journal);
    this.#check(before, made);
    return made;
  }

  /** Steps as a clock would: at every wake, and at least every second. */
  run(ms: number): void {
    const end = this.now + ms;
    while (this.now < end) {
      const next = Math.min(end, this.now + 1_000, this.last?.wakeAt ?? Number.POSITIVE_INFINITY);
      this.step(Math.max(1, next - this.now));
    }
  }

  command(command: Command): Step {
    return this.step(0, { commands: [command] });
  }
  drain(target: DrainTarget, more: { overMs?: number; graceMs?: number } = {}): Step {
    const { overMs, graceMs } = more;
    return this.command({ kind: 'drain', target, author: 'kim', reason: 'kernel update', overMs, graceMs });
  }
  undrain(target: DrainTarget): Step {
    return this.command({ kind: 'undrain', target, author: 'kim', reason: '', overMs: undefined, graceMs: undefined });
  }

  #check(before: Step['plan'] | undefined, made: Step): void {
    for (const [key, plan] of made.plan.services) {
      const view = this.views.get(key)!;
      if (view.unsupported === undefined && view.remotes.size > 0) {
        expect(plan.tiers.flat().length, `${key} has an empty set`).toBeGreaterThan(0);
      }
      const placed = new Set(plan.tiers.flat().map(({ member }) => member));
      const standings = plan.standings.filter(({ member }) => member !== home);
      const evicted = standings.find(({ member, state }) => placed.has(member) && state === 'evicted');
      const other = standings.find(({ state, ready }) => state === 'fresh' && ready > 0);
      const act = this.policy.mode === 'act' && this.state.frozen === undefined;
      if (act) expect(evicted === undefined || other === undefined, `${key} uses an evicted cell`).toBe(true);
      const planned = before?.services.get(key);
      if (planned !== undefined && !made.changed.has(key)) expect(plan).toBe(planned);
      if (planned !== undefined && made.changed.has(key) && !this.restarting && !this.thorough)
        expect(plan).not.toBe(planned);
      if (planned !== undefined && place(planned) !== place(plan)) {
        const told = made.journal.find(
          (d) => d.service === key && !d.observed && d.after !== undefined && d.kind !== 'state',
        );
        expect(told, `${key} moved from ${place(planned)} to ${place(plan)} without a word`).toBeDefined();
      }
    }
  }
}

/** `local 100 | a b > c`, with percents below 100. */
export const place = (plan: ServicePlan): string => {
  const percents = new Map(plan.standings.map(({ member, percent }) => [member, percent]));
  const tiers = plan.tiers.map((cells) =>
    cells.map(({ member }) => (percents.get(member) === 100 ? member : `${member}@${percents.get(member)}`)).join(' '),
  );
  return `${plan.local.percent}${plan.failFast ? ' fail fast' : ''} | ${tiers.join(' > ')}`;
};

/** Shares of the traffic that does not stay here, in percent, of the first tier. */
export const shares = (plan: ServicePlan): Record<string, number> => {
  const first = plan.tiers[0] ?? [];
  const sum = first.reduce((total, { weight }) => total + weight, 0);
  return Object.fromEntries(first.map(({ member, weight }) => [member, Math.round((weight / sum) * 100)]));
};

export const told = (journal: readonly Decision[]): string[] =>
  journal.map(({ kind, rule, member, service }) =>
    [kind, rule, service === undefined ? '' : 'service', member ?? ''].filter((t) => t !== '').join(' '),
  );

export const placement = (value: Placement | string | undefined): Placement => value as Placement;

/** Moves of more than a minute ago are forgotten when the service is looked at next, be it for a restart. */
export const recent = (state: FailoverState, now: number) => ({
  ...state,
  services: new Map(
    [...state.services].map(([key, memory]) => [key, { ...memory, moves: recentMoves(memory.moves, now) }]),
  ),
});
