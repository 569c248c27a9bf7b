/**
 * What is late depends on how far away it is: every time by which somebody is judged is widened by what its path needs.
 *
 * A repeated packet takes RTT + max(200 ms, 4 × deviation), TCP's own rule, which the gateways' timers follow too. Fixed timeouts
 * were passed over: what suits a neighbour condemns another continent, and the other way round a neighbour's death is seen late.
 */
import type { PathTime } from './signals.ts';

/** TCP repeats nothing sooner. */
const repeatFloorMs = 200;

/** By how much a judgement is put off for this path; 0 for one that was never measured. */
export const pathSlackMs = (path: PathTime | undefined): number =>
  path === undefined ? 0 : Math.ceil(path.rttMs + 4 * path.varMs);

/**
 * How long a probe must wait before it is late: its round trips, and one lost packet among them.
 * @param roundTrips - of the path's length: TCP, TLS, CONNECT and inner TLS are four
 * @param floorMs - never less, for what the far side needs itself
 */
export const probeDeadlineMs = (path: PathTime | undefined, roundTrips: number, floorMs: number): number => {
  const { rttMs, varMs } = path ?? { rttMs: 100, varMs: 25 };
  return Math.max(floorMs, Math.ceil((roundTrips + 1) * rttMs + Math.max(repeatFloorMs, 4 * varMs)));
};
