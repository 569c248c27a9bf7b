/**
 * In which order clusters take a service's traffic, best first.
 *
 * Clusters of our own region come first, then the configured order, then the rest by region name: an order that a person can
 * predict without a tool. Ordering by measured round trip was passed over as the default: it moves traffic when the network
 * breathes, and two replicas may measure differently. Who of them takes part, and how much of it, is said in `placement.ts`.
 */
import type { MemberView } from '../federation/view.ts';
import type { Member } from '../trust/membership.ts';
import type { OrderStep } from './policy.ts';

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
