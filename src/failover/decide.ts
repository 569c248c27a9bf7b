/**
 * From verdicts to a plan: which services have to be looked at, one by one, and what concerns the cluster as a whole.
 *
 * Only what may have changed is decided anew; everything else keeps its very objects, so that whoever translates the plan can see
 * by identity what did not change. What the step knew is kept beside the state, not in it: without it (after a restart)
 * everything is looked at, and the same comes out.
 */
import type { ServiceKey } from '../core/names.ts';
import { capacityAnnotation } from '../federation/capacity.ts';
import type { ServiceView, View } from '../federation/view.ts';
import type { Assessment, HealthState } from '../health/assess.ts';
import { ownVotes } from '../health/region.ts';
import type { Signals } from '../health/signals.ts';
import { type Asked, askedServices, asksAll, type Inputs, type Known, readInputs } from './asked.ts';
import { obey } from './commands.ts';
import type { Decision } from './decision.ts';
import { drainingOf } from './drains.ts';
import { frozenService } from './freeze.ts';
import { grantList, grantText, offer } from './grants.ts';
import type { Role } from './guards.ts';
import { Meeting } from './meeting.ts';
import { observed } from './observe.ts';
import type { RankedMember } from './order.ts';
import { noPlan, type Plan, type ServicePlan } from './plan.ts';
import { type FailoverPolicy, type Policies, policyOf } from './policy.ts';
import { rankings } from './rankings.ts';
import { samePlan } from './same_plan.ts';
import { type CellIndex, cellIndex, readyOf, sceneOf } from './scene.ts';
import { decideService, type ServiceResult } from './service.ts';
import type { FailoverState, GrantMemory, Rate, ServiceMemory } from './state.ts';
import { tell } from './told.ts';

export interface Step {
  readonly state: FailoverState;
  readonly plan: Plan;
  readonly journal: readonly Decision[];
  /** When to step again at the latest, on the scale of `now`; undefined: when something happens. */
  readonly wakeAt: number | undefined;
  /** Services whose plan is another object than before, those that went included. */
  readonly changed: ReadonlySet<ServiceKey>;
}

/** What the last step knew, beside the state that it gave. */
interface Cache {
  readonly known: Known;
  readonly plan: Plan;
  readonly wakes: ReadonlyMap<ServiceKey, number>;
}

const caches = new WeakMap<FailoverState, Cache>();

export type Verdict = Pick<Assessment, 'verdicts' | 'changed' | 'wakeAt'> & { readonly state: HealthState };

/** A map that is copied when it is first written to. */
class Patch<Key, Value> {
  #map: ReadonlyMap<Key, Value>;
  #copy: Map<Key, Value> | undefined;
  constructor(map: ReadonlyMap<Key, Value>) {
    this.#map = map;
  }
  get map(): ReadonlyMap<Key, Value> {
    return this.#copy ?? this.#map;
  }
  get(key: Key): Value | undefined {
    return this.map.get(key);
  }
  put(key: Key, value: Value | undefined): void {
    if (this.get(key) === value) return;
    this.#copy ??= new Map(this.#map);
    if (value === undefined) this.#copy.delete(key);
    else this.#copy.set(key, value);
  }
}

/** Made when first asked for, once for each key. */
const once = <Key, Value>(make: (key: Key) => Value): ((key: Key) => Value) => {
  const made = new Map<Key, Value>();
  return (key) => {
    let value = made.get(key);
    if (value === undefined) {
      value = make(key);
      made.set(key, value);
    }
    return value;
  };
};

interface Run {
  readonly view: View;
  readonly policies: Policies;
  readonly now: number;
  readonly role: Role;
  readonly self: string;
  readonly selfRegion: string;
  readonly inputs: Inputs;
  readonly index: CellIndex;
  readonly verdict: Verdict;
  readonly state: FailoverState;
  readonly readers: readonly string[];
  readonly ranked: (policy: FailoverPolicy) => readonly RankedMember[];
  readonly meeting: (policy: FailoverPolicy) => Meeting;
  readonly services: Patch<ServiceKey, ServiceMemory>;
  readonly plans: Patch<ServiceKey, ServicePlan>;
  readonly wakes: Patch<ServiceKey, number>;
  readonly grants: Patch<ServiceKey, GrantMemory>;
  readonly changed: Set<ServiceKey>;
  readonly journal: Decision[];
}

const noRates: ReadonlyMap<string, Rate> = new Map();

const put = (run: Run, key: ServiceKey, { plan, memory, decisions, wakeAt }: ServiceResult): void => {
  run.journal.push(...decisions);
  const before = run.services.get(key);
  run.services.put(key, before !== undefined && sameMemory(before, memory) ? before : memory);
  run.wakes.put(key, wakeAt);
  const planned = run.plans.get(key);
  if (planned !== undefined && samePlan(planned, plan)) return;
  run.plans.put(key, plan);
  run.changed.add(key);
};

const sameMemory = (a: ServiceMemory, b: ServiceMemory): boolean =>
  (Object.keys(b) as (keyof ServiceMemory)[]).every(
    (field) => a[field] === b[field] || (Array.isArray(a[field]) && sameArrays(a[field], b[field])),
  );

const sameArrays = (a: readonly unknown[], b: unknown): boolean =>
  Array.isArray(b) && a.length === b.length && a.every((value, i) => value === b[i]);

/** The service is nobody's any more. */
const drop = (run: Run, key: ServiceKey): void => {
  const before = run.services.get(key);
  if (before === undefined && run.plans.get(key) === undefined) return;
  run.services.put(key, undefined);
  run.wakes.put(key, undefined);
  if (run.plans.get(key) !== undefined) run.changed.add(key);
  run.plans.put(key, undefined);
  if (before === undefined || before.placement.tiers.length === 0) return;
  run.journal.push({
    atMs: run.now,
    kind: 'shift',
    service: key,
    member: undefined,
    rule: 'Withdrawn',
    detail: 'no other cluster has it any more',
    author: 'controller',
    guards: [],
    before: before.placement,
    after: undefined,
    observed: false,
    policy: before.policy,
    urgent: true,
  });
};

const offerService = (run: Run, key: ServiceKey, view: ServiceView | undefined, policy: FailoverPolicy): void => {
  const before = run.grants.get(key);
  if (run.role === 'cut-off') return;
  // Most services declare nothing.
  const declared =
    policy.capacity.perEndpoint !== undefined || view?.local?.annotations[capacityAnnotation] !== undefined;
  if (before === undefined && !declared) return;
  const { drains } = run.inputs;
  const draining = drainingOf(drains, run.self, run.selfRegion);
  const next =
    view === undefined
      ? undefined
      : offer(before, {
          view,
          ready: readyOf(view.local).ready,
          readers: run.readers,
          policy,
          drained: draining.cluster || draining.services.has(key),
        });
  if (next === before) return;
  run.grants.put(key, next);
  run.journal.push({
    atMs: run.now,
    kind: 'grant',
    service: key,
    member: undefined,
    rule: 'Capacity',
    detail: `what is offered to others: ${grantText(next)}`,
    author: 'controller',
    guards: [],
    before: grantText(before),
    after: grantText(next),
    observed: false,
    policy: policy.name,
    urgent: true,
  });
};

const decideOne = (run: Run, key: ServiceKey, asked: Asked): void => {
  const view = run.view.services.get(key);
  const policy = policyOf(run.policies, key);
  offerService(run, key, view, policy);
  if (view === undefined || view.remotes.size === 0) {
    drop(run, key);
    return;
  }
  const before = run.services.get(key);
  const ranked = run.ranked(policy);
  if (run.inputs.frozen !== undefined) {
    put(
      run,
      key,
      frozenService({
        view,
        ranked,
        before,
        policy,
        state: run.state,
        now: run.now,
        plan: run.plans.get(key),
        self: { name: run.self, region: run.selfRegion },
      }),
    );
    return;
  }
  const scene = sceneOf({
    key,
    view,
    policy,
    meeting: run.meeting(policy),
    planned: run.plans.get(key),
    before: policy.mode === 'act' && before?.wished !== undefined ? { ...before, wished: undefined } : before,
    now: run.now,
    role: run.role,
    self: run.self,
    selfRegion: run.selfRegion,
    partial: run.policies.capabilities.partialSpill,
    cells: run.index.of(key),
    inputs: run.inputs,
    demand: asked.demand.get(key)?.rates ?? before?.demand ?? noRates,
    released: asked.released(key),
  });
  const result = decideService(scene);
  put(run, key, policy.mode === 'observe' ? observed(scene, before, result) : result);
};

const earliest = (wakes: Iterable<number>, other: number | undefined): number | undefined => {
  let first = other;
  for (const wake of wakes) if (first === undefined || wake < first) first = wake;
  return first;
};

const sameSets = (a: ReadonlySet<string>, b: ReadonlySet<string>): boolean => a.size === b.size && a.isSubsetOf(b);

/** The plan's parts beyond services, keeping the objects that did not change. */
const wholePlan = (before: Plan | undefined, run: Run): Plan => {
  const { inputs, self, selfRegion, view, verdict, state } = run;
  const services = run.plans.map;
  const told =
    inputs.frozen === undefined
      ? drainingOf(inputs.drains, self, selfRegion)
      : (before?.draining ?? drainingOf(state.drains, self, selfRegion));
  const same =
    before !== undefined &&
    told.cluster === before.draining.cluster &&
    sameSets(told.gateways, before.draining.gateways) &&
    sameSets(told.services, before.draining.services);
  const draining = same ? before.draining : told;
  const grants = before !== undefined && run.grants.map === state.grants ? before.grants : grantList(run.grants.map);
  const voted =
    inputs.frozen !== undefined && before !== undefined ? before.votes : ownVotes(view, verdict.verdicts.members);
  const votes =
    before !== undefined &&
    voted.length === before.votes.length &&
    voted.every((region, i) => region === before.votes[i])
      ? before.votes
      : voted;
  if (
    before !== undefined &&
    services === before.services &&
    draining === before.draining &&
    grants === before.grants &&
    votes === before.votes
  ) {
    return before;
  }
  return { services, draining, grants, votes };
};

const sameState = (a: FailoverState, b: FailoverState): boolean =>
  (Object.keys(b) as (keyof FailoverState)[]).every((field) => a[field] === b[field]);

/**
 * One step, verdicts given. Pure: what is kept beside the state changes the cost, never the result.
 * @param role - of this replica: one that is cut off from the writer withdraws, and brings nothing back
 */
export const decide = (
  state: FailoverState,
  view: View,
  verdict: Verdict,
  signals: Signals,
  policies: Policies,
  now: number,
  role: Role = 'writer',
): Step => {
  const cache = caches.get(state);
  const self = view.members.get(view.self)?.member;
  const commanded = obey(state, role === 'cut-off' ? [] : signals.commands, view.self, now);
  const journal: Decision[] = [...commanded.decisions];
  // What changes while decisions are frozen is told with the thaw, beside what is then made of it.
  const cells = cache === undefined || state.frozen !== undefined ? undefined : verdict.changed.cells;
  const told = commanded.frozen === undefined ? tell(state.told, verdict.verdicts, cells, now, journal) : state.told;
  const inputs = readInputs(state, signals, commanded, cache?.known);
  const ranked = self === undefined ? undefined : rankings(view, self);
  const meeting = once((order: FailoverPolicy['order']) => new Meeting(ranked!(order), verdict.verdicts, inputs));
  const scene = { view, policies, now, verdict, signals, inputs, commanded, state, role };
  const all = asksAll(cache?.known, scene);
  const asked = askedServices(all ? undefined : cache?.known, scene, cache?.wakes);
  const run: Run = {
    view,
    policies,
    now,
    role,
    self: view.self,
    selfRegion: self?.region ?? '',
    inputs,
    index: cellIndex(verdict.verdicts.cells, asked.services.size, view.members.size),
    verdict,
    state,
    readers: asked.known.readers,
    ranked: ({ order }) => ranked!(order),
    meeting: ({ order }) => meeting(order),
    services: new Patch(state.services),
    plans: new Patch((cache?.plan ?? noPlan).services),
    wakes: new Patch(cache?.wakes ?? new Map<ServiceKey, number>()),
    grants: new Patch(state.grants),
    changed: new Set(),
    journal,
  };
  if (self === undefined) {
    // Without our own membership nothing has a place; what is remembered stays.
    for (const key of [...run.plans.map.keys()]) {
      run.plans.put(key, undefined);
      run.changed.add(key);
    }
    // What is due is due for somebody who has a place.
    for (const key of [...run.wakes.map.keys()]) run.wakes.put(key, undefined);
  } else {
    for (const key of asked.services) decideOne(run, key, asked);
    for (const [key, { rates }] of asked.demand) {
      const memory = run.services.get(key);
      if (memory !== undefined && memory.demand !== rates) run.services.put(key, { ...memory, demand: rates });
    }
  }
  const next: FailoverState = {
    health: verdict.state,
    services: run.services.map,
    drains: commanded.drains,
    frozen: commanded.frozen,
    told,
    ejected: inputs.ejected,
    grants: run.grants.map,
  };
  const plan = wholePlan(cache?.plan, run);
  const kept = sameState(state, next) ? state : next;
  // The old state keeps what belongs to it: the same step from it gives the same again.
  if (kept !== state) caches.set(kept, { known: asked.known, plan, wakes: run.wakes.map });
  else if (cache === undefined) caches.set(kept, { known: asked.known, plan, wakes: run.wakes.map });
  return { state: kept, plan, journal, wakeAt: earliest(run.wakes.map.values(), verdict.wakeAt), changed: run.changed };
};
