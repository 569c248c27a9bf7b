/** A service's plan, but for where it goes: of a service about which nothing was decided. */
import type { RemotePlan, ServicePlan } from '../../../src/failover/plan.ts';

export const undecided: Omit<ServicePlan, keyof RemotePlan> = {
  local: { percent: 100 },
  failFast: false,
  tunnelAgeMs: undefined,
  standings: [],
  held: [],
  policy: 'default',
};
