/**
 * What the verdicts remember: plain data that survives JSON, sparse, never changed in place.
 *
 * Times called `sinceMs` and those of a penalty are on our clock; all others are presence time (`presence.ts`), so that a break in
 * our own presence moves none of them.
 */
import type { Gray } from './gray.ts';
import type { Outlier } from './outlier.ts';
import type { Penalty } from './penalty.ts';
import { initialPresence, type Presence } from './presence.ts';
import type { Stream } from './stream.ts';
import type { CellKey, CellState, MemberVerdict, Reason } from './verdict.ts';

/** A verdict as it stands. */
export interface Standing {
  readonly state: CellState;
  readonly reason: Reason;
  readonly detail: string;
  readonly sinceMs: number;
  readonly penalty?: Penalty | undefined;
}

export interface PeerHealth extends Standing {
  readonly control: MemberVerdict['control'];
  readonly data: MemberVerdict['data'];
  /** On our clock, as it was shown last. */
  readonly deadlineMs?: number | undefined;
  /** Probes by the gateway that was asked; '' where the path chose it. */
  readonly gateways: Readonly<Record<string, Stream>>;
  /** Windows of traffic in which something could be reached, or nothing. */
  readonly traffic?: Stream | undefined;
  /** Errors to reach it that its services share. */
  readonly errors?: Outlier | undefined;
  /** Our gateways hold gateways of it ejected: all of them or some, since when, last told when. */
  readonly ejected?: { readonly all: boolean; readonly sinceMs: number; readonly atMs: number } | undefined;
  /** A manifest head that a probe brought and the store has not, and when such a head last rose. */
  readonly ahead?: { readonly epoch: string; readonly sequence: string; readonly roseMs: number } | undefined;
  /** Its path failed, and has not yet answered often enough since. */
  readonly broken: boolean;
  /** What broke it. */
  readonly by: 'ProbeFailed' | 'ConsecutiveErrors';
  /** Stays while the store is dark. */
  readonly silent: boolean;
  /** Since when it cannot be reached; since when it is silent too. */
  readonly badMs?: number | undefined;
  readonly bothMs?: number | undefined;
  /** End of the newest window of traffic; what the last probe that failed said. */
  readonly trafficMs?: number | undefined;
  readonly lastFailure?: string | undefined;
  /** Of the newest evidence of its path. */
  readonly evidenceMs?: number | undefined;
}

export interface CellHealth extends Standing {
  readonly probes?: ServiceProbes | undefined;
  readonly errors?: Outlier | undefined;
  readonly gray?: Gray | undefined;
  /** Since when there is something against it. */
  readonly badMs?: number | undefined;
  readonly deadlineMs?: number | undefined;
}

export interface ServiceProbes {
  readonly stream: Stream;
  readonly failed: boolean;
  readonly detail: string;
}

export interface RegionHealth extends Standing {
  readonly down: boolean;
}

export interface HealthState {
  readonly presence: Presence;
  readonly members: Readonly<Record<string, PeerHealth>>;
  readonly cells: Readonly<Record<CellKey, CellHealth>>;
  readonly regions: Readonly<Record<string, RegionHealth>>;
}

export const initialHealth = (): HealthState => ({ presence: initialPresence, members: {}, cells: {}, regions: {} });

/** A member may be named `constructor`. */
export const own = <T>(record: Readonly<Record<string, T>>, key: string): T | undefined =>
  Object.hasOwn(record, key) ? record[key] : undefined;
