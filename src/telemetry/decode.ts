/** Reads what Envoys send, within bounds. What is malformed is an error for its stream; what is merely unknown is left out. */
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { HTTPAccessLogEntry, TCPAccessLogEntry } from '../gen/envoy/data/accesslog/v3/accesslog_pb.ts';
import { StreamAccessLogsMessageSchema } from '../gen/envoy/service/accesslog/v3/als_pb.ts';
import { LoadStatsRequestSchema, LoadStatsResponseSchema } from '../gen/envoy/service/load_stats/v3/lrs_pb.ts';

const read = <D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> => {
  try {
    // What is not known is not kept: a stream of oddities must not fill memory.
    return fromBinary(schema, bytes, { readUnknownFields: false });
  } catch (cause) {
    throw new IsthmusError('report/malformed', `not a ${schema.name}: ${(cause as Error).message.slice(0, 200)}`, {
      cause,
    });
  }
};

const bounded = (what: string, count: number): void => {
  const max = limits.telemetryEntriesPerMessageMax;
  if (count > max) throw new IsthmusError('report/malformed', `${count} ${what} in one message, at most ${max}`);
};

export interface LogMessage {
  /** Of the first message of a stream. */
  readonly node: string | undefined;
  readonly log: string | undefined;
  readonly entries: readonly HTTPAccessLogEntry[];
  /** Of the logs of listeners. */
  readonly doors: readonly TCPAccessLogEntry[];
}

export const readLogMessage = (bytes: Uint8Array): LogMessage => {
  const { identifier, logEntries } = read(StreamAccessLogsMessageSchema, bytes);
  const entries = logEntries.case === 'httpLogs' ? logEntries.value.logEntry : [];
  const doors = logEntries.case === 'tcpLogs' ? logEntries.value.logEntry : [];
  bounded('entries', entries.length + doors.length);
  return { node: identifier?.node?.id, log: identifier?.logName, entries, doors };
};

/** What one Envoy sent to one peer, retries included, since its last report. */
export interface PeerLoad {
  readonly cluster: string;
  readonly member: string;
  readonly issued: number;
  readonly succeeded: number;
  readonly errors: number;
  /** Open tunnels, and CONNECTs under way. */
  readonly open: number;
}

export interface LoadMessage {
  readonly node: string | undefined;
  readonly loads: readonly PeerLoad[];
}

export const readLoadMessage = (bytes: Uint8Array): LoadMessage => {
  const { node, clusterStats } = read(LoadStatsRequestSchema, bytes);
  bounded('clusters', clusterStats.length);
  const loads = clusterStats.flatMap(({ clusterName, upstreamLocalityStats }) => {
    bounded('localities', upstreamLocalityStats.length);
    return upstreamLocalityStats.map((stats) => ({
      cluster: clusterName,
      member: stats.locality?.subZone ?? '',
      issued: Number(stats.totalIssuedRequests),
      succeeded: Number(stats.totalSuccessfulRequests),
      errors: Number(stats.totalErrorRequests),
      open: Number(stats.totalRequestsInProgress),
    }));
  });
  return { node: node?.id, loads };
};

/** Of which clusters an Envoy should report, and how often. */
export const loadRequest = (clusters: readonly string[], intervalMs: number): Uint8Array =>
  toBinary(
    LoadStatsResponseSchema,
    create(LoadStatsResponseSchema, {
      clusters: [...clusters],
      loadReportingInterval: { seconds: BigInt(Math.floor(intervalMs / 1_000)), nanos: (intervalMs % 1_000) * 1e6 },
    }),
  );
