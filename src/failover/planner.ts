/**
 * View and plan as a whole, kept up to date by keys: what was merged and ordered before stays until its service, or the
 * membership, changes.
 *
 * Recomputing all on every change was passed over: at a hundred members and a thousand services one endpoint's change
 * would cost a hundred thousand merges.
 */
import type { ServiceKey } from '../core/names.ts';
import type { LocalCluster } from '../federation/local.ts';
import { mergeService } from '../federation/merge.ts';
import type { MemberView, ServiceView, View } from '../federation/view.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import { type OrderPolicy, planWithPorts } from './order.ts';
import { nothingBeyond, type Plan, type ServicePlan, undecided } from './plan.ts';

export interface PlannerOptions {
  /** Our own member name. */
  readonly self: string;
  readonly clusterDomain: string;
  readonly policy: OrderPolicy;
}

export interface PlannerDirty {
  readonly services: Iterable<ServiceKey>;
  /** A membership or a member's gateways changed: every service is ordered anew. */
  readonly members: boolean;
}

export class Planner {
  readonly #options: PlannerOptions;
  readonly #services = new Map<ServiceKey, ServiceView>();
  readonly #plans = new Map<ServiceKey, ServicePlan>();
  #members: ReadonlyMap<string, MemberView> = new Map();

  constructor(options: PlannerOptions) {
    this.#options = options;
  }

  /** Live: changes with the next `update`. */
  get view(): View {
    return { self: this.#options.self, members: this.#members, services: this.#services };
  }
  get plan(): Plan {
    return { ...nothingBeyond, services: this.#plans };
  }

  /** @returns the services whose view or plan was made anew, those that went included */
  update(local: LocalCluster, members: ReadonlyMap<string, MemberView>, dirty: PlannerDirty): ReadonlySet<ServiceKey> {
    this.#members = members;
    const keys = new Set(dirty.services);
    if (dirty.members) {
      for (const key of this.#services.keys()) keys.add(key);
      for (const key of local.services.keys()) keys.add(key);
      for (const view of members.values()) for (const key of view.services.keys()) keys.add(key);
    }
    for (const key of keys) this.#one(key, local, members);
    return keys;
  }

  #one(key: ServiceKey, local: LocalCluster, members: ReadonlyMap<string, MemberView>): void {
    const { self, policy } = this.#options;
    const remotes = new Map<string, ServiceRecord>();
    for (const [name, view] of members) {
      const record = name === self ? undefined : view.services.get(key);
      if (record !== undefined) remotes.set(name, record);
    }
    const service = mergeService(key, local.services.get(key), remotes, this.#options);
    if (service === undefined) {
      this.#services.delete(key);
      this.#plans.delete(key);
      return;
    }
    this.#services.set(key, service);
    const own = members.get(self)?.member;
    if (own === undefined || service.remotes.size === 0) this.#plans.delete(key);
    else this.#plans.set(key, { ...undecided, ...planWithPorts(service, own, members, policy) });
  }
}
