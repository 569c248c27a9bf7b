/**
 * How much may be written in a while, as one number: the time at which all that was written would have been written at the allowed rate.
 *
 * One number per member fits into the store beside what was written, so all gateways of a cluster set share one allowance, and a restart
 * gives nobody a new one. A bucket in each gateway's memory was passed over: who writes through three gateways would have three.
 */

export interface Allowance {
  readonly perSecond: number;
  /** So much at once. */
  readonly burst: number;
}

export interface Spent {
  /** On the wall clock; to be kept. */
  readonly untilMs: number;
  /** Until it is allowed; 0: now. Infinity: it never is. */
  readonly waitMs: number;
}

/** Gateways' clocks may differ by so much. One that is further ahead than any allowance reaches is not believed. */
const clockSkewMs = 10_000;

/** @param untilMs - what was kept last; 0: nothing was */
export const spend = ({ perSecond, burst }: Allowance, untilMs: number, amount: number, nowMs: number): Spent => {
  if (amount > burst) return { untilMs, waitMs: Number.POSITIVE_INFINITY };
  const reachMs = (burst / perSecond) * 1_000;
  const known = untilMs > nowMs + reachMs + clockSkewMs ? nowMs : Math.max(untilMs, nowMs);
  const next = known + (amount / perSecond) * 1_000;
  return { untilMs: Math.ceil(next), waitMs: Math.max(0, Math.ceil(next - nowMs - reachMs)) };
};
