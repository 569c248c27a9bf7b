import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { IsthmusError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import {
  cliHeader,
  type HttpListener,
  healthRoute,
  json,
  listenHttp,
  type PostRoute,
  type Route,
} from '../../../src/ops/http.ts';
import { openLog } from '../../../src/ops/log.ts';
import { openMetrics } from '../../../src/ops/metrics.ts';

let open: HttpListener | undefined;
afterEach(() => open?.close());
const serve = async (route: Route, post?: PostRoute): Promise<string> => {
  open = await listenHttp('127.0.0.1:0', route, post);
  return `http://127.0.0.1:${open.port}`;
};

describe('health', () => {
  it('names what is pending, and is alive meanwhile', async () => {
    let pending: string | undefined = 'endpointslices';
    const base = await serve(
      healthRoute({
        tasks: new Map([
          ['kubernetes', () => pending],
          ['discovery', () => undefined],
        ]),
      }),
    );
    const before = await fetch(`${base}/readyz?verbose`);
    expect(before.status).toBe(503);
    expect(await before.text()).toBe(
      '[-] kubernetes pending: endpointslices\n[+] discovery ok\nnot ready: 1 pending\n',
    );
    expect((await fetch(`${base}/livez`)).status).toBe(200);
    pending = undefined;
    expect((await fetch(`${base}/readyz`)).status).toBe(200);
  });
});

describe('one address', () => {
  it('holds so many connections and no more; another is answered', async () => {
    const base = new URL(await serve(() => json({})));
    const port = Number(base.port);
    const greedy = Array.from({ length: limits.httpConnectionsMax }, () =>
      connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' }),
    );
    for (const socket of greedy) socket.on('error', () => {}).resume();
    await vi.waitFor(() => {
      const open = greedy.filter((socket) => !socket.closed && !socket.connecting).length;
      expect(open).toBe(limits.httpConnectionsPerAddressMax);
    });
    expect((await fetch(`${base}livez`)).status).toBe(200);
    for (const socket of greedy) socket.destroy();
  });
});

describe('a change over HTTP', () => {
  const headers = { 'content-type': 'application/json', [cliHeader]: '1' };
  const taken: unknown[] = [];
  const change: PostRoute = (path, body) => {
    if (path !== '/v1/commands') return undefined;
    taken.push(body);
    return json({ ok: true });
  };
  const post = async (init: RequestInit, path = '/v1/commands'): Promise<Response> =>
    fetch(`${await serve(() => json({}), change)}${path}`, { method: 'POST', ...init });
  afterEach(() => taken.splice(0));

  it('is taken with its body', async () => {
    expect((await post({ headers, body: '{"kind":"freeze"}' })).status).toBe(200);
    expect(taken).toEqual([{ kind: 'freeze' }]);
  });
  it.each([
    ['without the header', { 'content-type': 'application/json' }, 403],
    ['from a page', { ...headers, origin: 'http://evil.example' }, 403],
    ['as a form', { ...headers, 'content-type': 'application/x-www-form-urlencoded' }, 415],
    ['as text, as a page may without asking', { ...headers, 'content-type': 'text/plain' }, 415],
  ])('is refused %s', async (_what, given, status) => {
    const answer = await post({ headers: given, body: '{}' });
    expect(answer.status).toBe(status);
    expect(((await answer.json()) as { error: { hint: string } }).error.hint).not.toBe('');
    expect(taken).toEqual([]);
  });
  it.each(['POST', 'GET'])(
    'is refused under a name that is not of this machine, and so is reading: %s',
    async (method) => {
      const base = new URL(await serve(() => json({}), change));
      const answer = await new Promise<string>((resolve, reject) => {
        const socket = connect(Number(base.port), '127.0.0.1', () => {
          const head = `${method} /v1/commands HTTP/1.1\r\nhost: rebound.example\r\n${cliHeader}: 1\r\n`;
          socket.end(`${head}content-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}`);
        });
        let text = '';
        socket.on('data', (chunk) => {
          text += chunk.toString();
        });
        socket.on('close', () => resolve(text));
        socket.on('error', reject);
      });
      expect(answer).toMatch(/^HTTP\/1\.1 403/);
      expect(taken).toEqual([]);
    },
  );
  it.each([
    ['{', 400, /not JSON/],
    [JSON.stringify({ reason: 'x'.repeat(20_000) }), 413, /larger than/],
  ])('says what is wrong with its body', async (body, status, message) => {
    const answer = await post({ headers, body });
    expect(answer.status).toBe(status);
    expect(await answer.text()).toMatch(message);
    expect(taken).toEqual([]);
  });
  it('is not accepted where nothing can be changed, and other methods nowhere', async () => {
    const base = await serve(() => json({}), change);
    expect((await fetch(`${base}/v1/commands`, { method: 'PUT', headers, body: '{}' })).status).toBe(405);
    expect((await fetch(`${base}/v1/other`, { method: 'POST', headers, body: '{}' })).status).toBe(404);
  });
});

describe('a listener', () => {
  it('turns an expected failure into its code and a next step', async () => {
    const base = await serve(() => {
      throw new IsthmusError('usage/invalid', '"x" is not a service', { hint: 'write ns/name' });
    });
    const answer = await fetch(base);
    expect(answer.status).toBe(422);
    expect(await answer.json()).toEqual({
      error: { code: 'usage/invalid', message: '"x" is not a service', hint: 'write ns/name' },
    });
  });
  it('refuses other methods and unknown paths', async () => {
    const base = await serve((path) => (path === '/a' ? json({ big: 1n }) : undefined));
    expect((await fetch(`${base}/a`, { method: 'POST', body: 'x' })).status).toBe(405);
    expect((await fetch(`${base}/b`)).status).toBe(404);
    expect(await (await fetch(`${base}/a`)).json()).toEqual({ big: '1' });
  });
  it('stays up under garbage', async () => {
    const base = await serve(() => json({}));
    const port = Number(new URL(base).port);
    for (const bytes of [
      '\0\u0001\xff'.repeat(999),
      'GET http://[ HTTP/1.1\r\nhost: a\r\n\r\n',
      `GET / HTTP/1.1\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
    ]) {
      await new Promise<void>((done) => {
        const socket = connect(port, '127.0.0.1', () => socket.end(bytes));
        socket
          .on('close', () => done())
          .on('error', () => {})
          .resume();
      });
    }
    expect((await fetch(base)).status).toBe(200);
  });
  it('says which address is taken', async () => {
    const base = await serve(() => undefined);
    await expect(listenHttp(`127.0.0.1:${new URL(base).port}`, () => undefined)).rejects.toMatchObject({
      code: 'config/invalid',
      message: expect.stringContaining('EADDRINUSE'),
    });
  });
});

describe('logs', () => {
  it('are constant messages with fields, and never hold a secret', () => {
    const lines: string[] = [];
    const log = openLog('debug', { cluster: 'a' }, { write: (line: string) => lines.push(line) });
    log('warn', 'record refused', {
      error: new IsthmusError('record/too-large', 'services/a/b has 70000 bytes', {
        hint: 'split it',
        subject: { member: 'west' },
      }),
      token: 'eyJhbGciOi',
      nested: { secret: 'hunter2' },
      revision: 7n,
    });
    const line = JSON.parse(lines[0]!) as Record<string, unknown>;
    expect(line).toMatchObject({
      level: 'warn',
      msg: 'record refused',
      code: 'record/too-large',
      hint: 'split it',
      member: 'west',
      cluster: 'a',
      revision: '7',
    });
    expect(lines[0]).not.toMatch(/eyJhbGciOi|hunter2/);
  });
});

describe('metrics', () => {
  it('are served by their names', async () => {
    const metrics = openMetrics('1.2.3');
    metrics.add('isthmus_publish_total', { result: 'ok' });
    metrics.set('isthmus_peer_reachable', 1, { peer: 'west' });
    metrics.observe('isthmus_translate_seconds', 0.002);
    const text = await metrics.text();
    expect(text).toContain('isthmus_build_info{version="1.2.3"} 1');
    expect(text).toContain('isthmus_publish_total{result="ok"} 1');
    expect(text).toContain('isthmus_peer_reachable{peer="west"} 1');
    metrics.reset('isthmus_peer_reachable');
    expect(await metrics.text()).not.toContain('peer="west"');
  });
});
