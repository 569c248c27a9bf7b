/** What a controller must have before its pod is ready: named tasks, each with why it is not done. Losing the store later undoes none. */
import type { Config } from '../config/controller.ts';
import type { Readiness } from '../ops/http.ts';
import type { EtcdStore } from '../store/etcd.ts';
import type { Cluster } from './cluster.ts';
import type { Engine } from './engine.ts';
import type { Records } from './records.ts';

export interface ReadinessInput {
  readonly config: Config;
  readonly engine: Engine;
  readonly cluster: Cluster;
  readonly records: Records;
  readonly store: EtcdStore;
  /** Proxies are let in. */
  readonly listening: () => boolean;
}

export const readinessOf = (input: ReadinessInput): Readiness => {
  const { config, engine, cluster, records, store, listening } = input;
  const waiting = (): string => store.status().reason || 'not read yet';
  let member = false;
  const known = (): string | undefined =>
    records.known || listening() ? undefined : `no saved state, and the store is dark: ${waiting()}`;
  /** Once known it stays done: what happens to the store must not take a controller away from its proxies. */
  const membership = (): string | undefined => {
    member ||= records.members.has(config.member);
    return member ? undefined : `no valid membership of ${config.member} in cluster set ${config.clusterset}`;
  };
  return {
    tasks: new Map([
      ['kubernetes', () => (engine.started ? undefined : cluster.pending().join(', ') || 'first view')],
      ['records', known],
      ['membership', membership],
      ['certificates', () => (engine.secrets === undefined ? 'gateway certificates not issued yet' : undefined)],
      ['discovery', () => (listening() ? undefined : 'not listening')],
    ]),
  };
};
