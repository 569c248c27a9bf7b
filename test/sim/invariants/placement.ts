/** A plan as invariants compare it: who gets traffic in which order, and how much stays here. Weights follow readiness and are no move. */
import type { Plan, ServicePlan } from '../../../src/failover/plan.ts';

export const placeText = (plan: ServicePlan | undefined): string => {
  if (plan === undefined) return 'none';
  const tiers = plan.tiers.map((cells) =>
    cells
      .map(({ member }) => member)
      .sort()
      .join('+'),
  );
  return `local ${plan.local.percent} %, ${plan.failFast ? 'fail fast' : tiers.join(' then ')}`;
};

/** Names of services in either. */
export const servicesOf = (...plans: readonly (Plan | undefined)[]): Set<string> =>
  new Set(plans.flatMap((plan) => [...(plan?.services.keys() ?? [])]));

export const usesMember = (plan: ServicePlan, member: string): boolean =>
  plan.tiers.some((cells) => cells.some((cell) => cell.member === member));
