/** Takes what Envoys report, so that a test can look at it: access logs and load reports as they came. */
import { create, fromBinary, toBinary, toJson } from '@bufbuild/protobuf';
import type { Server, ServerDuplexStream } from '@grpc/grpc-js';
import { StreamAccessLogsMessageSchema } from '../../../src/gen/envoy/service/accesslog/v3/als_pb.ts';
import {
  LoadStatsRequestSchema,
  LoadStatsResponseSchema,
} from '../../../src/gen/envoy/service/load_stats/v3/lrs_pb.ts';

const bytes = (value: Buffer): Buffer => value;
const method = (path: string, responseStream: boolean) => ({
  path,
  requestStream: true,
  responseStream,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});

export interface Report {
  readonly kind: 'access-log' | 'load';
  readonly node: string;
  readonly log: string;
  /** As it came. */
  readonly bytes: Buffer;
}

export class Reports {
  readonly all: Report[] = [];

  addTo(server: Server): void {
    server.addService(
      { streamAccessLogs: method('/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs', true) },
      {
        streamAccessLogs: (call: ServerDuplexStream<Buffer, Buffer>) => {
          let node = '';
          let log = '';
          call.on('data', (message: Buffer) => {
            const { identifier } = fromBinary(StreamAccessLogsMessageSchema, message);
            if (identifier !== undefined) {
              node = identifier.node?.id ?? '';
              log = identifier.logName;
            }
            this.all.push({ kind: 'access-log', node, log, bytes: message });
          });
          call.on('end', () => call.end()).on('error', () => {});
        },
      },
    );
    server.addService(
      { streamLoadStats: method('/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats', true) },
      {
        streamLoadStats: (call: ServerDuplexStream<Buffer, Buffer>) => {
          let node = '';
          call.on('data', (message: Buffer) => {
            const request = fromBinary(LoadStatsRequestSchema, message);
            if (node === '') {
              const answer = create(LoadStatsResponseSchema, {
                sendAllClusters: true,
                loadReportingInterval: { seconds: 1n },
              });
              call.write(Buffer.from(toBinary(LoadStatsResponseSchema, answer)));
            }
            node = request.node?.id ?? node;
            this.all.push({ kind: 'load', node, log: '', bytes: message });
          });
          call.on('end', () => call.end()).on('error', () => {});
        },
      },
    );
  }

  /** For people: entries as JSON. */
  text(): unknown[] {
    return this.all.map(({ kind, node, log, bytes: message }) =>
      kind === 'load'
        ? { kind, node, ...(toJson(LoadStatsRequestSchema, fromBinary(LoadStatsRequestSchema, message)) as object) }
        : { kind, node, log, entries: fromBinary(StreamAccessLogsMessageSchema, message).logEntries },
    );
  }

  take(): Report[] {
    return this.all.splice(0);
  }
}
