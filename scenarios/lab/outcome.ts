/**
 * What callers saw, computed from their call logs: pure, so that a figure in a table can be traced to lines and tested.
 *
 * A call belongs to the window in which it started, however long it then took. The *longest stall* is the longest that any call of
 * the window took, answered or not: what the unluckiest caller waited. The *outage* is the longest time inside the window
 * without one call answered, over all calls: it hides a half-broken service, which is why it is not the stall.
 */

export interface CallRecord {
  /** `new`: a connection of its own. `keep`: a request on a connection that was there before. */
  readonly kind: 'new' | 'keep';
  /** When it started, ms since 1970. */
  readonly start: number;
  readonly ms: number;
  readonly ok: boolean;
  /** `<cluster>/<pod>`, empty if nobody answered. */
  readonly answeredBy: string;
  readonly error: string;
}

export interface Outcome {
  readonly sent: number;
  readonly failed: number;
  /** The longest that any call took, ms. */
  readonly longestStallMs: number;
  /** The longest time without an answered call, ms; the whole window if none was. */
  readonly outageMs: number;
  /** Answered calls by cluster. */
  readonly answeredBy: Readonly<Record<string, number>>;
  /** Failed calls by reason. */
  readonly errors: Readonly<Record<string, number>>;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface Span {
  /** Ms since 1970; calls that started at `from` or later and before `until`. */
  readonly from: number;
  readonly until: number;
}

export const clusterOf = (answeredBy: string): string => answeredBy.split('/')[0]?.trim() ?? '';

const count = (keys: readonly string[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const key of keys) counts[key] = (counts[key] ?? 0) + 1;
  return counts;
};

/** The value below which a share of the sorted values lies (nearest rank); 0 of none. */
export const quantile = (sorted: readonly number[], share: number): number =>
  sorted.length === 0 ? 0 : sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))]!;

const longestGap = (ends: readonly number[], { from, until }: Span): number => {
  let last = from;
  let gap = 0;
  for (const end of [...ends.filter((end) => end < until), until]) {
    gap = Math.max(gap, end - last);
    last = Math.max(last, end);
  }
  return gap;
};

/** The outcome of the calls that started in a span. `kind` restricts it to one kind of call. */
export function outcome(calls: readonly CallRecord[], span: Span, kind?: CallRecord['kind']): Outcome {
  const mine = calls.filter(
    (call) => call.start >= span.from && call.start < span.until && (kind === undefined || call.kind === kind),
  );
  const answered = mine.filter(({ ok }) => ok);
  const failed = mine.filter(({ ok }) => !ok);
  const times = answered.map(({ ms }) => ms).sort((a, b) => a - b);
  const ends = answered.map(({ start, ms }) => start + ms).sort((a, b) => a - b);
  return {
    sent: mine.length,
    failed: failed.length,
    longestStallMs: mine.reduce((longest, { ms }) => Math.max(longest, ms), 0),
    outageMs: longestGap(ends, span),
    answeredBy: count(answered.map((call) => clusterOf(call.answeredBy))),
    errors: count(failed.map(({ error }) => error)),
    p50Ms: quantile(times, 0.5),
    p99Ms: quantile(times, 0.99),
  };
}
