/**
 * How far a watch has come, and whether the etcd it meets after a reconnect still has the history it knows.
 *
 * A lower revision or another cluster id tells of a restored or replaced etcd, but not when the restored one has been
 * written to beyond our revision meanwhile. So the last entry seen is kept as a witness: at its revision, the same history
 * has the same key with the same value. Listing everything after each reconnect was passed over: hundreds of controllers
 * would do so at once whenever etcd restarts.
 */
import type { StoreEntry, StoreEvent, StoreSnapshot } from '../core/store.ts';
import { KV } from '../gen/etcdserverpb/rpc_pb.ts';
import { isCompacted, isFutureRevision } from './failure.ts';
import { keyBytes, prefixRange } from './keyspace.ts';
import type { Session } from './session.ts';

export class Position {
  readonly clusterId: bigint;
  /** Everything up to and including it was delivered. */
  revision: bigint;
  private witness: StoreEntry | undefined;

  constructor(snapshot: StoreSnapshot) {
    this.clusterId = snapshot.clusterId;
    this.revision = snapshot.revision;
    for (const entry of snapshot.entries) this.see(entry);
  }

  /** Events with revisions above `revision`, in order. */
  advance(events: readonly StoreEvent[]): void {
    for (const event of events) {
      if (event.type === 'put') this.see(event);
      if (event.modRevision > this.revision) this.revision = event.modRevision;
    }
  }

  /** Compares with the etcd behind `session` by a linearizable read. Rejects with the transport's error. */
  async check(session: Session, prefix: string): Promise<'same' | 'compacted' | 'restored'> {
    try {
      const witness = this.witness;
      const answer = await session.call(
        KV.method.range,
        witness === undefined
          ? { ...prefixRange(prefix), countOnly: true }
          : { key: keyBytes(witness.key), revision: witness.modRevision },
      );
      if (answer.header?.clusterId !== this.clusterId || answer.header.revision < this.revision) return 'restored';
      if (witness === undefined) return 'same';
      const found = answer.kvs[0];
      const same = found?.modRevision === witness.modRevision && Buffer.compare(found.value, witness.value) === 0;
      return same ? 'same' : 'restored';
    } catch (error) {
      if (isFutureRevision(error)) return 'restored';
      // Without the witness nothing vouches for the history, even where the watch itself could still resume. A compacted
      // answer names no cluster either; the caller lists and finds out.
      if (isCompacted(error)) return 'compacted';
      throw error;
    }
  }

  private see(entry: StoreEntry): void {
    if (this.witness === undefined || entry.modRevision >= this.witness.modRevision) this.witness = entry;
  }
}
