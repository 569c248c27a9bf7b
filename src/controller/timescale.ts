/**
 * The scale on which decisions tell time: milliseconds that go on over restarts, so that a hold-down or the age of a silence is not begun
 * anew by one. While a process runs it follows the monotonic clock alone; over a restart, and between the replicas of one
 * cluster, it is carried by the wall clock, which may be wrong: never backwards, and at most a day at once.
 *
 * It never goes back behind a time that it told. Where the replica that decides is behind, ours stays ahead, and the state that comes
 * from there is moved on by the difference (`failover/shift`).
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
  /** The latest time that was told. */
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
    // Begins at the wall clock's time, so that replicas that never met are close.
    this.#offset = clock.wallMs() - clock.monotonicMs();
  }

  now(): number {
    this.#toldMs = this.#clock.monotonicMs() + this.#offset;
    return this.#toldMs;
  }

  /** A time of the monotonic clock, on the scale. */
  of(monotonicMs: number): number {
    return monotonicMs + this.#offset;
  }

  mark(): Mark {
    return { atMs: this.now(), wallMs: this.#clock.wallMs() };
  }

  /**
   * Goes on from a mark of an earlier run, or of the replica that decides.
   * @returns by how much what was made on the mark's scale is to be moved on, ms: 0 unless ours is ahead and cannot go back
   */
  resume({ atMs, wallMs }: Mark): number {
    const gap = Math.min(gapMaxMs, Math.max(0, this.#clock.wallMs() - wallMs));
    const monotonicMs = this.#clock.monotonicMs();
    const wished = atMs + gap - monotonicMs;
    const least = this.#toldMs - monotonicMs;
    if (wished >= least) {
      this.#offset = wished;
      return 0;
    }
    return this.#offset - wished;
  }

  /** The same moment on the monotonic clock, for timers. */
  monotonic(atMs: number): number {
    return atMs - this.#offset;
  }
}
