/**
 * How much one member may change in a second, as its reader counts it, on the reader's own clock.
 *
 * Each member has an allowance of its own, so that one which writes without a pause costs the others nothing: it is frozen at its last
 * good state, and what comes of it is passed over unread. What was passed over is not known any more, so when it has become calm
 * its records are listed anew; what comes while they are is kept, and follows the list. To take a part of the changes, or each
 * manifest late, was passed over: the cost is in looking at them at all.
 */
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { StagedChange } from './member.ts';

export interface Quota {
  /** Keys put or deleted. A member may write all its records at once, and some seconds more than this. */
  readonly changesPerSecond: number;
  /** Manifests. */
  readonly ticksPerSecond: number;
}

/** With the store's revision at which it was made. */
export interface SeenChange extends StagedChange {
  readonly revision: bigint;
}

export interface HeldChanges {
  readonly everybodys: readonly SeenChange[];
  readonly ours: readonly SeenChange[];
}

class Bucket {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #atMs: number | undefined;

  constructor(perSecond: number, burst: number) {
    this.#perMs = perSecond / 1_000;
    this.#burst = burst;
    this.#tokens = burst;
  }

  /** @returns whether there was enough; what there was is gone in any case */
  take(count: number, nowMs: number): boolean {
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, nowMs - (this.#atMs ?? nowMs)) * this.#perMs);
    this.#atMs = nowMs;
    const enough = this.#tokens >= count;
    this.#tokens = Math.max(0, this.#tokens - count);
    return enough;
  }

  /** Half full again. */
  calm(nowMs: number): boolean {
    this.take(0, nowMs);
    return this.#tokens * 2 >= this.#burst;
  }
}

const manifestKey = 'manifest';

export class Noise {
  readonly #name: string;
  readonly #quota: Quota;
  readonly #changes: Bucket;
  readonly #ticks: Bucket;
  #frozenSinceMs: number | undefined;
  #passedOver = 0;
  /** What comes while its records are listed. */
  #held: { everybodys: SeenChange[]; ours: SeenChange[] } | undefined;
  #listing = false;

  constructor(name: string, quota: Quota) {
    this.#name = name;
    this.#quota = quota;
    const burst = limits.recordsPerMemberMax + limits.noiseBurstS * quota.changesPerSecond;
    this.#changes = new Bucket(quota.changesPerSecond, burst);
    this.#ticks = new Bucket(quota.ticksPerSecond, limits.noiseBurstS * quota.ticksPerSecond);
  }

  get frozen(): boolean {
    return this.#frozenSinceMs !== undefined;
  }

  /** @param forUs - of what it publishes for us alone @returns whether they are to be passed over */
  refuses(changes: readonly SeenChange[], forUs: boolean, nowMs: number): boolean {
    const manifests = forUs ? 0 : changes.reduce((sum, { key }) => sum + (key === manifestKey ? 1 : 0), 0);
    // Both, whatever the first says: what is passed over counts too.
    const within = [this.#changes.take(changes.length, nowMs), this.#ticks.take(manifests, nowMs)];
    if (!this.frozen && within.includes(false)) this.#frozenSinceMs = nowMs;
    if (!this.frozen) return false;
    this.#passedOver += changes.length;
    const held = this.#held;
    if (held === undefined) return true;
    const of = forUs ? held.ours : held.everybodys;
    for (const change of changes) of.push(change);
    if (held.everybodys.length + held.ours.length > limits.noiseHeldChangesMax) this.#held = undefined;
    return true;
  }

  /** Whether its records are to be listed now. From then on what comes is held, until `listed`. */
  wanted(nowMs: number): boolean {
    if (!this.frozen || this.#listing || !this.#changes.calm(nowMs) || !this.#ticks.calm(nowMs)) return false;
    this.#listing = true;
    this.#held = { everybodys: [], ours: [] };
    return true;
  }

  /** The list came, or did not. @returns what to apply after it; undefined: it stays frozen, and is listed again later */
  listed(came: boolean): HeldChanges | undefined {
    const held = came ? this.#held : undefined;
    this.#held = undefined;
    this.#listing = false;
    if (held === undefined) return undefined;
    this.#frozenSinceMs = undefined;
    this.#passedOver = 0;
    return held;
  }

  problem(nowMs: number): IsthmusError | undefined {
    if (this.#frozenSinceMs === undefined) return undefined;
    const { changesPerSecond, ticksPerSecond } = this.#quota;
    const ageMs = nowMs - this.#frozenSinceMs;
    const message = `${this.#name} changes its records faster than ${changesPerSecond} keys or ${ticksPerSecond} manifests a second: for ${ageMs} ms it has been frozen at its last good state, and ${this.#passedOver} changes were passed over`;
    return new IsthmusError('member/noisy', message, {
      hint: 'it is followed again when it has calmed down; see quota.changesPerSecond and quota.ticksPerSecond',
      subject: { member: this.#name, ageMs },
    });
  }
}
