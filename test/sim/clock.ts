/**
 * Simulated time: timers run in order when the test advances it, with all promises settled in between. The same seed and
 * the same steps give the same run.
 */
import type { Clock, Rng, Timer } from '../../src/core/clock.ts';

interface Due {
  readonly atMs: number;
  readonly order: number;
  readonly fn: () => void;
}

export class SimClock implements Clock {
  private nowMs = 0;
  private order = 0;
  private due: Due[] = [];
  /** What the wall clock showed at the start. */
  wallStartMs: number;

  constructor(wallStartMs = 1_700_000_000_000) {
    this.wallStartMs = wallStartMs;
  }

  monotonicMs(): number {
    return this.nowMs;
  }

  wallMs(): number {
    return this.wallStartMs + this.nowMs;
  }

  after(ms: number, fn: () => void): Timer {
    const timer: Due = { atMs: this.nowMs + Math.max(0, ms), order: this.order++, fn };
    this.due.push(timer);
    return {
      cancel: () => {
        this.due = this.due.filter((d) => d !== timer);
      },
    };
  }

  /** Lets `ms` pass. */
  async advance(ms: number): Promise<void> {
    const until = this.nowMs + ms;
    for (;;) {
      await settle();
      const next = this.next(until);
      if (next === undefined) break;
      this.due = this.due.filter((d) => d !== next);
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.fn();
    }
    this.nowMs = until;
  }

  private next(until: number): Due | undefined {
    let first: Due | undefined;
    for (const d of this.due) {
      if (d.atMs > until) continue;
      if (first === undefined || d.atMs < first.atMs || (d.atMs === first.atMs && d.order < first.order)) first = d;
    }
    return first;
  }
}

/** Runs all promise callbacks that are ready, and those they make ready. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Uniform numbers from a seed (mulberry32). */
export const seededRng = (seed: number): Rng => {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
};
