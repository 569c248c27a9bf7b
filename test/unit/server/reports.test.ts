/** Streams of reports: who may open them, what ends them. */
import { credentials, status } from '@grpc/grpc-js';
import { afterEach, expect, test } from 'vitest';
import { IsthmusError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import type { ReportSink } from '../../../src/server/api.ts';
import { eventually, gateway, gatewayIdentity, ProxyClient, type Rig, startRig } from './rig.ts';

const paths = {
  'access-log': '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs',
  'load-report': '/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats',
} as const;

let rig: Rig | undefined;
afterEach(async () => rig?.server.close(0));

const sinkOf = (over: Partial<ReportSink> = {}) => {
  const got: string[] = [];
  const sink: ReportSink = {
    accepts: () => true,
    open: (kind, { send }) => ({
      receive: (message) => {
        got.push(`${kind} ${message.toString()}`);
        if (message.toString() === 'garbage') throw new IsthmusError('report/malformed', 'not a report');
        if (message.toString() === 'ask') send(Buffer.from('answer'));
      },
      close: () => got.push(`${kind} closed`),
    }),
    ...over,
  };
  return { got, sink };
};

const open = async (of: Rig, kind: keyof typeof paths, uri = gatewayIdentity) => {
  const own = await of.ca.issue({ commonName: 'gateway', uris: [uri] });
  return new ProxyClient(
    of.server.mtlsPort,
    credentials.createSsl(of.ca.cert, own.key, own.cert),
    undefined,
    paths[kind],
  );
};

test.each(['access-log', 'load-report'] as const)('%s: messages come through as they are', async (kind) => {
  const { got, sink } = sinkOf();
  rig = await startRig({ reports: sink });
  const client = await open(rig, kind);
  client.stream.write(Buffer.from('one'));
  client.stream.write(Buffer.from('two'));
  await eventually(() => got.length === 2);
  client.stream.end();
  expect((await client.status).code).toBe(status.OK);
  expect(got).toEqual([`${kind} one`, `${kind} two`, `${kind} closed`]);
  client.close();
});

test('nothing of a caller without the gateways’ certificate is read', async () => {
  const { got, sink } = sinkOf();
  rig = await startRig({ reports: sink });
  for (const kind of ['access-log', 'load-report'] as const) {
    const client = await open(rig, kind, 'spiffe://cluster.local/ns/shop/sa/client');
    client.stream.write(Buffer.from('one'));
    expect((await client.status).code).toBe(status.PERMISSION_DENIED);
    client.close();
  }
  const token = new ProxyClient(rig.server.tokenPort, credentials.createSsl(rig.ca.cert), 'pod.a', paths['access-log']);
  expect((await token.status).code).toBe(status.UNIMPLEMENTED);
  token.close();
  expect(got).toEqual([]);
});

test('garbage ends its stream, not the others', async () => {
  const { got, sink } = sinkOf();
  rig = await startRig({ reports: sink });
  const [good, bad, huge] = await Promise.all([
    open(rig, 'access-log'),
    open(rig, 'access-log'),
    open(rig, 'access-log'),
  ]);
  bad.stream.write(Buffer.from('garbage'));
  expect((await bad.status).code).toBe(status.INVALID_ARGUMENT);
  huge.stream.write(Buffer.alloc(limits.telemetryMessageBytesMax + 1));
  expect((await huge.status).code).toBe(status.INVALID_ARGUMENT);
  good.stream.write(Buffer.from('more'));
  await eventually(() => got.includes('access-log more'));
  expect(got.filter((line) => line.endsWith('closed'))).toHaveLength(2);
  for (const client of [good, bad, huge]) client.close();
});

test('a replica that takes no reports says so, and discovery goes on', async () => {
  let accepts = false;
  const { got, sink } = sinkOf({ accepts: () => accepts });
  rig = await startRig({ reports: sink });
  const refused = await open(rig, 'load-report');
  expect((await refused.status).code).toBe(status.UNAVAILABLE);
  accepts = true;
  const taken = await open(rig, 'load-report');
  taken.stream.write(Buffer.from('one'));
  await eventually(() => got.length === 1);
  accepts = false;
  rig.server.endReports();
  expect((await taken.status).code).toBe(status.OK);
  expect(got).toEqual(['load-report one', 'load-report closed']);
  const discovery = await gateway(rig);
  expect(rig.server.mtlsPort).toBeGreaterThan(0);
  for (const client of [refused, taken, discovery]) client.close();
});

test('without anybody to take them they are not served', async () => {
  rig = await startRig();
  const client = await open(rig, 'access-log');
  expect((await client.status).code).toBe(status.UNIMPLEMENTED);
  client.close();
});
