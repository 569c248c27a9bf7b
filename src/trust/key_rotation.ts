/**
 * When a member's keys are replaced, and what is to be done about it now.
 *
 * New keys are made and stored, then announced, and used once every live peer has seen them, or half of the overlap has passed. Using them at
 * once was passed over: a peer that had not read the announcement would refuse every manifest and every gateway. Waiting without end was
 * too: a peer that died in the middle would keep everybody on old keys.
 */

export interface RotationPolicy {
  /** Age at which keys are replaced, ms; 0: never by themselves. */
  readonly afterMs: number;
  /** For how long the keys before are accepted, counted from the announcement, ms. */
  readonly overlapMs: number;
}

export interface RotationState {
  /** Of the keys in use. */
  readonly madeMs: number;
  /** Life of the federation CA in use. */
  readonly caFromMs: number;
  readonly caUntilMs: number;
  /** Until when the keys before these are accepted; undefined: there are none, or no longer. */
  readonly overlapUntilMs: number | undefined;
  /** Made, and perhaps announced, not in use yet. */
  readonly next: { readonly madeMs: number; readonly previousUntilMs: number } | undefined;
  /** A person asked for new keys then. */
  readonly askedMs: number | undefined;
}

export interface RotationSeen {
  /** Our own announcement was read back from the store. */
  readonly announced: boolean;
  /** Since when no live peer was missing; undefined: one is. */
  readonly allSinceMs: number | undefined;
}

export type RotationStage = 'current' | 'announced' | 'overlap';

export interface RotationStep {
  readonly stage: RotationStage;
  readonly act: 'none' | 'make' | 'use';
  /** When new keys are due, or those that were announced are used at the latest; undefined: never. */
  readonly dueMs: number | undefined;
  /** Nothing came of it although it was due: a person should look. */
  readonly late: boolean;
}

/** Gateways of peers take what their controllers have seen a moment later. */
const settleShare = 20;
const settleMsMax = 30_000;
/** A due rotation that has not begun, or ended, after this share of its time is late. */
const lateShare = 0.1;

export const rotationStep = (
  state: RotationState,
  seen: RotationSeen,
  policy: RotationPolicy,
  nowMs: number,
): RotationStep => {
  const { next, overlapUntilMs } = state;
  if (next !== undefined) {
    const overlapMs = next.previousUntilMs - next.madeMs;
    const dueMs = next.madeMs + overlapMs / 2;
    const settleMs = Math.min(settleMsMax, overlapMs / settleShare);
    const settled = seen.allSinceMs !== undefined && nowMs - seen.allSinceMs >= settleMs;
    // Unannounced they are no keys at all, however late it is.
    const act = seen.announced && (settled || nowMs >= dueMs) ? 'use' : 'none';
    return { stage: 'announced', act, dueMs, late: nowMs > dueMs + overlapMs * lateShare };
  }
  const overlapping = overlapUntilMs !== undefined && nowMs < overlapUntilMs;
  const byAge = policy.afterMs === 0 ? Number.POSITIVE_INFINITY : state.madeMs + policy.afterMs;
  const byCa = state.caFromMs + ((state.caUntilMs - state.caFromMs) * 2) / 3;
  const asked = state.askedMs !== undefined && state.askedMs > state.madeMs ? state.askedMs : Number.POSITIVE_INFINITY;
  const dueMs = Math.min(byAge, byCa, asked);
  const life = policy.afterMs === 0 ? state.caUntilMs - state.caFromMs : policy.afterMs;
  return {
    stage: overlapping ? 'overlap' : 'current',
    // One after the other: readers know two pairs of keys, not three.
    act: nowMs >= dueMs && !overlapping ? 'make' : 'none',
    dueMs: Number.isFinite(dueMs) ? dueMs : undefined,
    late: nowMs > dueMs + life * lateShare,
  };
};
