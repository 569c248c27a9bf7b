/**
 * Who may answer a service's calls and how each of them stands: one row a cluster, in the order in which the policy wishes them.
 */

import type { StandingReport } from '../core/failover_report.ts';
import type { CellStanding, Plan, ServicePlan } from '../failover/plan.ts';
import { type FailoverPolicy, type OrderStep, type Policies, policyOf } from '../failover/policy.ts';
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
}

/**
 * Of the first step of the order that names a member; past the end when none does.
 * @param from - whose order it is
 */
export const rankOf = (order: readonly OrderStep[], member: string, from: string, view: View): number => {
  const region = (name: string) => view.members.get(name)?.member.region;
  const takes = (step: OrderStep): boolean => {
    if (step.kind === 'local') return member === from;
    if (member === from) return false;
    if (step.kind === 'same-region') return region(member) !== undefined && region(member) === region(from);
    if (step.kind === 'cluster') return step.name === member;
    return step.kind === 'any' || step.name === region(member);
  };
  const at = order.findIndex(takes);
  return at < 0 ? order.length : at;
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
  const own = service.local?.endpoints ?? [];
  return [
    ...(service.local === undefined ? [] : [row(self, own.filter((e) => e.ready).length, own.length)]),
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

const localReady = (service: ServiceView): number => service.local?.endpoints.filter((e) => e.ready).length ?? 0;

/** Who answers, 0–100 each. A service that nobody else exports has no plan: it is served here or not at all. */
export const servingShares = (service: ServiceView, plan: ServicePlan | undefined, self: string): Shares => {
  if (plan !== undefined) return sharesOf(plan, self, localReady(service));
  return localReady(service) > 0 ? new Map([[self, 100]]) : new Map();
};

export const standingsOf = (service: ServiceView, input: StandingsInput): Standings => {
  const { view, nowMs } = input;
  const plan = input.plan.services.get(service.key);
  const policy = policyOf(input.policies, service.key);
  const shares = servingShares(service, plan, view.self);
  const found: readonly Standing[] =
    plan === undefined || plan.standings.length === 0 ? undecided(service, plan, input) : plan.standings;
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
      rank: rankOf(policy.order, standing.member, view.self, view),
    };
  });
  rows.sort((a, b) => a.rank - b.rank || (a.member < b.member ? -1 : 1));
  return { service, plan, policy, shares, rows: rows.map(({ rank: _rank, ...row }) => row) };
};
