/** What one service's step is told: its exporters in their order, each with the verdicts, drains, grants and memory that concern it. */
import type { ServiceKey } from '../core/names.ts';
import type { LocalService } from '../federation/local.ts';
import type { ServiceView } from '../federation/view.ts';
import { penaltyBelowAt } from '../health/penalty.ts';
import { type CellKey, cellOf, type MemberVerdict, type Verdict, type Verdicts } from '../health/verdict.ts';
import type { Inputs } from './asked.ts';
import type { ServiceScene } from './draft.ts';
import { drainOf, ownWord } from './drains.ts';
import { granted } from './grants.ts';
import type { LocalFacts } from './local_share.ts';
import type { RankedMember } from './order.ts';
import type { FailoverPolicy } from './policy.ts';
import type { Badness } from './ramp.ts';
import { badnessOf, type CellFacts, doubtOf, healthy, worse } from './standing.ts';
import type { Drain } from './state.ts';

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
  /** In the order of its policy. The same object as long as the order is the same. */
  readonly ranked: readonly RankedMember[];
  /** The same members. */
  readonly members: readonly MemberNow[];
  /** Of this service. */
  readonly cells: ReadonlyMap<string, Verdict> | undefined;
  readonly inputs: Inputs;
}

const calmAt = (
  policy: FailoverPolicy,
  now: number,
  general: Verdict | undefined,
  own: Verdict | undefined,
): number | undefined => {
  const penalty = Math.max(general?.penalty ?? 0, own?.penalty ?? 0);
  const { flapLimit, flapHalfLifeMs } = policy.thresholds;
  return penalty > flapLimit ? penaltyBelowAt(penalty, flapLimit, now, flapHalfLifeMs) : undefined;
};

/** A member at this moment, as every service meets it. */
export interface MemberNow {
  readonly member: RankedMember;
  readonly ofMember: MemberVerdict | undefined;
  readonly ofRegion: Verdict | undefined;
  /** The worse of the two, and what it means. */
  readonly verdict: Verdict;
  readonly bad: Badness | undefined;
  readonly doubt: Badness | undefined;
  readonly word: Drain | undefined;
}

/** @param ranked - in their order */
export const membersNow = (
  ranked: readonly RankedMember[],
  verdicts: Verdicts,
  leaving: ReadonlySet<string>,
): readonly MemberNow[] =>
  ranked.map((member) => {
    const ofMember = verdicts.members.get(member.name);
    const ofRegion = verdicts.regions.get(member.region);
    const verdict = worse(ofMember ?? healthy, ofRegion);
    const word = leaving.has(member.name) ? ownWord(member.name) : undefined;
    return { member, ofMember, ofRegion, verdict, bad: badnessOf(verdict, true), doubt: doubtOf(verdict), word };
  });

const unready: Badness = { reason: 'NotReady', detail: 'no endpoint is ready', urgent: true };
const unreachable: Badness = { reason: 'NotReady', detail: 'it has no gateway', urgent: true };

/** The exporters of a service by their place in the order, with their numbers side by side. */
interface Numbers {
  readonly ranked: readonly RankedMember[];
  readonly places: readonly number[];
  readonly ready: readonly number[];
  readonly total: readonly number[];
}

/**
 * A large set has a hundred thousand records, far apart in memory: to gather their numbers takes longer than to decide on them. A view is
 * never changed in place, so they are gathered once for each.
 */
const gathered = new WeakMap<ServiceView, Numbers>();

const numbersOf = (view: ServiceView, ranked: readonly RankedMember[]): Numbers => {
  const known = gathered.get(view);
  if (known?.ranked === ranked) return known;
  const numbers = { ranked, places: [] as number[], ready: [] as number[], total: [] as number[] };
  for (let place = 0; place < ranked.length; place++) {
    const record = view.remotes.get(ranked[place]!.name);
    if (record === undefined || record.headless || record.sessionAffinity) continue;
    let ready = 0;
    let total = 0;
    for (const capacity of record.capacity) {
      ready += capacity.ready;
      total += capacity.total;
    }
    numbers.places.push(place);
    numbers.ready.push(ready);
    numbers.total.push(total);
  }
  gathered.set(view, numbers);
  return numbers;
};

/** Made for every exporter of every service: what concerns the member alone is found once, above. */
const remoteCells = (input: SceneInput): CellFacts[] => {
  const { key, view, members, cells, inputs, before, policy, now } = input;
  const facts: CellFacts[] = [];
  if (view.unsupported !== undefined) return facts;
  const { drains, offers } = inputs;
  const memories = before === undefined || before.cells.size === 0 ? undefined : before.cells;
  const numbers = numbersOf(view, input.ranked);
  for (let i = 0; i < numbers.places.length; i++) {
    const at = members[numbers.places[i]!]!;
    const ready = numbers.ready[i]!;
    const { member } = at;
    const ofCell = cells?.get(member.name);
    const verdict = ofCell === undefined ? at.verdict : worse(at.verdict, ofCell);
    let bad = verdict === at.verdict ? at.bad : badnessOf(verdict, false);
    // What may be held back must not hide what may not: without an endpoint nothing is left to be judged.
    if (ready === 0 && bad?.urgent !== true) bad = unready;
    else if (bad === undefined && member.gateways === 'none') bad = unreachable;
    facts.push({
      member,
      ready,
      total: numbers.total[i]!,
      verdict,
      bad,
      doubt: verdict === at.verdict ? at.doubt : doubtOf(verdict),
      drain: drains.length === 0 ? at.word : drainOf(drains, key, member.name, member.region, at.word),
      grant: offers.size === 0 ? undefined : granted(offers, member.name, key),
      memory: memories?.get(member.name),
      calmAtMs: calmAt(policy, now, at.ofMember, ofCell),
    });
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
    calmAtMs: calmAt(policy, now, undefined, cells?.get(self)),
  };
};

export const sceneOf = (input: SceneInput): ServiceScene => {
  const { ranked: _ranked, members: _members, cells: _cells, inputs, ...scene } = input;
  return {
    ...scene,
    cells: remoteCells(input),
    local: localFacts(input),
    receivingSpill: inputs.receiving.has(input.key),
    ejectedMs: (member) => inputs.ejected.get(member),
  };
};
