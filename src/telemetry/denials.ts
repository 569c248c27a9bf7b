/**
 * Who was denied what lately, for people who ask why a service does not answer: the last minutes, counted by who, what and why.
 *
 * The audit holds each of them for longer, but on a disk, and searching it takes a command of its own. This is what `status` and `explain`
 * can say at once. Bounded: callers choose what they ask for, so of what does not fit there is a count.
 */
import type { Connection, Side } from '../audit/connection.ts';
import { limits } from '../core/limits.ts';

export interface Denial {
  readonly side: Side;
  /** Identity, or member; `*`: several. */
  readonly source: string;
  /** `namespace/name`; empty: not a service that is known here. */
  readonly service: string;
  readonly reason: string;
  /** Of a policy; empty: it was no policy. */
  readonly rule: string;
  readonly count: number;
  /** Monotonic. */
  readonly lastMs: number;
}

/** How far back is remembered. */
export const denialsMs = 600_000;

export class Denials {
  readonly #kept = new Map<string, Denial>();
  readonly #max: number;

  constructor(max: number = limits.denialsToldMax) {
    this.#max = max;
  }

  /** @param connection - of any result */
  add({ side, result, source, service = '', reason = '', rule = '', count = 1 }: Connection, nowMs: number): void {
    if (result !== 'denied') return;
    const own = { side, source, service, reason, rule };
    const known = this.#kept.has(keyOf(own));
    if (!known && this.#kept.size >= this.#max) this.#forget(nowMs);
    // Each side and reason has a place left, so that nobody makes the others' denials vanish by asking for very much.
    const denial = known || this.#kept.size < this.#max ? own : { ...own, source: '*', service: '', rule: '' };
    const key = keyOf(denial);
    const before = this.#kept.get(key);
    // Put in again, so that the oldest come first.
    this.#kept.delete(key);
    this.#kept.set(key, { ...denial, count: (before?.count ?? 0) + count, lastMs: nowMs });
  }

  /** Newest first. */
  recent(nowMs: number): Denial[] {
    this.#forget(nowMs);
    return [...this.#kept.values()].reverse();
  }

  #forget(nowMs: number): void {
    for (const [key, { lastMs }] of this.#kept) {
      if (nowMs - lastMs < denialsMs) return;
      this.#kept.delete(key);
    }
  }
}

const keyOf = ({ side, source, service, reason, rule }: Omit<Denial, 'count' | 'lastMs'>): string =>
  [side, source, service, reason, rule].join(' ');
