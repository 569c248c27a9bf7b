/**
 * The guards: each may hold back one discretionary shift, and says why. They are asked in the order of `guardNames`, and the first
 * objection counts.
 *
 * A shift is judged against what would be left after it, shifts allowed earlier in the same step included: two shifts that
 * are each harmless must not together take the last cell. What nobody knows (capacity undeclared, no grant offered) is no objection.
 */
import { headroomOf, headroomSum } from './capacity.ts';
import { roomAtMs } from './moves.ts';
import { kindOf } from './placement.ts';
import { type GuardHold, type GuardName, guardNames } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import type { Wish } from './ramp.ts';
import { type CellFacts, seenByEnvoy, shareOf } from './standing.ts';

/** Envoy puts an ejected gateway back after this, when nobody sets it otherwise: until then the same evidence is being acted on. */
export const envoyEjectionMs = 3_000;

export type Role = 'writer' | 'cut-off';

export interface GuardScene {
  readonly now: number;
  readonly role: Role;
  readonly self: string;
  readonly selfRegion: string;
  readonly policy: FailoverPolicy;
  /** As they are after the shifts allowed so far. */
  readonly cells: readonly CellFacts[];
  /** Our own endpoints are fit to serve. */
  readonly localFit: boolean;
  /** They are what serves: remote cells stand by. */
  readonly localServes: boolean;
  /** New connections a second that go, or would go, to others; undefined: unknown. */
  readonly demand: number | undefined;
  readonly receivingSpill: boolean;
  /** Since when all gateways of the member are ejected by our Envoys. */
  readonly ejectedMs: (member: string) => number | undefined;
  readonly moves: readonly number[];
}

export interface Shift {
  readonly member: string;
  readonly wish: Wish;
}

interface Objection {
  readonly detail: string;
  /** When to ask again if nothing else happens. */
  readonly dueMs: number | undefined;
}

export interface HeldShift {
  readonly hold: GuardHold;
  readonly dueMs: number | undefined;
}

const takesAway = ({ wish }: Shift): boolean => wish.kind === 'withdraw' || wish.kind === 'drain';
const bringsBack = ({ wish }: Shift): boolean => !takesAway({ wish, member: '' });

const later = (detail: string): Objection => ({ detail, dueMs: undefined });

const othersInUse = ({ cells }: GuardScene, shift: Shift): CellFacts[] =>
  cells.filter((cell) => cell.member.name !== shift.member && kindOf(cell) === 'in-use');

const cutOff = (scene: GuardScene, shift: Shift): Objection | undefined =>
  scene.role === 'cut-off' && bringsBack(shift)
    ? later('this replica is cut off from the one that decides: it may withdraw, not bring back')
    : undefined;

const lastCell = (scene: GuardScene, shift: Shift): Objection | undefined => {
  if (!takesAway(shift) || othersInUse(scene, shift).length > 0) return undefined;
  return later(
    shift.member === scene.self
      ? `${shift.wish.detail}; kept, for no other cluster can serve`
      : `${shift.wish.detail}; kept, for it is the last cluster left`,
  );
};

/** After a whole region is given up, one other must be in full health: half-sick ones would follow. */
const region = (scene: GuardScene, shift: Shift): Objection | undefined => {
  const { cells, self, selfRegion, localFit } = scene;
  if (!takesAway(shift)) return undefined;
  const given = shift.member === self ? selfRegion : cells.find((c) => c.member.name === shift.member)?.member.region;
  const others = othersInUse(scene, shift);
  if (others.some(({ member }) => member.region === given)) return undefined;
  if (given !== selfRegion && localFit) return undefined;
  const whole = others.some((cell) => cell.verdict.state === 'fresh' && shareOf(cell) >= 100);
  return whole ? undefined : later(`${shift.wish.detail}; kept, for no cluster of another region is in full health`);
};

const shown = (rate: number): string => String(Math.round(rate));

/** What is left must take what is there now. */
const room = (scene: GuardScene, shift: Shift, what: 'grant' | 'capacity'): Objection | undefined => {
  const { demand, policy, localServes, self } = scene;
  if (!takesAway(shift) || demand === undefined || (localServes && shift.member !== self)) return undefined;
  const others = othersInUse(scene, shift);
  const sum = headroomSum(
    others.map(({ ready, grant }) => (what === 'grant' ? grant : headroomOf(ready, undefined, policy.capacity))),
  );
  if (sum === undefined || sum >= demand) return undefined;
  const means = what === 'grant' ? 'grant' : 'are declared to take';
  return later(
    `${shift.wish.detail}; kept, for the others ${means} ${shown(sum)} new connections/s of the ${shown(demand)} there are`,
  );
};

const spillOnSpill = (scene: GuardScene, shift: Shift): Objection | undefined =>
  takesAway(shift) && shift.member === scene.self && scene.receivingSpill
    ? later(`${shift.wish.detail}; kept, for this cluster takes other clusters' spill and may not spill on`)
    : undefined;

const doubleReaction = (scene: GuardScene, shift: Shift): Objection | undefined => {
  if (shift.wish.kind !== 'withdraw' || !seenByEnvoy.has(shift.wish.rule as never)) return undefined;
  const sinceMs = scene.ejectedMs(shift.member);
  if (sinceMs === undefined || scene.now >= sinceMs + envoyEjectionMs) return undefined;
  return {
    detail: `${shift.wish.detail}; the gateways have ejected it themselves, one ejection period is waited for`,
    dueMs: sinceMs + envoyEjectionMs,
  };
};

const moveRate = (scene: GuardScene, shift: Shift): Objection | undefined => {
  const { moves, policy } = scene;
  const dueMs = roomAtMs(moves, policy.maxMovesPerMinute);
  if (dueMs === undefined) return undefined;
  return { detail: `${shift.wish.detail}; waits, for it moved ${moves.length} times within a minute`, dueMs };
};

/** Those that object to single shifts. The others act elsewhere: on the whole, or as the phase that a cell is in. */
const asked: Partial<Record<GuardName, (scene: GuardScene, shift: Shift) => Objection | undefined>> = {
  CutOff: cutOff,
  LastCell: lastCell,
  Region: region,
  Grant: (scene, shift) => room(scene, shift, 'grant'),
  Headroom: (scene, shift) => room(scene, shift, 'capacity'),
  SpillOnSpill: spillOnSpill,
  DoubleReaction: doubleReaction,
  MoveRate: moveRate,
};

/** The first guard that objects. Urgent shifts are not asked about, except that a replica that is cut off brings nothing back. */
export const heldBack = (scene: GuardScene, shift: Shift): HeldShift | undefined => {
  for (const guard of guardNames) {
    const objection = asked[guard]?.(scene, shift);
    if (objection === undefined) continue;
    return { hold: { guard, member: shift.member, detail: objection.detail }, dueMs: objection.dueMs };
  }
  return undefined;
};

/** What keeps a cell where it is by the phase that it is in. */
export const phaseHold = (cell: CellFacts, policy: FailoverPolicy): GuardHold | undefined => {
  const { memory, bad, drain } = cell;
  const member = cell.member.name;
  if (memory === undefined || bad !== undefined || drain !== undefined) return undefined;
  if (memory.phase === 'held' && cell.calmAtMs !== undefined) {
    const detail = 'good again; it changed its state so often that it stays out until it has been calm for a while';
    return { guard: 'Flapping', member, detail };
  }
  if (memory.phase === 'held') {
    const seconds = Math.round(policy.failback.holdDownMs / 1000);
    return { guard: 'HoldDown', member, detail: `good again; it comes back after ${seconds} s without a relapse` };
  }
  if (memory.phase === 'latched') {
    return { guard: 'Latched', member, detail: "good again; its policy lets it come back by a person's word" };
  }
  return undefined;
};
