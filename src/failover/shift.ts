/**
 * A state as it is on a scale of time that is ahead of the one it was made on.
 *
 * A replica whose scale is ahead cannot go back to the writer's: times of its own would lie in the future, and what waits would wait
 * for as long again. It takes the writer's state as if all of it had happened later, and every age in it stays what it is. To let
 * time stand still until the writer has caught up was passed over: hold-downs would not end meanwhile.
 */
import type { HealthState } from '../health/assess.ts';
import type { CellHealth, PeerHealth, RegionHealth, Standing } from '../health/state.ts';
import type { CellKey } from '../health/verdict.ts';
import type { FailoverState, ServiceMemory } from './state.ts';

const values = <T>(record: Readonly<Record<string, T>>, shift: (value: T) => T): Record<string, T> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, shift(value)]));

const standing = <T extends Standing & { readonly deadlineMs?: number | undefined }>(value: T, byMs: number): T => ({
  ...value,
  sinceMs: value.sinceMs + byMs,
  ...(value.deadlineMs === undefined ? {} : { deadlineMs: value.deadlineMs + byMs }),
  ...(value.penalty === undefined ? {} : { penalty: { ...value.penalty, atMs: value.penalty.atMs + byMs } }),
});

/** What is in presence time stays: that is the clock without our absences, and the shift is one of them. */
const shiftHealth = ({ presence, members, cells, regions }: HealthState, byMs: number): HealthState => ({
  presence: {
    ...presence,
    absentMs: presence.absentMs + byMs,
    ...(presence.nowMs === undefined ? {} : { nowMs: presence.nowMs + byMs }),
  },
  members: values<PeerHealth>(members, (peer) => standing(peer, byMs)),
  cells: values<CellHealth>(cells, (cell) => standing(cell, byMs)) as Record<CellKey, CellHealth>,
  regions: values<RegionHealth>(regions, (region) => standing(region, byMs)),
});

const shiftService = (memory: ServiceMemory, byMs: number): ServiceMemory => {
  const { cells, moves } = memory;
  if (cells.size === 0 && moves.length === 0) return memory;
  return {
    ...memory,
    cells: new Map([...cells].map(([member, cell]) => [member, { ...cell, sinceMs: cell.sinceMs + byMs }])),
    moves: moves.map((atMs) => atMs + byMs),
  };
};

export const shiftState = (state: FailoverState, byMs: number): FailoverState => ({
  ...state,
  health: shiftHealth(state.health, byMs),
  services: new Map([...state.services].map(([key, memory]) => [key, shiftService(memory, byMs)])),
  drains: state.drains.map((drain) => ({ ...drain, sinceMs: drain.sinceMs + byMs })),
  frozen: state.frozen === undefined ? undefined : { ...state.frozen, sinceMs: state.frozen.sinceMs + byMs },
  ejected: new Map([...state.ejected].map(([member, sinceMs]) => [member, sinceMs + byMs])),
});
