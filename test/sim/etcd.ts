/**
 * The server half of the simulated store: keys, revisions and history in memory, and the faults that an etcd can have. It
 * keeps no time of its own; test/sim/store.ts is the client that talks to it over a simulated connection.
 */
import { IsthmusError } from '../../src/core/errors.ts';
import type { CommitResult, StoreEntry, StoreEvent, StoreSnapshot, StoreTxn } from '../../src/core/store.ts';

/** One revision: an object of its own, so that two histories with equal numbers can be told apart. */
export interface SimRevision {
  readonly revision: bigint;
  readonly events: readonly StoreEvent[];
}

/** What a copy of the data directory holds. */
export interface SimData {
  readonly clusterId: bigint;
  readonly history: readonly SimRevision[];
  readonly compactedTo: bigint;
}

export interface SimPermissions {
  readonly read: readonly string[];
  readonly write: readonly string[];
}

export type SimState = 'up' | 'stopped' | 'hung';

const firstRevision: SimRevision = { revision: 1n, events: [] };

/** What a client meets: etcd itself, or what is left of it at the end of a bad line. */
export type EtcdSide = Pick<
  SimEtcd,
  | 'clusterId'
  | 'revision'
  | 'state'
  | 'loseNextAnswer'
  | 'dropAfterRevisions'
  | 'onDrop'
  | 'snapshot'
  | 'commit'
  | 'next'
  | 'holds'
  | 'at'
  | 'checkRead'
  | 'onChange'
  | 'connect'
>;

export class SimEtcd {
  clusterId = 0x51e7cdn;
  state: SimState = 'up';
  noSpace = false;
  /** The next commit takes place, but its answer is lost. */
  loseNextAnswer = false;
  /** Connections break after this many further revisions were delivered, each time, while above zero. */
  dropAfterRevisions = 0;
  /** Told of each break that `dropAfterRevisions` made. */
  onDrop: () => void = () => {};
  private history: SimRevision[] = [firstRevision];
  private compactedTo = 0n;
  private entries = new Map<string, StoreEntry>();
  private permissions: Map<string, SimPermissions> | undefined;
  private readonly changed = new Set<() => void>();
  private readonly connections = new Set<(reason: string) => void>();

  get revision(): bigint {
    return this.history.at(-1)!.revision;
  }

  // faults

  stop(): void {
    this.state = 'stopped';
    this.dropConnections('etcd stopped');
  }

  /** Half-open: connections stay, nothing is answered. */
  hang(): void {
    this.state = 'hung';
  }

  start(): void {
    this.state = 'up';
    this.notify();
  }

  dropConnections(reason = 'connection reset'): void {
    for (const drop of [...this.connections]) drop(reason);
  }

  /** Forgets what was before `revision`; default: all but the newest. */
  compact(revision: bigint = this.revision): void {
    if (revision > this.compactedTo) this.compactedTo = revision;
  }

  saveData(): SimData {
    return { clusterId: this.clusterId, history: [...this.history], compactedTo: this.compactedTo };
  }

  /** As after a stop, a copy back and a start. */
  restoreData(data: SimData): void {
    this.dropConnections('etcd stopped');
    this.clusterId = data.clusterId;
    this.history = [...data.history];
    this.compactedTo = data.compactedTo;
    this.entries = new Map();
    for (const { events } of this.history) this.apply(events);
  }

  /** The data as they were at that revision come back, with the same cluster id. */
  restoreTo(revision: bigint): void {
    const history = this.history.filter((r) => r.revision <= revision);
    this.restoreData({ clusterId: this.clusterId, history, compactedTo: this.compactedTo });
  }

  /** An empty etcd with another cluster id answers at the same place. */
  replace(): void {
    this.restoreData({ clusterId: this.clusterId + 1n, history: [firstRevision], compactedTo: 0n });
  }

  /** From the first call on, users may do only what they were allowed; `root` may do all. */
  allow(user: string, permissions: SimPermissions): void {
    this.permissions ??= new Map();
    this.permissions.set(user, permissions);
  }

  // what the client asks

  snapshot(user: string, prefix: string): StoreSnapshot {
    this.checkRead(user, prefix);
    const entries = [...this.entries.values()].filter((e) => e.key.startsWith(prefix));
    entries.sort((a, b) => (a.key < b.key ? -1 : 1));
    return { clusterId: this.clusterId, revision: this.revision, entries };
  }

  commit(user: string, txn: StoreTxn): CommitResult {
    for (const { key } of txn.compare) this.checkRead(user, key);
    for (const key of [...txn.puts.map((p) => p.key), ...txn.deletes]) {
      if (!this.permitted(user, 'write', key)) throw denied(user, `write ${key}`);
    }
    if (this.noSpace && txn.puts.length > 0) {
      throw new IsthmusError('store/no-space', 'simulated etcd is out of space', { hint: 'free some' });
    }
    const same = txn.compare.every((c) => (this.entries.get(c.key)?.modRevision ?? 0n) === c.modRevision);
    if (!same) {
      const current = txn.compare.map((c) => this.entries.get(c.key)).filter((e) => e !== undefined);
      return { ok: false, current, revision: this.revision };
    }
    const modRevision = this.revision + 1n;
    const events: StoreEvent[] = txn.puts.map(({ key, value }) => ({
      type: 'put',
      key,
      value: Uint8Array.from(value),
      modRevision,
    }));
    for (const key of txn.deletes) if (this.entries.has(key)) events.push({ type: 'delete', key, modRevision });
    if (events.length > 0) {
      this.history.push({ revision: modRevision, events });
      this.apply(events);
      this.notify();
    }
    return { ok: true, revision: this.revision, clusterId: this.clusterId };
  }

  /** The first revision after `after`, the marker of compaction, or undefined when there is none yet. */
  next(after: bigint): SimRevision | 'compacted' | undefined {
    if (after + 1n < this.compactedTo) return 'compacted';
    return this.at(after + 1n);
  }

  /** Whether this history still holds that very revision at its place. */
  holds(seen: SimRevision): boolean {
    return this.at(seen.revision) === seen;
  }

  at(revision: bigint): SimRevision | undefined {
    // Revisions have no gaps.
    return this.history[Number(revision - this.history[0]!.revision)];
  }

  checkRead(user: string, prefix: string): void {
    if (!this.permitted(user, 'read', prefix)) throw denied(user, `read ${prefix}`);
  }

  onChange(fn: () => void): () => void {
    this.changed.add(fn);
    return () => this.changed.delete(fn);
  }

  connect(drop: (reason: string) => void): () => void {
    this.connections.add(drop);
    return () => this.connections.delete(drop);
  }

  private permitted(user: string, what: 'read' | 'write', key: string): boolean {
    if (this.permissions === undefined || user === 'root') return true;
    return this.permissions.get(user)?.[what].some((prefix) => key.startsWith(prefix)) ?? false;
  }

  private apply(events: readonly StoreEvent[]): void {
    for (const e of events) {
      if (e.type === 'delete') this.entries.delete(e.key);
      else this.entries.set(e.key, { key: e.key, value: e.value, modRevision: e.modRevision });
    }
  }

  private notify(): void {
    for (const fn of [...this.changed]) fn();
  }
}

const denied = (user: string, what: string): IsthmusError =>
  new IsthmusError('store/denied', `simulated etcd refused ${user} to ${what}`, { hint: 'ask for the role' });
