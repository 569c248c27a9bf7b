/**
 * True time, and the clocks that controllers have: each with a rate and a wall of its own, and able to be stopped as a process is by
 * SIGSTOP: its timers then fire late, all at once.
 */
import type { Clock, Timer } from '../../../src/core/clock.ts';
import { type Due, EventQueue } from './queue.ts';

const wallStartMs = 1_800_000_000_000;

/** Runs all promise callbacks that are ready, and those that they make ready. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export class Time {
  nowMs = 0;
  readonly #queue = new EventQueue();
  #promises = true;

  get wallMs(): number {
    return wallStartMs + this.nowMs;
  }

  /** Calls `fn` at a true time. */
  at(atMs: number, fn: () => void): Due {
    return this.#queue.push(Math.max(this.nowMs, atMs), fn);
  }
  after(ms: number, fn: () => void): Due {
    return this.at(this.nowMs + ms, fn);
  }
  every(ms: number, fn: () => void): void {
    const next = (): void => {
      fn();
      this.after(ms, next);
    };
    this.after(ms, next);
  }
  /** Something may have been promised: let it happen before the next event. */
  promised(): void {
    this.#promises = true;
  }

  /** Goes on until then, or until `stop` says so. */
  async run(untilMs: number, stop: () => boolean): Promise<void> {
    for (;;) {
      if (this.#promises) {
        this.#promises = false;
        await settled();
      }
      if (stop()) return;
      const due = this.#queue.pop(untilMs);
      if (due === undefined) break;
      this.nowMs = due.atMs;
      due.fn();
    }
    this.nowMs = untilMs;
  }
}

/** The clock of one process on one machine. */
export class MachineClock implements Clock {
  readonly #time: Time;
  /** Parts per million that the machine is fast. */
  readonly #rate: number;
  #wallOffsetMs: number;
  #stopped = false;
  #late: (() => void)[] = [];
  #dead = false;

  constructor(time: Time, ppm: number, wallOffsetMs: number) {
    this.#time = time;
    this.#rate = 1 + ppm / 1e6;
    this.#wallOffsetMs = wallOffsetMs;
  }

  monotonicMs(): number {
    return this.#time.nowMs * this.#rate;
  }
  wallMs(): number {
    return this.#time.wallMs + this.#wallOffsetMs;
  }
  after(ms: number, fn: () => void): Timer {
    const due = this.#time.after(Math.max(0, ms) / this.#rate, () => this.#fire(() => due.cancelled || fn()));
    return {
      cancel: () => {
        due.cancelled = true;
      },
    };
  }

  jump(ms: number): void {
    this.#wallOffsetMs += ms;
  }
  get stopped(): boolean {
    return this.#stopped;
  }
  stop(): void {
    this.#stopped = true;
  }
  go(): void {
    this.#stopped = false;
    const late = this.#late;
    this.#late = [];
    for (const fn of late) this.#fire(fn);
  }
  /** The process is gone: none of its timers fires any more. */
  end(): void {
    this.#dead = true;
    this.#late = [];
  }

  #fire(fn: () => void): void {
    if (this.#dead) return;
    if (this.#stopped) {
      this.#late.push(fn);
      return;
    }
    this.#time.promised();
    fn();
  }
}
