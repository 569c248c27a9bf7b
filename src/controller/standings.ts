/**
 * Who may answer a service's calls and how each of them stands: one row a cluster, in the order in which the policy wishes them.
 */

import type { StandingReport } from '../core/failover_report.ts';
import { rankMembers } from '../failover/order.ts';
import type { CellStanding, Plan, ServicePlan } from '../failover/plan.ts';
import { type FailoverPolicy, type OrderStep, type Policies, policyOf } from '../failover/policy.ts';
import { readyOf } from '../failover/scene.ts';
import { capacityReady, capacityTotal } from '../federation/capacity.ts';
import type { ServiceView, View } from '../federation/view.ts';
import { cellKey, type MemberVerdict, type Verdict, type Verdicts } from '../health/verdict.ts';
import { type Shares, sharesOf } from './shares.ts';

export interface StandingsInput {
  readonly view: View;
  readonly plan: Plan;
  readonly verdicts: Verdicts;
  readonly policies: Policies;
  readonly nowMs: number;
  /** See `rankings`; for many services at once. */
  readonly ranks?: Rankings;
}

/**
 * Where each member comes in somebody's order: rising, equal within a tier; those that no step names last.
 * @param from - whose order it is: its own endpoints have a place in it, too
 */
export const ranksOf = (order: readonly OrderStep[], from: string, view: View): ReadonlyMap<string, number> => {
  const self = view.members.get(from)?.member;
  const ranks = new Map<string, number>([[from, 0]]);
  if (self === undefined) return ranks;
  const all = rankMembers(self, view.members, order);
  for (const { name, tier, beforeLocal, named } of all) {
    const place = named ? tier + 1 : tier + 1 + all.length;
    ranks.set(name, beforeLocal ? place - all.length - 1 : place);
  }
  return ranks;
};

export type Rankings = (order: readonly OrderStep[]) => ReadonlyMap<string, number>;

/** `ranksOf` one view, made once for each order. */
export const rankings = (from: string, view: View): Rankings => {
  const made = new Map<readonly OrderStep[], ReadonlyMap<string, number>>();
  return (order) => {
    const ranks = made.get(order) ?? ranksOf(order, from, view);
    made.set(order, ranks);
    return ranks;
  };
};

const verdictOf = (input: StandingsInput, service: string, member: string): Verdict | MemberVerdict | undefined =>
  input.verdicts.cells.get(cellKey(service, member)) ?? input.verdicts.members.get(member);

/** Of a cell that was never judged nobody can say for how long it is so. */
type Standing = Omit<CellStanding, 'sinceMs'> & { readonly sinceMs: number | undefined };

/** Without a decision yet, what the records and the verdicts say. */
const undecided = (service: ServiceView, plan: ServicePlan | undefined, input: StandingsInput): Standing[] => {
  const row = (member: string, ready: number, total: number): Standing => {
    const tier = plan?.tiers.findIndex((cells) => cells.some((cell) => cell.member === member)) ?? -1;
    const verdict = verdictOf(input, service.key, member);
    const idle = verdict === undefined && ready === 0;
    return {
      member,
      state: verdict?.state ?? 'fresh',
      reason: verdict?.reason ?? (idle ? 'NotReady' : 'Healthy'),
      detail: verdict?.detail ?? '',
      sinceMs: verdict?.sinceMs,
      deadlineMs: verdict?.deadlineMs,
      tier: tier < 0 ? undefined : tier,
      percent: 100,
      ready,
      total,
    };
  };
  const { self } = input.view;
  const own = readyOf(service.local);
  return [
    ...(service.local === undefined ? [] : [row(self, own.ready, own.total)]),
    ...[...service.remotes].map(([name, record]) => row(name, capacityReady(record), capacityTotal(record))),
  ];
};

/** Of all of the service's cells, with the one of this cluster first. */
export interface Standings {
  readonly service: ServiceView;
  readonly plan: ServicePlan | undefined;
  readonly policy: FailoverPolicy;
  readonly shares: Shares;
  readonly rows: readonly StandingReport[];
}

/** Who answers, 0–100 each. A service that nobody else exports has no plan: it is served here or not at all. */
export const servingShares = (service: ServiceView, plan: ServicePlan | undefined, self: string): Shares => {
  const { ready } = readyOf(service.local);
  if (plan !== undefined) return sharesOf(plan, self, ready);
  return ready > 0 ? new Map([[self, 100]]) : new Map();
};

export const standingsOf = (service: ServiceView, input: StandingsInput): Standings => {
  const { view, nowMs } = input;
  const plan = input.plan.services.get(service.key);
  const policy = policyOf(input.policies, service.key);
  const shares = servingShares(service, plan, view.self);
  const found: readonly Standing[] =
    plan === undefined || plan.standings.length === 0 ? undecided(service, plan, input) : plan.standings;
  const ranks = input.ranks?.(policy.order) ?? ranksOf(policy.order, view.self, view);
  const rows = found.map((standing): StandingReport & { rank: number } => {
    const local = standing.member === view.self;
    return {
      member: standing.member,
      local,
      tier: local ? 0 : standing.tier === undefined ? null : standing.tier + 1,
      sharePercent: shares.get(standing.member) ?? 0,
      weightPercent: standing.percent,
      state: standing.state,
      reason: standing.reason,
      detail: standing.detail,
      ageSeconds: standing.sinceMs === undefined ? null : Math.max(0, nowMs - standing.sinceMs) / 1000,
      untilSeconds: standing.deadlineMs === undefined ? null : Math.max(0, standing.deadlineMs - nowMs) / 1000,
      ready: standing.ready,
      total: standing.total,
      rank: ranks.get(standing.member) ?? Number.POSITIVE_INFINITY,
    };
  });
  rows.sort((a, b) => a.rank - b.rank || (a.member < b.member ? -1 : 1));
  return { service, plan, policy, shares, rows: rows.map(({ rank: _rank, ...row }) => row) };
};
