/** What the demo shows at the end: when what happened, and per fault and mode what it cost the caller. */
import { type Figure, writeFigures } from '../../bench/report.ts';
import { table } from '../../src/cli/output.ts';
import type { TimelineEvent } from '../lab/lab.ts';
import type { Outcome } from '../lab/outcome.ts';

export type Mode = 'gateway' | 'direct';

export interface Row {
  readonly act: string;
  readonly mode: Mode;
  /** New connections. */
  readonly seen: Outcome;
  /** Requests on connections that were open before. */
  readonly kept: Outcome;
  /** What gateway mode aims at; undefined: shown only. */
  readonly aim: { readonly failed: number; readonly stallMs: number } | undefined;
}

const shareOf = (seen: Outcome): string => {
  const total = Object.values(seen.answeredBy).reduce((a, b) => a + b, 0);
  return Object.entries(seen.answeredBy)
    .sort(([, a], [, b]) => b - a)
    .map(([cluster, count]) => (count === total ? cluster : `${cluster} ${Math.round((100 * count) / total)}%`))
    .join(', ');
};

const time = (ms: number): string => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

export const resultTable = (rows: readonly Row[]): string =>
  table(
    ['WHAT HAPPENED', 'MODE', 'CALLS', 'FAILED', 'LONGEST STALL', 'TYPICAL', 'ANSWERED BY', 'ON OPEN CONNECTIONS'],
    rows.map(({ act, mode, seen, kept }) => [
      act,
      mode,
      String(seen.sent),
      String(seen.failed),
      time(seen.longestStallMs),
      time(seen.p50Ms),
      shareOf(seen),
      `${kept.failed} of ${kept.sent} failed`,
    ]),
  );

export const timelineTable = (events: readonly TimelineEvent[], from: number): string =>
  events.map(({ at, what }) => `${((at - from) / 1000).toFixed(1).padStart(7)} s  ${what}`).join('\n');

/** Figures of the rows with an aim, and of the others without. */
export const figuresOf = (rows: readonly Row[]): Figure[] =>
  rows.flatMap(({ act, mode, seen, kept, aim }) => {
    const figure = (what: string, value: number, unit: string, limit: number | undefined): Figure => ({
      name: `${act}, ${mode}: ${what}`,
      value: Math.round(value * 10) / 10,
      unit,
      aim: limit,
      met: limit === undefined ? undefined : value <= limit,
    });
    return [
      figure('calls', seen.sent, 'calls', undefined),
      figure('failed', seen.failed, 'calls', aim?.failed),
      figure('longest stall', seen.longestStallMs, 'ms', aim?.stallMs),
      figure('failed on open connections', kept.failed, 'calls', undefined),
    ];
  });

export const writeDemo = (rows: readonly Row[]): void => writeFigures('out/demo.json', figuresOf(rows));
