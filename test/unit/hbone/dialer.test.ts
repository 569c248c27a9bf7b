/** The port through which probes dial: tunnels, handshakes inside them, and refusals that come late. */
import { type AddressInfo, connect } from 'node:net';
import { createServer, type Server } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TunnelConnection } from '../../../src/core/tunnel.ts';
import type { Credentials } from '../../../src/hbone/credentials.ts';
import { createDialer } from '../../../src/hbone/dialer.ts';
import { type HboneServer, serveHbone } from '../../../src/hbone/server.ts';
import { newTestCa, type TestCa } from '../../real/pki.ts';
import { testClock } from '../server/rig.ts';

const id = (account: string) => `spiffe://cluster.local/ns/shop/sa/${account}`;
let ca: TestCa;
let strangers: TestCa;
const credentials = async (account: string, of = ca): Promise<Credentials> => {
  const { cert, key } = await of.issue({ commonName: account, uris: [id(account)] });
  return { certificatePem: cert.toString(), keyPem: key.toString(), rootsPem: ca.cert.toString() };
};

/** A workload behind a gateway: TLS inside the tunnel. `roots`: whose client certificates it takes. */
const workload = async (
  roots: TestCa,
  tickets: boolean,
): Promise<{ server: Server; port: number; bytes: () => number }> => {
  const own = await credentials('checkout');
  let bytes = 0;
  const server = createServer(
    {
      cert: own.certificatePem,
      key: own.keyPem,
      ca: roots.cert,
      requestCert: true,
      rejectUnauthorized: true,
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.3',
      ...(tickets ? {} : { secureOptions: 0x4000 }),
    },
    (socket) => {
      socket.on('data', (data) => {
        bytes += data.length;
      });
      socket.on('error', () => {});
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { server, port: (server.address() as AddressInfo).port, bytes: () => bytes };
};

describe('a dialled tunnel', () => {
  let gateway: HboneServer;
  let outer: TunnelConnection;
  let servers: Awaited<ReturnType<typeof workload>>[];

  beforeAll(async () => {
    ca = await newTestCa();
    strangers = await newTestCa('strangers');
    servers = [await workload(ca, true), await workload(strangers, true), await workload(ca, false)];
    const own = await credentials('gateway');
    gateway = await serveHbone({
      host: '127.0.0.1',
      port: 0,
      credentials: () => own,
      handler: (call) => {
        const to = Number(call.authority.split(':')[1]);
        if (to === 1) return call.refuse(403, { 'x-why': 'policy' });
        const socket = connect({ host: '127.0.0.1', port: to });
        socket.on('error', () => {});
        const stream = call.accept();
        stream.on('error', () => socket.destroy());
        stream.pipe(socket).pipe(stream);
      },
    });
    const client = await credentials('client');
    outer = await createDialer({ credentials: () => client, clock: testClock }).dial({
      host: '127.0.0.1',
      port: gateway.port,
      hop: 'gateway',
      accept: [id('gateway')],
      servername: 'probe.demo.isthmus',
      timeoutMs: 2_000,
    });
  });
  afterAll(async () => {
    outer.close();
    await gateway.close();
    for (const { server } of servers) server.close();
  });

  const tunnelTo = (port: number) => outer.connect({ authority: `x:${port}`, timeoutMs: 2_000 });
  const handshake = async (port: number, accept = [id('checkout')]) => {
    const tunnel = await tunnelTo(port);
    try {
      return await tunnel.handshake({ hop: 'workload', accept, timeoutMs: 2_000, lingerMs: 200 });
    } finally {
      tunnel.end();
    }
  };

  it('gives any answer, with its headers', async () => {
    const { status, headers, ms } = await tunnelTo(1);
    expect({ status, why: headers['x-why'] }).toEqual({ status: 403, why: 'policy' });
    expect(ms).toBeGreaterThan(0);
  });

  it('shakes hands and sends nothing after it', async () => {
    expect(await handshake(servers[0]!.port)).toBe(id('checkout'));
    expect(await handshake(servers[2]!.port)).toBe(id('checkout'));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(servers[0]!.bytes()).toBe(0);
  });

  it('tells another identity from no TLS at all', async () => {
    await expect(handshake(servers[0]!.port, [id('other')])).rejects.toMatchObject({ code: 'path/identity' });
    await expect(handshake(gateway.port + 20_000 > 65_535 ? 2 : gateway.port + 20_000)).rejects.toMatchObject({
      code: expect.stringMatching(/^path\/(tls|timeout)$/),
    });
  });

  it('hears a refusal of our certificate that comes after the handshake', async () => {
    await expect(handshake(servers[1]!.port)).rejects.toMatchObject({
      code: 'path/tls',
      message: expect.stringContaining('refused our certificate'),
    });
  });

  it('answers pings while it lives', async () => {
    expect(await outer.ping(1_000)).toBe(true);
    expect(outer.usable).toBe(true);
    const client = await credentials('client');
    const other = await createDialer({ credentials: () => client, clock: testClock }).dial({
      host: '127.0.0.1',
      port: gateway.port,
      hop: 'gateway',
      accept: [id('gateway')],
      timeoutMs: 2_000,
    });
    other.close();
    expect(other.usable).toBe(false);
    expect(await other.ping(200)).toBe(false);
  });
});
