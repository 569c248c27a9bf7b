/**
 * How long a gateway waits for a peer before it calls the connection dead.
 *
 * Only missed HTTP/2 pings free the streams of a connection that went silent (`per_try_timeout` does nothing on CONNECT), so
 * these timers are the stall that a caller sees. Too short, and one lost packet on a long path kills every tunnel in the
 * connection: a lost ping is repeated after RTT + max(200 ms, 4 × deviation), TCP's own rule, so twice that bears a loss of
 * the ping and of its repetition.
 *
 * Envoy has one keepalive per cluster, not per endpoint. A cluster takes the timers of its slowest peer: an aggregate
 * of a cluster per peer could have one each, but loses `previous_priorities`, which halves the stall of a silent cut.
 * Rounded up a little, so that a round trip that trembles does not push new clusters; most of that is done where round trips are
 * published, in classes.
 *
 * The stall of a silent cut is interval + timeout + the next attempt. The timeout is the design's and stays; so the interval is
 * short, and without Envoy's jitter of 15 %.
 */
import type { RoundTrip } from './input.ts';

export interface PeerTimers {
  /** From one ping's answer to the next ping. */
  readonly pingIntervalMs: number;
  /** A stream that is opened this long after the last byte from the peer is preceded by a ping. */
  readonly pingIdleMs: number;
  /** Without an answer, or any other frame, for so long: the connection is dead. */
  readonly pingTimeoutMs: number;
  /** TCP and TLS handshake together. */
  readonly connectTimeoutMs: number;
  /** One active health check, handshake included. */
  readonly healthTimeoutMs: number;
}

/** Taken for a peer that nobody has measured: a continent away, so that a first connection is not refused for distance. */
export const unmeasured: RoundTrip = { rttMs: 100, varMs: 25 };

const stepMs = 10;
const roundUp = (ms: number): number => Math.ceil(ms / stepMs) * stepMs;

/** The timers that suit every one of `trips`; of the unmeasured round trip when there is none. */
export const timersFor = (trips: readonly RoundTrip[]): PeerTimers => {
  const all = trips.length === 0 ? [unmeasured] : trips;
  const worst = (f: (rtt: number, repeat: number) => number): number =>
    Math.max(...all.map(({ rttMs, varMs }) => f(rttMs, Math.max(200, 4 * varMs))));
  const pingTimeoutMs = roundUp(worst((rtt, repeat) => 2 * (rtt + repeat)));
  return {
    pingIntervalMs: 100,
    pingIdleMs: 50,
    pingTimeoutMs,
    connectTimeoutMs: Math.max(250, roundUp(worst((rtt, repeat) => 3 * rtt + repeat))),
    healthTimeoutMs: Math.max(pingTimeoutMs, roundUp(worst((rtt, repeat) => 4 * rtt + repeat))),
  };
};
