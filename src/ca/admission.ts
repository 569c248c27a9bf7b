/**
 * Who may have a certificate signed now. Each caller has a bucket of its own, so that one that asks in a loop pays alone;
 * and when more ask than can be signed, renewals go first: a workload that has a certificate loses its connections if it
 * ends, one that never had any only starts later.
 */
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';

interface Bucket {
  tokens: number;
  atMs: number;
  /** When the last certificate of this caller ends, wall clock. */
  certifiedUntilMs: number;
}

interface Waiting {
  readonly start: () => void;
  readonly refuse: (error: IsthmusError) => void;
  readonly untilMs: number;
}

const busy = (message: string): IsthmusError =>
  new IsthmusError('csr/rate', message, { hint: 'ask again in a minute' });

export class Admission {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, Bucket>();
  readonly #renewals: Waiting[] = [];
  readonly #firsts: Waiting[] = [];
  #inFlight = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Runs `sign` when it is the caller's turn; it returns when the certificate ends. @throws IsthmusError 'csr/rate'. */
  async run<T extends { readonly notAfterMs: number }>(caller: string, sign: () => Promise<T>): Promise<T> {
    const bucket = this.#bucket(caller);
    if (bucket.tokens < 1) throw busy(`too many certificate requests from ${caller}`);
    bucket.tokens--;
    await this.#turn(bucket.certifiedUntilMs > this.#clock.wallMs());
    try {
      const result = await sign();
      bucket.certifiedUntilMs = result.notAfterMs;
      return result;
    } finally {
      this.#inFlight--;
      this.#startNext();
    }
  }

  #turn(renewal: boolean): Promise<void> {
    if (this.#inFlight < limits.signingInFlightMax) {
      this.#inFlight++;
      return Promise.resolve();
    }
    const queue = renewal ? this.#renewals : this.#firsts;
    if (this.#renewals.length + this.#firsts.length >= limits.signingQueueLengthMax) {
      const displaced = renewal ? this.#firsts.pop() : undefined;
      if (displaced === undefined) throw busy('too many certificate requests are waiting');
      displaced.refuse(busy('renewals go first'));
    }
    return new Promise((start, refuse) => {
      queue.push({ start, refuse, untilMs: this.#clock.monotonicMs() + limits.signingWaitMaxMs });
    });
  }

  #startNext(): void {
    while (this.#inFlight < limits.signingInFlightMax) {
      const next = this.#renewals.shift() ?? this.#firsts.shift();
      if (next === undefined) return;
      // Whoever asked has given up by now: signing for it would delay those who have not.
      if (next.untilMs < this.#clock.monotonicMs()) next.refuse(busy('waited too long'));
      else {
        this.#inFlight++;
        next.start();
      }
    }
  }

  #bucket(caller: string): Bucket {
    const nowMs = this.#clock.monotonicMs();
    let bucket = this.#buckets.get(caller);
    if (bucket === undefined) {
      bucket = { tokens: limits.certificatesPerCallerBurst, atMs: nowMs, certifiedUntilMs: 0 };
      if (this.#buckets.size >= limits.callersRememberedMax) this.#buckets.delete(this.#buckets.keys().next().value!);
    } else {
      const refilled = ((nowMs - bucket.atMs) / 60_000) * limits.certificatesPerCallerPerMinute;
      bucket.tokens = Math.min(limits.certificatesPerCallerBurst, bucket.tokens + refilled);
      bucket.atMs = nowMs;
      this.#buckets.delete(caller);
    }
    // Last used last: what is forgotten first is what was not heard of for longest.
    this.#buckets.set(caller, bucket);
    return bucket;
  }
}
