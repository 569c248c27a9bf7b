/** The pool's behaviour, which is ztunnel's: shared up to a number of streams, one connection attempt at a time. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { cancelTunnel, connectHbone, type HboneConnection } from '../../../src/hbone/client.ts';
import type { Credentials } from '../../../src/hbone/credentials.ts';
import { HbonePool } from '../../../src/hbone/pool.ts';
import { type HboneServer, serveHbone } from '../../../src/hbone/server.ts';
import { realClock as clock } from '../../../src/ops/clock.ts';
import { createPki } from './pki.ts';

const identity = 'spiffe://cluster.local/ns/test/sa/gateway';
const request = { authority: 'a.b:80' };

describe('pool', () => {
  let server: HboneServer;
  let client: Credentials;
  let connects = 0;
  let pool: HbonePool;
  const dial = (): Promise<HboneConnection> => {
    connects += 1;
    const address = { host: '127.0.0.1', port: server.port };
    return connectHbone({ hop: 'g', clock, credentials: client, accept: [identity], address, tcpTimeoutMs: 1_000 });
  };

  beforeAll(async () => {
    const pki = await createPki();
    client = await pki.credentials('spiffe://cluster.local/ns/test/sa/client');
    const own = await pki.credentials(identity);
    server = await serveHbone({
      host: '127.0.0.1',
      port: 0,
      credentials: () => own,
      handler: (r) => (r.authority === 'a.b:80' ? r.accept() : r.refuse(404)),
    });
  });
  beforeEach(() => {
    connects = 0;
    pool?.close();
    pool = new HbonePool({ clock, streamsMax: 10, idleMs: 200, pingIntervalMs: 1_000, pingTimeoutMs: 1_000 });
  });
  afterAll(() => {
    pool.close();
    return server.close();
  });

  test('many at once share one connection until it is full', async () => {
    const tunnels = await Promise.all(Array.from({ length: 25 }, () => pool.tunnel('k', dial, request)));
    expect(connects).toBe(3);
    expect(new Set(tunnels.map((t) => t.connection)).size).toBe(3);
    for (const { stream } of tunnels) cancelTunnel(stream);
    // Full ones are not used again and end with their last stream; the third has room.
    await expect.poll(() => pool.connections).toBe(1);
    await pool.tunnel('k', dial, request);
    expect(connects).toBe(3);
  });

  test('keys do not share', async () => {
    await pool.tunnel('a', dial, request);
    await pool.tunnel('b', dial, request);
    expect(connects).toBe(2);
  });

  test('a dead connection is replaced, at the next call and not before', async () => {
    const { connection } = await pool.tunnel('k', dial, request);
    connection.session.destroy();
    await pool.tunnel('k', dial, request);
    expect(connects).toBe(2);
  });

  test('a failed attempt fails its own caller alone; the next in line tries again, after it', async () => {
    let running = 0;
    let most = 0;
    const failing = async (): Promise<HboneConnection> => {
      connects += 1;
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running -= 1;
      throw new Error('dead');
    };
    const results = await Promise.allSettled(Array.from({ length: 4 }, () => pool.tunnel('k', failing, request)));
    expect(results.map(({ status }) => status)).toEqual(Array(4).fill('rejected'));
    expect(connects).toBe(4);
    expect(most).toBe(1);
    await pool.tunnel('k', dial, request);
  });

  test('a refused CONNECT is not retried and leaves the connection to others', async () => {
    await expect(pool.tunnel('k', dial, { authority: 'x:1' })).rejects.toMatchObject({ code: 'path/connect-status' });
    await pool.tunnel('k', dial, request);
    expect(connects).toBe(1);
  });

  test('an unused connection ends; one with streams outlives its place in the pool', async () => {
    const { stream, connection } = await pool.tunnel('k', dial, request);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(connection.session.destroyed).toBe(false);
    await pool.tunnel('k', dial, request);
    expect(connects).toBe(2);
    cancelTunnel(stream);
    await expect.poll(() => connection.session.destroyed).toBe(true);
  });
});
