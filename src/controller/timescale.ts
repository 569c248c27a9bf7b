/**
 * The scale on which decisions tell time: milliseconds that go on over restarts, so that a hold-down or the age of a silence is not begun
 * anew by one. While a process runs it follows the monotonic clock alone; over a restart, and between the replicas of one
 * cluster, it is carried by the wall clock, which may be wrong: never backwards, and at most a day at once.
 */
import type { Clock } from '../core/clock.ts';

const gapMaxMs = 86_400_000;

export interface Mark {
  /** On the scale. */
  readonly atMs: number;
  readonly wallMs: number;
}

export class Timescale {
  readonly #clock: Clock;
  #offset: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    // Begins at the wall clock's time, so that replicas that never met are close.
    this.#offset = clock.wallMs() - clock.monotonicMs();
  }

  now(): number {
    return this.#clock.monotonicMs() + this.#offset;
  }

  /** A time of the monotonic clock, on the scale. */
  of(monotonicMs: number): number {
    return monotonicMs + this.#offset;
  }

  mark(): Mark {
    return { atMs: this.now(), wallMs: this.#clock.wallMs() };
  }

  /** Goes on from a mark of an earlier run, or of the replica that decides. */
  resume({ atMs, wallMs }: Mark): void {
    const gap = Math.min(gapMaxMs, Math.max(0, this.#clock.wallMs() - wallMs));
    this.#offset = atMs + gap - this.#clock.monotonicMs();
  }

  /** The same moment on the monotonic clock, for timers. */
  monotonic(atMs: number): number {
    return atMs - this.#offset;
  }
}
