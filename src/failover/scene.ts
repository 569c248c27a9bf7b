/** What one service's step is told: its exporters in their order, each with the verdicts, drains, grants and memory that concern it. */
import type { ServiceKey } from '../core/names.ts';
import { capacityReady, capacityTotal } from '../federation/capacity.ts';
import type { LocalService } from '../federation/local.ts';
import { penaltyBelowAt } from '../health/penalty.ts';
import type { CellKey, Verdict, Verdicts } from '../health/verdict.ts';
import type { Inputs } from './asked.ts';
import { drainOf, ownWord } from './drains.ts';
import { granted } from './grants.ts';
import type { LocalFacts } from './local_share.ts';
import type { RankedMember } from './order.ts';
import type { FailoverPolicy } from './policy.ts';
import type { ServiceScene } from './service.ts';
import { badnessOf, type CellFacts, healthy, isDoubtful, judge } from './standing.ts';

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
    const bar = key.lastIndexOf('|');
    const service = key.slice(0, bar);
    const of = byService.get(service);
    if (of === undefined) byService.set(service, new Map([[key.slice(bar + 1), verdict]]));
    else of.set(key.slice(bar + 1), verdict);
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
  readonly ranked: readonly RankedMember[];
  readonly verdicts: Verdicts;
  /** Of this service. */
  readonly cells: ReadonlyMap<string, Verdict> | undefined;
  readonly inputs: Inputs;
}

const calmAt = (
  policy: FailoverPolicy,
  now: number,
  ...verdicts: readonly (Verdict | undefined)[]
): number | undefined => {
  let penalty = 0;
  for (const verdict of verdicts) if (verdict !== undefined && verdict.penalty > penalty) penalty = verdict.penalty;
  const { flapLimit, flapHalfLifeMs } = policy.thresholds;
  return penalty > flapLimit ? penaltyBelowAt(penalty, flapLimit, now, flapHalfLifeMs) : undefined;
};

const remoteCells = (input: SceneInput): CellFacts[] => {
  const { key, view, ranked, verdicts, cells, inputs, before, policy, now } = input;
  const facts: CellFacts[] = [];
  if (view.unsupported !== undefined) return facts;
  const memories = before?.cells;
  for (const member of ranked) {
    const { name } = member;
    const record = view.remotes.get(name);
    if (record === undefined || record.headless || record.sessionAffinity) continue;
    const ready = capacityReady(record);
    const ofMember = verdicts.members.get(name);
    const ofCell = cells?.get(name);
    const { verdict, bad } = judge(member, ofMember, verdicts.regions.get(member.region), ofCell, ready);
    const word = inputs.leaving.has(name) ? ownWord(name) : undefined;
    facts.push({
      member,
      ready,
      total: capacityTotal(record),
      verdict,
      bad,
      doubt: isDoubtful(verdict),
      drain: inputs.drains.length === 0 ? word : drainOf(inputs.drains, key, name, member.region, word),
      grant: inputs.offers.size === 0 ? undefined : granted(inputs.offers, name, key),
      memory: memories?.get(name),
      calmAtMs: calmAt(policy, now, ofMember, ofCell),
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
  const bad =
    badnessOf(verdict, false) ?? (ready > 0 ? undefined : { reason: 'NotReady' as const, detail, urgent: true });
  return {
    ready,
    total,
    verdict,
    bad,
    doubt: isDoubtful(verdict),
    drain: inputs.drains.length === 0 ? undefined : drainOf(inputs.drains, key, self, selfRegion, undefined),
    memory: before?.cells.get(self),
    calmAtMs: calmAt(policy, now, cells?.get(self)),
  };
};

export const sceneOf = (input: SceneInput): ServiceScene => {
  const { ranked: _ranked, verdicts: _verdicts, cells: _cells, inputs, ...scene } = input;
  return {
    ...scene,
    cells: remoteCells(input),
    local: localFacts(input),
    receivingSpill: inputs.receiving.has(input.key),
    ejectedMs: (member) => inputs.ejected.get(member),
  };
};
