/** Client and server against each other, on real sockets: what works, and every failure with its hop. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type ConnectOptions,
  cancelTunnel,
  connectHbone,
  keepAlive,
  nest,
  openTunnel,
  sendConnect,
} from '../../../src/hbone/client.ts';
import type { Credentials } from '../../../src/hbone/credentials.ts';
import { type HboneRequest, type HboneServer, serveHbone } from '../../../src/hbone/server.ts';
import { splice } from '../../../src/hbone/splice.ts';
import { realClock as clock } from '../../../src/ops/clock.ts';
import { createPki, type Pki } from './pki.ts';

const id = (name: string): string => `spiffe://cluster.local/ns/test/sa/${name}`;
const authority = 'checkout.shop.svc.cluster.local:80';

describe('HBONE', () => {
  let pki: Pki;
  let client: Credentials;
  let served: Credentials;
  let gateway: HboneServer;
  let far: HboneServer;
  let app: Server;
  const seen: HboneRequest[] = [];
  const refused: string[] = [];
  let handle: (request: HboneRequest) => void = () => {};

  const options = (o: Partial<ConnectOptions> = {}): ConnectOptions => ({
    hop: 'gateway',
    clock,
    credentials: client,
    accept: [id('gateway')],
    address: { host: '127.0.0.1', port: gateway.port },
    tcpTimeoutMs: 2_000,
    tlsTimeoutMs: 2_000,
    ...o,
  });
  const forward = (port: number) => (request: HboneRequest) => {
    const upstream = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    upstream.once('error', () => request.refuse(503, { 'x-why': 'no upstream' }));
    upstream.once('connect', () => {
      const stream = request.accept({ 'x-who': 'gateway' });
      splice(stream, upstream, () => upstream.destroy());
      stream.once('close', () => upstream.destroy());
    });
  };

  beforeAll(async () => {
    pki = await createPki();
    client = await pki.credentials(id('client'));
    served = await pki.credentials(id('gateway'));
    const destination = await pki.credentials(id('server'));
    // Answers upper case, and only once the caller has ended its side: half-close must pass through.
    app = createServer({ allowHalfOpen: true }, (socket) => {
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk;
      });
      socket.on('end', () => socket.end(text.toUpperCase()));
      socket.on('error', () => {});
    });
    app.listen(0, '127.0.0.1');
    await once(app, 'listening');
    gateway = await serveHbone({
      host: '127.0.0.1',
      port: 0,
      credentials: () => served,
      admit: (identity) => identity !== id('banned'),
      refused: (_remote, error) => refused.push(error.message),
      handler: (request) => {
        seen.push(request);
        handle(request);
      },
    });
    far = await serveHbone({
      host: '127.0.0.1',
      port: 0,
      credentials: () => destination,
      handler: forward((app.address() as AddressInfo).port),
    });
    handle = forward(far.port);
  });
  afterAll(async () => {
    await gateway.close();
    await far.close();
    app.close();
  });

  test('carries bytes through a tunnel in a tunnel, with half-close and both identities', async () => {
    const outer = await connectHbone(options());
    expect(outer.identity).toBe(id('gateway'));
    const tunnel = await openTunnel(outer, { authority, headers: { traceparent: '00-a' } });
    expect(tunnel.headers['x-who']).toBe('gateway');
    expect(seen.at(-1)).toMatchObject({ authority, identity: id('client'), headers: { traceparent: '00-a' } });
    const inner = await nest(tunnel.stream, 'far', { hop: 'far', clock, credentials: client, accept: [id('server')] });
    expect(inner.identity).toBe(id('server'));
    const { stream } = await openTunnel(inner, { authority });
    const size = 3_000_000;
    stream.end('a'.repeat(size));
    let received = 0;
    for await (const chunk of stream) received += (chunk as Buffer).length;
    expect(received).toBe(size);
    cancelTunnel(tunnel.stream);
    inner.session.destroy();
    outer.session.destroy();
  });

  test.each([
    ['a dead port', { address: { host: '127.0.0.1', port: 1 } }, 'path/tcp'],
    ['somebody else', { accept: [id('other')] }, 'path/identity'],
    ['nobody acceptable', { accept: [] }, 'path/identity'],
  ] as const)('%s: typed, with the hop', async (_name, o, code) => {
    const error = await connectHbone(options(o)).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code, subject: { hop: 'gateway' } });
    expect((error as Error).message).toMatch(/^gateway \(127\.0\.0\.1:\d+\): /);
  });

  test('no answer to TCP, to TLS and to CONNECT: path/timeout', async () => {
    const mute = createServer(() => {}).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const address = { host: '127.0.0.1', port: (mute.address() as AddressInfo).port };
    await expect(connectHbone(options({ address, tlsTimeoutMs: 100 }))).rejects.toMatchObject({
      code: 'path/timeout',
      message: /TLS/,
    });
    // Nothing answers for TEST-NET; where it is unreachable at once, that is a TCP failure.
    const nowhere = { host: '192.0.2.1', port: 9 };
    const error = await connectHbone(options({ address: nowhere, tcpTimeoutMs: 100 })).catch((cause: unknown) => cause);
    expect(['path/timeout', 'path/tcp']).toContain((error as { code: string }).code);
    const outer = await connectHbone(options());
    const before = handle;
    handle = () => {};
    await expect(openTunnel(outer, { authority, timeoutMs: 100 })).rejects.toMatchObject({
      code: 'path/timeout',
      message: /CONNECT/,
    });
    handle = before;
    outer.session.destroy();
    mute.close();
  });

  test('a peer that does not speak TLS, or resets: path/tls', async () => {
    const rude = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')).listen(0, '127.0.0.1');
    const abrupt = createServer((socket) => socket.resetAndDestroy()).listen(0, '127.0.0.1');
    for (const server of [rude, abrupt]) {
      if (!server.listening) await once(server, 'listening');
      const address = { host: '127.0.0.1', port: (server.address() as AddressInfo).port };
      await expect(connectHbone(options({ address }))).rejects.toMatchObject({
        // A reset may come before we look.
        code: expect.stringMatching(server === rude ? /^path\/tls$/ : /^path\/t(ls|cp)$/),
      });
      server.close();
    }
  });

  test('a server of other roots, or expired: path/tls', async () => {
    const other = await createPki('other');
    const credentials = { ...client, rootsPem: other.rootPem };
    await expect(connectHbone(options({ credentials }))).rejects.toMatchObject({ code: 'path/tls' });
    const valid = served;
    served = { ...(await pki.issue([id('gateway')], { expired: true })), rootsPem: pki.rootPem };
    await expect(connectHbone(options())).rejects.toMatchObject({ code: 'path/tls', message: /expired/ });
    served = valid;
  });

  test('a certificate that rotates serves from the next connection on, old connections stay', async () => {
    const old = served;
    const first = await connectHbone(options());
    served = await pki.credentials(id('rotated'));
    const second = await connectHbone(options({ accept: [id('rotated')] }));
    expect((await sendConnect(first, { authority })).status).toBe(200);
    served = old;
    first.session.destroy();
    second.session.destroy();
  });

  test('the server refuses: other roots, no certificate, two identities, an identity that is not admitted', async () => {
    const other = await createPki('other');
    const foreign = { ...(await other.issue([id('client')])), rootsPem: pki.rootPem };
    const twice = { ...(await pki.issue([id('client'), id('other')])), rootsPem: pki.rootPem };
    const banned = await pki.credentials(id('banned'));
    const handled = seen.length;
    for (const credentials of [foreign, twice, banned]) {
      const before = refused.length;
      const error = await connectHbone(options({ credentials }))
        .then((connection) => openTunnel(connection, { authority, timeoutMs: 2_000 }))
        .catch((cause: unknown) => cause);
      expect(error).toMatchObject({ code: 'path/tls' });
      await expect.poll(() => refused.length).toBeGreaterThan(before);
    }
    expect(seen.length).toBe(handled);
  });

  test('a refused CONNECT: path/connect-status with the status; the connection lives on', async () => {
    const outer = await connectHbone(options());
    const before = handle;
    handle = forward(1);
    await expect(openTunnel(outer, { authority })).rejects.toMatchObject({
      code: 'path/connect-status',
      subject: { status: 503 },
    });
    expect(await sendConnect(outer, { authority })).toMatchObject({ status: 503, headers: { 'x-why': 'no upstream' } });
    handle = before;
    expect((await sendConnect(outer, { authority })).status).toBe(200);
    outer.session.destroy();
  });

  test('a connection that ends before the answer: path/reset', async () => {
    const outer = await connectHbone(options());
    await openTunnel(outer, { authority });
    const before = handle;
    handle = () => outer.session.destroy();
    await expect(openTunnel(outer, { authority })).rejects.toMatchObject({ code: 'path/reset' });
    handle = before;
    await expect(openTunnel(outer, { authority })).rejects.toMatchObject({ code: 'path/reset' });
  });

  test('CANCEL at the end of a tunnel reaches the server as such, a thousand times on one connection', async () => {
    const outer = await connectHbone(options());
    const before = handle;
    const codes: (number | undefined)[] = [];
    handle = (request) => {
      const stream = request.accept() as ReturnType<HboneRequest['accept']> & { rstCode?: number };
      stream.resume();
      stream.once('close', () => codes.push(stream.rstCode));
    };
    const rounds = 1_500;
    for (let i = 0; i < rounds; i += 50) {
      const tunnels = await Promise.all(Array.from({ length: 50 }, () => openTunnel(outer, { authority })));
      for (const { stream } of tunnels) cancelTunnel(stream);
    }
    await expect.poll(() => codes.length, { timeout: 5_000 }).toBe(rounds);
    expect(new Set(codes)).toEqual(new Set([8]));
    expect(outer.session.destroyed).toBe(false);
    handle = before;
    outer.session.destroy();
  });

  test('a peer that stops answering pings loses its connection', async () => {
    const relay = createServer((socket) => {
      const up = connect({ host: '127.0.0.1', port: gateway.port });
      socket.pipe(up).pipe(socket);
      socket.on('error', () => {});
      up.on('error', () => {});
      socket.on('close', () => up.destroy());
      setTimeout(() => up.pause(), 200);
    }).listen(0, '127.0.0.1');
    await once(relay, 'listening');
    const outer = await connectHbone(
      options({ address: { host: '127.0.0.1', port: (relay.address() as AddressInfo).port } }),
    );
    keepAlive(outer, 100, 200);
    await once(outer.session, 'close');
    relay.close();
  });
});
