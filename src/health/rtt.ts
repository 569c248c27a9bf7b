/**
 * How far a peer is, from single measurements: smoothed round trip and mean deviation, as TCP estimates them (RFC 6298), for the
 * gateways' timers follow the same rule. Published in classes, few and rounded up, with hysteresis: the numbers tremble, and
 * every change of the record is written, signed, read by all members and turned into new clusters in Envoy.
 *
 * A median over a window was passed over as the estimate: it has no deviation, and the deviation is what timers need. The
 * median serves one step earlier, within a round, against a single late packet.
 */

export interface RoundTripEstimate {
  readonly srttMs: number;
  readonly varMs: number;
}

/** What is published: each an upper bound from a short list. */
export interface RoundTripClass {
  readonly rttMs: number;
  readonly varMs: number;
}

export const rttSteps = [5, 10, 25, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1_200, 2_000, 3_000] as const;
/** Below 50 ms the deviation changes no timer: four times as much is still under TCP's floor of 200 ms. */
export const varSteps = [50, 100, 150, 200, 400, 800, 1_600] as const;

/** A class is left downwards only when the value is this far below the next one. */
const downFactor = 0.8;

/** Adds a measurement, in ms. The first one sets the deviation to its half. */
export const addRoundTrip = (before: RoundTripEstimate | undefined, rttMs: number): RoundTripEstimate =>
  before === undefined
    ? { srttMs: rttMs, varMs: rttMs / 2 }
    : {
        srttMs: before.srttMs * (7 / 8) + rttMs / 8,
        varMs: before.varMs * (3 / 4) + Math.abs(before.srttMs - rttMs) / 4,
      };

/** The middle one; of an even number the lower of the two. Undefined when there is none. */
export const median = (values: readonly number[]): number | undefined =>
  [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)];

const stepUp = (steps: readonly number[], value: number): number =>
  steps.find((step) => value <= step) ?? steps[steps.length - 1]!;

const step = (steps: readonly number[], value: number, before: number | undefined): number => {
  const now = stepUp(steps, value);
  if (before === undefined || now >= before) return now;
  // Only as far down as the value would stay if it grew again by a quarter.
  return Math.min(before, stepUp(steps, value / downFactor));
};

/** The class of an estimate, given the one that was published before. */
export const roundTripClass = (estimate: RoundTripEstimate, before: RoundTripClass | undefined): RoundTripClass => ({
  rttMs: step(rttSteps, estimate.srttMs, before?.rttMs),
  varMs: step(varSteps, estimate.varMs, before?.varMs),
});

/** Whether a peer is reachable, from rounds that succeeded or failed: three failures in a row, two successes. */
export interface Reach {
  readonly reachable: boolean;
  /** Rounds in a row that spoke against it. */
  readonly against: number;
}

const toUnreachable = 3;
const toReachable = 2;

/** The first round decides at once: there is nothing yet to be kept. */
export const addReach = (before: Reach | undefined, ok: boolean): Reach => {
  if (before === undefined) return { reachable: ok, against: 0 };
  if (before.reachable === ok) return { reachable: ok, against: 0 };
  const against = before.against + 1;
  return against >= (ok ? toReachable : toUnreachable)
    ? { reachable: ok, against: 0 }
    : { reachable: before.reachable, against };
};
