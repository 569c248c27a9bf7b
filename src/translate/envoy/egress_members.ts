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
import type { SourcePattern } from '../../trust/egress_source.ts';

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

/** Sources of a rule, so that what covers another is found by its beginnings, not by looking at all. */
class Sources {
  readonly #exact = new Set<string>();
  readonly #beginnings = new Map<string, SourcePattern>();
  /** Of beginnings, longest first. */
  readonly #lengths: readonly number[];

  constructor(sources: readonly SourcePattern[]) {
    for (const source of sources) {
      if (source.prefix) this.#beginnings.set(source.text, source);
      else this.#exact.add(source.text);
    }
    this.#lengths = [...new Set([...this.#beginnings.keys()].map(({ length }) => length))].sort((a, b) => b - a);
  }

  /** The longest beginning around it that is not itself. */
  around({ text, prefix }: SourcePattern): SourcePattern | undefined {
    for (const length of this.#lengths) {
      if (length > text.length || (prefix && length === text.length)) continue;
      const found = this.#beginnings.get(text.slice(0, length));
      if (found !== undefined) return found;
    }
    return undefined;
  }

  covers(inner: SourcePattern): boolean {
    const same = inner.prefix ? this.#beginnings.has(inner.text) : this.#exact.has(inner.text);
    return same || this.around(inner) !== undefined;
  }
}

const compiled = new WeakMap<EgressRule, Sources>();
const sourcesOf = (rule: EgressRule): Sources => {
  const known = compiled.get(rule);
  if (known !== undefined) return known;
  const made = new Sources(rule.sources ?? []);
  compiled.set(rule, made);
  return made;
};

const byFit = (a: SourcePattern, b: SourcePattern): number =>
  b.text.length - a.text.length || Number(a.prefix) - Number(b.prefix) || (a.text < b.text ? -1 : 1);

/** Best fit first; empty: all members may answer everybody. An entry for all members stands where one around it is for some. */
export const answeringFor = (
  { allow }: EgressRules,
  namespace: string,
  name: string,
): readonly (Omit<Answering, 'members'> & { readonly members: Members })[] => {
  const rules = (allow ?? []).filter((rule) => concernsService(rule, namespace, name));
  if (rules.every(({ members }) => members === undefined)) return [];
  const named = new Map<string, SourcePattern>();
  for (const source of rules.flatMap((rule) => rule.sources ?? []))
    named.set(`${source.text}${source.prefix ? '*' : ''}`, source);
  const all = new Sources([...named.values()]);
  const membersOf = (inner: SourcePattern): Members =>
    union(rules.filter((rule) => rule.sources === undefined || sourcesOf(rule).covers(inner)));
  const root = union(rules.filter((rule) => rule.sources === undefined));
  const members = new Map([...named.values()].map((source) => [source, membersOf(source)]));
  const told = [...members].filter(([source, some]) => {
    const outer = all.around(source);
    return keyOf(some) !== keyOf(outer === undefined ? root : members.get(outer));
  });
  return [
    // The longest first, and an exact one before a beginning of the same length: the first that fits decides.
    ...told.toSorted(([a], [b]) => byFit(a, b)).map(([source, some]) => ({ source, members: some })),
    ...(root === undefined ? [] : [{ source: undefined, members: root }]),
  ];
};

/** What is left of tiers for those who may be answered by these members alone. */
export const tiersWithin = (tiers: Tiers, members: readonly string[]): Tiers =>
  tiers.map((tier) => tier.filter(({ member }) => members.includes(member))).filter((tier) => tier.length > 0);

/** The key of a class: of a port, and of the members that may answer, if not all may. */
export const slotOf = (port: number, members?: readonly string[]): string =>
  members === undefined ? String(port) : `${port} ${members.join(',')}`;
