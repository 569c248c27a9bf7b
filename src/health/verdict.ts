/**
 * What is concluded from signals: the states of peers and of single services at them, each with its age, reason and deadline.
 *
 * Two scopes, never mixed: a bad service at a peer says nothing of the peer, and a bad peer nothing of the path to others. A
 * gateway address is no scope: it is shared by all services behind it.
 */
import type { ServiceKey } from '../core/names.ts';

/**
 * - `fresh`: used.
 * - `suspect`: used with less weight when its data path is in doubt; with all of it when it is only silent (frozen and kept).
 * - `quarantined`: not used from here while anything else is left; our own failed data path suffices.
 * - `evicted`: control plane silent *and* data path failed, or its last evidence gone: its records take part in nothing.
 */
export const cellStates = ['fresh', 'suspect', 'quarantined', 'evicted'] as const;
export type CellState = (typeof cellStates)[number];

/** Constant CamelCase words, for conditions, metrics and the journal. */
export type Reason =
  | 'Healthy'
  | 'ControlSilent'
  | 'StoreDark'
  | 'ProbeFailed'
  | 'ConsecutiveErrors'
  | 'FailurePercentage'
  | 'GrayFailure'
  | 'NotReady'
  | 'Withdrawn'
  | 'WithdrawalHeld'
  | 'ShuttingDown'
  | 'Draining'
  | 'SilentAndUnreachable'
  | 'RegionCondemned'
  | 'HoldDown'
  | 'Ramping'
  | 'Latched'
  | 'Flapping';

export interface Verdict {
  readonly state: CellState;
  readonly reason: Reason;
  /** One line for people: what was seen, with numbers. */
  readonly detail: string;
  readonly sinceMs: number;
  /** When it changes next if nothing else happens; undefined: when evidence comes. */
  readonly deadlineMs: number | undefined;
  /** The flap penalty now; decays with a half-life. */
  readonly penalty: number;
}

export interface MemberVerdict extends Verdict {
  /** The two planes, told apart. */
  readonly control: 'fresh' | 'silent' | 'unknown' | 'never';
  readonly data: 'reachable' | 'degraded' | 'unreachable' | 'unknown';
}

/** `<namespace>/<name>|<member>` */
export type CellKey = `${string}|${string}`;
export const cellKey = (service: ServiceKey, member: string): CellKey => `${service}|${member}`;

/** What `cellKey` was made of. */
export const cellOf = (key: CellKey): { readonly service: ServiceKey; readonly member: string } => {
  const bar = key.lastIndexOf('|');
  return { service: key.slice(0, bar), member: key.slice(bar + 1) };
};

export interface Verdicts {
  /** Every peer of the view, ourselves left out. */
  readonly members: ReadonlyMap<string, MemberVerdict>;
  /** Only services at members (ourselves included) of which there is something to say: all others are as their member. */
  readonly cells: ReadonlyMap<CellKey, Verdict>;
  /** Regions that a quorum holds for down. */
  readonly regions: ReadonlyMap<string, Verdict>;
}

const frozenReasons: ReadonlySet<Reason> = new Set(['ControlSilent', 'StoreDark', 'ShuttingDown']);

/** A suspect whose path is in order: its records are kept as they are, with all of their weight. */
export const isFrozen = ({ state, reason }: Verdict): boolean => state === 'suspect' && frozenReasons.has(reason);
