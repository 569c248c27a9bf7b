/** What one service's step is told: its exporters in their order, each with the verdicts, drains, grants and memory that concern it. */
import type { ServiceKey } from '../core/names.ts';
import { exportersOf } from '../federation/exporters.ts';
import type { LocalService } from '../federation/local.ts';
import type { ServiceView } from '../federation/view.ts';
import { type CellKey, cellOf, type Verdict } from '../health/verdict.ts';
import type { Inputs } from './asked.ts';
import type { ServiceScene } from './draft.ts';
import { drainOf } from './drains.ts';
import type { LocalFacts } from './local_share.ts';
import { calmAt, type Meeting } from './meeting.ts';
import type { RankedMember } from './order.ts';
import { badnessOf, type CellFacts, doubtOf, healthy } from './standing.ts';

/** A service's own verdicts by member. */
export interface CellIndex {
  of(service: ServiceKey): ReadonlyMap<string, Verdict> | undefined;
}

/** Verdicts of cells by service: looked up one by one for a few services, sorted out at once for many. */
export const cellIndex = (verdicts: ReadonlyMap<CellKey, Verdict>, services: number, members: number): CellIndex => {
  if (verdicts.size === 0) return { of: () => undefined };
  if (services * members < verdicts.size) {
    return {
      of: (service) => {
        // Cheaper than to sort all: only this service's keys are tried.
        const found = new Map<string, Verdict>();
        const prefix = `${service}|`;
        for (const [key, verdict] of verdicts) if (key.startsWith(prefix)) found.set(key.slice(prefix.length), verdict);
        return found;
      },
    };
  }
  const byService = new Map<ServiceKey, Map<string, Verdict>>();
  for (const [key, verdict] of verdicts) {
    const { service, member } = cellOf(key);
    const of = byService.get(service);
    if (of === undefined) byService.set(service, new Map([[member, verdict]]));
    else of.set(member, verdict);
  }
  return { of: (service) => byService.get(service) };
};

export const readyOf = (local: LocalService | undefined): { readonly ready: number; readonly total: number } => {
  let ready = 0;
  let total = 0;
  for (const endpoint of local?.endpoints ?? []) {
    if (endpoint.terminating) continue;
    total++;
    if (endpoint.ready) ready++;
  }
  return { ready, total };
};

export interface SceneInput extends Omit<ServiceScene, 'cells' | 'local' | 'receivingSpill' | 'ejectedMs'> {
  /** Everybody, in the order of its policy. */
  readonly meeting: Meeting;
  /** Of this service. */
  readonly cells: ReadonlyMap<string, Verdict> | undefined;
  readonly inputs: Inputs;
}

/** The exporters of a service in the order. */
interface Sorted {
  readonly ranked: readonly RankedMember[];
  /** Rising. */
  readonly places: readonly number[];
  /** Of each, where its numbers are. */
  readonly at: readonly number[];
}

/** A view is never changed in place, and the order seldom. */
const sorted = new WeakMap<ServiceView, Sorted>();

const sortedOf = (view: ServiceView, members: readonly string[], { ranked, places, bench }: Meeting): Sorted => {
  const known = sorted.get(view);
  if (known?.ranked === ranked) return known;
  let count = 0;
  for (let i = 0; i < members.length; i++) {
    const place = places.get(members[i]!);
    if (place === undefined) continue;
    bench[place] = i + 1;
    count++;
  }
  const made = { ranked, places: new Array<number>(count), at: new Array<number>(count) };
  for (let place = 0, n = 0; n < count; place++) {
    const i = bench[place]!;
    if (i === 0) continue;
    bench[place] = 0;
    made.places[n] = place;
    made.at[n++] = i - 1;
  }
  sorted.set(view, made);
  return made;
};

/** Which of them stands at this place. */
const indexOf = ({ places }: Sorted, place: number | undefined): number | undefined => {
  if (place === undefined) return undefined;
  let low = 0;
  let high = places.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle]! < place) low = middle + 1;
    else high = middle;
  }
  return places[low] === place ? low : undefined;
};

/** All exporters as their members are, then those that have something to themselves. */
const remoteCells = (input: SceneInput): CellFacts[] => {
  const { key, view, meeting, cells, inputs, before, policy, now } = input;
  if (view.unsupported !== undefined) return [];
  const { members, places } = meeting;
  const { members: names, ready, total } = exportersOf(view);
  const order = sortedOf(view, names, meeting);
  const own = (i: number): CellFacts => {
    const at = members[order.places[i]!]!;
    const { name } = at.member;
    const has = { verdict: cells?.get(name), memory: before?.cells.get(name) };
    const n = order.at[i]!;
    return at.own(ready[n]!, total[n]!, key, has, policy, now);
  };
  const count = order.places.length;
  const facts = new Array<CellFacts>(count);
  for (let i = 0; i < count; i++) {
    const at = members[order.places[i]!]!;
    const n = order.at[i]!;
    facts[i] = at.singles(key, policy) ? own(i) : at.plain(ready[n]!, total[n]!);
  }
  const single = (member: string): void => {
    const i = indexOf(order, places.get(member));
    if (i !== undefined) facts[i] = own(i);
  };
  for (const member of before?.cells.keys() ?? []) single(member);
  for (const member of cells?.keys() ?? []) single(member);
  for (const { target } of inputs.drains) {
    if (target.scope === 'service' && target.service === key) single(target.member);
  }
  return facts;
};

/** Our own endpoints, whatever the others think of them. */
const localFacts = (input: SceneInput): LocalFacts | undefined => {
  const { key, view, self, selfRegion, cells, inputs, before, policy, now } = input;
  if (view.local === undefined) return undefined;
  const { ready, total } = readyOf(view.local);
  const verdict = cells?.get(self) ?? healthy;
  const detail = total === 0 ? 'there is no endpoint here' : `none of ${total} endpoints here is ready`;
  const judged = badnessOf(verdict, false);
  const bad = ready > 0 || judged?.urgent === true ? judged : { reason: 'NotReady' as const, detail, urgent: true };
  return {
    ready,
    total,
    verdict,
    bad,
    doubt: doubtOf(verdict),
    drain: inputs.drains.length === 0 ? undefined : drainOf(inputs.drains, key, self, selfRegion, undefined),
    memory: before?.cells.get(self),
    calmAtMs: calmAt(cells?.get(self)?.penalty ?? 0, policy, now),
  };
};

export const sceneOf = (input: SceneInput): ServiceScene => {
  const { inputs, key } = input;
  return {
    key,
    view: input.view,
    now: input.now,
    role: input.role,
    self: input.self,
    selfRegion: input.selfRegion,
    policy: input.policy,
    partial: input.partial,
    cells: remoteCells(input),
    local: localFacts(input),
    before: input.before,
    planned: input.planned,
    demand: input.demand,
    receivingSpill: inputs.receiving.has(key),
    ejectedMs: (member) => inputs.ejected.get(member),
    released: input.released,
  };
};
