/**
 * The stores of a controller: one handle for each member that has an etcd of its own, and the shared one for all else.
 *
 * Nothing needs a transaction or an order across members, so it makes no difference to the rest where a member's records stand. What the
 * authority signs is in the shared one; a member with its own writes there alone, and nobody believes records of it from elsewhere.
 */
import type { Config } from '../config/controller.ts';
import { memberFile } from '../config/load.ts';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { Log } from '../ops/log.ts';
import { connectStore, type EtcdStore } from '../store/etcd.ts';
import { type Credentials, readFile } from './credentials.ts';

export interface StoresOptions {
  readonly config: Config;
  readonly credentials: Credentials;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Stores {
  /** What the authority writes, and members without a store of their own. */
  readonly shared: EtcdStore;
  /** Where this member writes. */
  readonly own: EtcdStore;
  /** Members that have their own, this one perhaps among them. */
  readonly apart: ReadonlyMap<string, EtcdStore>;
  /** Those that cannot be reached. */
  problems(): readonly IsthmusError[];
  close(): Promise<void>;
}

export const openStores = ({ config, credentials, clock, log }: StoresOptions): Stores => {
  const { allowUnsafeVersion, endpoints, members } = config.store;
  const common = { clock, allowUnsafeVersion, log };
  const shared = connectStore({ endpoints, ...credentials.store, ...common });
  const apart = new Map(
    Object.entries(members).map(([member, at]): [string, EtcdStore] => {
      const file = (key: 'caFile' | 'certFile' | 'keyFile', otherwise: Buffer): Buffer =>
        at[key] === undefined ? otherwise : readFile(`store.members.${member}.${key}`, memberFile(config, at[key]));
      const { ca, cert, key } = credentials.store;
      const tls = { ca: file('caFile', ca), cert: file('certFile', cert), key: file('keyFile', key) };
      return [member, connectStore({ endpoints: at.endpoints, ...tls, ...common })];
    }),
  );
  return {
    shared,
    own: apart.get(config.member) ?? shared,
    apart,
    problems: () =>
      [...apart].flatMap(([member, store]) => {
        const { connected, reason } = store.status();
        if (connected) return [];
        const message = `the store of ${member} cannot be reached: ${reason}; what was last known of it stays in use`;
        return [new IsthmusError('store/unavailable', message, { subject: { member } })];
      }),
    close: async () => {
      await Promise.all([shared, ...apart.values()].map((store) => store.close()));
    },
  };
};
