/**
 * Authenticated requests to one API server, over node:https.
 *
 * Of client-node it uses the configuration and the authentication (files, exec plugins, OIDC, rotating service account
 * tokens). Its generated clients were passed over: they make a new connection pool for each request, and its watch asks for
 * no bookmarks, swallows parse errors and reopens quiet streams every 30 s.
 *
 * Short requests share kept-alive connections; every watch has a connection of its own, so that a large list never delays
 * an event behind it. Node switches Nagle's algorithm off on all of them.
 */
import { createHash } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import type { Clock } from '../core/clock.ts';
import { type ErrorCode, IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { cutLines } from './lines.ts';

export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Record<string, unknown>,
) => void;

export interface KubeRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Absolute path, without the query. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Default application/json. */
  readonly contentType?: string;
  readonly timeoutMs?: number;
}

export interface StreamHandler {
  /** The server accepted the watch. */
  open(): void;
  /** Any bytes at all came in: the connection lives. */
  bytes(): void;
  line(text: string): void;
  /** Called once, last. Undefined: the server ended the stream in order. Never called after `close()`. */
  end(error: IsthmusError | undefined): void;
}

export interface KubeStream {
  close(): void;
}

export interface KubeApi {
  /** URL of the server, for messages. */
  readonly server: string;
  /** The parsed answer of a 2xx. Rejections are `IsthmusError`s with a kube/… code; `subject.status` is the HTTP status. */
  request(request: KubeRequest): Promise<unknown>;
  stream(path: string, query: Readonly<Record<string, string>>, handler: StreamHandler): KubeStream;
  close(): void;
}

/** HTTP status of a failed request; undefined when no answer came. */
export const statusOf = (error: unknown): number | undefined => {
  const status = error instanceof IsthmusError ? error.subject.status : undefined;
  return typeof status === 'number' ? status : undefined;
};

const tlsErrors = /^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO|SELF_SIGNED|DEPTH_ZERO|EPROTO|HOSTNAME_MISMATCH)/;

const connectError = (server: string, cause: unknown): IsthmusError => {
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  const text = cause instanceof Error && cause.message !== '' ? cause.message : code;
  if (tlsErrors.test(code)) {
    return new IsthmusError('kube/config', `TLS with the API server ${server} failed: ${text}`, {
      hint: 'check certificate-authority and tls-server-name of the cluster in the kubeconfig',
      subject: { server, errno: code },
      cause,
    });
  }
  return new IsthmusError('kube/unavailable', `the API server ${server} does not answer: ${text}`, {
    hint: 'check that the server of the kubeconfig is right and reachable from here',
    subject: { server, errno: code },
    cause,
  });
};

const codeOf = (status: number): ErrorCode => {
  if (status === 401 || status === 403) return 'kube/denied';
  if (status === 404) return 'kube/not-found';
  if (status === 409) return 'kube/conflict';
  if (status === 408 || status === 410 || status === 429 || status >= 500) return 'kube/unavailable';
  return 'kube/rejected';
};

const statusError = (server: string, what: string, status: number, body: string): IsthmusError => {
  let message = body.slice(0, 500);
  let reason = '';
  try {
    const parsed = JSON.parse(body) as { message?: unknown; reason?: unknown };
    if (typeof parsed.message === 'string') message = parsed.message;
    if (typeof parsed.reason === 'string') reason = parsed.reason;
  } catch {
    // Not a Status object: a proxy's page, shown as it is.
  }
  const hint =
    status === 401
      ? 'renew the credentials of the kubeconfig'
      : status === 403
        ? 'grant this account the verb and resource that the message names'
        : undefined;
  return new IsthmusError(codeOf(status), `${what}: ${status} ${message}`.trim(), {
    ...(hint === undefined ? {} : { hint }),
    subject: { server, status, reason },
  });
};

interface Connection {
  readonly headers: http.OutgoingHttpHeaders;
  readonly options: https.RequestOptions;
  readonly pooled: http.Agent;
}

const tlsOf = (made: https.RequestOptions): https.AgentOptions => {
  const { ca, cert, key, servername, rejectUnauthorized } = made;
  return {
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(servername !== undefined && { servername }),
    ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
  };
};

/** Authentication for each request anew: tokens and certificates on disk rotate. A pool lasts as long as its TLS material. */
const openConnections = (kubeConfig: KubeConfig, secure: boolean) => {
  const cluster = kubeConfig.getCurrentCluster();
  let pool: { id: string; agent: http.Agent } | undefined;
  const connection = async (): Promise<Connection> => {
    const made: https.RequestOptions = {};
    try {
      await kubeConfig.applyToHTTPSOptions(made);
    } catch (cause) {
      throw new IsthmusError('kube/config', `the credentials of the kubeconfig cannot be used: ${String(cause)}`, {
        hint: 'check the user of the current context',
        cause,
      });
    }
    const { agent, auth } = made;
    const headers = made.headers as Record<string, string> | undefined;
    const tls = tlsOf(made);
    const shared = { ...(auth ? { auth } : {}) };
    if (cluster?.proxyUrl) {
      return { headers: { ...headers }, options: { ...shared, agent }, pooled: agent as http.Agent };
    }
    const id = createHash('sha256');
    for (const part of [tls.ca, tls.cert, tls.key, tls.servername]) id.update(`${part ?? ''}\0`);
    const digest = id.digest('hex');
    if (pool?.id !== digest) {
      // The old pool drains by itself: its idle sockets close at the server's or its own timeout.
      const kept = { keepAlive: true, maxSockets: 16, timeout: 60_000 };
      pool = { id: digest, agent: secure ? new https.Agent({ ...kept, ...tls }) : new http.Agent(kept) };
    }
    return { headers: { ...headers }, options: { ...shared, ...(secure ? tls : {}) }, pooled: pool.agent };
  };
  return { connection, close: () => pool?.agent.destroy() };
};

/**
 * Requests to the current cluster of the configuration.
 * @param clock measures the timeouts.
 */
export const openKubeApi = (kubeConfig: KubeConfig, clock: Clock): KubeApi => {
  const server = kubeConfig.getCurrentCluster()?.server ?? '';
  if (!URL.canParse(server)) throw new IsthmusError('kube/config', `"${server}" is not the URL of an API server`);
  const base = new URL(server);
  const secure = base.protocol === 'https:';
  const prefix = base.pathname.replace(/\/$/, '');
  const connections = openConnections(kubeConfig, secure);
  const urlOf = (path: string, query: Readonly<Record<string, string>> = {}): URL => {
    const url = new URL(prefix + path, base);
    for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
    return url;
  };
  const send = secure ? https.request : http.request;

  const once = async (request: KubeRequest): Promise<unknown> => {
    const { headers, options, pooled } = await connections.connection();
    const payload = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const what = `${request.method} ${request.path}`;
    return new Promise((resolve, reject) => {
      const call = send(urlOf(request.path, request.query), {
        ...options,
        agent: pooled,
        method: request.method,
        headers: {
          ...headers,
          // The key set is application/jwk-set+json; all else is JSON when there is a choice.
          accept: 'application/json, */*',
          ...(payload && {
            'content-type': request.contentType ?? 'application/json',
            'content-length': payload.length,
          }),
        },
      });
      const timeoutMs = request.timeoutMs ?? limits.kubeRequestTimeoutMs;
      const timer = clock.after(timeoutMs, () => call.destroy(new Error(`no answer to ${what} in ${timeoutMs} ms`)));
      const fail = (error: unknown) => {
        timer.cancel();
        reject(error instanceof IsthmusError ? error : connectError(server, error));
      };
      call.on('error', (error) => fail(Object.assign(error, { reused: call.reusedSocket })));
      call.on('response', (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > limits.kubeResponseBytesMax) {
            const text = `the answer to ${what} is larger than ${limits.kubeResponseBytesMax} bytes`;
            fail(new IsthmusError('kube/rejected', text, { subject: { server } }));
            call.destroy();
          } else chunks.push(chunk);
        });
        response.on('error', fail);
        response.on('aborted', () => fail(new Error(`the answer to ${what} was cut off`)));
        response.on('end', () => {
          timer.cancel();
          const text = Buffer.concat(chunks).toString('utf8');
          const status = response.statusCode ?? 0;
          if (status < 200 || status > 299) return reject(statusError(server, what, status, text));
          try {
            resolve(text === '' ? undefined : JSON.parse(text));
          } catch (cause) {
            const message = `the API server ${server} answered ${what} with malformed JSON`;
            reject(new IsthmusError('kube/unavailable', message, { subject: { server, status }, cause }));
          }
        });
      });
      call.end(payload);
    });
  };

  return {
    server,
    request: async (request) => {
      try {
        return await once(request);
      } catch (error) {
        // The server closed an idle connection just as we reused it; the request never reached a handler.
        const cause = error instanceof IsthmusError ? (error.cause as { reused?: boolean; code?: string }) : undefined;
        if (cause?.reused && (cause.code === 'ECONNRESET' || cause.code === 'EPIPE')) return once(request);
        throw error;
      }
    },
    stream: (path, query, handler) => openStream({ path, query, handler }),
    close: connections.close,
  };

  function openStream(args: {
    path: string;
    query: Readonly<Record<string, string>>;
    handler: StreamHandler;
  }): KubeStream {
    let done = false;
    let call: http.ClientRequest | undefined;
    const timer = clock.after(limits.kubeRequestTimeoutMs, () =>
      end(new Error(`no answer to a watch of ${args.path}`)),
    );
    const end = (error: unknown): void => {
      if (done) return;
      done = true;
      timer.cancel();
      call?.destroy();
      const known = error === undefined || error instanceof IsthmusError;
      args.handler.end(known ? error : connectError(server, error));
    };
    const lines = cutLines(limits.kubeLineBytesMax, (text) => {
      if (!done) args.handler.line(text);
    });
    const start = async (): Promise<void> => {
      const { headers, options } = await connections.connection();
      if (done) return;
      call = send(urlOf(args.path, args.query), {
        agent: false,
        ...options,
        headers: { ...headers, accept: 'application/json' },
      });
      call.on('error', end);
      // A dead network shows in some 20 s (10 s idle, then a probe a second), long before a bookmark is missed.
      call.on('socket', (socket) => socket.setKeepAlive(true, 10_000));
      call.on('response', (response) => {
        timer.cancel();
        const status = response.statusCode ?? 0;
        const ok = status === 200;
        if (ok && !done) args.handler.open();
        let body = '';
        response.on('data', (chunk: Buffer) => {
          if (done) return;
          if (!ok) {
            if (body.length < 4096) body += chunk.toString('utf8');
            return;
          }
          args.handler.bytes();
          if (lines.push(chunk)) return;
          const text = `an object of ${args.path} is larger than ${limits.kubeLineBytesMax} bytes`;
          end(new IsthmusError('kube/rejected', text, { subject: { server } }));
        });
        response.on('aborted', () => end(new Error('the watch was cut off')));
        response.on('error', end);
        response.on('end', () => end(ok ? undefined : statusError(server, `WATCH ${args.path}`, status, body)));
      });
      call.end();
    };
    start().catch(end);
    return {
      close: () => {
        done = true;
        timer.cancel();
        call?.destroy();
      },
    };
  }
};
