/**
 * All EgressPolicies of a cluster as one set of rules, and what became of each object.
 *
 * An object that cannot be read keeps its last good version in force. That version stands in the object's own status, where the replica
 * that leads puts it: so both replicas, and one that starts anew, go on by the same one. Keeping it in memory or on the disk alone was
 * passed over: two replicas would have different ones, and a new pod none, which lets through what was denied.
 */
import { isDeepStrictEqual } from 'node:util';
import type { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type EgressPolicy, type EgressRule, parseEgressPolicy, type ServicePattern } from './egress_policy.ts';
import type { SourcePattern } from './egress_source.ts';

/** An EgressPolicy of this cluster, as its API server has it. */
export interface LocalEgressPolicy {
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  /** Parsed JSON. */
  readonly spec: unknown;
  /** The last version that could be read, from the object's status. */
  readonly accepted?: AcceptedSpec;
}

export interface AcceptedSpec {
  readonly generation: number;
  readonly spec: unknown;
}

/** How often the identities that fit may open tunnels. */
export interface SourceLimit {
  /** Undefined: every workload that no other limit fits. */
  readonly source: SourcePattern | undefined;
  readonly perSecond: number;
}

export interface EgressRules {
  readonly deny: readonly EgressRule[];
  /** What none of them allows is denied; undefined: there is no such policy, and everything is allowed. */
  readonly allow: readonly EgressRule[] | undefined;
  /** One a source, sorted. */
  readonly limits: readonly SourceLimit[];
}

export const noEgressRules: EgressRules = { deny: [], allow: undefined, limits: [] };

/** Whether anybody is kept from anything. */
export const restricts = ({ deny, allow }: EgressRules): boolean => deny.length > 0 || allow !== undefined;

/** What became of one object. */
export interface EgressOutcome {
  readonly object: LocalEgressPolicy;
  /** In force: of this version, or of the last good one. Undefined: nothing of it is. */
  readonly policy: EgressPolicy | undefined;
  /** Of the version in force. */
  readonly accepted: AcceptedSpec | undefined;
  /** Why this version is not. */
  readonly problem: IsthmusError | undefined;
}

export interface CompiledEgress {
  readonly rules: EgressRules;
  /** By name. */
  readonly outcomes: ReadonlyMap<string, EgressOutcome>;
}

const readObject = (object: LocalEgressPolicy, trustDomain: string, last: EgressOutcome | undefined): EgressOutcome => {
  if (last?.object === object) return last;
  // Our own writes to the status are no change of what is asked for.
  if (last?.object.uid === object.uid && last.problem === undefined && isDeepStrictEqual(last.object.spec, object.spec))
    return { ...last, object, accepted: { generation: object.generation, spec: object.spec } };
  const parsed = parseEgressPolicy(object.name, object.spec, trustDomain);
  if (parsed.ok) {
    const accepted = { generation: object.generation, spec: object.spec };
    return { object, policy: parsed.value, accepted, problem: undefined };
  }
  // Another object under the old name has nothing to do with what the old one said.
  const known = last?.object.uid === object.uid ? last : undefined;
  const { accepted } = object;
  // What this process saw in force may not stand in the status yet.
  if (known?.policy !== undefined && (known.accepted?.generation ?? 0) >= (accepted?.generation ?? 0))
    return { object, policy: known.policy, accepted: known.accepted, problem: parsed.error };
  const before = accepted && parseEgressPolicy(object.name, accepted.spec, trustDomain);
  return before?.ok === true
    ? { object, policy: before.value, accepted, problem: parsed.error }
    : // Kept on the object all the same: a controller that can read it may come.
      { object, policy: undefined, accepted, problem: parsed.error };
};

const byId = (a: EgressRule, b: EgressRule): number => (a.id < b.id ? -1 : 1);

const limitKey = ({ source }: SourceLimit): string =>
  source === undefined ? '' : `${source.text}${source.prefix ? '*' : ''}`;

/** Of two values for one source the lower. */
const limitsOf = (rules: readonly EgressRule[]): SourceLimit[] => {
  const lowest = new Map<string, SourceLimit>();
  for (const { sources, connectsPerSecond: perSecond } of rules) {
    if (perSecond === undefined) continue;
    for (const source of sources ?? [undefined]) {
      const limit = { source, perSecond };
      const known = lowest.get(limitKey(limit));
      if (known === undefined || known.perSecond > perSecond) lowest.set(limitKey(limit), limit);
    }
  }
  return [...lowest].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, limit]) => limit);
};

/**
 * @param objects - by name
 * @param before - what the last call gave: for last good versions, and so that what is as it was stays the same object
 */
export const compileEgress = (
  objects: ReadonlyMap<string, LocalEgressPolicy>,
  trustDomain: string,
  before?: CompiledEgress,
): CompiledEgress => {
  const outcomes = new Map<string, EgressOutcome>();
  for (const [name, object] of [...objects].sort(([a], [b]) => (a < b ? -1 : 1)))
    outcomes.set(name, readObject(object, trustDomain, before?.outcomes.get(name)));
  const policies = [...outcomes.values()].flatMap(({ policy }) => policy ?? []);
  const last = [...(before?.outcomes.values() ?? [])].flatMap(({ policy }) => policy ?? []);
  const same = policies.length === last.length && policies.every((policy, i) => policy === last[i]);
  if (before !== undefined && same) return { rules: before.rules, outcomes };
  const of = (action: EgressPolicy['action']): EgressRule[] =>
    policies.filter((policy) => policy.action === action).flatMap(({ rules }) => rules);
  const rules: EgressRules = {
    deny: of('DENY').sort(byId),
    allow: policies.some(({ action }) => action === 'ALLOW') ? of('ALLOW').sort(byId) : undefined,
    limits: limitsOf(of('LIMIT')),
  };
  return { rules, outcomes };
};

export const concernsService = ({ services }: EgressRule, namespace: string, name: string): boolean =>
  services === undefined || services.some((one) => fits(one, namespace, name));

const fits = (pattern: ServicePattern, namespace: string, name: string): boolean =>
  pattern.namespace === namespace && (pattern.name === undefined || pattern.name === name);

/** Whether there is so much of it that gateways take notable time for each new tunnel; in words. */
export const tooMany = ({ deny, allow, limits: some }: EgressRules): string | undefined => {
  const rules = [...deny, ...(allow ?? [])];
  const sources = rules.reduce((sum, { sources: of }) => sum + (of?.length ?? 1), 0) + some.length;
  if (rules.length <= limits.egressRulesMany && sources <= limits.egressSourcesMany) return undefined;
  return `${rules.length} rules with ${sources} sources are in force at the egress, more than ${limits.egressRulesMany} or ${limits.egressSourcesMany}`;
};
