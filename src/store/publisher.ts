/**
 * Writes this cluster's records, with one signed manifest a tick.
 *
 * A Lease says which replica should write; nothing here relies on it, for a lease can be held by a process that was stopped a minute
 * ago. A writer's term begins by putting a manifest of a higher epoch with a comparison, and every later write compares that
 * manifest. So two writers cannot both go on, and the loser learns it from its own next write.
 *
 * What should stand in the store is a map (`publish` changes it, on every replica); what is written is the difference to what
 * stands there. After any doubt (a lost answer, a conflict, a store that went back) the store is listed again and the difference
 * written; there is no other way of recovery that would have to be right as well.
 */
import type { Timer } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { CommitResult, StoreEvent, StoreSnapshot, StoreWatch } from '../core/store.ts';
import type { Manifest } from '../gen/isthmus/v1/records_pb.ts';
import { storeKeys } from '../records/keys.ts';
import { OwnManifests } from './own_manifests.ts';
import { listParts, writeParts } from './parts.ts';
import { Publication } from './publication.ts';
import type { PublisherOptions, PublisherState } from './publisher_options.ts';
import { expected, fencedError, nextEpoch, rest, StoreHistory, type Term } from './term.ts';
import { type Portion, Thrift } from './thrift.ts';
import { splitTick, type TickWrites, tickTxn } from './tick.ts';
import { Witness } from './witness.ts';

export type { PublisherEvent, PublisherOptions, PublisherState } from './publisher_options.ts';

export class Publisher {
  readonly #o: PublisherOptions;
  readonly #prefix: string;
  readonly #manifestKey: string;
  readonly #partPrefix: (reader: string) => string;
  readonly #manifests: OwnManifests;
  readonly #records: Publication;
  readonly #watch: StoreWatch;

  #state: PublisherState = 'following';
  #term: Term | undefined;
  /** Why the store must be listed before the next write. */
  #relist: { readonly reason: string; readonly newTerm: boolean } | undefined;
  #heartbeatDue = false;
  #ending = false;
  #running: Promise<void> | undefined;
  #failures = 0;
  #retry: Timer | undefined;
  #heartbeat: Timer | undefined;
  readonly #history = new StoreHistory();
  #lastError: IsthmusError | undefined;

  readonly #witness: Witness;
  readonly #thrift: Thrift;

  constructor(options: PublisherOptions) {
    const keys = storeKeys(options.clusterset);
    this.#o = options;
    this.#prefix = keys.memberPrefix(options.member);
    this.#manifestKey = keys.manifest(options.member);
    this.#manifests = new OwnManifests(options);
    this.#partPrefix = (reader) => keys.partPrefix(reader, options.member);
    this.#records = new Publication({
      prefix: this.#prefix,
      manifestKey: this.#manifestKey,
      partPrefix: this.#partPrefix,
      salt: (reader) => this.#manifests.salt(reader),
    });
    this.#witness = new Witness(() => options.clock.monotonicMs());
    this.#thrift = new Thrift(options.clock, () => this.#wake());
    this.#watch = options.store.watch(this.#prefix, {
      snapshot: (snapshot, reason) => this.#onSnapshot(snapshot, reason === 'restored'),
      events: (events) => this.#onEvents(events),
      connected: () => {},
    });
  }

  get state(): PublisherState {
    return this.#state;
  }
  /** The last failure, undefined since the last success. */
  get lastError(): IsthmusError | undefined {
    return this.#lastError;
  }
  /** How long ago our own watch last brought back a new manifest of our own, whichever replica wrote it. Undefined before the first. */
  readBackAgeMs(): number | undefined {
    return this.#witness.ageMs();
  }
  /** Nothing is waiting to be written. Always false when another replica writes. */
  get settled(): boolean {
    const waiting = this.#records.waiting || this.#records.heldBack > 0;
    return this.#state === 'leading' && !waiting && this.#running === undefined && !this.#relist;
  }
  /** Records that the store gateway does not take for now, for our quota or rate; `lastError` says which. */
  get heldBack(): number {
    return this.#records.heldBack;
  }

  /** Whether a record stands in the store as it should; of this replica's own writes alone. */
  stands(key: string): boolean {
    return this.#state === 'leading' && this.#records.stands(key);
  }
  /** Readers whose parts the store does not let us write, and why. */
  get denied() {
    return this.#records.denied;
  }

  /** Rights in the store may be others than before: what was denied is tried again. */
  recheck(): void {
    if (this.denied.size > 0) this.#relist ??= { reason: 'what was denied is tried again', newTerm: false };
    this.#wake();
  }

  /**
   * What should stand in the store changed: keys relative to our prefix (`to/<reader>/…`: that reader's part), undefined withdraws.
   * Call it on every replica.
   */
  publish(changes: ReadonlyMap<string, Uint8Array | undefined>): void {
    this.#records.change(changes);
    this.#listNewParts();
    this.#wake();
  }

  /**
   * Begins a term. Call it when this replica should write, and what was published so far is complete: whatever else stands under our
   * prefix is deleted.
   */
  lead(): void {
    if (this.#state !== 'following' && this.#state !== 'fenced') return;
    this.#state = 'starting';
    this.#relist = { reason: 'this replica was chosen to write', newTerm: true };
    this.#failures = 0;
    this.#wake();
    this.#scheduleHeartbeat();
  }

  /** Stops writing, without a word: another replica writes now. */
  resign(): void {
    if (this.#state === 'closed') return;
    this.#stop('following');
  }

  /**
   * Says in a last manifest that this member shuts down, if this replica writes; resolves when it is written or failed once, but for
   * refusals of what else should be written with it.
   */
  async shutdown(): Promise<void> {
    if (this.#state === 'leading') {
      this.#ending = true;
      this.#retry?.cancel();
      this.#retry = undefined;
      this.#wake();
      await this.#running;
    }
    this.close();
  }

  close(): void {
    this.#stop('closed');
    this.#watch.close();
  }

  #stop(state: PublisherState): void {
    this.#state = state;
    this.#term = undefined;
    this.#relist = undefined;
    this.#ending = false;
    this.#thrift.close();
    this.#records.bringForth();
    this.#retry?.cancel();
    this.#retry = undefined;
    this.#heartbeat?.cancel();
    this.#heartbeat = undefined;
  }

  #scheduleHeartbeat(): void {
    this.#heartbeat?.cancel();
    this.#heartbeat = this.#o.clock.after(this.#o.heartbeatMs, () => {
      this.#heartbeatDue = true;
      this.#wake();
      this.#scheduleHeartbeat();
    });
  }

  #active(): boolean {
    return this.#state === 'starting' || this.#state === 'leading';
  }
  #due(): boolean {
    if (this.#relist !== undefined || this.#heartbeatDue || this.#ending) return true;
    const { portion } = this.#thrift;
    // A manifest for each change that is not written would use up the room that is to come.
    if (portion === 'none') return false;
    return this.#records.waiting || (portion === 'all' && this.#records.heldBack > 0);
  }

  #wake(): void {
    if (!this.#active() || this.#running !== undefined || this.#retry !== undefined || !this.#due()) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      this.#wake();
    });
  }

  /** Tick after tick while there is something to write: what comes meanwhile goes into the next one. */
  async #run(): Promise<void> {
    // Everything published in this turn of the event loop shares a tick.
    await Promise.resolve();
    for (let ticks = 1; this.#active() && this.#due(); ticks++) {
      const term = this.#term;
      const { portion } = this.#thrift;
      try {
        if (this.#relist !== undefined || term === undefined) await this.#list();
        else await this.#tick(term, portion);
      } catch (error) {
        const known = expected(error);
        const less = this.#active() && this.#term === term && this.#thrift.refused(portion, known);
        this.#fail(known, less);
        if (!this.#ending) return;
      }
      this.#repair();
      if (ticks >= limits.publishTicksInARow) await rest(this.#o.clock);
    }
    this.#failures = 0;
  }

  /** The outcome is unknown: list before the next write, after a while. @param less - and then less is written */
  #fail(error: IsthmusError, less: boolean): void {
    this.#lastError = error;
    this.#o.onEvent?.({ kind: 'failed', error });
    if (!this.#active()) return;
    this.#relist ??= { reason: 'the outcome of a write is unknown', newTerm: this.#term === undefined };
    this.#ending &&= less;
    if (this.#ending) return;
    const delayMs = Math.min(limits.publishRetryMaxMs, limits.publishRetryMinMs * 2 ** Math.min(this.#failures, 10));
    this.#failures++;
    this.#retry = this.#o.clock.after(delayMs, () => {
      this.#retry = undefined;
      this.#wake();
    });
  }

  /** Learns what stands in the store, and what has to change. Begins a term where one is needed. */
  async #list(): Promise<void> {
    const why = this.#relist ?? { reason: 'first', newTerm: true };
    const snapshot = await this.#o.store.list(this.#prefix);
    if (!this.#active()) return;
    // A reason that came up meanwhile may be newer than this list.
    if (this.#relist === why) this.#relist = undefined;
    const wentBack = this.#history.wentBack(snapshot.clusterId, snapshot.revision);
    this.#witness.listed(snapshot.revision, wentBack);
    const stored = snapshot.entries.find(({ key }) => key === this.#manifestKey);
    const manifest = stored === undefined ? undefined : this.#manifests.verified(stored.value);
    const term = this.#term;
    const ours = stored !== undefined && this.#witness.isOurs(stored.value);
    if (
      term !== undefined &&
      !wentBack &&
      !why.newTerm &&
      !ours &&
      manifest !== undefined &&
      manifest.epoch >= term.epoch
    ) {
      this.#fence(manifest);
      return;
    }
    if (term === undefined || wentBack || why.newTerm || !ours) {
      this.#beginTerm(
        manifest,
        stored?.modRevision ?? 0n,
        wentBack ? 'the store went back or was replaced' : why.reason,
      );
    } else {
      term.manifestRevision = stored.modRevision;
      this.#witness.stands(stored.value);
    }
    await listParts(this.#o.store, this.#partPrefix, this.#records.compare(snapshot.entries), this.#records);
  }

  #beginTerm(manifest: Manifest | undefined, manifestRevision: bigint, reason: string): void {
    const { clock, epochFloor } = this.#o;
    const epoch = nextEpoch(clock, manifest?.epoch, this.#term?.epoch, this.#witness.epoch, epochFloor());
    this.#term = { epoch, sequence: 0n, manifestRevision, claimed: false };
    this.#heartbeatDue = true;
    this.#o.onEvent?.({ kind: 'term', epoch, reason });
  }

  async #tick(term: Term, portion: Portion): Promise<void> {
    const ending = this.#ending;
    if (portion === 'all') this.#records.bringForth();
    if (!(await this.#writeParts(term, portion))) return;
    const writes = this.#records.take(portion);
    this.#heartbeatDue = false;
    const lists = splitTick(writes);
    if (lists.length > 1 && !(await this.#claim(term))) return;
    for (const [i, list] of lists.entries()) {
      const last = i === lists.length - 1;
      if (!(await this.#commit(term, list, last ? this.#manifest(term, ending) : undefined))) return;
    }
    if (this.#term !== term) return;
    this.#state = 'leading';
    this.#records.written();
    this.#thrift.taken(portion);
    this.#lastError = this.#thrift.error;
    if (ending) this.#ending = false;
    this.#scheduleHeartbeat();
    this.#o.onEvent?.({ kind: 'written', epoch: term.epoch, sequence: term.sequence, records: this.#records.count });
  }

  /** Stops another writer before the first record, not after the last. @returns whether the term goes on */
  async #claim(term: Term): Promise<boolean> {
    return term.claimed || this.#commit(term, { puts: [], deletes: [] }, this.#manifest(term, false));
  }

  /** @returns whether the term goes on */
  async #writeParts(term: Term, portion: Portion): Promise<boolean> {
    const parts = this.#records.takeParts(portion);
    if (parts.length === 0) return true;
    if (!(await this.#claim(term))) return false;
    return writeParts(parts, (writes) => this.#commit(term, writes, undefined), this.#records, this.#o.onEvent);
  }

  #listNewParts(): void {
    if (this.#term === undefined || !this.#records.unlisted) return;
    this.#relist ??= { reason: 'a reader is new', newTerm: false };
  }

  #manifest(term: Term, shuttingDown: boolean): Uint8Array {
    term.sequence++;
    const signed = this.#manifests.sign(term, this.#records, shuttingDown);
    this.#witness.sending(signed);
    return signed;
  }

  /** @returns whether the term goes on */
  async #commit(term: Term, writes: TickWrites, manifest: Uint8Array | undefined): Promise<boolean> {
    const result = await this.#o.store.commit(tickTxn(writes, this.#manifestKey, term.manifestRevision, manifest));
    if (this.#term !== term) return false;
    if (!result.ok) {
      this.#conflict(term, result);
      return false;
    }
    this.#witness.committed(result.revision);
    if (manifest !== undefined) {
      term.manifestRevision = result.revision;
      term.claimed = true;
      this.#witness.stands(manifest);
    }
    if (!this.#history.wentBack(result.clusterId, result.revision)) return true;
    this.#relist = { reason: 'the store went back or was replaced', newTerm: true };
    return false;
  }

  /** Somebody else wrote our manifest, or removed it, or the store is another one. */
  #conflict(term: Term, result: Extract<CommitResult, { ok: false }>): void {
    const stored = result.current.find(({ key }) => key === this.#manifestKey);
    const manifest = stored === undefined ? undefined : this.#manifests.verified(stored.value);
    const ours = stored !== undefined && this.#witness.isOurs(stored.value);
    if (!ours && manifest !== undefined && manifest.epoch >= term.epoch) this.#fence(manifest);
    else this.#relist = { reason: 'our manifest was changed or removed in the store', newTerm: !ours };
  }

  #fence(manifest: Manifest): void {
    const error = fencedError(this.#o.member, manifest.epoch, this.#term?.epoch ?? 0n);
    this.#lastError = error;
    this.#stop('fenced');
    this.#o.onEvent?.({ kind: 'fenced', error });
  }

  #onSnapshot(snapshot: StoreSnapshot, restored: boolean): void {
    const manifest = snapshot.entries.find(({ key }) => key === this.#manifestKey);
    if (manifest !== undefined) this.#readBack(manifest.value);
    if (!this.#active() || this.#term === undefined) return;
    // The list of a writer may have met the restored store before the watch did.
    const behind = restored && !this.#witness.isStanding(manifest?.value);
    if (behind) this.#relist = { reason: 'the store went back or was replaced', newTerm: true };
    // A watch that was cut may have missed what others did to our records.
    else this.#relist ??= { reason: 'the watch began anew', newTerm: false };
    this.#wake();
  }

  #onEvents(events: readonly StoreEvent[]): void {
    for (const event of events) {
      if (event.key === this.#manifestKey && event.type === 'put') this.#readBack(event.value);
      if (this.#term !== undefined) this.#witness.suspect(event.modRevision);
    }
    if (this.#running !== undefined) return;
    this.#repair();
    this.#wake();
  }

  /** What somebody else wrote under our prefix is put right. */
  #repair(): void {
    if (!this.#witness.foreign() || this.#term === undefined) return;
    this.#relist ??= { reason: 'our records were changed in the store by somebody else', newTerm: false };
  }

  #readBack(bytes: Uint8Array): void {
    const manifest = this.#manifests.verified(bytes);
    if (manifest !== undefined) this.#witness.readBack(manifest);
  }
}
