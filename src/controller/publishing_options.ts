/** What publishing is told at its start, and what it tells. */
import type { Authority } from '../ca/authority.ts';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng } from '../core/clock.ts';
import type { ServiceKey } from '../core/names.ts';
import type { Store } from '../core/store.ts';
import type { MemberView } from '../federation/view.ts';
import type { TrustRecord, VantageRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { Head } from '../journal/entry.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { EtcdStore } from '../store/etcd.ts';
import type { MemberKeys } from './keys.ts';

export interface PublishingOptions {
  readonly config: Config;
  /** `rolePermissions`: where it has roles that can be asked for. */
  readonly store: Store & Partial<Pick<EtcdStore, 'rolePermissions'>>;
  readonly keys: () => MemberKeys;
  readonly authority: () => Authority;
  readonly epochFloor: () => bigint;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Our own vantage and trust records as they stand; undefined: there is none. `known`: whether that can be told yet. */
  readonly standing: () => {
    readonly known: boolean;
    readonly vantage: VantageRecord | undefined;
    readonly trust: TrustRecord | undefined;
  };
  /** The newest durable entries of journal and audit: peers hold them, so that one cut short shows. */
  readonly heads: () => { readonly journal: Head | undefined; readonly audit: Head | undefined };
  /** Exports that name their readers stand in the store now, or do not any more. */
  readonly onNamed: (services: Iterable<ServiceKey>) => void;
  /** A term was lost to another writer although the lease was ours. */
  readonly onFenced: () => void;
}

/** Of our own records, those that a new term goes on from. */
export const ownSingles = (own: MemberView | undefined) => ({ vantage: own?.vantage, trust: own?.trust });

/** What is shared of our services. */
export interface Shared {
  readonly services: { has(key: ServiceKey): boolean };
}
