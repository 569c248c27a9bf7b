/**
 * The small HTTP listeners: health, metrics, admin. Three ports, because three audiences reach them: the kubelet, Prometheus,
 * and the command line by port-forward; the admin port binds loopback, so that RBAC on port-forward is what protects it.
 *
 * What changes something is a POST, and is refused unless it comes over loopback, under a loopback name, with a header that no
 * web page can send without being asked for first: a browser on the machine of whoever forwards the port shall not drain a cluster.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { Shares } from '../core/shares.ts';
import type { Metrics } from './metrics.ts';

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

/** Gets the parsed body of a POST. What it holds is for the route to check. */
export type PostRoute = (
  path: string,
  body: unknown,
  signal: AbortSignal,
) => Promise<Reply | undefined> | Reply | undefined;

/** The command line sends it; a page in a browser cannot, without a preflight that nothing here answers. */
export const cliHeader = 'x-isthmus-cli';

export const json = (value: unknown, status = 200): Reply => ({
  status,
  type: 'application/json',
  body: `${JSON.stringify(value, (_key, v) => (typeof v === 'bigint' ? v.toString() : v), 2)}\n`,
});

const failure = (error: unknown): Reply => {
  if (error instanceof IsthmusError) {
    return json({ error: { code: error.code, message: error.message, hint: error.hint } }, error.retryable ? 503 : 422);
  }
  // One request's fault is not the controller's end. What it was is for whoever runs it, on its own error stream.
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  return json(
    {
      error: {
        code: 'controller/unreachable',
        message: 'the controller failed on this request',
        hint: 'its log says why',
      },
    },
    500,
  );
};

const refused = (status: number, message: string, hint: string): Reply =>
  json({ error: { code: 'usage/invalid', message, hint } }, status);

const isLoopback = (address: string | undefined): boolean =>
  address !== undefined && /^(127\.|::1$|::ffff:127\.)/.test(address);

const loopbackName = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?$/;

/** Why a POST may not change anything; undefined when it may. */
const untrusted = (request: IncomingMessage): Reply | undefined => {
  const { headers } = request;
  if (!isLoopback(request.socket.remoteAddress) || !loopbackName.test(headers.host ?? '')) {
    return refused(403, 'changes are accepted over loopback only', 'use the command line, which forwards a port');
  }
  if (headers[cliHeader] !== '1' || headers.origin !== undefined) {
    return refused(403, `the header ${cliHeader} is not there`, `send "${cliHeader}: 1", or use the command line`);
  }
  const type = headers['content-type'] ?? '';
  if (!/^application\/json(\s*;\s*charset=utf-8)?$/i.test(type)) {
    return refused(415, `content-type "${type}" is not accepted`, 'send application/json');
  }
  return undefined;
};

/** The body, or the refusal of it. Reads no more than is allowed. */
const readBody = (request: IncomingMessage): Promise<{ readonly body: unknown } | Reply> =>
  new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= limits.adminBodyBytesMax) chunks.push(chunk);
      else resolve(refused(413, `the body is larger than ${limits.adminBodyBytesMax} bytes`, 'send less'));
    });
    request.on('end', () => {
      try {
        resolve({ body: JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown });
      } catch {
        resolve(refused(400, 'the body is not JSON', 'send a JSON object'));
      }
    });
    request.on('error', () => resolve(refused(400, 'the body was cut off', 'send it again')));
  });

interface Routes {
  readonly get: Route;
  readonly post: PostRoute | undefined;
}

const dispatch = async (
  { get, post }: Routes,
  request: IncomingMessage,
  signal: AbortSignal,
): Promise<Reply | undefined> => {
  const url = new URL(request.url ?? '/', 'http://localhost');
  if (request.method === 'GET' || request.method === 'HEAD') {
    request.resume();
    // A page in a browser can lead a name of its own to a port that somebody forwards, and would read what is there.
    if (post !== undefined && !loopbackName.test(request.headers.host ?? '')) {
      return refused(403, 'this is served over loopback only', 'use the command line, which forwards a port');
    }
    return get(url.pathname, url.searchParams, signal);
  }
  if (request.method !== 'POST' || post === undefined) {
    request.resume();
    return {
      status: 405,
      body: post === undefined ? 'only GET is served here\n' : 'only GET and POST are served here\n',
    };
  }
  const no = untrusted(request);
  if (no !== undefined) {
    request.resume();
    return no;
  }
  const read = await readBody(request);
  return 'status' in read ? read : post(url.pathname, read.body, signal);
};

const answer = async (routes: Routes, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  const aborted = new AbortController();
  response.on('close', () => aborted.abort());
  let reply: Reply | undefined;
  try {
    reply = await dispatch(routes, request, aborted.signal);
  } catch (error) {
    // Only the URL's parser throws this one.
    const malformed = error instanceof TypeError && (error as NodeJS.ErrnoException).code === 'ERR_INVALID_URL';
    reply = malformed ? { status: 400, body: 'the path is malformed\n' } : failure(error);
  }
  reply ??= { status: 404, body: 'nothing is served at this path\n' };
  if (response.destroyed) return;
  response.writeHead(reply.status, {
    'content-type': reply.type ?? 'text/plain; charset=utf-8',
    'cache-control': 'no-store',
    // What is left of a body that is too large is not read: the connection ends with the answer.
    ...(reply.status === 413 ? { connection: 'close' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : reply.body);
};

export interface HttpListener {
  readonly port: number;
  close(): Promise<void>;
}

/** One address takes no more than its share: whoever held all connections would make the kubelet find us dead. */
const boundByAddress = (server: Server): void => {
  const shares = new Shares(limits.httpConnectionsPerAddressMax);
  server.on('connection', (socket) => {
    const from = socket.remoteAddress ?? '';
    if (shares.take(from)) socket.once('close', () => shares.leave(from));
    else socket.destroy();
  });
};

/** Listens on `<ip>:<port>`. Bounded: headers, bodies, request time and connections. Without `post` nothing can be changed here. */
/** GET /metrics. */
export const metricsRoute =
  (metrics: Pick<Metrics, 'contentType' | 'text'>): Route =>
  async (path) =>
    path === '/metrics' ? { status: 200, type: metrics.contentType, body: await metrics.text() } : undefined;

export const listenHttp = (address: string, get: Route, post?: PostRoute): Promise<HttpListener> =>
  new Promise((resolve, reject) => {
    const server: Server = createServer(
      { maxHeaderSize: 8 * 1024, requestTimeout: 10_000, headersTimeout: 5_000 },
      (request, response) => void answer({ get, post }, request, response),
    );
    server.maxConnections = limits.httpConnectionsMax;
    boundByAddress(server);
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
