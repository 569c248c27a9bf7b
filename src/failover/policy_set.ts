/**
 * All policies of this cluster as the decisions read them: the cluster set's default over the built-in one, and above it what the
 * cluster's own objects say. Also what became of each object, for its conditions.
 *
 * An object that names a service decides before one for the whole namespace; of two that say the same thing about one
 * service the older one decides, as it does between exports, so that nobody can take a service over by adding a policy. An
 * object that is refused keeps its last good version in use, as long as this process knows one.
 *
 * What comes out equal to what was before is what was before, the same object: decisions compare by identity.
 */
import { isDeepStrictEqual } from 'node:util';
import type { IsthmusError } from '../core/errors.ts';
import { type ServiceKey, serviceKey } from '../core/names.ts';
import type { LocalFailoverPolicy } from '../federation/local.ts';
import { defaultPolicy, type FailoverPolicy, type OrderStep, type Policies } from './policy.ts';
import { type ParsedPolicy, parsePolicySpec } from './policy_object.ts';

export interface PolicySources {
  /** By `namespace/name`. */
  readonly objects: ReadonlyMap<string, LocalFailoverPolicy>;
  /** The cluster set's default, as the authority signed it; undefined: there is none. */
  readonly setSpec: Readonly<Record<string, unknown>> | undefined;
  /** The built-in order, see `orderSteps`. */
  readonly order: readonly OrderStep[];
  readonly capabilities: Policies['capabilities'];
}

/** What became of one object. */
export interface PolicyOutcome {
  readonly object: LocalFailoverPolicy;
  /** In use: of this version, or of the last good one. Undefined: nothing of it is. */
  readonly parsed: ParsedPolicy | undefined;
  /** Why this version is not in use. */
  readonly problem: IsthmusError | undefined;
  /** Services that it decides for by name; `wholeNamespace`: and for all others of its namespace. */
  readonly decides: readonly ServiceKey[];
  readonly wholeNamespace: boolean;
  /** What an older object decides instead; `*`: the rest of the namespace. */
  readonly lost: readonly { readonly service: ServiceKey | '*'; readonly to: string }[];
}

export interface CompiledPolicies {
  readonly policies: Policies;
  /** By `namespace/name`. */
  readonly outcomes: ReadonlyMap<string, PolicyOutcome>;
  /** Why the cluster set's default is not in use as it is. */
  readonly setProblem: IsthmusError | undefined;
}

const byAge = (a: LocalFailoverPolicy, b: LocalFailoverPolicy): number =>
  a.createdMs - b.createdMs || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

/** Where the policy itself is equal to the one before, the one before. */
const kept = <T>(next: T, before: T | undefined): T =>
  before !== undefined && isDeepStrictEqual(next, before) ? before : next;

const readDefault = (
  sources: PolicySources,
  before: CompiledPolicies | undefined,
): { readonly policy: FailoverPolicy; readonly problem: IsthmusError | undefined } => {
  const builtIn: FailoverPolicy = { ...defaultPolicy, order: sources.order };
  if (sources.setSpec === undefined) return { policy: kept(builtIn, before?.policies.default), problem: undefined };
  const parsed = parsePolicySpec(sources.setSpec, builtIn, 'default');
  if (parsed.ok) return { policy: kept(parsed.value.policy, before?.policies.default), problem: undefined };
  return { policy: before?.policies.default ?? builtIn, problem: parsed.error };
};

/** Reads one object, or takes what was read of it before: the same object over the same base. */
const readObject = (
  key: string,
  object: LocalFailoverPolicy,
  base: FailoverPolicy,
  before: CompiledPolicies | undefined,
): Pick<PolicyOutcome, 'parsed' | 'problem'> => {
  const last = before?.outcomes.get(key);
  const same = last !== undefined && last.object === object && before?.policies.default === base;
  if (same) return last;
  const parsed = parsePolicySpec(object.spec, base, key);
  if (parsed.ok) {
    const policy = kept(parsed.value.policy, last?.parsed?.policy);
    return { parsed: { ...parsed.value, policy }, problem: undefined };
  }
  // Another object under the old name has nothing to do with what the old one said.
  return { parsed: last?.object.uid === object.uid ? last.parsed : undefined, problem: parsed.error };
};

/** Equal maps over identical policies: the map before. */
const keptMap = <T>(
  next: ReadonlyMap<string, T>,
  before: ReadonlyMap<string, T> | undefined,
): ReadonlyMap<string, T> =>
  before !== undefined && before.size === next.size && [...next].every(([key, policy]) => before.get(key) === policy)
    ? before
    : next;

/** @param before - what the last call gave: for last good versions, and so that what is equal stays identical */
export const compilePolicies = (sources: PolicySources, before?: CompiledPolicies): CompiledPolicies => {
  const base = readDefault(sources, before);
  const services = new Map<ServiceKey, FailoverPolicy>();
  const namespaces = new Map<string, FailoverPolicy>();
  const owners = new Map<string, string>();
  const outcomes = new Map<string, PolicyOutcome>();
  const claim = (what: string, key: string): string | undefined => {
    const owner = owners.get(what);
    if (owner === undefined) owners.set(what, key);
    return owner;
  };
  for (const [key, object] of [...sources.objects].sort(([, a], [, b]) => byAge(a, b))) {
    const read = readObject(key, object, base.policy, before);
    const decides: ServiceKey[] = [];
    const lost: PolicyOutcome['lost'][number][] = [];
    let wholeNamespace = false;
    if (read.parsed?.targets.length === 0) {
      const owner = claim(object.namespace, key);
      if (owner === undefined) namespaces.set(object.namespace, read.parsed.policy);
      else lost.push({ service: '*', to: owner });
      wholeNamespace = owner === undefined;
    }
    for (const name of read.parsed?.targets ?? []) {
      const service = serviceKey(object.namespace, name);
      const owner = claim(service, key);
      if (owner !== undefined) lost.push({ service, to: owner });
      else {
        services.set(service, read.parsed!.policy);
        decides.push(service);
      }
    }
    const { parsed, problem } = read;
    outcomes.set(key, kept({ object, parsed, problem, decides, wholeNamespace, lost }, before?.outcomes.get(key)));
  }
  const last = before?.policies;
  const next: Policies = {
    default: base.policy,
    services: keptMap(services, last?.services),
    namespaces: keptMap(namespaces, last?.namespaces),
    capabilities: kept(sources.capabilities, last?.capabilities),
  };
  const unchanged =
    last !== undefined &&
    next.default === last.default &&
    next.services === last.services &&
    next.namespaces === last.namespaces &&
    next.capabilities === last.capabilities;
  return { policies: unchanged ? last : next, outcomes, setProblem: base.problem };
};
