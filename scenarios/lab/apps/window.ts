/** What happened to calls since a mark: counts, who answered, the slowest, and the longest time without a success. */

export interface CallRecord {
  readonly kind: 'new' | 'keep';
  /** Milliseconds since 1970, with fractions, from the monotonic clock. */
  readonly start: number;
  readonly ms: number;
  readonly ok: boolean;
  readonly answeredBy: string;
  readonly error: string;
}

export interface Summary {
  readonly name: string;
  readonly since: number;
  readonly until: number;
  readonly calls: number;
  readonly failed: number;
  readonly answeredBy: Readonly<Record<string, number>>;
  readonly errors: Readonly<Record<string, number>>;
  /** Slowest call that succeeded. */
  readonly slowestMs: number;
  /** Calls of the kind `new` alone. */
  readonly newCalls: number;
  readonly newFailed: number;
  /** Longest time between two successes, over all connections. */
  readonly gapMs: number;
  /** How late our own timers were, at worst: above some tens of milliseconds the figures say nothing. */
  readonly lagMs: number;
}

const namesMax = 64;

const count = (map: Map<string, number>, key: string): void => {
  const name = map.has(key) || map.size < namesMax ? key : 'other';
  map.set(name, (map.get(name) ?? 0) + 1);
};

export class Window {
  readonly #name: string;
  readonly #since: number;
  readonly #answeredBy = new Map<string, number>();
  readonly #errors = new Map<string, number>();
  #calls = 0;
  #failed = 0;
  #newCalls = 0;
  #newFailed = 0;
  #slowestMs = 0;
  #gapMs = 0;
  #lagMs = 0;
  #lastSuccess: number;

  constructor(name: string, now: number, lastSuccess = now) {
    this.#name = name;
    this.#since = now;
    this.#lastSuccess = lastSuccess;
  }

  get lastSuccess(): number {
    return this.#lastSuccess;
  }

  add(call: CallRecord): void {
    this.#calls += 1;
    if (call.kind === 'new') this.#newCalls += 1;
    if (!call.ok) {
      this.#failed += 1;
      if (call.kind === 'new') this.#newFailed += 1;
      count(this.#errors, call.error);
      return;
    }
    const end = call.start + call.ms;
    this.#slowestMs = Math.max(this.#slowestMs, call.ms);
    this.#gapMs = Math.max(this.#gapMs, end - this.#lastSuccess);
    this.#lastSuccess = Math.max(this.#lastSuccess, end);
    count(this.#answeredBy, call.answeredBy);
  }

  lag(ms: number): void {
    this.#lagMs = Math.max(this.#lagMs, ms);
  }

  summary(now: number): Summary {
    return {
      name: this.#name,
      since: this.#since,
      until: now,
      calls: this.#calls,
      failed: this.#failed,
      newCalls: this.#newCalls,
      newFailed: this.#newFailed,
      answeredBy: Object.fromEntries(this.#answeredBy),
      errors: Object.fromEntries(this.#errors),
      slowestMs: this.#slowestMs,
      gapMs: this.#calls === 0 ? 0 : Math.max(this.#gapMs, now - this.#lastSuccess),
      lagMs: this.#lagMs,
    };
  }
}
