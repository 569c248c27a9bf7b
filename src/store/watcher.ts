/**
 * One watch: list, then a stream that resumes where the last event was delivered, through whatever happens to etcd.
 *
 * The header of an answer tells how far *etcd* is, not how far this stream is: while a backlog is sent, they differ. So the
 * position moves only with events and with progress answers, which etcd sends when the stream has caught up.
 *
 * A stream is asked for its progress every few seconds. Silence beyond `limits.watchSilenceMaxMs` ends the session, since a
 * half-open connection shows no other sign. The stream starts at the last revision seen, not at the one after: etcd answers
 * no progress on a stream that starts in its future. What was seen already is dropped.
 */
import { create } from '@bufbuild/protobuf';
import { type ClientDuplexStream, status } from '@grpc/grpc-js';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { SnapshotReason, StoreEvent, StoreSnapshot, StoreWatch, WatchHandler } from '../core/store.ts';
import { type WatchRequest, WatchRequestSchema, type WatchResponse } from '../gen/etcdserverpb/rpc_pb.ts';
import { Assembler } from './assemble.ts';
import type { Connection } from './connection.ts';
import { deniedError, isServiceError, storeError } from './failure.ts';
import { prefixRange, toEvent } from './keyspace.ts';
import { listPrefix } from './listing.ts';
import { Position } from './position.ts';
import { Resync } from './resync.ts';
import type { Session, StoreLog } from './session.ts';

export interface WatcherOptions {
  readonly prefix: string;
  readonly handler: WatchHandler;
  readonly connection: Connection;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: StoreLog;
  readonly resyncIntervalMs: number;
  /** Told of every header, for the store's status. */
  readonly seen: (clusterId: bigint, revision: bigint) => void;
}

/** Why a stream ended. `relist`: it cannot be resumed. */
interface StreamEnd {
  readonly error: IsthmusError;
  readonly relist: boolean;
}

export class Watcher implements StoreWatch {
  /** Why it is not connected; empty while it is. */
  reason = 'not connected yet';
  /** It is not connected because it may not read its prefix. */
  denied = false;
  private readonly o: WatcherOptions;
  private position: Position | undefined;
  private relist = false;
  private up: boolean | undefined;
  private closed = false;
  private failures = 0;
  private endStream: (() => void) | undefined;
  private wake: (() => void) | undefined;

  constructor(options: WatcherOptions) {
    this.o = options;
    void this.run();
  }

  close(): void {
    this.closed = true;
    this.endStream?.();
    this.wake?.();
  }

  private async run(): Promise<void> {
    while (!this.closed) {
      const at = { what: `watch ${this.o.prefix}`, endpoint: this.o.connection.session?.endpoint ?? '' };
      try {
        const session = await this.o.connection.acquire();
        at.endpoint = session.endpoint;
        if (this.closed) return;
        await this.catchUp(session);
        if (this.closed) return;
        const end = await this.stream(session);
        this.relist ||= end.relist;
        this.down(end.error);
      } catch (error) {
        this.down(storeError(error, at));
      }
      if (!this.closed) await this.backOff();
    }
  }

  /** Leaves `position` at a revision from which this session can be watched. */
  private async catchUp(session: Session): Promise<void> {
    if (this.position === undefined) return this.replace(session, 'initial');
    const found = await this.position.check(session, this.o.prefix);
    if (this.closed) return;
    if (found !== 'same') return this.replace(session, found);
    if (this.relist) return this.replace(session, 'compacted');
  }

  private async replace(session: Session, reason: SnapshotReason): Promise<void> {
    const snapshot = await listPrefix(session, this.o.prefix);
    if (this.closed) return;
    const before = this.position;
    this.relist = false;
    this.snapshot(
      snapshot,
      reason === 'compacted' && before !== undefined && went(before, snapshot) ? 'restored' : reason,
    );
  }

  private snapshot(snapshot: StoreSnapshot, reason: SnapshotReason): void {
    this.position = new Position(snapshot);
    this.o.seen(snapshot.clusterId, snapshot.revision);
    if (reason !== 'initial' && reason !== 'resync') {
      const { prefix } = this.o;
      this.o.log('warn', 'watch started over from a list', { prefix, reason, revision: String(snapshot.revision) });
    }
    this.o.handler.snapshot(snapshot, reason);
  }

  private stream(session: Session): Promise<StreamEnd> {
    return new Promise((resolve) => {
      const stream = new WatchStream(session, this.o, this.position!, {
        live: () => this.live(),
        progress: () => {
          this.failures = 0;
        },
        events: (events) => {
          if (!this.closed) this.o.handler.events(events, events.at(-1)!.modRevision);
        },
        snapshot: (snapshot) => {
          if (this.closed) return this.position!;
          this.snapshot(snapshot, 'resync');
          return this.position!;
        },
        end: (end) => {
          this.endStream = undefined;
          resolve(end);
        },
      });
      this.endStream = () => stream.end(new IsthmusError('store/unavailable', 'the watch was closed'), false);
      stream.start();
    });
  }

  private live(): void {
    if (this.closed || this.up === true) return;
    this.up = true;
    this.reason = '';
    this.denied = false;
    this.o.handler.connected(true, '');
  }

  private down(error: IsthmusError): void {
    if (this.closed) return;
    const changed = this.up !== false || this.reason !== error.message;
    this.up = false;
    this.reason = error.message;
    this.denied = error.code === 'store/denied';
    if (!changed) return;
    this.o.log('warn', 'watch interrupted', { prefix: this.o.prefix, code: error.code, reason: error.message });
    this.o.handler.connected(false, error.message);
  }

  private backOff(): Promise<void> {
    const ceiling = Math.min(limits.watchBackoffMaxMs, limits.watchBackoffMinMs * 2 ** Math.min(this.failures, 10));
    this.failures += 1;
    return new Promise((resolve) => {
      const timer = this.o.clock.after(ceiling * (0.5 + 0.5 * this.o.rng()), () => resolve());
      this.wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }
}

const went = (before: Position, now: StoreSnapshot): boolean =>
  before.clusterId !== now.clusterId || now.revision < before.revision;

interface StreamHandler {
  live(): void;
  progress(): void;
  events(events: readonly StoreEvent[]): void;
  /** Delivers and returns the position after it. */
  snapshot(snapshot: StoreSnapshot): Position;
  end(end: StreamEnd): void;
}

/** One stream on one session, from its creation to its end. */
class WatchStream {
  private readonly session: Session;
  private readonly o: WatcherOptions;
  private readonly handler: StreamHandler;
  private readonly assembler = new Assembler();
  private readonly resync: Resync;
  private position: Position;
  private rpc: ClientDuplexStream<WatchRequest, WatchResponse> | undefined;
  private timer: Timer | undefined;
  private created = false;
  private ended = false;
  private heardAtMs: number;
  private askedAtMs: number;

  constructor(session: Session, o: WatcherOptions, position: Position, handler: StreamHandler) {
    this.session = session;
    this.o = o;
    this.position = position;
    this.handler = handler;
    this.heardAtMs = o.clock.monotonicMs();
    this.askedAtMs = this.heardAtMs;
    this.resync = new Resync(o, session);
  }

  start(): void {
    const { prefix } = this.o;
    const at = { what: `watch ${prefix}`, endpoint: this.session.endpoint };
    this.session.onEnd((reason) => this.end(storeError(new Error(reason), at), false));
    if (!this.session.open) {
      this.end(storeError(new Error(this.session.endReason), at), false);
      return;
    }
    const rpc = this.session.watch();
    this.rpc = rpc;
    rpc.on('data', (response: WatchResponse) => this.take(response));
    rpc.on('error', (error: Error) => {
      // An answer too large for this client would come again for ever.
      const oversized = isServiceError(error) && error.code === status.RESOURCE_EXHAUSTED;
      this.end(storeError(error, at), oversized);
    });
    rpc.on('end', () => this.end(storeError(new Error('the stream ended'), at), false));
    const startRevision = this.position.revision > 0n ? this.position.revision : 1n;
    this.write({ case: 'createRequest', value: { ...prefixRange(prefix), startRevision, fragment: true } });
    this.tick();
  }

  end(error: IsthmusError, relist: boolean): void {
    if (this.ended) return;
    this.ended = true;
    this.timer?.cancel();
    this.resync.stop();
    this.rpc?.cancel();
    this.handler.end({ error, relist });
  }

  private write(requestUnion: Parameters<typeof requestOf>[0]): void {
    this.rpc?.write(requestOf(requestUnion));
  }

  private tick(): void {
    this.timer = this.o.clock.after(limits.watchCheckIntervalMs, () => {
      const now = this.o.clock.monotonicMs();
      if (now - this.heardAtMs >= limits.watchSilenceMaxMs) {
        // Ends this stream too, and every other on the connection.
        this.session.end(`no answer in ${Math.round((now - this.heardAtMs) / 1_000)} s`);
        return;
      }
      if (this.created && now - this.askedAtMs >= limits.watchProgressIntervalMs) {
        this.askedAtMs = now;
        this.write({ case: 'progressRequest', value: {} });
      }
      if (!this.ended) this.tick();
    });
  }

  private take(response: WatchResponse): void {
    if (this.ended) return;
    this.heardAtMs = this.o.clock.monotonicMs();
    this.session.heard();
    const { endpoint } = this.session;
    const at = { what: `watch ${this.o.prefix}`, endpoint };
    const header = response.header;
    if (header === undefined || header.clusterId !== this.position.clusterId) {
      this.session.end('another cluster answered');
      return;
    }
    this.o.seen(header.clusterId, header.revision);
    if (response.canceled) {
      const why = response.cancelReason;
      const denied = /permission denied|user name is empty|invalid auth/.test(why);
      const error = denied
        ? deniedError(why, at)
        : storeError(new Error(why === '' ? 'the watch was canceled' : why), at);
      this.end(error, response.compactRevision !== 0n || why.includes('compacted'));
      return;
    }
    if (response.created) {
      this.created = true;
      this.handler.live();
      this.scheduleResync();
      return;
    }
    if (response.events.length === 0) this.progress(header.revision);
    else this.deliver(response);
  }

  private progress(revision: bigint): void {
    if (!this.created) return;
    this.handler.progress();
    if (revision < this.position.revision) {
      this.session.end(`etcd went back from revision ${this.position.revision} to ${revision}`);
      return;
    }
    this.position.revision = revision;
  }

  private deliver(response: WatchResponse): void {
    const events: StoreEvent[] = [];
    for (const raw of response.events) {
      const event = toEvent(raw);
      if (event !== undefined) events.push(event);
    }
    const whole = this.assembler.push(events, response.fragment).filter((e) => e.modRevision > this.position.revision);
    if (whole.length === 0) return;
    this.handler.progress();
    this.position.advance(whole);
    this.resync.note(whole);
    this.handler.events(whole);
  }

  private scheduleResync(): void {
    this.resync.schedule((snapshot) => {
      // The list can be ahead of the stream: what the stream still brings of it is dropped by revision.
      if (!this.ended) this.position = this.handler.snapshot(snapshot);
    });
  }
}

const requestOf = (
  requestUnion:
    | {
        case: 'createRequest';
        value: { key: Uint8Array; rangeEnd: Uint8Array; startRevision: bigint; fragment: boolean };
      }
    | { case: 'progressRequest'; value: Record<string, never> },
): WatchRequest => create(WatchRequestSchema, { requestUnion });
