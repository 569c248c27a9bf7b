/**
 * The rules of the egress, kept up to date: from the EgressPolicies of this cluster. Every replica works them out; what stands on the
 * objects, the last good version among it, is written by the one that leads.
 *
 * When the objects may not be read any more, those of the last good state stay: an empty answer would open what they closed.
 */
import { IsthmusError } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { EgressRule } from '../trust/egress_policy.ts';
import {
  type CompiledEgress,
  compileEgress,
  concernsService,
  type EgressOutcome,
  type EgressRules,
  type LocalEgressPolicy,
  noEgressRules,
  restricts,
  tooMany,
} from '../trust/egress_rules.ts';
import { sourceText } from '../trust/egress_source.ts';
import { listed } from './wording.ts';

type Objects = ReadonlyMap<string, LocalEgressPolicy>;
const none: Objects = new Map();

export class EgressBook {
  readonly #trustDomain: string;
  #objects: Objects = none;
  #saved: Objects = none;
  #compiled: CompiledEgress = { rules: noEgressRules, outcomes: new Map() };

  constructor(trustDomain: string) {
    this.#trustDomain = trustDomain;
  }

  /** The same object as long as all policies say the same. */
  get rules(): EgressRules {
    return this.#compiled.rules;
  }

  /** Whether anybody is kept from anything. */
  get restricts(): boolean {
    return restricts(this.rules);
  }

  /** By name. */
  get outcomes(): ReadonlyMap<string, EgressOutcome> {
    return this.#compiled.outcomes;
  }

  /** What the rules are made of: to be saved. */
  get objects(): Objects {
    return this.#objects;
  }

  /** What an earlier run saw, until the API server says otherwise. */
  restore(objects: Objects | undefined): void {
    this.#saved = objects ?? none;
    this.#compile(this.#saved);
  }

  /** @param readable - whether the objects may be read: if they never were in this run, those of an earlier one stay */
  update(objects: Objects | undefined, readable: boolean): void {
    if (readable) this.#saved = none;
    this.#compile(readable || (objects?.size ?? 0) > 0 ? (objects ?? none) : this.#saved);
  }

  /** Standing problems, for `status`. */
  problems(): readonly IsthmusError[] {
    const bad = [...this.outcomes.values()].flatMap(({ problem, policy, accepted }) => {
      if (problem === undefined) return [];
      const kept =
        policy === undefined ? 'nothing of it is in force' : `generation ${accepted?.generation} of it stays in force`;
      return [
        new IsthmusError('policy/invalid', `${problem.message}; ${kept}`, { hint: problem.hint ?? '', cause: problem }),
      ];
    });
    const many = tooMany(this.rules);
    if (many === undefined) return bad;
    const hint = 'name namespaces, or accounts with * at their end, instead of single identities';
    return [...bad, new IsthmusError('policy/large', many, { hint })];
  }

  /** In force, and refused. */
  counts(): { readonly inForce: number; readonly refused: number } {
    const all = [...this.outcomes.values()];
    return {
      inForce: all.filter(({ policy }) => policy !== undefined).length,
      refused: all.filter(({ problem }) => problem !== undefined).length,
    };
  }

  /** What the rules say of callers of one service, a line each. */
  linesFor(key: ServiceKey): string[] {
    const { deny, allow } = this.rules;
    const [namespace = '', name = ''] = key.split('/');
    const line = (verb: string, rule: EgressRule): string => {
      const who =
        rule.sources === undefined ? 'every workload' : listed(rule.sources.slice(0, sourcesShown).map(sourceText));
      const more = (rule.sources?.length ?? 0) - sourcesShown;
      const only = rule.members === undefined ? '' : `, to be answered by ${listed(rule.members)} only`;
      return `${verb} by ${rule.id}: ${who}${more > 0 ? ` and ${more} more` : ''}${only}`;
    };
    const concern = (rules: readonly EgressRule[]) => rules.filter((rule) => concernsService(rule, namespace, name));
    const denied = concern(deny).map((rule) => line('denied', rule));
    const allowed = concern(allow ?? []).map((rule) => line('allowed', rule));
    const shown = [...denied, ...allowed];
    return [
      ...shown.slice(0, linesShown),
      ...(shown.length > linesShown ? [`and ${shown.length - linesShown} more rules`] : []),
      ...(allow === undefined ? [] : ['whom no rule allows is denied (rule “none”)']),
    ];
  }

  #compile(objects: Objects): void {
    // Copied: the map of the local cluster is live.
    this.#objects = new Map(objects);
    this.#compiled = compileEgress(this.#objects, this.#trustDomain, this.#compiled);
  }
}

const sourcesShown = 4;
const linesShown = 12;
