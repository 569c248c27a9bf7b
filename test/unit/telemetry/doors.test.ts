/** Connections that came to no request, as listeners tell of them. */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import type { TCPAccessLogEntrySchema } from '../../../src/gen/envoy/data/accesslog/v3/accesslog_pb.ts';
import { StreamAccessLogsMessageSchema } from '../../../src/gen/envoy/service/accesslog/v3/als_pb.ts';
import type { ConnectionEvent } from '../../../src/telemetry/connections.ts';
import { countEntries, Doors, isDoor } from '../../../src/telemetry/doors.ts';

type Init = MessageInitShape<typeof TCPAccessLogEntrySchema>;

const message = (entries: Init[], node?: string): Buffer =>
  Buffer.from(
    toBinary(
      StreamAccessLogsMessageSchema,
      create(StreamAccessLogsMessageSchema, {
        ...(node === undefined ? {} : { identifier: { node: { id: node }, logName: 'door-federation' } }),
        logEntries: { case: 'tcpLogs', value: { logEntry: entries } },
      }),
    ),
  );
const failed: Init = {
  commonProperties: {
    downstreamTransportFailureReason: 'TLS_error: CERTIFICATE_VERIFY_FAILED',
    startTime: { seconds: 1_700_000_000n },
    tlsProperties: { tlsSniHostname: 'us-east.demo.federation.isthmus' },
  },
  connectionProperties: { receivedBytes: 300n, sentBytes: 7n },
};
const unknown: Init = { commonProperties: { responseFlags: { noRouteFound: true } } };
const good: Init = { commonProperties: {}, connectionProperties: { receivedBytes: 1n } };

describe('a listener’s log', () => {
  it('tells of handshakes that failed and names that nobody has, and of nothing else', () => {
    const doors = new Doors();
    const told = doors.read('door-federation', message([failed, good, unknown]), 'isthmus-gateway-0~1');
    expect(told).toMatchObject([
      {
        side: 'ingress',
        result: 'denied',
        reason: 'handshake',
        detail: 'TLS_error: CERTIFICATE_VERIFY_FAILED',
        source: '',
        authority: 'us-east.demo.federation.isthmus',
        startMs: 1_700_000_000_000,
        sent: 300,
        received: 7,
        gateway: 'isthmus-gateway-0',
      } satisfies Partial<ConnectionEvent['connection']>,
      { side: 'ingress', reason: 'no-member' },
    ]);
    expect([isDoor('door-egress'), isDoor('tunnels'), isDoor('')]).toEqual([true, false, false]);
  });

  it('is read up to a bound each second, and counted above it', () => {
    const doors = new Doors();
    const many = message(Array.from({ length: 400 }, () => failed));
    expect(countEntries(many)).toBe(400);
    let read = 0;
    for (let i = 0; i < 10; i++) read += doors.read('door-federation', many, 'isthmus-gateway-0~1').length;
    expect(read).toBeLessThan(limits.telemetryDoorsPerSecondMax + 400);
    expect(doors.tick(5)).toMatchObject([
      { side: 'ingress', reason: 'unread', source: '*', count: 4_000 - read, startMs: 5 },
    ]);
    expect(doors.tick(6)).toEqual([]);
    expect(doors.read('door-federation', many, 'x~0').length).toBe(400);
  });

  it('that makes no sense is counted without harm', () => {
    expect(countEntries(Buffer.from([0x1a, 0xff, 0xff]))).toBe(0);
    expect(countEntries(Buffer.alloc(0))).toBe(0);
    expect(countEntries(Buffer.from('nonsense'))).toBe(0);
  });
});
