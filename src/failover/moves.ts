/**
 * How often a service's traffic may move. What reacts to our own failed data path always may, and is counted; what is left to
 * discretion waits while the minute is full.
 */
export const moveWindowMs = 60_000;

export const recentMoves = (moves: readonly number[], now: number): readonly number[] =>
  moves.length === 0 || moves[0]! > now - moveWindowMs ? moves : moves.filter((at) => at > now - moveWindowMs);

/** The newest `max` suffice to know whether there is room, and when. */
export const addMove = (moves: readonly number[], now: number, max: number): readonly number[] =>
  [...moves, now].slice(-Math.max(1, max));

/** When there is room for another; undefined: now. */
export const roomAtMs = (moves: readonly number[], max: number): number | undefined =>
  moves.length < max ? undefined : moves[moves.length - Math.max(1, max)]! + moveWindowMs;
