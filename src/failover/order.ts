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
import type { OrderStep } from './policy.ts';

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

/** The steps that a list of names stands for: our cluster, our region, each name in its place, then the rest. */
export const orderSteps = (names: readonly string[]): readonly OrderStep[] => [
  { kind: 'local' },
  { kind: 'same-region' },
  ...names.flatMap((name): OrderStep[] => [
    { kind: 'cluster', name },
    { kind: 'region', name },
  ]),
  { kind: 'any' },
];

/** The step that takes a member in: one that names it or our region before one that names its region, `any` last; -1: none. */
const stepOf = (member: Member, self: Member, steps: readonly OrderStep[]): number => {
  const near = steps.findIndex(
    (step) =>
      (step.kind === 'same-region' && member.region === self.region) ||
      (step.kind === 'cluster' && step.name === member.name),
  );
  if (near >= 0) return near;
  const region = steps.findIndex((step) => step.kind === 'region' && step.name === member.region);
  return region >= 0 ? region : steps.findIndex((step) => step.kind === 'any');
};

/** The tier of a member as a string that sorts: the place of its step; members that no step names, or only `any`, by region. */
const tierKey = (member: Member, step: number, steps: readonly OrderStep[]): string => {
  const place = String(step < 0 ? steps.length : step).padStart(6, '0');
  return step < 0 || steps[step]!.kind === 'any' ? `${place} ${member.region}` : place;
};

const tierOf = (member: Member, self: Member, steps: readonly OrderStep[]): string =>
  tierKey(member, stepOf(member, self, steps), steps);

/** A member in its place, whatever it exports. */
export interface RankedMember {
  readonly name: string;
  readonly region: string;
  readonly gateways: 'serving' | 'draining' | 'none';
  /** Equal for members of one tier, rising. */
  readonly tier: number;
  /** False: no step names it. It is used only when nobody else is left. */
  readonly named: boolean;
  /** It comes before our own endpoints. */
  readonly beforeLocal: boolean;
}

/** All members but ourselves, best first, by name within a tier. */
export const rankMembers = (
  self: Member,
  members: ReadonlyMap<string, MemberView>,
  steps: readonly OrderStep[],
): readonly RankedMember[] => {
  const local = steps.findIndex(({ kind }) => kind === 'local');
  const keyed: { readonly view: MemberView; readonly key: string; readonly step: number }[] = [];
  for (const view of members.values()) {
    if (view.member.name === self.name) continue;
    const step = stepOf(view.member, self, steps);
    keyed.push({ view, key: tierKey(view.member, step, steps), step });
  }
  keyed.sort((a, b) => (a.key === b.key ? (a.view.member.name < b.view.member.name ? -1 : 1) : a.key < b.key ? -1 : 1));
  let tier = -1;
  return keyed.map(({ view, key, step }, i) => {
    if (key !== keyed[i - 1]?.key) tier++;
    const gateways = view.gateways?.gateways ?? [];
    return {
      name: view.member.name,
      region: view.member.region,
      gateways: gateways.length === 0 ? 'none' : gateways.some(({ draining }) => !draining) ? 'serving' : 'draining',
      tier,
      named: step >= 0,
      beforeLocal: step >= 0 && step < local,
    };
  });
};

const levelOf = (view: MemberView, ready: number): Level => {
  const gateways = view.gateways?.gateways ?? [];
  if (ready === 0 || gateways.length === 0) return levels.nothing;
  return gateways.some(({ draining }) => !draining) ? levels.serving : levels.draining;
};

const candidate = (view: MemberView, record: ServiceRecord, self: Member, steps: readonly OrderStep[]): Candidate => {
  const ready = capacityReady(record);
  const level = levelOf(view, ready);
  const weight = Math.max(1, level === levels.nothing ? capacityTotal(record) : ready);
  return { cell: { member: view.member.name, weight }, level, tier: tierOf(view.member, self, steps) };
};

/** Over TCP, for a tunnel carries nothing else. */
export const offers = ({ ports }: ServiceRecord, port: number): boolean =>
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
  const steps = orderSteps(policy.order);
  if (view.unsupported === undefined) {
    for (const [name, record] of view.remotes) {
      const member = members.get(name);
      if (member === undefined || name === self.name || record.headless || record.sessionAffinity) continue;
      if (port !== undefined && !offers(record, port)) continue;
      candidates.push(candidate(member, record, self, steps));
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
