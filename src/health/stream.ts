/**
 * Evidence of one kind in its order: how many in a row spoke for, or against.
 *
 * Each piece has its moment, and a piece that is not newer than the last one is not counted again: the same evidence may be told
 * twice. Of two pieces of the same moment the good one holds, for one answer proves the path and one failure proves little.
 */

export interface Stream {
  /** In a row, up to now; one of the two is 0. */
  readonly ok: number;
  readonly bad: number;
  /** Of the newest piece. */
  readonly atMs: number;
  /** Of the newest that got through. */
  readonly okMs?: number | undefined;
}

/** Rows are not counted further: a state that does not change need not be written. */
const rowMax = 1_000;

/** `mixed`: it got through, and failed too. It ends both rows. */
export type Outcome = 'good' | 'bad' | 'mixed';

export const addOutcome = (before: Stream | undefined, outcome: Outcome, atMs: number): Stream => {
  if (before !== undefined) {
    const again = atMs === before.atMs && (outcome !== 'good' || before.bad === 0);
    if (atMs < before.atMs || again) return before;
  }
  if (outcome === 'bad') {
    const begun = before !== undefined && before.bad > 0 ? before.bad : 0;
    return { ok: 0, bad: Math.min(begun + 1, rowMax), atMs, okMs: before?.okMs };
  }
  const ok = outcome === 'mixed' ? 0 : Math.min((before?.ok ?? 0) + 1, rowMax);
  return { ok, bad: 0, atMs, okMs: atMs };
};
