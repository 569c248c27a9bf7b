/** What one scenario came to. */
import type { Figure } from '../../bench/report.ts';
import type { Judged } from './expectations.ts';
import type { Observed } from './observed.ts';
import type { Scenario } from './spec.ts';

export interface Result {
  readonly scenario: Scenario;
  readonly observed: Observed | undefined;
  readonly judged: readonly Judged[];
  /** Why no run was valid. */
  readonly invalid: string | undefined;
  readonly error: string | undefined;
  readonly seconds: number;
}

export type Verdict = 'passed' | 'failed' | 'invalid' | 'error';

export const verdictOf = ({ judged, invalid, error }: Result): Verdict => {
  if (error !== undefined) return 'error';
  if (invalid !== undefined) return 'invalid';
  return judged.every(({ met }) => met) ? 'passed' : 'failed';
};

export const figuresOf = (results: readonly Result[]): Figure[] =>
  results.flatMap(({ scenario, judged }) =>
    judged.flatMap(({ figures }) =>
      figures.map((f) => ({
        name: `${scenario.name}: ${f.name}`,
        value: f.value,
        unit: f.unit,
        aim: f.aim,
        met: f.value <= f.aim,
      })),
    ),
  );
