/** `isthmus observe`: what would have been done by policies that only observe, day by day and service by service. */
import type { DecisionReport, ObservedDay, ObserveReport } from '../core/failover_report.ts';
import { isoTime } from './explaining.ts';

export interface ObserveInput {
  readonly self: string;
  readonly nowWallMs: number;
  /** Today and so many days before it. */
  readonly days: number;
  /** In any order; those that were carried out are left out. */
  readonly decisions: readonly DecisionReport[];
  /** Names of policies that only observe. */
  readonly observing: readonly string[];
}

const dayMs = 86_400_000;
const dayOf = (iso: string): string => iso.slice(0, 10);

/** The first moment that is asked about: midnight, UTC. */
export const observeSinceMs = (nowWallMs: number, days: number): number =>
  Math.floor(nowWallMs / dayMs) * dayMs - (days - 1) * dayMs;

export const observeReport = (input: ObserveInput): ObserveReport => {
  const { nowWallMs, days } = input;
  const since = observeSinceMs(nowWallMs, days);
  const found = new Map<string, Map<string, DecisionReport[]>>();
  for (let n = 0; n < days; n++) found.set(dayOf(isoTime(since + n * dayMs)), new Map());
  const sorted = input.decisions.filter((d) => d.observed).sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
  for (const decision of sorted) {
    const services = found.get(dayOf(decision.at));
    if (services === undefined) continue;
    const key = decision.service ?? '';
    const list = services.get(key);
    if (list === undefined) services.set(key, [decision]);
    else list.push(decision);
  }
  const report = ([day, services]: [string, Map<string, DecisionReport[]>]): ObservedDay => ({
    day,
    services: [...services]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([service, decisions]) => ({ service, decisions })),
  });
  return {
    apiVersion: 'isthmus.dev/v1',
    kind: 'Observe',
    member: input.self,
    at: isoTime(nowWallMs),
    days: [...found].map(report),
    observing: input.observing,
  };
};
