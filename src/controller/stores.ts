/**
 * The stores of a controller: one handle for each member that has an etcd of its own, and the shared one for all else.
 *
 * Nothing needs a transaction or an order across members, so it makes no difference to the rest where a member's records stand. What the
 * authority signs is in the shared one; a member with its own writes there alone, and nobody believes records of it from elsewhere.
 */
import type { KeyObject } from 'node:crypto';
import type { Config } from '../config/controller.ts';
import { memberFile } from '../config/load.ts';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Log } from '../ops/log.ts';
import { connectStore, type EtcdOptions, type EtcdStore } from '../store/etcd.ts';
import { type Credentials, readFile } from './credentials.ts';

/** etcd answers to a watch that asks for its progress, however quiet it is. */
const quietMs = limits.watchProgressIntervalMs + 1_000;

export interface StoresOptions {
  readonly config: Config;
  readonly credentials: Credentials;
  readonly clock: Clock;
  readonly log: Log;
  /** Signs what goes through a store gateway; asked for at each write. */
  readonly recordKey: () => KeyObject;
}

export interface Stores {
  /** What the authority writes, and members without a store of their own. */
  readonly shared: EtcdStore;
  /** Where this member writes. */
  readonly own: EtcdStore;
  /** Has our certificate for etcd renewed by a store gateway; undefined: there is none. */
  readonly renew: ((request: string) => Promise<string>) | undefined;
  /** The client certificate for connections that are made from now on, but for stores that have one of their own. */
  readonly use: (pair: Pick<EtcdOptions, 'cert' | 'key'>) => void;
  /** Members that have their own, this one perhaps among them. */
  readonly apart: ReadonlyMap<string, EtcdStore>;
  /**
   * Whether the store of a member's records is not heard just now. False where it is the one that we write to: there our own records tell.
   */
  readonly dark: (member: string) => boolean;
  /** Those that cannot be reached. */
  problems(): readonly IsthmusError[];
  close(): Promise<void>;
}

/** A member with an etcd of its own writes there, and to no gateway. */
const mustWriteOnce = ({ member, store }: Config): void => {
  if (store.writeEndpoints.length === 0 || store.members[member] === undefined) return;
  throw new IsthmusError(
    'config/invalid',
    `store.writeEndpoints is set, and store.members.${member} says that ${member} writes to an etcd of its own`,
    { hint: 'leave one of the two out', subject: { key: 'store.writeEndpoints' } },
  );
};

export const openStores = ({ config, credentials, clock, log, recordKey }: StoresOptions): Stores => {
  const { allowUnsafeVersion, endpoints, writeEndpoints, members } = config.store;
  let newest: Pick<EtcdOptions, 'cert' | 'key'> = credentials.store;
  const renewed = () => newest;
  mustWriteOnce(config);
  const common = { clock, allowUnsafeVersion, log };
  const writes = writeEndpoints.length === 0 ? undefined : { endpoints: writeEndpoints, recordKey };
  const shared = connectStore({ endpoints, ...credentials.store, ...common, writes, renewed });
  const apart = new Map(
    Object.entries(members).map(([member, at]): [string, EtcdStore] => {
      const file = (key: 'caFile' | 'certFile' | 'keyFile', otherwise: Buffer): Buffer =>
        at[key] === undefined ? otherwise : readFile(`store.members.${member}.${key}`, memberFile(config, at[key]));
      const { ca, cert, key } = credentials.store;
      const tls = { ca: file('caFile', ca), cert: file('certFile', cert), key: file('keyFile', key) };
      // One that is named here is another than the one that is renewed.
      const own = at.certFile === undefined && at.keyFile === undefined ? { renewed } : {};
      return [member, connectStore({ endpoints: at.endpoints, ...tls, ...common, ...own })];
    }),
  );
  const own = apart.get(config.member) ?? shared;
  return {
    shared,
    own,
    use: (pair) => {
      newest = pair;
    },
    renew: writes === undefined ? undefined : (request) => shared.renewCertificate(request),
    apart,
    dark: (member) => {
      const store = apart.get(member) ?? shared;
      if (store === own) return false;
      const { connected, lastBytesAtMs } = store.status();
      return !connected || clock.monotonicMs() - (lastBytesAtMs ?? 0) > quietMs;
    },
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
