/** The runner's health port: what it answers, and that nothing thrown at it makes it stop answering. */
import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type HealthServer, serveHealth } from '../../../src/gateway/health_server.ts';

let server: HealthServer;
let ready = true;
beforeEach(async () => {
  ready = true;
  server = await serveHealth('127.0.0.1:0', {
    readyz: () => ({ ok: ready, lines: [ready ? 'ready' : 'draining'] }),
    livez: () => ({ ok: true, lines: ['alive'] }),
  });
});
afterEach(async () => server.close());

/** What comes back until the server ends it, or 300 ms. */
const send = (content: Buffer | string): Promise<string> =>
  new Promise((resolve) => {
    const socket = connect(Number(server.address.split(':')[1]), '127.0.0.1');
    let got = '';
    const timer = setTimeout(() => socket.destroy(), 300);
    socket.on('data', (data) => {
      got += data.toString('latin1');
    });
    socket.on('error', () => {});
    socket.once('close', () => {
      clearTimeout(timer);
      resolve(got);
    });
    socket.write(content);
  });
const ask = async (path: string, method = 'GET'): Promise<{ status: number; body: string }> => {
  const answer = await fetch(`http://${server.address}${path}`, { method });
  return { status: answer.status, body: await answer.text() };
};

test('answers its two questions and nothing else', async () => {
  expect(await ask('/readyz')).toEqual({ status: 200, body: 'ready\n' });
  expect(await ask('/livez?verbose')).toEqual({ status: 200, body: 'alive\n' });
  ready = false;
  expect(await ask('/readyz')).toEqual({ status: 503, body: 'draining\n' });
  expect(await ask('/readyz', 'HEAD')).toEqual({ status: 503, body: '' });
  expect((await ask('/readyz', 'POST')).status).toBe(405);
  for (const path of ['/', '/stats', '/quitquitquit', '//readyz', '/readyz/..']) {
    expect((await ask(path)).status).toBe(404);
  }
});

test('goes on answering whatever is thrown at it', async () => {
  const noise = Buffer.concat(Array.from({ length: 300 }, (_, i) => createHash('sha256').update(`${i}`).digest()));
  const thrown: (Buffer | string)[] = [
    noise,
    Buffer.concat([Buffer.from([0x16, 3, 1, 2, 0, 1, 0]), noise]),
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'CONNECT checkout:80 HTTP/1.1\r\nhost: checkout\r\n\r\n',
    'GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n',
    `GET /readyz HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`,
    'GET /readyz HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
    'POST /readyz HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\nabc',
    'GET http://[::1',
    'GET \u0000 HTTP/1.1\r\n\r\n',
  ];
  const answers = await Promise.all(thrown.map(send));
  for (const answer of answers) expect(answer).toMatch(/^($|HTTP\/1\.1 (200|4\d\d) )/);
  expect(await ask('/readyz')).toEqual({ status: 200, body: 'ready\n' });
});
