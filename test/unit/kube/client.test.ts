import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { IsthmusError } from '../../../src/core/errors.ts';
import { type KubeApi, openKubeApi } from '../../../src/kube/api.ts';
import { loadKubeConfig } from '../../../src/kube/client.ts';
import { realClock } from '../../../src/ops/clock.ts';

const dir = mkdtempSync(join(tmpdir(), 'isthmus-kubeconfig-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));
beforeEach(() => {
  vi.stubEnv('KUBECONFIG', '');
  vi.stubEnv('KUBERNETES_SERVICE_HOST', '');
  vi.stubEnv('HOME', dir);
});
afterEach(() => vi.unstubAllEnvs());

let files = 0;
const file = (content: string): string => {
  const path = join(dir, `config-${files++}`);
  writeFileSync(path, content);
  return path;
};
const config = (server: string, more = ''): string => `
apiVersion: v1
kind: Config
current-context: east
contexts:
  - { name: east, context: { cluster: c, user: u } }
  - { name: broken, context: { cluster: nowhere, user: u } }
clusters:
  - { name: c, cluster: { server: "${server}"${more} } }
users:
  - { name: u, user: { token: t } }
`;
const caught = (call: () => unknown): IsthmusError => {
  try {
    call();
  } catch (error) {
    if (error instanceof IsthmusError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
};

describe('a kubeconfig', () => {
  test('that is missing, unreadable or no YAML names the file', () => {
    const missing = join(dir, 'none');
    for (const [path, text] of [
      [missing, /cannot be read/],
      [file('{{{'), /malformed/],
      [file('clusters: [{ name: x }]'), /malformed.*clusters\[0\]/],
      [file('null'), /malformed/],
    ] as const) {
      const error = caught(() => loadKubeConfig({ kubeconfig: path }));
      expect(error.code).toBe('kube/config');
      expect(error.message).toContain(path);
      expect(error.message).toMatch(text);
      expect(error.hint).toBeTruthy();
    }
  });

  test('with a context, cluster, user or server that does not fit names it', () => {
    const path = file(config('https://127.0.0.1:1'));
    expect(caught(() => loadKubeConfig({ kubeconfig: path, context: 'mars' }))).toMatchObject({
      code: 'kube/config',
      message: expect.stringContaining('"mars"'),
      hint: 'choose one of: east, broken',
    });
    expect(caught(() => loadKubeConfig({ kubeconfig: path, context: 'broken' })).message).toContain('"nowhere"');
    expect(caught(() => loadKubeConfig({ kubeconfig: file(config('not a url')) })).message).toContain('"not a url"');
    expect(caught(() => loadKubeConfig({ kubeconfig: file('contexts: []') })).message).toContain('no current context');
  });

  test('is found in KUBECONFIG; nowhere at all is an error, not localhost', () => {
    expect(caught(() => loadKubeConfig()).message).toContain('no kubeconfig');
    expect(caught(() => loadKubeConfig({ inCluster: true })).message).toContain('pod');
    vi.stubEnv('KUBECONFIG', file(config('https://127.0.0.1:1')));
    expect(loadKubeConfig().getCurrentCluster()?.server).toBe('https://127.0.0.1:1');
  });
});

describe('an API server', () => {
  const servers: Server[] = [];
  const apis: KubeApi[] = [];
  afterEach(() => {
    for (const api of apis.splice(0)) api.close();
    for (const server of servers.splice(0)) server.close();
  });
  const listen = async (answer: string | undefined): Promise<number> => {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      if (answer !== undefined) socket.end(answer);
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  };
  const open = (server: string, more = ''): KubeApi => {
    const api = openKubeApi(loadKubeConfig({ kubeconfig: file(config(server, more)) }), realClock);
    apis.push(api);
    return api;
  };
  const plain = (port: number) => open(`http://127.0.0.1:${port}`, ', insecure-skip-tls-verify: true');
  const error = (api: KubeApi, timeoutMs = 2_000) =>
    api.request({ method: 'GET', path: '/version', timeoutMs }).then(
      () => 'answered',
      (e) => e as IsthmusError,
    );
  const http = (status: string, body: string) =>
    `HTTP/1.1 ${status}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`;

  test('that nobody runs, or that has no such name, is unavailable and named', async () => {
    expect(await error(open('https://127.0.0.1:1'))).toMatchObject({
      code: 'kube/unavailable',
      message: expect.stringContaining('https://127.0.0.1:1'),
    });
    expect(await error(open('https://nowhere.invalid'))).toMatchObject({
      code: 'kube/unavailable',
      message: expect.stringContaining('nowhere.invalid'),
    });
  });

  test('that never answers is unavailable after the timeout', async () => {
    expect(await error(plain(await listen(undefined)), 100)).toMatchObject({
      code: 'kube/unavailable',
      message: expect.stringContaining('100 ms'),
    });
  });

  test.each([
    ['garbage', 'SSH-2.0-OpenSSH_9\r\n', 'kube/unavailable'],
    ['no JSON', http('200 OK', '<html>'), 'kube/unavailable'],
    ['half an answer', 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"a":', 'kube/unavailable'],
    ['401', http('401 Unauthorized', '{"message":"Unauthorized"}'), 'kube/denied'],
    ['403', http('403 Forbidden', '{"message":"pods is forbidden"}'), 'kube/denied'],
    ['409', http('409 Conflict', '{}'), 'kube/conflict'],
    ['422', http('422 Unprocessable', '{}'), 'kube/rejected'],
    ['429', http('429 Too Many', '{}'), 'kube/unavailable'],
    ['503', http('503 Unavailable', 'down'), 'kube/unavailable'],
  ])('that sends %s', async (_, answer, code) => {
    expect(await error(plain(await listen(answer)))).toMatchObject({ code });
  });

  test('that speaks no TLS on an https address is a configuration error', async () => {
    const port = await listen('HTTP/1.1 400 Bad Request\r\n\r\n');
    expect(await error(open(`https://127.0.0.1:${port}`))).toMatchObject({ code: 'kube/config' });
  });
});
