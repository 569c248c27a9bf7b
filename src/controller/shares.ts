/**
 * Shares of new connections, from a plan: what people mean by "where does its traffic go". A plan speaks of weights and tiers
 * instead, for that is what proxies are told.
 */
import type { Placement } from '../failover/decision.ts';
import type { Cell, ServicePlan, Tiers } from '../failover/plan.ts';

/** Member → 0–100, those with nothing left out. Sums to 100, or to 0 when calls are refused. */
export type Shares = ReadonlyMap<string, number>;

const addTier = (
  shares: Map<string, number>,
  cells: readonly Pick<Cell, 'member' | 'weight'>[],
  rest: number,
): void => {
  const sum = cells.reduce((total, { weight }) => total + weight, 0);
  if (rest <= 0 || sum <= 0) return;
  for (const { member, weight } of cells) if (weight > 0) shares.set(member, (rest * weight) / sum);
};

/** Only the first tier counts: the next ones get traffic when the gateway's own Envoy finds the first one dead. */
const shared = (self: string, localPercent: number, tiers: Tiers): Shares => {
  const shares = new Map<string, number>();
  if (localPercent > 0) shares.set(self, localPercent);
  addTier(shares, tiers.find((cells) => cells.length > 0) ?? [], 100 - localPercent);
  return shares;
};

/**
 * @param self - the cluster whose plan it is
 * @param localReady - endpoints of its own that are ready: at 100 % they serve while there is any, then the others do
 */
export const sharesOf = (plan: ServicePlan, self: string, localReady: number): Shares => {
  const elsewhere = plan.tiers.some((cells) => cells.length > 0);
  if (localReady === 0) return plan.failFast || !plan.usable ? new Map() : shared(self, 0, plan.tiers);
  // A share without a place to go stays: ztunnel has no other workload to choose.
  if (!elsewhere || !plan.usable) return plan.local.percent === 0 ? new Map() : new Map([[self, 100]]);
  if (plan.local.percent === 0 && plan.failFast) return new Map();
  return shared(self, plan.local.percent, plan.tiers);
};

/** Of a decision's placement, as it stands in the journal. */
export const sharesOfPlacement = (placement: Placement, self: string): Shares =>
  shared(self, placement.localPercent, placement.tiers);

/** How much of the traffic goes elsewhere than before, or is refused that was not, 0–100. */
export const movedPercent = (before: Shares, after: Shares): number => {
  let gained = 0;
  let lost = 0;
  for (const member of new Set([...before.keys(), ...after.keys()])) {
    const difference = (after.get(member) ?? 0) - (before.get(member) ?? 0);
    if (difference > 0) gained += difference;
    else lost -= difference;
  }
  return Math.max(gained, lost);
};
