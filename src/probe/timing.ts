/** How long to wait for a probe: what is late is judged by the path, not by a constant. */
import type { PathTime } from '../health/signals.ts';

/** Of a path that nobody has measured: a continent away. */
const unmeasured: PathTime = { rttMs: 100, varMs: 25 };

/** At least 600 ms, for a direct path must be given up within three seconds; on a long one three round trips, each with a lost packet and its repetition. */
export const probeTimeoutMs = (path: PathTime | undefined): number => {
  const { rttMs, varMs } = path ?? unmeasured;
  return Math.ceil(Math.max(600, 3 * (rttMs + Math.max(200, 4 * varMs))));
};

/** How long the other end may take to refuse our certificate, once the handshake is over for us. */
export const lingerMs = (path: PathTime | undefined): number => {
  const { rttMs, varMs } = path ?? unmeasured;
  return Math.ceil(Math.min(500, rttMs + 4 * varMs + 20));
};
