/**
 * What single pieces of evidence say, and of whom: of a peer, of one service there, or of nobody.
 *
 * The border runs along the path. TCP and outer TLS belong to the peer, whatever was probed; an error as the answer to the CONNECT
 * speaks of the service, and proves the peer if it is the peer's own; what comes after it is the service's. A CONNECT that nobody
 * answered may be either's, and counts for the service: gateways have probes of their own.
 *
 * Of traffic only CONNECTs are seen, and success ends at the 200: tunnels cut later are shown, and judged by nobody.
 */
import type { ServiceKey } from '../core/names.ts';
import type { ProbeResult, TrafficWindow } from './signals.ts';

export type Says = 'good' | 'bad' | 'nothing';

export interface ProbeReading {
  readonly peer: Says;
  readonly service: Says;
  /** As `failed at tls` or `CONNECT answered 503`. */
  readonly detail: string;
}

const tooMany = 429;

export const readProbe = (probe: ProbeResult): ProbeReading => {
  const { service, ok, denied, failedAt, status, reached } = probe;
  if (ok || denied) return { peer: 'good', service: service === undefined ? 'nothing' : 'good', detail: '' };
  const detail =
    failedAt === 'connect' && status !== undefined
      ? `CONNECT answered ${status}`
      : `failed at ${failedAt ?? 'its end'}`;
  if (service === undefined) return { peer: 'bad', service: 'nothing', detail };
  if (failedAt === 'tcp' || failedAt === 'tls') return { peer: 'bad', service: 'nothing', detail };
  const proof = reached === true || failedAt === 'inner-tls' || failedAt === 'identity';
  // Its limits refused us: it is there, and that is all it says.
  if (status === tooMany) return { peer: 'good', service: 'nothing', detail };
  return { peer: proof ? 'good' : 'nothing', service: 'bad', detail };
};

/**
 * What a probe says of a service whose record is gone: whether the peer still leads there. Undefined: it does not say, as when a
 * gateway on the way answered, a limit was met, or a policy denied it.
 */
export const canaryAnswer = (probe: ProbeResult): 'gone' | 'answers' | undefined => {
  const { service, ok, denied, failedAt, status, reached } = probe;
  if (service === undefined || denied) return undefined;
  if (ok || failedAt === 'inner-tls' || failedAt === 'identity') return 'answers';
  const refused = failedAt === 'connect' && status !== undefined && status !== tooMany;
  return refused && reached !== false ? 'gone' : undefined;
};

/** Sums over windows that end in the same step. */
export interface Tally {
  readonly atMs: number;
  readonly windowMs: number;
  readonly established: number;
  readonly localErrors: number;
  readonly gatewayErrors: number;
  readonly otherErrors: number;
  readonly refused: number;
}

/** The traffic to one peer since the last step. */
export interface PeerTraffic {
  readonly services: ReadonlyMap<ServiceKey, Tally>;
  /** All services together. */
  readonly total: Tally;
  /** Errors to reach it are the peer's, not its services': most services that have traffic share them. */
  readonly sharedErrors: boolean;
  /** Gateways held ejected at the end, when it was said. */
  readonly ejected: number;
  readonly gateways: number;
}

const add = (a: Tally | undefined, b: Tally): Tally =>
  a === undefined
    ? b
    : {
        atMs: Math.max(a.atMs, b.atMs),
        windowMs: Math.max(a.atMs, b.atMs) - Math.min(a.atMs - a.windowMs, b.atMs - b.windowMs),
        established: a.established + b.established,
        localErrors: a.localErrors + b.localErrors,
        gatewayErrors: a.gatewayErrors + b.gatewayErrors,
        otherErrors: a.otherErrors + b.otherErrors,
        refused: a.refused + b.refused,
      };

const tallyOf = (w: TrafficWindow, atMs: number): Tally => ({
  atMs,
  windowMs: Math.max(1, w.windowMs),
  established: w.established,
  localErrors: w.localErrors,
  gatewayErrors: w.gatewayErrors,
  otherErrors: w.otherErrors,
  refused: w.refused,
});

/** By which the same window told twice is known; two gateways' windows of one moment differ in something. */
const identity = (w: TrafficWindow): string =>
  [w.service, w.atMs, w.tries, w.established, w.localErrors, w.gatewayErrors, w.otherErrors, w.refused].join(' ');

const isShared = (services: ReadonlyMap<ServiceKey, Tally>): boolean => {
  // Nothing is known of its parts: the sum is all services by definition.
  if (services.size === 0) return true;
  let active = 0;
  let failing = 0;
  for (const { established, localErrors, gatewayErrors, otherErrors, refused } of services.values()) {
    if (established + localErrors + gatewayErrors + otherErrors + refused > 0) active++;
    if (localErrors > 0) failing++;
  }
  return active >= 2 && failing * 2 > active;
};

const nothing: Tally = {
  atMs: 0,
  windowMs: 1,
  established: 0,
  localErrors: 0,
  gatewayErrors: 0,
  otherErrors: 0,
  refused: 0,
};

/**
 * @param windows - all of one member, of one step
 * @param timeOf - to presence time
 */
export const readTraffic = (
  windows: readonly TrafficWindow[],
  timeOf: (atMs: number) => number,
): PeerTraffic | undefined => {
  if (windows.length === 0) return undefined;
  const told = new Set<string>();
  const services = new Map<ServiceKey, Tally>();
  let total: Tally | undefined;
  let sum: Tally | undefined;
  let last: TrafficWindow | undefined;
  for (const window of windows) {
    const known = told.size;
    if (told.add(identity(window)).size === known) continue;
    const tally = tallyOf(window, timeOf(window.atMs));
    if (window.service === undefined) {
      total = add(total, tally);
      last = window;
    } else {
      services.set(window.service, add(services.get(window.service), tally));
      sum = add(sum, tally);
    }
  }
  return {
    services,
    total: total ?? sum ?? nothing,
    sharedErrors: isShared(services),
    ejected: last?.ejected ?? 0,
    gateways: last?.gateways ?? 0,
  };
};
