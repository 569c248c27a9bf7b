/** A token bucket for each who asks: one that asks without a pause is refused, and takes nothing from the others. Full ones are forgotten. */
import type { Clock } from '../core/clock.ts';

interface Bucket {
  tokens: number;
  atMs: number;
}

/** More than this are looked through for full ones. */
const rememberedMax = 4_096;

export class Buckets {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #clock: Clock;
  readonly #buckets = new Map<string, Bucket>();

  constructor(perSecond: number, burst: number, clock: Clock) {
    this.#perMs = perSecond / 1_000;
    this.#burst = burst;
    this.#clock = clock;
  }

  take(who: string): boolean {
    const bucket = this.#of(who);
    if (bucket.tokens < 1) return false;
    bucket.tokens--;
    return true;
  }

  /** Whether there is any left: for what is only known once it is there, and then charged. */
  left(who: string): boolean {
    return this.#of(who).tokens > 0;
  }

  /** May leave a debt, to be worked off before there is any left again. */
  charge(who: string, amount: number): void {
    this.#of(who).tokens -= amount;
  }

  #of(who: string): Bucket {
    const nowMs = this.#clock.monotonicMs();
    const bucket = this.#buckets.get(who) ?? { tokens: this.#burst, atMs: nowMs };
    if (!this.#buckets.has(who)) this.#remember(who, bucket, nowMs);
    bucket.tokens = this.#now(bucket, nowMs);
    bucket.atMs = nowMs;
    return bucket;
  }

  #now({ tokens, atMs }: Bucket, nowMs: number): number {
    return Math.min(this.#burst, tokens + (nowMs - atMs) * this.#perMs);
  }

  #remember(who: string, bucket: Bucket, nowMs: number): void {
    if (this.#buckets.size >= rememberedMax) {
      for (const [other, known] of this.#buckets)
        if (this.#now(known, nowMs) >= this.#burst) this.#buckets.delete(other);
      // Many at once: the one that was seen first goes.
      const first = this.#buckets.keys().next();
      if (this.#buckets.size >= rememberedMax && !first.done) this.#buckets.delete(first.value);
    }
    this.#buckets.set(who, bucket);
  }
}
