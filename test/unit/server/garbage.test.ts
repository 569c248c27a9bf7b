/** Whatever is thrown at the ports: the server answers nothing it should not, stays up, and keeps serving the others. */
import { createHash, randomBytes } from 'node:crypto';
import { type ClientHttp2Session, connect as connectHttp2, constants } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { credentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { types } from '../../../src/xds/resource.ts';
import { deltaPath, eventually, gatewayIdentity, ProxyClient, put, type Rig, startRig, zNode, ztunnel } from './rig.ts';

let rig: Rig;
let witness: ProxyClient;
let round = 0;

beforeEach(async () => {
  rig = await startRig();
  witness = ztunnel(rig, 'witness');
  witness.ask({ typeUrl: types.address, node: { id: zNode('witness') } });
  await witness.next();
});
afterEach(async () => {
  witness.close();
  await rig.server.close(0);
});

/** The stream that was open before still gets what changes, and a new one can be opened. */
const stillServing = async (): Promise<void> => {
  put(rig.tables.ztunnel, types.address, 'a', `${round++}`);
  rig.server.changed();
  await witness.next();
  const other = ztunnel(rig, 'other');
  other.ask({ typeUrl: types.address, node: { id: zNode('other') } });
  await other.next();
  other.close();
  await eventually(() => rig.server.proxies().length === 1);
};

const ended = (socket: Socket): Promise<string> =>
  new Promise((resolve) => {
    let got = '';
    socket.on('data', (data) => {
      got += data.toString('latin1');
    });
    socket.on('error', () => {});
    socket.once('close', () => resolve(got));
    setTimeout(() => socket.destroy(), 300).unref();
  });

/** Bytes that look random and are the same in every run. */
const noise = (seed: string, length: number): Buffer => {
  const parts: Buffer[] = [];
  for (let i = 0; i * 32 < length; i++) parts.push(createHash('sha256').update(`${seed} ${i}`).digest());
  return Buffer.concat(parts).subarray(0, length);
};

test('bytes that are no TLS, on both ports', async () => {
  const starts = [
    noise('a', 3_000),
    Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    Buffer.alloc(0),
  ];
  for (const port of [rig.server.tokenPort, rig.server.mtlsPort]) {
    const sockets = starts.map((bytes) => {
      const socket = connectTcp(port, '127.0.0.1');
      socket.end(bytes);
      return ended(socket);
    });
    for (const answer of await Promise.all(sockets)) expect(answer).not.toMatch(/200/);
  }
  await stillServing();
});

test('HTTP/1 and noise inside TLS', async () => {
  const own = await rig.ca.issue({ commonName: 'g', uris: [gatewayIdentity] });
  for (const port of [rig.server.tokenPort, rig.server.mtlsPort]) {
    for (const alpn of [['http/1.1'], ['h2'], undefined]) {
      for (const bytes of [
        Buffer.from('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n'),
        noise('b', 2_000),
        Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), noise('c', 2_000)]),
      ]) {
        const socket = connectTls({
          port,
          host: '127.0.0.1',
          servername: 'controller',
          ca: rig.ca.cert,
          cert: own.cert,
          key: own.key,
          ...(alpn === undefined ? {} : { ALPNProtocols: alpn }),
        });
        socket.on('error', () => {});
        socket.write(bytes);
        expect(await ended(socket)).not.toMatch(/200 OK/);
      }
    }
  }
  await stillServing();
}, 30_000);

const http2 = (): ClientHttp2Session => {
  const session = connectHttp2(`https://127.0.0.1:${rig.server.tokenPort}`, {
    ca: rig.ca.cert,
    servername: 'controller',
  });
  session.on('error', () => {});
  return session;
};
const post = (
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body: Buffer,
  end = true,
): Promise<Record<string, unknown>> =>
  new Promise((resolve) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': deltaPath,
      'content-type': 'application/grpc',
      te: 'trailers',
      authorization: 'Bearer pod.z1',
      ...headers,
    });
    let result: Record<string, unknown> = {};
    stream.on('response', (response) => {
      result = { ...result, ...response };
    });
    stream.on('trailers', (trailers) => {
      result = { ...result, ...trailers };
    });
    stream.on('error', () => {});
    stream.on('data', () => {});
    stream.once('close', () => resolve({ ...result, rst: stream.rstCode }));
    if (end) stream.end(body);
    else stream.write(body);
    setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), 400).unref();
  });
const frame = (message: Buffer, flag = 0, length = message.length): Buffer => {
  const head = Buffer.alloc(5);
  head.writeUInt8(flag, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
};

test('broken gRPC inside HTTP/2', async () => {
  const session = http2();
  const cases: [string, Record<string, string>, Buffer][] = [
    ['truncated frame', {}, frame(Buffer.from('abc'), 0, 1_000)],
    ['half a prefix', {}, Buffer.from([0, 0])],
    ['a length of 4 GiB', {}, frame(Buffer.alloc(0), 0, 0xffffffff)],
    ['more than the limit', {}, frame(Buffer.from('abc'), 0, limits.requestBytesMax + 1)],
    ['noise for a message', {}, frame(noise('d', 5_000))],
    ['an empty message', {}, frame(Buffer.alloc(0))],
    ['compressed, says so, is not', { 'grpc-encoding': 'gzip' }, frame(Buffer.from('nope'), 1)],
    ['an encoding nobody knows', { 'grpc-encoding': 'zstd' }, frame(Buffer.from('nope'), 1)],
    ['a decompression bomb', { 'grpc-encoding': 'gzip' }, frame(gzipSync(Buffer.alloc(limits.requestBytesMax * 2)), 1)],
    ['not gRPC', { 'content-type': 'text/plain' }, Buffer.from('hello')],
    ['another method', { ':path': '/no.such.Service/Call' }, frame(Buffer.alloc(0))],
    ['a bad timeout', { 'grpc-timeout': 'soon' }, frame(Buffer.alloc(0))],
    ['two tokens', { authorization: 'Bearer pod.z1, Bearer pod.z2' }, frame(Buffer.alloc(0))],
  ];
  for (const [what, headers, body] of cases) {
    const result = await post(session, headers, body);
    const code = Number(result['grpc-status'] ?? 0);
    const refused =
      code > 0 ||
      result[':status'] === 415 ||
      (result.rst as number) > 0 ||
      what === 'half a prefix' ||
      what === 'truncated frame';
    expect(refused, `${what}: ${JSON.stringify(result)}`).toBe(true);
  }
  session.destroy();
  await stillServing();
}, 30_000);

test('many streams, headers without end, sessions that break off', async () => {
  const session = http2();
  const all = Array.from({ length: 300 }, (_, i) =>
    post(session, { 'x-filler': `${i}${'y'.repeat(500)}` }, frame(randomBytes(50))),
  );
  await Promise.all(all);
  session.destroy();
  for (let i = 0; i < 50; i++) {
    const other = http2();
    other.once('connect', () => {
      void post(other, {}, frame(Buffer.from('abc'), 0, 1_000), false);
      setImmediate(() => other.destroy());
    });
    await new Promise((resolve) => other.once('close', resolve));
  }
  await stillServing();
}, 30_000);

test('requests that make no sense to the machine end their own stream only', async () => {
  for (const fields of [
    { typeUrl: 'type.googleapis.com/no.such.Type', node: { id: zNode('z1') } },
    { typeUrl: '', node: { id: zNode('z1') } },
    {
      typeUrl: types.address,
      node: { id: zNode('z1') },
      resourceNamesSubscribe: ['x'.repeat(limits.resourceNameLengthMax + 1)],
    },
    { typeUrl: types.address, node: { id: zNode('z1') }, responseNonce: 'n'.repeat(limits.nonceLengthMax + 1) },
  ]) {
    const proxy = new ProxyClient(rig.server.tokenPort, credentials.createSsl(rig.ca.cert), 'pod.z1');
    proxy.ask(fields);
    expect((await proxy.status).code).toBeGreaterThan(0);
    proxy.close();
  }
  const odd = ztunnel(rig, 'z1');
  odd.acks = false;
  odd.ask({
    typeUrl: types.address,
    node: { id: zNode('z1') },
    responseNonce: 'from another life',
    errorDetail: { message: 'a' },
  });
  expect((await odd.next()).typeUrl).toBe(types.address);
  odd.ask({ typeUrl: types.address, resourceNamesUnsubscribe: ['never asked for', '', '*'] });
  odd.ask({ typeUrl: types.address, resourceNamesSubscribe: ['', 'ghost'] });
  expect((await odd.next()).removedResources.sort()).toEqual(['', 'ghost']);
  odd.close();
  await eventually(() => rig.server.proxies().length === 1);
  await stillServing();
});
