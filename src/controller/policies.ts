/**
 * The policies of this cluster, kept up to date: from its objects, the cluster set's default and the configuration. Every replica
 * works them out; conditions on the objects are written by the one that leads.
 */

import type { IsthmusError } from '../core/errors.ts';
import { type ServiceKey, serviceKey } from '../core/names.ts';
import { orderSteps } from '../failover/order.ts';
import type { OrderStep, Policies } from '../failover/policy.ts';
import { type CompiledPolicies, compilePolicies } from '../failover/policy_set.ts';
import type { LocalFailoverPolicy } from '../federation/local.ts';
import type { PolicyStanding } from '../kube/policy_conditions.ts';

export interface PolicyBookOptions {
  /** `failover.order` of the configuration. */
  readonly order: readonly string[];
  readonly capabilities: Policies['capabilities'];
}

export class PolicyBook {
  readonly #order: readonly OrderStep[];
  readonly #capabilities: Policies['capabilities'];
  #compiled: CompiledPolicies;

  constructor({ order, capabilities }: PolicyBookOptions) {
    this.#order = orderSteps(order);
    this.#capabilities = capabilities;
    this.#compiled = this.#compile(new Map(), undefined);
  }

  /** The same object as long as all policies say the same. */
  get policies(): Policies {
    return this.#compiled.policies;
  }
  /** Why the cluster set's default is not in use as it is; for `status`. */
  get problem(): IsthmusError | undefined {
    return this.#compiled.setProblem;
  }

  /**
   * @param objects - `local.failoverPolicies`
   * @param setSpec - `federation.policySpec`
   * @returns whether decisions or conditions may come out different
   */
  update(
    objects: ReadonlyMap<string, LocalFailoverPolicy>,
    setSpec: Readonly<Record<string, unknown>> | undefined,
  ): boolean {
    const before = this.#compiled;
    this.#compiled = this.#compile(objects, setSpec, before);
    const { policies, outcomes } = this.#compiled;
    return (
      policies !== before.policies ||
      outcomes.size !== before.outcomes.size ||
      [...outcomes].some(([key, outcome]) => before.outcomes.get(key) !== outcome)
    );
  }

  /**
   * For the conditions of the objects.
   * @param decided - the policies that the newest decisions were made by
   * @param known - whether any cluster has this service
   */
  standings(
    decided: Policies | undefined,
    known: (service: ServiceKey) => boolean,
  ): ReadonlyMap<string, PolicyStanding> {
    const standings = new Map<string, PolicyStanding>();
    for (const [key, outcome] of this.#compiled.outcomes) {
      const { namespace } = outcome.object;
      const targets = (outcome.parsed?.targets ?? []).map((name) => serviceKey(namespace, name));
      const missing = targets.filter((service) => !known(service));
      standings.set(key, { outcome, programmed: decided === this.#compiled.policies, missing });
    }
    return standings;
  }

  #compile(
    objects: ReadonlyMap<string, LocalFailoverPolicy>,
    setSpec: Readonly<Record<string, unknown>> | undefined,
    before?: CompiledPolicies,
  ): CompiledPolicies {
    return compilePolicies({ objects, setSpec, order: this.#order, capabilities: this.#capabilities }, before);
  }
}
