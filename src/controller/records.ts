/**
 * The store's side of a controller: what the members published, as one `Federation` fed by one watch.
 *
 * Each change is handed on at once, in the turn of the event loop in which the store told it. Until the first snapshot, or a
 * saved state, nothing is known, and `known` says so: a proxy must not be told that its remote services are gone by a
 * controller that has not looked yet.
 */
import type { Clock, Timer } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { Store, StoreWatch } from '../core/store.ts';
import { Federation, type FederationChange, type FederationOptions } from '../federation/federation.ts';
import type { Times } from '../federation/head.ts';
import { parseRevocations } from '../federation/revocation_text.ts';
import type { MemberView } from '../federation/view.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import { storeKeys } from '../records/keys.ts';
import { Refusals } from './refusals.ts';
import { unpackRevocations } from './state.ts';

export interface RecordsOptions {
  readonly federation: FederationOptions;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly onChange: (change: FederationChange) => void;
}

const tickMs = 1_000;
/** What is refused and put right within this goes unseen: a hostile member must not make us look with each of its writes. */
const lookAfterMs = 100;

export class Records {
  readonly #o: RecordsOptions;
  readonly #federation: Federation;
  #watch: StoreWatch | undefined;
  #timer: Timer | undefined;
  #known = false;
  #fromDisk = false;
  #ownHeadAtMs: number | undefined;
  #ownSequence = -1n;
  readonly #refusals: Refusals;
  #look: Timer | undefined;

  constructor(options: RecordsOptions) {
    this.#o = options;
    this.#federation = new Federation(options.federation);
    this.#refusals = new Refusals((peer, error) => {
      options.metrics.add('isthmus_record_refused_total', { peer, code: error.code });
      options.log('warn', 'record refused', { peer, error });
    });
  }

  get members(): ReadonlyMap<string, MemberView> {
    return this.#federation.members;
  }
  get problems(): readonly IsthmusError[] {
    return this.#federation.problems;
  }
  get federation(): Federation {
    return this.#federation;
  }
  /** Something may be said about other members: from the store or from disk. */
  get known(): boolean {
    return this.#known;
  }
  /** What is served came from disk and the store has not been heard since. */
  get fromDisk(): boolean {
    return this.#fromDisk;
  }
  /** Age of our own newest manifest as our own watch brought it back, ms; null when it never did. */
  readBackMs(): number | null {
    return this.#ownHeadAtMs === undefined ? null : this.#o.clock.monotonicMs() - this.#ownHeadAtMs;
  }

  times(): Times {
    return { nowMs: this.#o.clock.monotonicMs(), wallMs: this.#o.clock.wallMs() };
  }

  /** What a peer's gateway told of who was put out: signed by the authority, so believed whoever brings it. */
  learnRevocations(peer: string, text: string): void {
    const { metrics, log } = this.#o;
    const { revocations } = this.#federation;
    const told = parseRevocations(text);
    if (told.digest === revocations.digest) return;
    const change = this.#federation.learnRevocations(told.marks, this.times(), (error) => {
      metrics.add('isthmus_record_refused_total', { peer, code: error.code });
      log('debug', 'revocation refused', { peer, error });
    });
    if (!change.revocations) return;
    metrics.add('isthmus_revocations_learnt_total', { peer });
    log('warn', 'a peer knows who was put out, and the store does not say so', { peer, closed: [...change.members] });
    this.#tell(change);
  }

  /** Marks of the last run first: whatever becomes of the rest, nobody who was seen to be out comes back. */
  restoreRevocations(bytes: Uint8Array | undefined): void {
    const marks = bytes === undefined ? [] : unpackRevocations(bytes);
    this.#federation.learnRevocations(marks, this.times(), (error) =>
      this.#o.log('error', 'saved revocation refused', { error }),
    );
  }

  restore(bytes: Uint8Array): void {
    const restored = this.#federation.restore(bytes, this.times());
    if (!restored.ok) {
      this.#o.log('error', 'saved records refused', { error: restored.error });
      return;
    }
    this.#known = true;
    this.#fromDisk = true;
    this.#tell(restored.value);
  }

  start(): void {
    const { store, metrics, federation } = this.#o;
    this.#watch = store.watch(storeKeys(federation.clusterset).root, {
      snapshot: (snapshot, reason) => {
        metrics.add('isthmus_store_snapshots_total', { reason });
        this.#known = true;
        this.#fromDisk = false;
        this.#tell(this.#federation.snapshot(snapshot, this.times()));
      },
      events: (events) => {
        metrics.add('isthmus_store_events_total', {}, events.length);
        this.#tell(this.#federation.events(events, this.times()));
      },
      connected: (up, reason) => {
        metrics.set('isthmus_store_connected', up ? 1 : 0);
        this.#o.log(up ? 'info' : 'warn', up ? 'store connected' : 'store dark, serving what was last known', {
          reason,
        });
      },
    });
    this.#tick();
  }

  close(): void {
    this.#watch?.close();
    this.#timer?.cancel();
    this.#look?.cancel();
  }

  #tick(): void {
    this.#timer = this.#o.clock.after(tickMs, () => {
      this.#tell(this.#federation.tick(this.times()));
      this.#lookForRefusals();
      this.#tick();
    });
  }

  #tell(change: FederationChange): void {
    const self = this.#o.federation.self;
    if (change.heads.has(self)) {
      const sequence = this.#federation.seen(self)?.sequence ?? -1n;
      if (sequence !== this.#ownSequence) {
        this.#ownSequence = sequence;
        this.#ownHeadAtMs = this.#o.clock.monotonicMs();
      }
    }
    this.#look ??= this.#o.clock.after(lookAfterMs, () => this.#lookForRefusals());
    const { services, own, members, signals, heads, policy, revocations } = change;
    if (policy || revocations || services.size + own.size + members.size + signals.size + heads.size > 0)
      this.#o.onChange(change);
  }

  #lookForRefusals(): void {
    this.#look?.cancel();
    this.#look = undefined;
    const { members, problems } = this.#federation;
    for (const [name, view] of members) this.#refusals.look(name, view.problems);
    this.#refusals.keepOnly(new Set(members.keys()));
    this.#refusals.look('', problems);
  }
}
