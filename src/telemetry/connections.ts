/**
 * A line of a gateway's access log as a connection over the border, for the audit.
 */
import type { Connection, Side } from '../audit/connection.ts';
import { outcomeOf, ruleOf } from '../audit/reason.ts';
import { refusedHeader, sourceHeader } from '../core/hop.ts';
import { probeHeader } from '../core/probing.ts';
import type { Address } from '../gen/envoy/config/core/v3/address_pb.ts';
import type { HTTPAccessLogEntry, ResponseFlags } from '../gen/envoy/data/accesslog/v3/accesslog_pb.ts';
import { logNames } from '../translate/envoy/access_logs.ts';
import { isEstablished, peerUri } from './outcome.ts';

const sides: Readonly<Record<string, Side>> = {
  [logNames.tunnels]: 'egress',
  [logNames.border]: 'ingress',
  [logNames.direct]: 'direct',
};

/** Callers choose some of these texts. */
const textMax = 300;
export const short = (text: string): string => (text.length <= textMax ? text : `${text.slice(0, textMax)}…`);

export const addressText = (address: Address | undefined): string => {
  if (address?.address.case !== 'socketAddress') return '';
  const { address: host, portSpecifier } = address.address.value;
  const port = portSpecifier.case === 'portValue' ? portSpecifier.value : 0;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
};

export const msOf = (time: { readonly seconds: bigint; readonly nanos: number } | undefined): number =>
  time === undefined ? 0 : Number(time.seconds) * 1_000 + Math.round(time.nanos / 1_000_000);

const noFlags: Partial<ResponseFlags> = {};

/** What tells one connection of a gateway from all others: its beginning and its end have the same. */
export interface ConnectionEvent {
  readonly key: string;
  readonly begins: boolean;
  readonly connection: Connection;
}

export interface Known {
  /** The member whose federation certificate has this URI name. */
  readonly memberOf: (identity: string) => string | undefined;
  readonly serviceOf: (authority: string) => string | undefined;
}

/** Undefined for logs that tell of no connections. @param node - id of the Envoy */
export const connectionOf = (
  log: string,
  entry: HTTPAccessLogEntry,
  node: string,
  member: string,
  known: Known,
): ConnectionEvent | undefined => {
  const side = sides[log];
  if (side === undefined) return undefined;
  const { commonProperties: common, request, response } = entry;
  const begins = isEstablished(entry);
  const status = response?.responseCode ?? 0;
  const established = status >= 200 && status < 300;
  const identity = peerUri(entry);
  const headers = request?.requestHeaders ?? {};
  const details = response?.responseCodeDetails ?? '';
  const transportFailure = common?.upstreamTransportFailureReason ?? '';
  const flags = common?.responseFlags ?? noFlags;
  const refused = response?.responseHeaders[refusedHeader];
  const answer = { status, established, refused, transportFailure: transportFailure !== '', flags, details };
  const rule = ruleOf(details);
  const [result, reason] = begins ? (['open', undefined] as const) : outcomeOf(answer);
  const authority = short(request?.authority ?? '');
  const from = addressText(common?.downstreamRemoteAddress);
  const to = addressText(common?.upstreamRemoteAddress);
  const service = known.serviceOf(authority);
  const attempts = common?.upstreamRequestAttemptCount ?? 0;
  const claim = side === 'ingress' ? headers[sourceHeader] : undefined;
  const detail = transportFailure === '' ? details : transportFailure;
  const start = common?.startTime;
  return {
    key: `${node} ${from} ${start?.seconds}.${start?.nanos} ${authority}`,
    begins,
    connection: {
      side,
      result,
      ...(reason === undefined ? {} : { reason }),
      ...(reason === 'policy' && rule !== undefined ? { rule: short(rule) } : {}),
      ...(reason === undefined || detail === '' ? {} : { detail: short(detail) }),
      source: short(side === 'ingress' ? (known.memberOf(identity) ?? identity) : identity),
      ...(claim === undefined ? {} : { claim: short(claim) }),
      from,
      authority,
      ...(service === undefined ? {} : { service }),
      ...(side === 'egress' && member !== '' ? { member } : {}),
      ...(to === '' ? {} : { to }),
      status,
      ...(attempts > 1 ? { attempts } : {}),
      startMs: msOf(start),
      durationMs: msOf(common?.duration),
      sent: Number(request?.requestBodyBytes ?? 0n),
      received: Number(response?.responseBodyBytes ?? 0n),
      ...(headers[probeHeader] === undefined ? {} : { probe: true as const }),
      gateway: node.split('~')[0]!,
    },
  };
};
