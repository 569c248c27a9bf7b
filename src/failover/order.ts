/**
 * Where a service's remote traffic goes, best first.
 *
 * Clusters of our own region come first, then the configured order, then the rest by region name: an order that a person can
 * predict without a tool. Inside a tier the share follows ready capacity. Ordering by measured round trip was passed over as the
 * default: it moves traffic when the network breathes, and two replicas may measure differently.
 *
 * Nobody is left out when that would leave nobody: a service that may still have an endpoint somewhere keeps its cells, and
 * the far gateway refuses at once when there is none.
 */
import { carriesTcp } from '../core/transport.ts';
import { capacityReady, capacityTotal } from '../federation/capacity.ts';
import type { MemberView, ServiceView } from '../federation/view.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { Member } from '../trust/membership.ts';
import type { Cell, RemotePlan, Tiers } from './plan.ts';

export interface OrderPolicy {
  /** Names of members or regions, preferred first. Those not named come after, by region. */
  readonly order: readonly string[];
}

/** How well an exporter can take traffic: the best level that anybody reaches is used, the levels below are left out. */
const levels = { serving: 2, draining: 1, nothing: 0 } as const;
type Level = (typeof levels)[keyof typeof levels];

interface Candidate {
  readonly cell: Cell;
  readonly level: Level;
  readonly tier: string;
}

/**
 * The tier of a member as a string that sorts: 0 our region, 1 the configured order, 2 the rest by region.
 * A member named itself stands alone; members of a named region share its tier.
 */
const tierOf = (member: Member, self: Member, policy: OrderPolicy): string => {
  if (member.region === self.region) return '0';
  const byName = policy.order.indexOf(member.name);
  const place = byName >= 0 ? byName : policy.order.indexOf(member.region);
  return place >= 0 ? `1 ${String(place).padStart(6, '0')}` : `2 ${member.region}`;
};

const levelOf = (view: MemberView, ready: number): Level => {
  const gateways = view.gateways?.gateways ?? [];
  if (ready === 0 || gateways.length === 0) return levels.nothing;
  return gateways.some(({ draining }) => !draining) ? levels.serving : levels.draining;
};

const candidate = (view: MemberView, record: ServiceRecord, self: Member, policy: OrderPolicy): Candidate => {
  const ready = capacityReady(record);
  const level = levelOf(view, ready);
  const weight = Math.max(1, level === levels.nothing ? capacityTotal(record) : ready);
  return { cell: { member: view.member.name, weight }, level, tier: tierOf(view.member, self, policy) };
};

/** Over TCP, for a tunnel carries nothing else. */
const offers = ({ ports }: ServiceRecord, port: number): boolean =>
  ports.some((offered) => offered.port === port && carriesTcp(offered.protocol));

/**
 * The cells of one service, or of one of its ports: a member that does not have the port cannot serve it.
 * @param self - our own membership
 */
export const planService = (
  view: ServiceView,
  self: Member,
  members: ReadonlyMap<string, MemberView>,
  policy: OrderPolicy,
  port?: number,
): RemotePlan => {
  const candidates: Candidate[] = [];
  if (view.unsupported === undefined) {
    for (const [name, record] of view.remotes) {
      const member = members.get(name);
      if (member === undefined || name === self.name || record.headless || record.sessionAffinity) continue;
      if (port !== undefined && !offers(record, port)) continue;
      candidates.push(candidate(member, record, self, policy));
    }
  }
  const best = Math.max(levels.nothing, ...candidates.map(({ level }) => level));
  const tiers = new Map<string, Cell[]>();
  for (const { cell, level, tier } of candidates) {
    if (level < best) continue;
    const cells = tiers.get(tier);
    if (cells === undefined) tiers.set(tier, [cell]);
    else cells.push(cell);
  }
  const sorted = [...tiers].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, cells]) => cells.sort(byMember));
  return { key: view.key, tiers: sorted, usable: best > levels.nothing };
};

/**
 * The plan of a service and of those ports of it that not all exporters have: where such a port leads to a member without it,
 * every call would be refused there first.
 */
export const planWithPorts = (
  view: ServiceView,
  self: Member,
  members: ReadonlyMap<string, MemberView>,
  policy: OrderPolicy,
): RemotePlan => {
  const plan = planService(view, self, members, policy);
  const records = [...view.remotes.values()];
  const ports = new Map<number, Tiers>();
  for (const { port, protocol } of view.local?.ports ?? view.ports) {
    if (!carriesTcp(protocol) || records.every((record) => offers(record, port))) continue;
    ports.set(port, planService(view, self, members, policy, port).tiers);
  }
  return ports.size === 0 ? plan : { ...plan, ports };
};

const byMember = (a: Cell, b: Cell): number => (a.member < b.member ? -1 : 1);
