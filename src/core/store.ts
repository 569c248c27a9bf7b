/**
 * The Store port: one key-value store with revisions, watched by prefix. Two implementations pass the same rig
 * (test/conformance/store.ts): etcd and simulated.
 *
 * A watcher sees state, not messages: first a snapshot, then batches of events in revision order, each revision whole. When
 * continuity is lost (compaction, a restored or replaced etcd) it gets a new snapshot that replaces all it knew. So a
 * reader never has to know why; it diffs.
 */

export interface StoreEntry {
  readonly key: string;
  readonly value: Uint8Array;
  readonly modRevision: bigint;
}

export interface StoreSnapshot {
  readonly clusterId: bigint;
  readonly revision: bigint;
  readonly entries: readonly StoreEntry[];
}

export type StoreEvent =
  | { readonly type: 'put'; readonly key: string; readonly value: Uint8Array; readonly modRevision: bigint }
  | { readonly type: 'delete'; readonly key: string; readonly modRevision: bigint };

/** Why a snapshot came: the first one, our revision was compacted away, etcd went back or is another cluster, or a periodic check. */
export type SnapshotReason = 'initial' | 'compacted' | 'restored' | 'resync';

export interface WatchHandler {
  snapshot(snapshot: StoreSnapshot, reason: SnapshotReason): void;
  /** Whole revisions only. `revision` is the last one contained. */
  events(events: readonly StoreEvent[], revision: bigint): void;
  /** The connection's state changed; `reason` says why it is down. */
  connected(up: boolean, reason: string): void;
}

export interface StoreWatch {
  close(): void;
}

export interface StoreTxn {
  /** Each key must have this modRevision; 0n means that it must not exist. */
  readonly compare: readonly { readonly key: string; readonly modRevision: bigint }[];
  readonly puts: readonly { readonly key: string; readonly value: Uint8Array }[];
  readonly deletes: readonly string[];
}

export type CommitResult =
  | { readonly ok: true; readonly revision: bigint; readonly clusterId: bigint }
  /** A comparison failed; `current` holds the compared keys that exist, as they are now. */
  | { readonly ok: false; readonly current: readonly StoreEntry[]; readonly revision: bigint };

/** Rejections are `IsthmusError`s with a `store/…` code. */
export interface Store {
  /** All entries under a prefix at one revision (linearizable). */
  list(prefix: string): Promise<StoreSnapshot>;
  watch(prefix: string, handler: WatchHandler): StoreWatch;
  /** All or nothing. At most `limits.txnOpsMax` operations. */
  commit(txn: StoreTxn): Promise<CommitResult>;
  close(): Promise<void>;
}
