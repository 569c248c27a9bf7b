/**
 * Time as an argument. The pure rooms never ask for the time; adapters get a `Clock` from the wiring. Ages are measured
 * on `monotonicMs` alone: a wall clock that jumps must not make a peer look dead.
 */
export interface Clock {
  /** Milliseconds that never go back, from an arbitrary start. */
  monotonicMs(): number;
  /** Milliseconds since 1970. For people, epochs and certificates only. */
  wallMs(): number;
  /** Calls `fn` once after `ms`. The returned handle cancels it. */
  after(ms: number, fn: () => void): Timer;
}

export interface Timer {
  cancel(): void;
}

/** Uniform numbers in [0, 1). */
export type Rng = () => number;
