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

/** A command that took longer than a command may: everything after its second happened so much later. */
export interface Delay {
  /** Second of the scenario at which it was to happen. */
  readonly at: number;
  readonly byS: number;
}

export interface Observed {
  /** Wall time of second 0. */
  readonly zero: number;
  /** The seconds of a scenario file are those of a machine that is quick: see `momentOf`. */
  readonly delays: readonly Delay[];
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

/** Seconds since second 0, by the clock, of a second of the scenario file. */
export const momentOf = (delays: readonly Delay[], second: number): number =>
  delays.reduce((moment, { at, byS }) => (at < second ? moment + byS : moment), second);
