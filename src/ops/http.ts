/**
 * The small HTTP listeners: health, metrics, admin. Three ports, because three audiences reach them: the kubelet, Prometheus,
 * and the command line by port-forward; the admin port binds loopback, so that RBAC on port-forward is what protects it.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { IsthmusError } from '../core/errors.ts';

export interface Reply {
  readonly status: number;
  readonly type?: string;
  readonly body: string;
}

/** Gets the path and its query; `undefined` means not found. */
export type Route = (
  path: string,
  query: URLSearchParams,
  signal: AbortSignal,
) => Promise<Reply | undefined> | Reply | undefined;

export const json = (value: unknown, status = 200): Reply => ({
  status,
  type: 'application/json',
  body: `${JSON.stringify(value, (_key, v) => (typeof v === 'bigint' ? v.toString() : v), 2)}\n`,
});

const failure = (error: unknown): Reply => {
  if (error instanceof IsthmusError) {
    return json({ error: { code: error.code, message: error.message, hint: error.hint } }, error.retryable ? 503 : 422);
  }
  throw error;
};

const answer = async (route: Route, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  const aborted = new AbortController();
  response.on('close', () => aborted.abort());
  let reply: Reply | undefined;
  if (request.method !== 'GET' && request.method !== 'HEAD') reply = { status: 405, body: 'only GET is served here\n' };
  else {
    try {
      const url = new URL(request.url ?? '/', 'http://localhost');
      reply = await Promise.resolve(route(url.pathname, url.searchParams, aborted.signal)).catch(failure);
    } catch (error) {
      reply = error instanceof TypeError ? { status: 400, body: 'the path is malformed\n' } : failure(error);
    }
  }
  reply ??= { status: 404, body: 'nothing is served at this path\n' };
  if (response.destroyed) return;
  response.writeHead(reply.status, {
    'content-type': reply.type ?? 'text/plain; charset=utf-8',
    'cache-control': 'no-store',
  });
  response.end(request.method === 'HEAD' ? undefined : reply.body);
};

export interface HttpListener {
  readonly port: number;
  close(): Promise<void>;
}

/** Listens on `<ip>:<port>`. Bounded: headers, request time and connections. */
export const listenHttp = (address: string, route: Route): Promise<HttpListener> =>
  new Promise((resolve, reject) => {
    const server: Server = createServer(
      { maxHeaderSize: 8 * 1024, requestTimeout: 10_000, headersTimeout: 5_000 },
      (request, response) => {
        request.resume();
        void answer(route, request, response);
      },
    );
    server.maxConnections = 256;
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new IsthmusError('config/invalid', `cannot listen on ${address}: ${cause.code ?? cause.message}`, {
          hint: 'free the port or set another listen address',
          cause,
        }),
      ),
    );
    const at = address.lastIndexOf(':');
    server.listen(Number(address.slice(at + 1)), address.slice(0, at).replace(/^\[|\]$/g, ''), () =>
      resolve({
        port: (server.address() as AddressInfo).port,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      }),
    );
  });

/** Named tasks that must be done before the pod is ready; shown by `/readyz?verbose`. */
export interface Readiness {
  /** Undefined when done, else why not. */
  readonly tasks: ReadonlyMap<string, () => string | undefined>;
}

export const healthRoute =
  (readiness: Readiness): Route =>
  (path, query) => {
    if (path === '/livez' || path === '/healthz') return { status: 200, body: 'ok\n' };
    if (path !== '/readyz') return undefined;
    const lines: string[] = [];
    let pending = 0;
    for (const [name, check] of readiness.tasks) {
      const why = check();
      if (why !== undefined) pending++;
      lines.push(why === undefined ? `[+] ${name} ok` : `[-] ${name} pending: ${why}`);
    }
    const verdict = pending === 0 ? 'ready' : `not ready: ${pending} pending`;
    const body = query.has('verbose') ? `${lines.join('\n')}\n${verdict}\n` : `${verdict}\n`;
    return { status: pending === 0 ? 200 : 503, body };
  };
