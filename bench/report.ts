/** What a bench gives: figures with their aims, as a table for people and as JSON for machines. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { table } from '../src/cli/output.ts';

export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** Undefined: shown for comparison, nothing is aimed at. */
  readonly aim: number | undefined;
  readonly met: boolean | undefined;
}

/** A figure that should be at most `aim`. */
export const atMost = (name: string, value: number, unit: string, aim: number): Figure => ({
  name,
  value,
  unit,
  aim,
  met: value <= aim,
});

/** A figure without an aim of its own. */
export const shown = (name: string, value: number, unit: string): Figure => ({
  name,
  value,
  unit,
  aim: undefined,
  met: undefined,
});

const digits = (value: number): string =>
  Number.isInteger(value) ? String(value) : value >= 100 ? value.toFixed(0) : value.toPrecision(3);

export const figureTable = (figures: readonly Figure[]): string =>
  table(
    ['FIGURE', 'VALUE', 'UNIT', 'AIM', 'MET'],
    figures.map((f) => [
      f.name,
      digits(f.value),
      f.unit,
      f.aim === undefined ? '' : `≤ ${digits(f.aim)}`,
      f.met === undefined ? '' : f.met ? 'yes' : 'NO',
    ]),
  );

export const writeFigures = (path: string, figures: readonly Figure[]): void => {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(
    path,
    `${JSON.stringify(
      figures.map((f) => ({ ...f, aim: f.aim ?? null, met: f.met ?? null })),
      null,
      2,
    )}\n`,
  );
};

/** The value below which the share `p` (0 to 1) of the samples lies; nearest rank. */
export const percentile = (samples: readonly number[], p: number): number => {
  if (samples.length === 0) return Number.NaN;
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))]!;
};
