/** Log entries and reports as Envoys send them. */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  AccessLogType,
  type HTTPAccessLogEntry,
  HTTPAccessLogEntrySchema,
  type ResponseFlagsSchema,
} from '../../../src/gen/envoy/data/accesslog/v3/accesslog_pb.ts';
import { StreamAccessLogsMessageSchema } from '../../../src/gen/envoy/service/accesslog/v3/als_pb.ts';
import { LoadStatsRequestSchema } from '../../../src/gen/envoy/service/load_stats/v3/lrs_pb.ts';

type Flags = Extract<MessageInitShape<typeof ResponseFlagsSchema>, { $typeName?: never }>;

export interface EntrySpec {
  readonly type: 'established' | 'end' | 'attempt';
  readonly authority?: string;
  readonly member?: string;
  readonly status?: number;
  readonly flags?: Flags;
  readonly attempts?: number;
  readonly rxMs?: number;
  readonly identity?: string;
  readonly headers?: Record<string, string>;
}

const types = {
  established: AccessLogType.DownstreamTunnelSuccessfullyEstablished,
  end: AccessLogType.DownstreamEnd,
  attempt: AccessLogType.UpstreamEnd,
} as const;

export const entry = (spec: EntrySpec): HTTPAccessLogEntry =>
  create(HTTPAccessLogEntrySchema, {
    commonProperties: {
      accessLogType: types[spec.type],
      customTags: spec.member === undefined ? {} : { member: spec.member },
      ...(spec.flags === undefined ? {} : { responseFlags: spec.flags }),
      upstreamRequestAttemptCount: spec.attempts ?? 0,
      ...(spec.rxMs === undefined ? {} : { timeToFirstUpstreamRxByte: { nanos: spec.rxMs * 1e6 } }),
      ...(spec.identity === undefined
        ? {}
        : {
            tlsProperties: {
              peerCertificateProperties: { subjectAltName: [{ san: { case: 'uri', value: spec.identity } }] },
            },
          }),
    },
    request: {
      authority: spec.authority ?? 'checkout.shop.svc.cluster.local:80',
      requestHeaders: spec.headers ?? {},
    },
    response: spec.status === undefined ? {} : { responseCode: spec.status },
  });

export const logs = (entries: readonly HTTPAccessLogEntry[], first?: { node: string; log: string }): Buffer =>
  Buffer.from(
    toBinary(
      StreamAccessLogsMessageSchema,
      create(StreamAccessLogsMessageSchema, {
        ...(first === undefined ? {} : { identifier: { node: { id: first.node }, logName: first.log } }),
        logEntries: { case: 'httpLogs', value: { logEntry: [...entries] } },
      }),
    ),
  );

export const loads = (
  node: string | undefined,
  clusters: Readonly<Record<string, Readonly<Record<string, readonly [number, number, number, number]>>>> = {},
): Buffer =>
  Buffer.from(
    toBinary(
      LoadStatsRequestSchema,
      create(LoadStatsRequestSchema, {
        ...(node === undefined ? {} : { node: { id: node } }),
        clusterStats: Object.entries(clusters).map(([clusterName, members]) => ({
          clusterName,
          upstreamLocalityStats: Object.entries(members).map(([subZone, [issued, ok, errors, open]]) => ({
            locality: { subZone },
            totalIssuedRequests: BigInt(issued),
            totalSuccessfulRequests: BigInt(ok),
            totalErrorRequests: BigInt(errors),
            totalRequestsInProgress: BigInt(open),
          })),
        })),
      }),
    ),
  );
