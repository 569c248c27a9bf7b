/**
 * When tunnels are opened with an age.
 *
 * Envoy reads the age of a tunnel when it is opened and has no means to end one later: neither lost endpoints nor a lost route or
 * cluster do. So the tunnels that a failback should find gone must have their age from the start: it is given while somebody has
 * less than its full share, and not while all is as it should be, for there tunnels may stay.
 *
 * A drain gives none: it may last for days, and what would be cut again and again are the tunnels to where traffic was sent on
 * purpose. Those to the drained cell end with its gateways or pods.
 */
import type { ServicePlan } from '../../failover/plan.ts';

/** In ms; undefined: as old as their callers want. */
export const tunnelAgeOf = (plan: ServicePlan | undefined): number | undefined => {
  if (plan?.tunnelAgeMs === undefined || plan.tunnelAgeMs <= 0) return undefined;
  const displaced = plan.standings.filter(({ percent }) => percent < 100);
  const lasting = plan.standings.length > 0 && displaced.every(({ reason }) => reason === 'Draining');
  return lasting ? undefined : plan.tunnelAgeMs;
};
