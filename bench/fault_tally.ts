/**
 * From what callers saw in each run to the figures of a fault: the worst of its runs, failures and stalls apart. Pure.
 *
 * A mean was passed over: a failover that is usually quick is not what an operator asks about.
 */
import { atMost, type Figure, shown } from './report.ts';

export type Mode = 'gateway' | 'direct';
export const modes: readonly Mode[] = ['gateway', 'direct'];

/** Undefined: shown without an aim. */
export interface Aim {
  readonly failed?: number;
  readonly stallMs?: number;
}

export interface Sample {
  readonly fault: string;
  readonly mode: Mode;
  /** Round trip added between the clusters, ms. */
  readonly addedMs: number;
  /** New connections: tried, failed, and the longest that one took, answered or not. */
  readonly sent: number;
  readonly failed: number;
  readonly stallMs: number;
  /** Of the connections that were open before: requests that failed. */
  readonly keptFailed: number;
}

const figureName = (fault: string, mode: Mode, addedMs: number, what: string): string =>
  `${fault}, ${mode}${addedMs === 0 ? '' : `, +${addedMs} ms`}: ${what}`;

const figure = (name: string, value: number, unit: string, aim: number | undefined): Figure =>
  aim === undefined ? shown(name, value, unit) : atMost(name, value, unit, aim);

/**
 * The figures of one fault in one mode at one distance. `aim` is that of gateway mode without added delay and is applied
 * to nothing else. Without a valid run an aim is not met: the value is NaN.
 */
export const figuresOf = (
  fault: string,
  aim: Aim,
  mode: Mode,
  addedMs: number,
  samples: readonly Sample[],
): Figure[] => {
  const mine = samples.filter((s) => s.fault === fault && s.mode === mode && s.addedMs === addedMs);
  const worst = (of: (sample: Sample) => number): number =>
    mine.length === 0 ? Number.NaN : Math.max(...mine.map(of));
  const wanted = mode === 'gateway' && addedMs === 0 ? aim : {};
  const name = (what: string): string => figureName(fault, mode, addedMs, what);
  return [
    shown(
      name('tried'),
      worst(({ sent }) => sent),
      'calls',
    ),
    figure(
      name('failed'),
      worst(({ failed }) => failed),
      'calls',
      wanted.failed,
    ),
    figure(name('longest stall'), Math.round(worst(({ stallMs }) => stallMs)), 'ms', wanted.stallMs),
    shown(
      name('failed on kept connections'),
      worst(({ keptFailed }) => keptFailed),
      'calls',
    ),
  ];
};

/** Tells what an Envoy counted under names that end so, from the text of its `/stats`. */
export const statsSum = (text: string, ending: string): number =>
  text
    .split('\n')
    .map((line) => /^(\S+): (\d+)$/.exec(line.trim()))
    .reduce((sum, found) => sum + (found?.[1]?.endsWith(ending) ? Number(found[2]) : 0), 0);
