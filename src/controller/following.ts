/**
 * Taking over what the replica that decides has shipped: through the store, or beside it while the store is dark (`beside_store.ts`).
 *
 * What comes through the store is in order: manifests see to that. Beside it whoever may write a ConfigMap chooses what is read, and
 * when. So of what comes that way only what is newer than all that was taken over or shipped before counts, and only for a while; and
 * once the store answers again, what still stands there from before does not undo it.
 */
import type { Config } from '../config/controller.ts';
import type { Clock } from '../core/clock.ts';
import { ok, type Result } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import { type MemberView, shippedState } from '../federation/view.ts';
import { readShipped } from '../federation/withdrawals_shipped.ts';
import type { Log } from '../ops/log.ts';
import { openState } from '../records/sealed_state.ts';
import type { Deciding } from './deciding.ts';
import type { Seals } from './seals.ts';
import { unpackShipped } from './shipping.ts';
import type { Mark } from './timescale.ts';
import type { Withdrawing } from './withdrawing.ts';

/** A packed state on its way beside the store. */
export interface Beside {
  /** Of our own member, the newest that the replica knew that made it. */
  readonly epoch: bigint;
  readonly mark: Mark;
  readonly packed: Uint8Array;
}

export interface FollowingOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly deciding: Deciding;
  readonly withdrawing: Withdrawing;
  readonly chosen: () => boolean;
  readonly seals: () => Seals;
  readonly rawMembers: () => ReadonlyMap<string, MemberView>;
  readonly save: () => void;
}

/** What was taken over or shipped beside the store last. */
interface Last {
  readonly epoch: bigint;
  readonly atMs: number;
  readonly beside: boolean;
}

export interface SavedFollowed {
  readonly epoch: string;
  readonly atMs: number;
  readonly beside: boolean;
}

/**
 * By the wall clocks of both: what is older was perhaps kept back. Two times as long as a writer is silent beside the store, and some.
 * Clocks further apart than this close that way.
 */
export const besideOldestMs = 25_000;

const none: ReadonlySet<ServiceKey> = new Set();

export class Following {
  readonly #o: FollowingOptions;
  /** The record, the parts and the keys that were looked at last. */
  #looked: readonly unknown[] = [];
  /** Of what we told last through the store, as the record of it says. */
  #announcedAtMs = Number.NEGATIVE_INFINITY;
  #last: Last | undefined;

  constructor(options: FollowingOptions) {
    this.#o = options;
  }

  /** The newest epoch of our own member. @param ours - of the term that this replica writes in */
  newest(ours: bigint): bigint {
    const shown = this.#shown;
    if (shown > ours) return shown;
    return ours;
  }

  announced(atMs: number): void {
    this.#announcedAtMs = atMs;
  }
  /** By us, beside the store. */
  shipped({ epoch, mark }: Beside): void {
    this.#last = { epoch, atMs: mark.atMs, beside: true };
  }

  save(): SavedFollowed | undefined {
    return this.#last && { ...this.#last, epoch: String(this.#last.epoch) };
  }
  /** What cannot be read is as if nothing had been followed. */
  restore(saved: Partial<SavedFollowed> | undefined): void {
    const { epoch, atMs, beside } = saved ?? {};
    if (typeof epoch !== 'string' || !/^\d{1,20}$/.test(epoch) || !Number.isFinite(atMs)) return;
    this.#last = { epoch: BigInt(epoch), atMs: atMs!, beside: beside === true };
  }

  /** What stands in the store. @returns services that are other than before */
  store(): ReadonlySet<ServiceKey> {
    const { chosen, seals, log } = this.#o;
    const own = this.#own;
    // With other keys, too: what could not be opened may be now.
    const found = [own?.verdicts, own?.stateParts, seals()];
    if (own?.verdicts === undefined || found.every((part, i) => part === this.#looked[i])) return none;
    this.#looked = found;
    const mark = { atMs: Number(own.verdicts.atMs), wallMs: Number(own.verdicts.wallMs) };
    // Our own words, as our watch brings them back.
    if (chosen() && mark.atMs <= this.#announcedAtMs) return none;
    const last = this.#last;
    // Of before the dark. A later term may be on a scale that is behind.
    if (last?.beside && mark.atMs <= last.atMs && this.#shown <= last.epoch) return none;
    const shipped = shippedState(own);
    if (!shipped.ok) {
      log('error', 'the state shipped by the writer does not fit together', { error: shipped.error });
      return none;
    }
    if (shipped.value === undefined) return none;
    const opened = openState(seals().all, shipped.value);
    const taken = opened.ok ? this.#take(own.verdicts, opened.value, mark) : opened;
    if (!taken.ok) {
      log('error', 'the state shipped by the writer cannot be read', { error: taken.error });
      return none;
    }
    if (taken.value === undefined) return none;
    this.#last = { epoch: this.#shown, atMs: mark.atMs, beside: false };
    return taken.value;
  }

  /**
   * What was found beside the store, and opened with a key of ours.
   * @returns services that are other than before; undefined: it is not newer than what was taken over, and changed nothing
   */
  beside(found: Beside): Result<ReadonlySet<ServiceKey> | undefined> {
    const { epoch, mark } = found;
    const late = Math.abs(this.#o.clock.wallMs() - mark.wallMs) > besideOldestMs;
    if (late || epoch < this.#shown || mark.atMs <= (this.#last?.atMs ?? Number.NEGATIVE_INFINITY))
      return ok(undefined);
    const taken = this.#take(found, found.packed, mark);
    if (taken.ok && taken.value !== undefined) this.#last = { epoch, atMs: mark.atMs, beside: true };
    return taken;
  }

  /** The newest epoch that the store has shown of us. */
  get #shown(): bigint {
    return this.#own?.head?.epoch ?? 0n;
  }
  get #own(): MemberView | undefined {
    return this.#o.rawMembers().get(this.#o.config.member);
  }

  /** Undefined: it was not taken over. @param of - what it came with: taken over once */
  #take(of: object, packed: Uint8Array, mark: Mark): Result<ReadonlySet<ServiceKey> | undefined> {
    const { deciding, withdrawing, rawMembers, save, log } = this.#o;
    const unpacked = unpackShipped(packed);
    if (!unpacked.ok) return unpacked;
    const { state, holds } = unpacked.value;
    const followed = deciding.follow(of, state, mark);
    if (!followed.ok || followed.value === undefined) return followed as Result<undefined>;
    const aheadMs = followed.value;
    save();
    // A writer of an earlier version ships none: then each holds for itself.
    if (holds === undefined) return ok(none);
    const read = readShipped(holds, mark.atMs, aheadMs);
    if (read.ok) return ok(withdrawing.adopt(read.value, rawMembers(), deciding.scale.now()));
    log('error', 'what the writer holds of withdrawals cannot be read', { error: read.error });
    return ok(none);
  }
}
