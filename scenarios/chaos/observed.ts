/** What a run has seen: calls, states over time, the journal, what was done. Everything that expectations and reports read. */
import type { CallRecord } from '../lab/outcome.ts';
import type { Mode } from './spec.ts';

export interface StateSample {
  /** Seconds after the control window. */
  readonly at: number;
  readonly cluster: string;
  readonly peer: string;
  readonly state: string;
}

/** A line of `isthmus journal list -o json`, as far as it is looked at. */
export interface JournalLine {
  readonly wallMs: number;
  readonly kind: string;
  readonly rule: string;
  readonly service: string | undefined;
  readonly member: string | undefined;
  readonly detail: string;
}

export interface Done {
  readonly at: number;
  readonly what: string;
}

export interface Observed {
  /** Wall time of second 0. */
  readonly zero: number;
  readonly untilS: number;
  readonly calls: ReadonlyMap<Mode, readonly CallRecord[]>;
  readonly states: readonly StateSample[];
  /** By cluster; undefined: it could not be read. */
  readonly journals: ReadonlyMap<
    string,
    { readonly entries: readonly JournalLine[]; readonly verified: string | undefined }
  >;
  readonly done: readonly Done[];
  /** How late the callers' own timers were at worst, ms. */
  readonly lagMs: number;
}
