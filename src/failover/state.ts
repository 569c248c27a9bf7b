/**
 * What the decisions remember from step to step: plain data, never changed in place, part of the last good state.
 *
 * Only what deviates is kept: a cell that is in full use has no memory. The placement of each service is kept whole, for it is the
 * `before` of the next decision: read from a cache it would be lost with a restart, and a replay could not tell the same story.
 */
import type { ServiceKey } from '../core/names.ts';
import { type HealthState, initialHealth } from '../health/assess.ts';
import type { DrainTarget } from '../health/signals.ts';
import type { CellKey, CellState, Reason } from '../health/verdict.ts';
import type { Placement } from './decision.ts';

/** Why a cell has less than all of its weight. */
export interface CellMemory {
  /**
   * - `new`: not ready since it is known: comes whole when it is for the first time, for nothing has failed;
   * - `out`: bad, or gone; `held`: good again, in its hold-down; `latched`: waits for a person;
   * - `doubt`: its data path is suspect; `ramp`: on its way back; `drain`: on its way out, or out, by somebody's wish.
   */
  readonly phase: 'new' | 'out' | 'doubt' | 'held' | 'latched' | 'ramp' | 'drain';
  /** Share of its weight that it may have, 0–100. */
  readonly percent: number;
  /** Of this phase; of a ramp: of this step. */
  readonly sinceMs: number;
  /** Why it went out in the first place. */
  readonly cause: Reason;
}

/** Calls to a member. */
export interface Rate {
  /** New connections a second, smoothed. */
  readonly mean: number;
  /** The class above it: what decisions go by. */
  readonly perSecond: number;
}

export interface ServiceMemory {
  readonly placement: Placement;
  /** Where it would be if its policy acted; undefined when it does. */
  readonly wished: Placement | undefined;
  /** By member, ourselves included. */
  readonly cells: ReadonlyMap<string, CellMemory>;
  /** The remote cells of the last placement that was not a last resort; undefined while it is not one. */
  readonly lastGood: readonly string[] | undefined;
  /** It was refused at once, for every cell was bad. */
  readonly failFast: boolean;
  /** When it moved, newest last; none is older than a minute before the newest. */
  readonly moves: readonly number[];
  /** `guard|member` of what is held back: told once. */
  readonly held: readonly string[];
  /** Calls to each member; only where somebody's grant makes them matter. */
  readonly demand: ReadonlyMap<string, Rate>;
  /** Name of the policy that it was planned by. */
  readonly policy: string;
}

export interface Drain {
  readonly target: DrainTarget;
  readonly author: string;
  readonly reason: string;
  readonly sinceMs: number;
  readonly overMs: number | undefined;
  readonly graceMs: number | undefined;
}

export interface Freeze {
  readonly author: string;
  readonly reason: string;
  readonly sinceMs: number;
}

/** What each importing member was offered for a service. */
export interface GrantMemory {
  readonly perSecond: number;
  readonly readers: readonly string[];
}

export interface FailoverState {
  readonly health: HealthState;
  readonly services: ReadonlyMap<ServiceKey, ServiceMemory>;
  readonly drains: readonly Drain[];
  readonly frozen: Freeze | undefined;
  /** States that the journal has been told; fresh is left out. */
  readonly told: {
    readonly members: ReadonlyMap<string, CellState>;
    readonly cells: ReadonlyMap<CellKey, CellState>;
    readonly regions: ReadonlyMap<string, CellState>;
  };
  /** Since when our Envoys hold all gateways of a member ejected. */
  readonly ejected: ReadonlyMap<string, number>;
  readonly grants: ReadonlyMap<ServiceKey, GrantMemory>;
}

export const initialState = (): FailoverState => ({
  health: initialHealth(),
  services: new Map(),
  drains: [],
  frozen: undefined,
  told: { members: new Map(), cells: new Map(), regions: new Map() },
  ejected: new Map(),
  grants: new Map(),
});
