/**
 * Streams on which gateways report: access logs and load reports. Who calls is settled before a byte of a message is read, as on every
 * stream of this port; what a message says is for the sink to read. Here is only what keeps a bad one from doing harm: it
 * ends its own stream, and nothing waits in a queue, for each message is taken in before the next is read.
 */
import { type ServerDuplexStream, type ServiceDefinition, status } from '@grpc/grpc-js';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ReportKind, ReportSink, ReportStream, ServerLog } from './api.ts';
import { grpcStatus } from './grpc_status.ts';

export type ReportCall = ServerDuplexStream<Buffer, Buffer>;

const bytes = (value: Buffer): Buffer => value;
const method = (path: string) => ({
  path,
  requestStream: true,
  // Access logs get a single answer in the end, by their definition. As a stream of answers it can be given at any time.
  responseStream: true,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});

export const accessLogService = {
  streamAccessLogs: method('/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs'),
} satisfies ServiceDefinition;

export const loadReportService = {
  streamLoadStats: method('/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats'),
} satisfies ServiceDefinition;

export interface ReportStreamsOptions {
  readonly sink: ReportSink;
  readonly checkNode: (nodeId: string) => IsthmusError | undefined;
  readonly log: ServerLog;
}

export class ReportStreams {
  readonly #o: ReportStreamsOptions;
  readonly #ends = new Set<() => void>();

  constructor(options: ReportStreamsOptions) {
    this.#o = options;
  }

  get size(): number {
    return this.#ends.size;
  }

  readonly handler = (kind: ReportKind) => (call: ReportCall) => this.#open(kind, call);

  /** Ends all in good order: callers look for another replica. */
  endAll(): void {
    for (const end of [...this.#ends]) end();
  }

  #open(kind: ReportKind, call: ReportCall): void {
    const { sink, checkNode, log } = this.#o;
    call.on('error', () => {});
    if (!sink.accepts() || this.#ends.size >= limits.telemetryStreamsMax) {
      const busy = sink.accepts();
      const details = busy ? `${limits.telemetryStreamsMax} streams` : 'another replica takes reports just now';
      call.emit('error', { code: busy ? status.RESOURCE_EXHAUSTED : status.UNAVAILABLE, details });
      return;
    }
    let open = true;
    const send = (message: Uint8Array): void => {
      if (open) call.write(Buffer.from(message.buffer, message.byteOffset, message.byteLength));
    };
    const stream: ReportStream = sink.open(kind, { checkNode, send });
    const leave = (): void => {
      if (!open) return;
      open = false;
      this.#ends.delete(end);
      stream.close();
    };
    const end = (): void => {
      leave();
      call.end();
    };
    this.#ends.add(end);
    call.on('data', (message: Buffer) => {
      if (!open) return;
      try {
        if (message.length > limits.telemetryMessageBytesMax) throw tooLarge(message.length);
        stream.receive(message);
      } catch (error) {
        leave();
        log(error instanceof IsthmusError ? 'warn' : 'error', 'report refused', { kind, error });
        call.emit('error', grpcStatus(error));
      }
    });
    call.on('end', end);
    call.on('cancelled', leave);
    call.on('close', leave);
  }
}

const tooLarge = (length: number): IsthmusError =>
  new IsthmusError('report/malformed', `a report of ${length} bytes, at most ${limits.telemetryMessageBytesMax}`);
