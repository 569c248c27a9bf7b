/**
 * Classes: services with the same peers, order, weights and policy share one Envoy cluster.
 *
 * So an Envoy carries dozens of clusters and health checks and not services × peers (docs/adr/0005-gateway-clusters.md). The
 * name says what is in it, for whoever reads `/clusters`: tiers between slashes, best first, a member's weight behind `=`.
 */
import { createHash } from 'node:crypto';
import type { ServicePlan } from '../../failover/plan.ts';
import type { TrafficPolicy } from '../../federation/local.ts';

const nameLengthMax = 120;

const cellsOf = (tiers: ServicePlan['tiers']): string =>
  tiers
    .map((tier) => {
      const cells = [...tier].sort((a, b) => (a.member < b.member ? -1 : 1));
      const even = cells.every((cell) => cell.weight === cells[0]?.weight);
      return cells.map((cell) => (even ? cell.member : `${cell.member}=${cell.weight}`)).join('+');
    })
    .join('/');

/** A service with a traffic policy of its own gets a class of its own: its limits and its ejections are nobody else's. */
export const className = (plan: ServicePlan, policy: TrafficPolicy | undefined): string => {
  const cells = cellsOf(plan.tiers);
  const name = policy === undefined ? `class/${cells}` : `own/${plan.key}/${cells}`;
  if (name.length <= nameLengthMax) return name;
  const digest = createHash('sha256').update(name).digest('hex').slice(0, 16);
  return `${name.slice(0, nameLengthMax - 17)}~${digest}`;
};
