/**
 * What one line of a gateway's access log says about a peer, as one of a few kinds.
 *
 * Envoy's flags tell who failed: an attempt with a flag and no answer never reached the peer or was cut off by it, one with a
 * status was answered by it. A broken tunnel has both: its 200, and the flag of its end.
 */
import {
  AccessLogType,
  type HTTPAccessLogEntry,
  type ResponseFlags,
} from '../gen/envoy/data/accesslog/v3/accesslog_pb.ts';

/**
 * - `established`: answered 200.
 * - `local`: no connection, reset, or timed out before an answer.
 * - `gateway`, `other`: answered 502, 503 or 504; any other 5xx.
 * - `refused`: 429, by the peer's grant or limits.
 * - `denied`: any other refusal; says nothing about health.
 * - `cut`: broke after its 200.
 */
export const outcomeKinds = ['established', 'local', 'gateway', 'other', 'refused', 'denied', 'cut'] as const;
export type OutcomeKind = (typeof outcomeKinds)[number];

export interface Outcome {
  readonly kind: OutcomeKind;
  /** As the gateway's endpoint names it; empty when no gateway was chosen. */
  readonly member: string;
  /** `host:port` of the CONNECT. */
  readonly authority: string;
  /** From the CONNECT to its answer, of `established`. */
  readonly connectMs: number;
}

const broken = (flags: ResponseFlags | undefined): boolean =>
  flags !== undefined &&
  (flags.upstreamConnectionFailure ||
    flags.upstreamConnectionTermination ||
    flags.upstreamRemoteReset ||
    flags.upstreamRequestTimeout ||
    flags.upstreamProtocolError);

const byStatus = (status: number): OutcomeKind => {
  if (status === 429) return 'refused';
  if (status === 502 || status === 503 || status === 504) return 'gateway';
  return status >= 500 ? 'other' : 'denied';
};

const msOf = (duration: { readonly seconds: bigint; readonly nanos: number } | undefined): number =>
  duration === undefined ? 0 : Math.max(0, Number(duration.seconds) * 1_000 + duration.nanos / 1_000_000);

export const statusOf = (entry: HTTPAccessLogEntry): number => entry.response?.responseCode ?? 0;

/** Of an entry of the log `attempts`: a try that failed, or broke later. Undefined when it says nothing about the peer. */
export const attemptOutcome = (entry: HTTPAccessLogEntry, member: string): Outcome | undefined => {
  const common = entry.commonProperties;
  const authority = entry.request?.authority ?? '';
  const status = statusOf(entry);
  const base = { member, authority, connectMs: 0 };
  if (status >= 200 && status < 300) return broken(common?.responseFlags) ? { ...base, kind: 'cut' } : undefined;
  if (status >= 400) return { ...base, kind: byStatus(status) };
  return broken(common?.responseFlags) ? { ...base, kind: 'local' } : undefined;
};

export const isEstablished = (entry: HTTPAccessLogEntry): boolean =>
  entry.commonProperties?.accessLogType === AccessLogType.DownstreamTunnelSuccessfullyEstablished;

/** Of an entry of the log `tunnels`; undefined for the end of a call that got no tunnel: its attempts are told apart. */
export const tunnelOutcome = (entry: HTTPAccessLogEntry, member: string): Outcome | undefined => {
  if (!isEstablished(entry)) return undefined;
  const common = entry.commonProperties;
  return {
    kind: 'established',
    member,
    authority: entry.request?.authority ?? '',
    connectMs: msOf(common?.timeToFirstUpstreamRxByte ?? common?.duration),
  };
};

/** A call that got no tunnel at all, and why: what callers of this service saw. */
export interface LostCall {
  readonly authority: string;
  readonly status: number;
  /** False: there was nobody to try. */
  readonly tried: boolean;
}

/** Envoy counts an attempt that found nobody: with one attempt the flags decide. */
const tried = (common: HTTPAccessLogEntry['commonProperties']): boolean => {
  const attempts = common?.upstreamRequestAttemptCount ?? 0;
  const flags = common?.responseFlags;
  const nobody = flags?.noHealthyUpstream === true || flags?.noRouteFound === true || flags?.noClusterFound === true;
  return attempts > 1 || (attempts === 1 && !nobody);
};

export const lostCall = (entry: HTTPAccessLogEntry): LostCall | undefined =>
  isEstablished(entry)
    ? undefined
    : {
        authority: entry.request?.authority ?? '',
        status: statusOf(entry),
        tried: tried(entry.commonProperties),
      };

/** One CONNECT of another member at our own border. */
export interface BorderCall {
  /** URI name of its certificate. */
  readonly identity: string;
  readonly authority: string;
  readonly status: number;
  readonly probe: boolean;
}

/** URI name of the caller's certificate; empty when there is none. */
export const peerUri = (entry: HTTPAccessLogEntry): string => {
  const sans = entry.commonProperties?.tlsProperties?.peerCertificateProperties?.subjectAltName ?? [];
  const san = sans.find(({ san }) => san.case === 'uri')?.san;
  return typeof san?.value === 'string' ? san.value : '';
};

export const borderCall = (entry: HTTPAccessLogEntry, probeHeader: string): BorderCall => ({
  identity: peerUri(entry),
  authority: entry.request?.authority ?? '',
  status: statusOf(entry),
  probe: entry.request?.requestHeaders[probeHeader] !== undefined,
});
