/**
 * The simulated Store: same port, same promises as the etcd client, on an injected clock and a seeded generator. It is
 * written from the port's text and shares no code with the client, so that the rig compares two readings of it.
 *
 *   const clock = new SimClock();
 *   const etcd = new SimEtcd();
 *   const store = simStore(etcd, { clock, rng: seededRng(1), user: 'us-east' });
 *   …
 *   await clock.advance(1_000);
 */
import type { Clock, Rng, Timer } from '../../src/core/clock.ts';
import { IsthmusError } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import type {
  CommitResult,
  SnapshotReason,
  Store,
  StoreEvent,
  StoreSnapshot,
  StoreTxn,
  StoreWatch,
  WatchHandler,
} from '../../src/core/store.ts';
import type { EtcdSide, SimRevision } from './etcd.ts';

export { SimEtcd } from './etcd.ts';

export interface SimStoreOptions {
  readonly clock: Clock;
  readonly rng: Rng;
  /** Whose permissions hold; default `root`. */
  readonly user?: string;
  /** One way, in ms; each answer takes up to twice that. Default 1. */
  readonly latencyMs?: number;
  readonly resyncIntervalMs?: number;
}

const unavailable = (why: string): IsthmusError =>
  new IsthmusError('store/unavailable', `simulated etcd: ${why}`, { hint: 'lift the fault' });

class SimStore implements Store {
  private readonly etcd: EtcdSide;
  private readonly o: Required<SimStoreOptions>;
  private readonly watches = new Set<SimWatch>();
  private closed = false;

  constructor(etcd: EtcdSide, o: SimStoreOptions) {
    this.etcd = etcd;
    this.o = { user: 'root', latencyMs: 1, resyncIntervalMs: limits.watchResyncIntervalMs, ...o };
  }

  list(prefix: string): Promise<StoreSnapshot> {
    return this.answer(() => this.etcd.snapshot(this.o.user, prefix));
  }

  async commit(txn: StoreTxn): Promise<CommitResult> {
    const ops = Math.max(txn.puts.length + txn.deletes.length, txn.compare.length);
    if (ops > limits.txnOpsMax) throw new IsthmusError('store/too-large', `a transaction of ${ops} operations`);
    const keys = [...txn.puts.map((p) => p.key), ...txn.deletes];
    if (new Set(keys).size !== keys.length) throw new Error('commit: a key is written twice in one transaction');
    return this.answer(() => {
      const result = this.etcd.commit(this.o.user, txn);
      if (this.etcd.loseNextAnswer) {
        this.etcd.loseNextAnswer = false;
        throw unavailable('the answer was lost');
      }
      return result;
    });
  }

  watch(prefix: string, handler: WatchHandler): StoreWatch {
    if (this.closed) throw unavailable('the store client is closed');
    const watch = new SimWatch(this.etcd, this.o, prefix, handler);
    this.watches.add(watch);
    return {
      close: () => {
        watch.close();
        this.watches.delete(watch);
      },
    };
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const watch of this.watches) watch.close();
    this.watches.clear();
  }

  /** Runs `ask` at the server after one way and answers after the other. */
  private answer<T>(ask: () => T): Promise<T> {
    if (this.closed) return Promise.reject(unavailable('the store client is closed'));
    const { clock } = this.o;
    const way = (): number => this.o.latencyMs * (0.5 + 0.5 * this.o.rng());
    return new Promise((resolve, reject) => {
      clock.after(way(), () => {
        if (this.etcd.state === 'hung') {
          clock.after(limits.storeUnaryTimeoutMs, () => reject(unavailable('no answer')));
          return;
        }
        let settle: () => void;
        try {
          if (this.etcd.state === 'stopped') throw unavailable('connection refused');
          const value = ask();
          settle = () => resolve(value);
        } catch (error) {
          settle = () => reject(error);
        }
        clock.after(way(), settle);
      });
    });
  }
}

class SimWatch {
  private readonly etcd: EtcdSide;
  private readonly o: Required<SimStoreOptions>;
  private readonly prefix: string;
  private readonly handler: WatchHandler;
  private closed = false;
  private up: boolean | undefined;
  private clusterId: bigint | undefined;
  private position = 0n;
  private witness: SimRevision | undefined;
  private failures = 0;
  private delivered = 0;
  private heardAtMs = 0;
  private timers = new Set<Timer>();
  private undo: (() => void)[] = [];
  private pumping = false;

  constructor(etcd: EtcdSide, o: Required<SimStoreOptions>, prefix: string, handler: WatchHandler) {
    this.etcd = etcd;
    this.o = o;
    this.prefix = prefix;
    this.handler = handler;
    this.after(o.latencyMs, () => this.connect());
  }

  close(): void {
    this.closed = true;
    this.release();
  }

  private connect(): void {
    if (this.etcd.state === 'hung') {
      this.after(limits.storeConnectTimeoutMs, () => this.down('no answer'));
      return;
    }
    try {
      if (this.etcd.state === 'stopped') throw unavailable('connection refused');
      this.etcd.checkRead(this.o.user, this.prefix);
    } catch (error) {
      this.down((error as Error).message);
      return;
    }
    this.catchUp();
    if (this.closed) return;
    this.delivered = 0;
    this.heardAtMs = this.o.clock.monotonicMs();
    this.undo = [this.etcd.connect((reason) => this.down(reason)), this.etcd.onChange(() => this.pump())];
    this.watchSilence();
    this.scheduleResync();
    if (this.up !== true) {
      this.up = true;
      this.handler.connected(true, '');
    }
    if (!this.closed) this.pump();
  }

  /** A snapshot where continuity is lost. */
  private catchUp(): void {
    if (this.clusterId === undefined) this.snapshot('initial');
    else if (this.etcd.clusterId !== this.clusterId || this.etcd.revision < this.position) this.snapshot('restored');
    else if (this.witness !== undefined && !this.etcd.holds(this.witness)) this.snapshot('restored');
    else if (this.etcd.next(this.position) === 'compacted') this.snapshot('compacted');
  }

  private snapshot(reason: SnapshotReason): void {
    const snapshot = this.etcd.snapshot(this.o.user, this.prefix);
    this.clusterId = snapshot.clusterId;
    this.position = snapshot.revision;
    this.witness = this.etcd.at(snapshot.revision);
    this.handler.snapshot(snapshot, reason);
  }

  /** Sends what is new, one revision per latency, as long as the connection holds. */
  private pump(): void {
    if (this.pumping || this.closed || this.up !== true || this.etcd.state !== 'up') return;
    const next = this.etcd.next(this.position);
    if (next === undefined) return;
    if (next === 'compacted') {
      this.down('required revision has been compacted');
      return;
    }
    this.pumping = true;
    this.after(this.o.latencyMs * (0.5 + 0.5 * this.o.rng()), () => {
      this.pumping = false;
      if (this.etcd.state !== 'up') return;
      // A periodic snapshot may have overtaken it.
      if (next.revision > this.position) this.deliver(next);
      this.pump();
    });
  }

  private deliver(next: SimRevision): void {
    this.heardAtMs = this.o.clock.monotonicMs();
    this.failures = 0;
    this.position = next.revision;
    this.witness = next;
    const events: StoreEvent[] = next.events.filter((e) => e.key.startsWith(this.prefix));
    if (events.length > 0) this.handler.events(events, next.revision);
    this.delivered += 1;
    const drop = this.etcd.dropAfterRevisions;
    if (drop === 0 || this.delivered < drop) return;
    this.down('connection reset');
    this.etcd.onDrop();
  }

  private down(reason: string): void {
    if (this.closed) return;
    this.release();
    if (this.up !== false) {
      this.up = false;
      this.handler.connected(false, reason);
      if (this.closed) return;
    }
    const ceiling = Math.min(limits.watchBackoffMaxMs, limits.watchBackoffMinMs * 2 ** Math.min(this.failures, 10));
    this.failures += 1;
    this.after(ceiling * (0.5 + 0.5 * this.o.rng()), () => this.connect());
  }

  /** A healthy etcd answers each progress request; a hung one does not. */
  private watchSilence(): void {
    this.after(limits.watchProgressIntervalMs / 4, () => {
      const now = this.o.clock.monotonicMs();
      if (this.etcd.state === 'up') this.heardAtMs = now;
      if (now - this.heardAtMs >= limits.watchSilenceMaxMs)
        return this.down(`no answer for ${now - this.heardAtMs} ms`);
      this.watchSilence();
    });
  }

  private scheduleResync(): void {
    this.after(this.o.resyncIntervalMs * (0.8 + 0.4 * this.o.rng()), () => {
      if (this.etcd.state === 'up') this.snapshot('resync');
      if (!this.closed) this.scheduleResync();
    });
  }

  private after(ms: number, fn: () => void): void {
    const timer = this.o.clock.after(ms, () => {
      this.timers.delete(timer);
      if (!this.closed) fn();
    });
    this.timers.add(timer);
  }

  private release(): void {
    for (const timer of this.timers) timer.cancel();
    this.timers.clear();
    for (const undo of this.undo) undo();
    this.undo = [];
    this.pumping = false;
  }
}

export const simStore = (etcd: EtcdSide, options: SimStoreOptions): Store => new SimStore(etcd, options);
