/**
 * The store's side of a controller: what the members published, as one `Federation` fed by one watch.
 *
 * Each change is handed on at once, in the turn of the event loop in which the store told it. Until the first snapshot, or a
 * saved state, nothing is known, and `known` says so: a proxy must not be told that its remote services are gone by a
 * controller that has not looked yet.
 */
import type { Clock, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { Store, StoreSnapshot, StoreWatch } from '../core/store.ts';
import type { FederationChange } from '../federation/change.ts';
import { Federation, type FederationOptions } from '../federation/federation.ts';
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
  /** Members whose records stand in a store of their own. */
  readonly apart?: ReadonlyMap<string, Store>;
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
  readonly #watches: StoreWatch[] = [];
  readonly #parts: readonly string[];
  readonly #apart: ReadonlySet<string>;
  #following = -1;
  readonly #down = new Map<string, string>();
  #up: boolean | undefined;
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
    const { clusterset, self } = options.federation;
    const keys = storeKeys(clusterset);
    this.#apart = new Set(options.apart?.keys() ?? []);
    this.#parts = [keys.setPrefix, keys.publicPrefix, keys.readerPrefix(self)];
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
    this.#follow(0);
    this.#tick();
  }

  close(): void {
    for (const watch of this.#watches) watch.close();
    this.#timer?.cancel();
    this.#look?.cancel();
  }

  /**
   * One watch after the other, each when the one before has told what there is: records of members that are not known yet would be passed
   * over. Something may be said about other members once what they publish for all was told. A watch of the whole cluster set was
   * passed over: what is for others in it is not ours to read.
   */
  #follow(at: number): void {
    this.#following = at;
    if (at === 1) for (const [member, store] of this.#o.apart ?? []) this.#followApart(member, store);
    const { store, metrics } = this.#o;
    const prefix = this.#parts[at];
    if (prefix === undefined) return;
    const watch = store.watch(prefix, {
      snapshot: (snapshot, reason) => {
        metrics.add('isthmus_store_snapshots_total', { reason });
        const first = at === 1 && !this.#known;
        if (at === 1) {
          this.#known = true;
          this.#fromDisk = false;
        }
        const change = this.#federation.snapshot(snapshot, this.times(), prefix, this.#apart);
        // That they have published nothing yet is news of all members.
        const members = first ? change.members.union(new Set(this.members.keys())) : change.members;
        this.#tell({ ...change, members });
        if (this.#following === at) this.#follow(at + 1);
      },
      events: (events) => {
        metrics.add('isthmus_store_events_total', {}, events.length);
        this.#tell(this.#federation.events(events, this.times(), this.#apart));
      },
      // A role of before there were such records may not read them, and can all else: the store is not dark for that.
      connected: (up, reason) => (at === 2 ? this.#forUs(up, reason) : this.#connected(prefix, up, reason)),
    });
    this.#watches.push(watch);
  }

  async #relist(name: string): Promise<void> {
    const { federation, log } = this.#o;
    const store = this.#o.apart?.get(name) ?? this.#o.store;
    const keys = storeKeys(federation.clusterset);
    const denied = (error: unknown): StoreSnapshot => {
      if (error instanceof IsthmusError && error.code === 'store/denied')
        return { clusterId: 0n, revision: 0n, entries: [] };
      throw error;
    };
    try {
      const everybodys = await store.list(keys.memberPrefix(name));
      const ours = await store.list(keys.partPrefix(federation.self, name)).catch(denied);
      this.#tell(this.#federation.relisted(name, { everybodys, ours }, this.times()));
      log('info', 'a member that was frozen is followed again', { peer: name });
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      this.#tell(this.#federation.relisted(name, undefined, this.times()));
    }
  }

  #forUs(up: boolean, reason: string): void {
    if (up) this.#o.log('info', 'what members publish for this one alone is read', {});
    else if (this.#up) this.#o.log('warn', 'what members publish for this one alone cannot be read', { reason });
  }

  /** A member with a store of its own: of what is there, its own records alone. */
  #followApart(member: string, store: Store): void {
    const { clusterset, self } = this.#o.federation;
    const { log, metrics } = this.#o;
    const keys = storeKeys(clusterset);
    const prefixes = [keys.memberPrefix(member), ...(member === self ? [] : [keys.partPrefix(self, member)])];
    for (const prefix of prefixes) {
      const watch = store.watch(prefix, {
        snapshot: (snapshot) => this.#tell(this.#federation.snapshot(snapshot, this.times(), prefix)),
        events: (events) => this.#tell(this.#federation.events(events, this.times())),
        connected: (up, reason) => {
          if (prefix !== prefixes[0]) return;
          metrics.set('isthmus_peer_store_connected', up ? 1 : 0, { peer: member });
          log(up ? 'info' : 'warn', up ? 'store of a member connected' : 'store of a member dark', {
            peer: member,
            reason,
          });
        },
      });
      this.#watches.push(watch);
    }
  }

  /** One that is down is all that is told of the store: each has its own watch of the same etcd. */
  #connected(prefix: string, up: boolean, reason: string): void {
    if (up) this.#down.delete(prefix);
    else this.#down.set(prefix, reason);
    const all = this.#down.size === 0;
    if (all === this.#up && (all || !this.#down.has(prefix))) return;
    this.#up = all;
    this.#o.metrics.set('isthmus_store_connected', all ? 1 : 0);
    this.#o.log(all ? 'info' : 'warn', all ? 'store connected' : 'store dark, serving what was last known', {
      reason: [...this.#down.values()][0] ?? '',
    });
  }

  #tick(): void {
    this.#timer = this.#o.clock.after(tickMs, () => {
      this.#tell(this.#federation.tick(this.times()));
      for (const name of this.#federation.wanted(this.times())) void this.#relist(name);
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
