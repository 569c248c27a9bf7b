/**
 * What people see in Kubernetes of decisions: conditions and events on Services and policies, by the replica that leads.
 *
 * People can wait, proxies cannot: a change of a thousand services at once is told in small parts, in later turns of the event loop, and
 * of what is as it was told nothing is made again.
 */
import type { ServiceKey } from '../core/names.ts';
import type { ServicePlan } from '../failover/plan.ts';
import { type FailoverPolicy, policyOf } from '../failover/policy.ts';
import type { ServiceView } from '../federation/view.ts';
import type { Cluster } from './cluster.ts';
import type { Failover } from './failover.ts';
import { headlineOf, passedOver } from './headline.ts';
import { rankings, type StandingsInput, standingsOf } from './standings.ts';

export interface TellingOptions {
  readonly cluster: () => Cluster;
  readonly failover: () => Failover;
  readonly input: () => StandingsInput;
}

/** Services in one turn. */
const atOnce = 50;

/** What a service's words were made of. */
interface Told {
  readonly service: ServiceView;
  readonly plan: ServicePlan;
  readonly policy: FailoverPolicy;
}

export class Telling {
  readonly #o: TellingOptions;
  readonly #due = new Set<ServiceKey>();
  readonly #told = new Map<ServiceKey, Told>();
  #scheduled = false;

  constructor(options: TellingOptions) {
    this.#o = options;
  }

  /** These services were decided about. */
  services(keys: Iterable<ServiceKey>): void {
    for (const key of keys) this.#due.add(key);
    this.#later();
  }

  /** Objects came or went, or decisions were made by others than before. */
  policies(): void {
    const { book, decidedBy } = this.#o.failover();
    const { services } = this.#o.input().view;
    this.#o.cluster().reportPolicies(book.standings(decidedBy, (key) => services.has(key)));
  }

  #later(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#some();
    });
  }

  #some(): void {
    const now = this.#o.input();
    const input = { ...now, ranks: rankings(now.view.self, now.view) };
    for (const key of [...this.#due].slice(0, atOnce)) {
      this.#due.delete(key);
      this.#one(key, input);
    }
    if (this.#due.size > 0) this.#later();
    else this.policies();
  }

  #one(key: ServiceKey, input: StandingsInput): void {
    const cluster = this.#o.cluster();
    const service = input.view.services.get(key);
    if (service?.local === undefined || service.remotes.size === 0) {
      this.#told.delete(key);
      cluster.reportTraffic(key, undefined);
      return;
    }
    const before = this.#told.get(key);
    const planned = input.plan.services.get(key);
    const policy = policyOf(input.policies, key);
    if (before !== undefined && before.service === service && before.plan === planned && before.policy === policy)
      return;
    const { rows, plan } = standingsOf(service, input);
    // Without standings of a plan the rows are of verdicts, which change without it.
    if (plan !== undefined && plan.standings.length > 0) this.#told.set(key, { service, plan, policy });
    else this.#told.delete(key);
    const out = passedOver(rows);
    const message = headlineOf({ service: key, from: input.view.self, rows, failFast: plan?.failFast ?? false });
    cluster.reportTraffic(key, { away: out.length > 0, reason: out[0]?.reason ?? 'InOrder', message });
  }
}
