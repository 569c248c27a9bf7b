/**
 * Gray failures: what only a probe of the application sees, and what is seldom a clean failure.
 *
 * A row of failures is the clear case. But a service that fails three calls of ten rarely fails three in a row, so each failure
 * counts four against a good probe's one (a CUSUM): what fails more than a fifth of the time is found, the sooner the more it
 * fails, and what fails seldom never is. A share over a window was passed over: it needs its size and its limit set per service.
 *
 * The way back is a row of good probes. A row that breaks when a quarter of it was there doubles the next one's length, up to forty:
 * a service that fails three of ten has five good ones in a row often, forty hardly ever, and whoever asks for more gets it.
 */
import type { Thresholds } from './thresholds.ts';

export interface Gray {
  readonly out: boolean;
  /** Points against it. */
  readonly score: number;
  readonly ok: number;
  readonly bad: number;
  /** While out: rows of good ones that broke. */
  readonly broken: number;
  /** Of the newest probe, in presence time. */
  readonly atMs: number;
  /** What the last failure said. */
  readonly detail: string;
}

const failurePoints = 4;
const brokenMax = 3;
/** No row is made longer than this. */
export const rowMax = 40;

const untouched = (atMs: number): Gray => ({ out: false, score: 0, ok: 0, bad: 0, broken: 0, atMs, detail: '' });

/** Good ones in a row that bring it back. */
export const needed = ({ broken }: Pick<Gray, 'broken'>, { graySuccesses }: Thresholds): number =>
  Math.max(graySuccesses, Math.min(rowMax, graySuccesses * 2 ** broken));

/** Undefined stays undefined while nothing fails. */
export const addGray = (
  before: Gray | undefined,
  good: boolean,
  detail: string,
  atMs: number,
  thresholds: Thresholds,
): Gray | undefined => {
  if (before === undefined && good) return undefined;
  if (before !== undefined && (atMs < before.atMs || (atMs === before.atMs && (!good || before.bad === 0))))
    return before;
  const known = before ?? untouched(atMs);
  const limit = failurePoints * thresholds.grayFailures;
  if (!good) {
    const bad = known.bad + 1;
    const score = Math.min(limit, known.score + failurePoints);
    // One or two good ones between bad ones say nothing of how long a row can get.
    const tried = known.out && known.ok * 4 >= needed(known, thresholds);
    const broken = tried ? Math.min(known.broken + 1, brokenMax) : known.broken;
    if (known.out || score < limit) return { ...known, bad, ok: 0, score, broken, atMs, detail };
    // Failures mixed with successes: it will have good rows on its way out too.
    return { out: true, bad, ok: 0, score, broken: bad < thresholds.grayFailures ? 1 : 0, atMs, detail };
  }
  const ok = known.ok + 1;
  if (known.out) {
    return ok >= needed(known, thresholds) ? { ...untouched(atMs), ok } : { ...known, ok, bad: 0, atMs };
  }
  return { ...known, ok, bad: 0, score: Math.max(0, known.score - 1), atMs };
};

/** Without any probe for this long nothing is known any more. */
const grayTtlMs = (thresholds: Thresholds): number => Math.max(60_000, thresholds.outlier.baseEjectionMs);

/** In presence time: when a verdict ends for want of evidence. */
export const grayEndMs = (gray: Gray, thresholds: Thresholds): number => gray.atMs + grayTtlMs(thresholds);

export const settleGray = (gray: Gray | undefined, timeMs: number, thresholds: Thresholds): Gray | undefined => {
  if (gray === undefined || timeMs >= grayEndMs(gray, thresholds)) return undefined;
  // Kept a moment, so that what is told twice is known again.
  return !gray.out && gray.score === 0 && timeMs - gray.atMs >= 1_000 ? undefined : gray;
};
