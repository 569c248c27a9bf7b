/**
 * Which members may answer whom: where a rule allows a service at some members only, its callers get a route of their own, to a class of
 * those alone.
 *
 * The route goes by the identity that the egress wrote over the header (`fromWorkload`). Of beginnings of identities the longest decides,
 * and it takes in what the rules around it allow too, since rules add up. Where no rule names members, which is nearly everywhere, there
 * is one route for all as before. To drop a tunnel after it was chosen where it goes was passed over: the caller would be refused although
 * a member that may answer is there.
 */
import type { Tiers } from '../../failover/plan.ts';
import type { EgressRule } from '../../trust/egress_policy.ts';
import { concernsService, type EgressRules } from '../../trust/egress_rules.ts';
import { covers, type SourcePattern } from '../../trust/egress_source.ts';

/** Undefined: all members. */
type Members = readonly string[] | undefined;

export interface Answering {
  /** Undefined: whom no other fits. */
  readonly source: SourcePattern | undefined;
  readonly members: readonly string[];
}

const union = (rules: readonly EgressRule[]): Members => {
  if (rules.length === 0 || rules.some(({ members }) => members === undefined)) return undefined;
  return [...new Set(rules.flatMap(({ members }) => members ?? []))].sort();
};

const keyOf = (members: Members): string => members?.join(',') ?? '*';

/** Best fit first; empty: all members may answer everybody. An entry for all members stands where one around it is for some. */
export const answeringFor = (
  { allow }: EgressRules,
  namespace: string,
  name: string,
): readonly (Omit<Answering, 'members'> & { readonly members: Members })[] => {
  const rules = (allow ?? []).filter((rule) => concernsService(rule, namespace, name));
  if (rules.every(({ members }) => members === undefined)) return [];
  const sources = new Map<string, SourcePattern>();
  for (const source of rules.flatMap((rule) => rule.sources ?? []))
    sources.set(`${source.text}${source.prefix ? '*' : ''}`, source);
  const around = (inner: SourcePattern) =>
    rules.filter((rule) => rule.sources === undefined || rule.sources.some((outer) => covers(outer, inner)));
  const root = union(rules.filter((rule) => rule.sources === undefined));
  const found = [...sources].map(([key, source]) => ({ key, source, members: union(around(source)) }));
  // Longest first; an exact one before a beginning of the same length.
  found.sort((a, b) => b.key.length - a.key.length || (a.key < b.key ? -1 : 1));
  const told = found.filter(({ source, members }) => {
    const outer = found.find((one) => one.source !== source && covers(one.source, source));
    return keyOf(members) !== keyOf(outer === undefined ? root : outer.members);
  });
  return [
    ...told.map(({ source, members }) => ({ source, members })),
    ...(root === undefined ? [] : [{ source: undefined, members: root }]),
  ];
};

/** What is left of tiers for those who may be answered by these members alone. */
export const tiersWithin = (tiers: Tiers, members: readonly string[]): Tiers =>
  tiers.map((tier) => tier.filter(({ member }) => members.includes(member))).filter((tier) => tier.length > 0);

/** The key of a class: of a port, and of the members that may answer, if not all may. */
export const slotOf = (port: number, members?: readonly string[]): string =>
  members === undefined ? String(port) : `${port} ${members.join(',')}`;
