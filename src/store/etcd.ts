/**
 * The Store port on etcd, as a thin client over grpc-js (docs/adr/0003-etcd-client.md says why not the npm client etcd3).
 *
 * Nothing is read or written before the version of the endpoint that serves it has been checked; each connection is checked
 * anew. Constructing it touches no network: a controller starts with etcd dark.
 */
import type { Rng } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type {
  CommitResult,
  Store,
  StoreEntry,
  StoreSnapshot,
  StoreTxn,
  StoreWatch,
  WatchHandler,
} from '../core/store.ts';
import {
  Auth,
  Compare_CompareResult,
  Compare_CompareTarget,
  KV,
  Permission_Type,
  type TxnResponse,
} from '../gen/etcdserverpb/rpc_pb.ts';
import { StoreGateway } from '../gen/isthmus/v1/store_gateway_pb.ts';
import { signWrite, writeSignatureField } from '../records/write_signature.ts';
import { Connection, closedError } from './connection.ts';
import { isAuthMoved, storeError } from './failure.ts';
import { keyBytes, prefixRange, toEntry } from './keyspace.ts';
import { listPrefix } from './listing.ts';
import type { Beside } from './rpc.ts';
import type { EtcdOptions, Session } from './session.ts';
import { Watcher } from './watcher.ts';

export type { EtcdOptions, StoreLog } from './session.ts';

/** What a reader may tell its user about the store. */
export interface EtcdStatus {
  /** A checked connection is open and every watch on it is live. */
  readonly connected: boolean;
  readonly endpoint: string | undefined;
  readonly version: string | undefined;
  /** Of the etcd that was last read; undefined before. */
  readonly clusterId: bigint | undefined;
  /** The highest revision that this cluster has shown. */
  readonly revision: bigint;
  /** Monotonic ms at which etcd was last heard; undefined when never. */
  readonly lastBytesAtMs: number | undefined;
  /** Why it is not connected; empty while it is. */
  readonly reason: string;
}

export interface EtcdStore extends Store {
  /**
   * Connects and checks the version; with a prefix, also that it may be read. Rejects with `store/too-old`, `store/tls`,
   * `store/denied` or `store/unavailable`.
   */
  check(prefix?: string): Promise<void>;
  status(): EtcdStatus;
  /** @param beyond - operations above `limits.txnOpsMax`, for whoever adds some of its own */
  commit(txn: StoreTxn, beyond?: number): Promise<CommitResult>;
  /** What a role may do; etcd tells a user its own roles. Rejects with `store/denied` or `store/unavailable`. */
  rolePermissions(role: string): Promise<readonly RolePermission[]>;
  /** A client certificate for etcd (PEM) for a request (PKCS#10, PEM), by a store gateway. Rejects with `store/…` or `csr/…`. */
  renewCertificate(request: string): Promise<string>;
}

/** Keys from `from` up to, not including, `to`. */
export interface RolePermission {
  readonly read: boolean;
  readonly write: boolean;
  readonly from: string;
  readonly to: string;
}

export interface EtcdTuning {
  readonly rng?: Rng;
  /** Time between periodic lists of each watch. */
  readonly resyncIntervalMs?: number;
}

const listAttemptsMax = 3;
/** Only where etcd says that it has not done it. */
const commitAttemptsMax = 3;

class Etcd implements EtcdStore {
  private readonly o: EtcdOptions;
  private readonly tuning: EtcdTuning;
  private readonly connection: Connection;
  /** Where writes go: the same, or that to a store gateway. */
  private readonly writing: Connection;
  private readonly watchers = new Set<Watcher>();
  private clusterId: bigint | undefined;
  private revision = 0n;
  private heardBefore: number | undefined;
  private lastSession: Session | undefined;
  private closed = false;

  constructor(options: EtcdOptions, tuning: EtcdTuning) {
    this.o = options;
    this.tuning = tuning;
    this.connection = new Connection(options);
    const { writes } = options;
    this.writing = writes === undefined ? this.connection : new Connection({ ...options, endpoints: writes.endpoints });
    this.connection.onSession((session) => {
      this.heardBefore = this.lastSession?.heardAtMs ?? this.heardBefore;
      this.lastSession = session;
      if (session.clusterId !== 0n) this.seen(session.clusterId, 0n);
    });
  }

  async check(prefix?: string): Promise<void> {
    const session = await this.connection.acquire();
    if (prefix === undefined) return;
    try {
      const answer = await session.call(KV.method.range, { ...prefixRange(prefix), countOnly: true });
      this.seen(answer.header?.clusterId ?? 0n, answer.header?.revision ?? 0n);
    } catch (error) {
      throw storeError(error, { what: `read ${prefix}`, endpoint: session.endpoint });
    }
  }

  async list(prefix: string): Promise<StoreSnapshot> {
    for (let attempt = 1; ; attempt++) {
      const session = await this.connection.acquire();
      try {
        const snapshot = await listPrefix(session, prefix);
        this.seen(snapshot.clusterId, snapshot.revision);
        return snapshot;
      } catch (error) {
        const failure = storeError(error, { what: `list ${prefix}`, endpoint: session.endpoint });
        // Reading again is harmless; what ended the session sends the next attempt to another endpoint.
        if ((session.open && !isAuthMoved(error)) || attempt >= listAttemptsMax || this.closed) throw failure;
      }
    }
  }

  watch(prefix: string, handler: WatchHandler): StoreWatch {
    if (this.closed) throw closedError();
    const watcher = new Watcher({
      prefix,
      handler,
      connection: this.connection,
      clock: this.o.clock,
      rng: this.tuning.rng ?? Math.random,
      log: this.o.log,
      resyncIntervalMs: this.tuning.resyncIntervalMs ?? limits.watchResyncIntervalMs,
      seen: (clusterId, revision) => this.seen(clusterId, revision),
    });
    this.watchers.add(watcher);
    return {
      close: () => {
        watcher.close();
        this.watchers.delete(watcher);
      },
    };
  }

  /** Not tried again after an answer that was lost: that leaves it open whether the write took place. */
  async commit(txn: StoreTxn, beyond = 0): Promise<CommitResult> {
    checkTxn(txn, limits.txnOpsMax + beyond);
    const request = txnRequest(txn);
    for (let attempt = 1; ; attempt++) {
      const session = await this.writing.acquire();
      try {
        const answer = await session.call(KV.method.txn, request, limits.storeUnaryTimeoutMs, this.signing());
        return this.commitResult(answer);
      } catch (error) {
        if (isAuthMoved(error) && attempt < commitAttemptsMax) continue;
        throw storeError(error, { what: describe(txn), endpoint: session.endpoint });
      }
    }
  }

  async rolePermissions(role: string): Promise<readonly RolePermission[]> {
    const session = await this.connection.acquire();
    try {
      const { perm } = await session.call(Auth.method.roleGet, { role });
      return perm.map(({ permType, key, rangeEnd }) => ({
        read: permType !== Permission_Type.WRITE,
        write: permType !== Permission_Type.READ,
        from: Buffer.from(key).toString(),
        to: Buffer.from(rangeEnd).toString(),
      }));
    } catch (error) {
      throw storeError(error, { what: `read role ${role}`, endpoint: session.endpoint });
    }
  }

  async renewCertificate(request: string): Promise<string> {
    const session = await this.writing.acquire();
    try {
      const asked = { request: Buffer.from(request) };
      const { renewCertificate } = StoreGateway.method;
      const answer = await session.call(renewCertificate, asked, limits.storeUnaryTimeoutMs, this.signing());
      return Buffer.from(answer.certificate).toString('latin1');
    } catch (error) {
      throw storeError(error, { what: 'renew the client certificate', endpoint: session.endpoint });
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const watcher of this.watchers) watcher.close();
    this.watchers.clear();
    this.connection.close();
    this.writing.close();
  }

  status(): EtcdStatus {
    const session = this.connection.session;
    const watchers = [...this.watchers];
    const down = watchers.find((w) => w.reason !== '' && !w.denied) ?? watchers.find((w) => w.reason !== '');
    return {
      connected:
        session !== undefined && (down === undefined || (down.denied && watchers.some((w) => w.reason === ''))),
      endpoint: session?.endpoint,
      version: session?.version,
      clusterId: this.clusterId,
      revision: this.revision,
      lastBytesAtMs: this.lastSession?.heardAtMs ?? this.heardBefore,
      reason: session === undefined ? this.connection.reason || 'not connected yet' : (down?.reason ?? ''),
    };
  }

  private signing(): Beside | undefined {
    const { writes } = this.o;
    if (writes === undefined) return undefined;
    return (request) => ({ [writeSignatureField]: Buffer.from(signWrite(request, writes.recordKey())) });
  }

  private commitResult(answer: TxnResponse): CommitResult {
    const revision = answer.header?.revision ?? 0n;
    const clusterId = answer.header?.clusterId ?? 0n;
    this.seen(clusterId, revision);
    if (answer.succeeded) return { ok: true, revision, clusterId };
    const current: StoreEntry[] = [];
    for (const { response } of answer.responses) {
      if (response.case !== 'responseRange') continue;
      for (const kv of response.value.kvs) {
        const entry = toEntry(kv);
        if (entry !== undefined) current.push(entry);
      }
    }
    return { ok: false, current, revision };
  }

  private seen(clusterId: bigint, revision: bigint): void {
    if (clusterId !== this.clusterId) {
      this.clusterId = clusterId;
      this.revision = revision;
    } else if (revision > this.revision) {
      this.revision = revision;
    }
  }
}

const txnRequest = (txn: StoreTxn) => ({
  compare: txn.compare.map(({ key, modRevision }) => ({
    key: keyBytes(key),
    result: Compare_CompareResult.EQUAL,
    target: Compare_CompareTarget.MOD,
    targetUnion: { case: 'modRevision' as const, value: modRevision },
  })),
  success: [
    ...txn.puts.map(({ key, value }) => ({
      request: { case: 'requestPut' as const, value: { key: keyBytes(key), value } },
    })),
    ...txn.deletes.map((key) => ({
      request: { case: 'requestDeleteRange' as const, value: { key: keyBytes(key) } },
    })),
  ],
  failure: txn.compare.map(({ key }) => ({
    request: { case: 'requestRange' as const, value: { key: keyBytes(key) } },
  })),
});

const describe = (txn: StoreTxn): string => {
  const keys = [...txn.puts.map((p) => p.key), ...txn.deletes];
  if (keys.length === 0) return 'commit';
  return keys.length === 1 ? `write ${keys[0]}` : `write ${keys[0]} and ${keys.length - 1} more`;
};

/** Bounds that hold for every Store. Naming a key twice is a bug of the caller: etcd refuses it too. */
export const checkTxn = (txn: StoreTxn, opsMax: number = limits.txnOpsMax): void => {
  const ops = Math.max(txn.puts.length + txn.deletes.length, txn.compare.length);
  if (ops > opsMax) {
    throw new IsthmusError('store/too-large', `a transaction of ${ops} operations exceeds ${opsMax}`, {
      hint: 'write it in several transactions',
    });
  }
  const keys = [...txn.puts.map((p) => p.key), ...txn.deletes];
  if (new Set(keys).size !== keys.length) throw new Error('commit: a key is written twice in one transaction');
};

/** Throws `config/invalid` for malformed endpoints only. `tuning` is for tests. */
export const connectStore = (options: EtcdOptions, tuning: EtcdTuning = {}): EtcdStore => new Etcd(options, tuning);
