/**
 * When to push after a change: at once when the last push is long over, else after a short gap, so that what changes in
 * between goes out as one response per stream. The gap is as long as the last pass took, within bounds: however many changes
 * and streams there are, pushing takes half of the processor at most. A fixed delay was passed over: it is what makes a
 * single change slow and a storm expensive.
 */
import type { Clock } from '../core/clock.ts';
import { limits } from '../core/limits.ts';

export class Flusher {
  readonly #clock: Clock;
  readonly #pass: () => void;
  #scheduled = false;
  #endedMs = Number.NEGATIVE_INFINITY;
  #gapMs: number = limits.flushGapMinMs;

  constructor(clock: Clock, pass: () => void) {
    this.#clock = clock;
    this.#pass = pass;
  }

  changed(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    const waitMs = this.#endedMs + this.#gapMs - this.#clock.monotonicMs();
    // A microtask, so that changes made in the same turn go together.
    if (waitMs <= 0) queueMicrotask(this.#run);
    else this.#clock.after(waitMs, this.#run);
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    const startedMs = this.#clock.monotonicMs();
    this.#pass();
    this.#endedMs = this.#clock.monotonicMs();
    this.#gapMs = Math.min(limits.flushGapMaxMs, Math.max(limits.flushGapMinMs, this.#endedMs - startedMs));
  };
}
