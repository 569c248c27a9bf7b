/**
 * The flap penalty: each change of state adds to it, and it halves with every half-life, as in BGP's route flap damping.
 *
 * Stored as a value and its moment, so that nothing runs while it decays: what it is at any time follows exactly, however many
 * steps lie between.
 */

export interface Penalty {
  readonly value: number;
  readonly atMs: number;
}

/** Below this it is forgotten. */
export const penaltyFloor = 1;

export const penaltyAt = (penalty: Penalty | undefined, nowMs: number, halfLifeMs: number): number => {
  if (penalty === undefined) return 0;
  // A clock that went back must not make it grow.
  const value = penalty.value * 2 ** (-Math.max(0, nowMs - penalty.atMs) / halfLifeMs);
  return value < penaltyFloor ? 0 : value;
};

export const addPenalty = (
  penalty: Penalty | undefined,
  amount: number,
  nowMs: number,
  halfLifeMs: number,
): Penalty | undefined => {
  const value = penaltyAt(penalty, nowMs, halfLifeMs) + amount;
  return value < penaltyFloor ? undefined : { value, atMs: nowMs };
};

/** When a penalty that is `value` now is down to `limit`: now, when it is so already. */
export const penaltyBelowAt = (value: number, limit: number, nowMs: number, halfLifeMs: number): number =>
  value <= limit ? nowMs : nowMs + Math.ceil(halfLifeMs * Math.log2(value / Math.max(limit, penaltyFloor)));
