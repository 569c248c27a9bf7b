/** Whether two plans of a service say the same, down to what people are shown: then the old object stays, and nothing is sent. */
import { sameRows } from './placement.ts';
import type { CellStanding, GuardHold, ServicePlan, Tiers } from './plan.ts';

const sameTiers = (a: Tiers, b: Tiers): boolean =>
  sameRows(a, b, (x, y) => x.member === y.member && x.weight === y.weight);

const samePorts = (a: ServicePlan['ports'], b: ServicePlan['ports']): boolean => {
  if (a === b) return true;
  if (a === undefined || b === undefined || a.size !== b.size) return false;
  for (const [port, tiers] of a) {
    const others = b.get(port);
    if (others === undefined || !sameTiers(tiers, others)) return false;
  }
  return true;
};

const sameStanding = (a: CellStanding, b: CellStanding): boolean =>
  a === b ||
  (a.member === b.member &&
    a.state === b.state &&
    a.reason === b.reason &&
    a.detail === b.detail &&
    a.sinceMs === b.sinceMs &&
    a.deadlineMs === b.deadlineMs &&
    a.tier === b.tier &&
    a.percent === b.percent &&
    a.ready === b.ready &&
    a.total === b.total);

const sameHold = (a: GuardHold, b: GuardHold): boolean =>
  a.guard === b.guard && a.member === b.member && a.detail === b.detail;

const sameList = <T>(a: readonly T[], b: readonly T[], same: (x: T, y: T) => boolean): boolean =>
  a === b || (a.length === b.length && a.every((value, i) => same(value, b[i]!)));

export const samePlan = (a: ServicePlan, b: ServicePlan): boolean =>
  a === b ||
  (a.usable === b.usable &&
    a.local.percent === b.local.percent &&
    a.failFast === b.failFast &&
    a.tunnelAgeMs === b.tunnelAgeMs &&
    a.policy === b.policy &&
    sameTiers(a.tiers, b.tiers) &&
    samePorts(a.ports, b.ports) &&
    sameList(a.standings, b.standings, sameStanding) &&
    sameList(a.held, b.held, sameHold));
