/** What people see in Kubernetes of decisions: conditions and events on Services and policies, by the replica that leads. */
import type { ServiceKey } from '../core/names.ts';
import type { Cluster } from './cluster.ts';
import type { Failover } from './failover.ts';
import { headlineOf, passedOver } from './headline.ts';
import { type StandingsInput, standingsOf } from './standings.ts';

export interface TellingOptions {
  readonly cluster: () => Cluster;
  readonly failover: () => Failover;
  readonly input: () => StandingsInput;
}

export class Telling {
  readonly #o: TellingOptions;

  constructor(options: TellingOptions) {
    this.#o = options;
  }

  /** These services were decided about. */
  services(keys: Iterable<ServiceKey>): void {
    const cluster = this.#o.cluster();
    const input = this.#o.input();
    for (const key of keys) {
      const service = input.view.services.get(key);
      if (service?.local === undefined || service.remotes.size === 0) {
        cluster.reportTraffic(key, undefined);
        continue;
      }
      const { rows, plan } = standingsOf(service, input);
      const out = passedOver(rows);
      const message = headlineOf({ service: key, from: input.view.self, rows, failFast: plan?.failFast ?? false });
      cluster.reportTraffic(key, { away: out.length > 0, reason: out[0]?.reason ?? 'InOrder', message });
    }
    this.policies();
  }

  /** Objects came or went, or decisions were made by others than before. */
  policies(): void {
    const { book, decidedBy } = this.#o.failover();
    const { services } = this.#o.input().view;
    this.#o.cluster().reportPolicies(book.standings(decidedBy, (key) => services.has(key)));
  }
}
