/**
 * Authenticated requests to one API server, over node:https.
 *
 * client-node gives the configuration and the authentication (files, exec plugins, OIDC, rotating service account tokens).
 * Its generated clients were passed over: they make a new connection pool for each request, and its watch asks for
 * no bookmarks, swallows parse errors and reopens quiet streams every 30 s.
 *
 * Short requests share kept-alive connections; every watch has a connection of its own, so that a large list never delays
 * an event behind it. Node switches Nagle's algorithm off on all of them.
 */
import http from 'node:http';
import https from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { connectError, statusError } from './api_errors.ts';
import { type Connection, openConnections } from './connections.ts';
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
  /** Called once, last, and never before `stream` has returned or after `close()`. Undefined: it ended in order. */
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

/** What all requests to one server share. */
interface Target {
  readonly server: string;
  readonly clock: Clock;
  readonly send: typeof https.request;
  url(path: string, query?: Readonly<Record<string, string>>): URL;
  connection(): Promise<Connection>;
}

/** The body of an answer, as text; `done` exactly once. */
const collect = (response: http.IncomingMessage, what: string, done: (result: string | Error) => void): void => {
  const chunks: Buffer[] = [];
  let bytes = 0;
  response.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes <= limits.kubeResponseBytesMax) chunks.push(chunk);
    else {
      const message = `the answer to ${what} is larger than ${limits.kubeResponseBytesMax} bytes`;
      done(new IsthmusError('kube/rejected', message));
      response.destroy();
    }
  });
  response.on('error', done);
  response.on('aborted', () => done(new Error(`the answer to ${what} was cut off`)));
  response.on('end', () => done(Buffer.concat(chunks).toString('utf8')));
};

const parseAnswer = (server: string, what: string, status: number, body: string): unknown => {
  if (status < 200 || status > 299) throw statusError(server, what, status, body);
  try {
    return body === '' ? undefined : JSON.parse(body);
  } catch (cause) {
    const message = `the API server ${server} answered ${what} with malformed JSON`;
    throw new IsthmusError('kube/unavailable', message, { subject: { server, status }, cause });
  }
};

const requestOnce = async (target: Target, request: KubeRequest): Promise<unknown> => {
  const { headers, options, pooled } = await target.connection();
  const payload = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
  const what = `${request.method} ${request.path}`;
  const contentType = request.contentType ?? 'application/json';
  return new Promise((resolve, reject) => {
    const call = target.send(target.url(request.path, request.query), {
      ...options,
      agent: pooled,
      method: request.method,
      headers: {
        ...headers,
        // The key set is application/jwk-set+json; all else is JSON when there is a choice.
        accept: 'application/json, */*',
        ...(payload && { 'content-type': contentType, 'content-length': payload.length }),
      },
    });
    const timeoutMs = request.timeoutMs ?? limits.kubeRequestTimeoutMs;
    const timer = target.clock.after(timeoutMs, () => {
      call.destroy(new Error(`no answer to ${what} in ${timeoutMs} ms`));
    });
    const fail = (error: unknown): void => {
      timer.cancel();
      reject(error instanceof IsthmusError ? error : connectError(target.server, error));
    };
    call.on('error', (error) => fail(Object.assign(error, { reused: call.reusedSocket })));
    call.on('response', (response) => {
      collect(response, what, (result) => {
        if (typeof result !== 'string') return fail(result);
        timer.cancel();
        try {
          resolve(parseAnswer(target.server, what, response.statusCode ?? 0, result));
        } catch (error) {
          reject(error);
        }
      });
    });
    call.end(payload);
  });
};

/** The server closed an idle connection just as it was used again: the request never reached a handler. */
const wasStale = (error: unknown): boolean => {
  const cause =
    error instanceof IsthmusError ? (error.cause as { reused?: boolean; code?: string } | undefined) : undefined;
  return cause?.reused === true && (cause.code === 'ECONNRESET' || cause.code === 'EPIPE');
};

const startStream = (
  target: Target,
  path: string,
  query: Readonly<Record<string, string>>,
  handler: StreamHandler,
): KubeStream => {
  let done = false;
  let call: http.ClientRequest | undefined;
  const timer = target.clock.after(limits.kubeRequestTimeoutMs, () =>
    end(new Error(`no answer to a watch of ${path}`)),
  );
  const end = (error?: unknown): void => {
    if (done) return;
    done = true;
    timer.cancel();
    call?.destroy();
    const known = error === undefined || error instanceof IsthmusError;
    handler.end(known ? error : connectError(target.server, error));
  };
  const lines = cutLines(limits.kubeLineBytesMax, (text) => {
    if (!done) handler.line(text);
  });
  const accepted = (response: http.IncomingMessage): void => {
    handler.open();
    response.on('data', (chunk: Buffer) => {
      if (done) return;
      handler.bytes();
      if (lines.push(chunk)) return;
      const message = `an object of ${path} is larger than ${limits.kubeLineBytesMax} bytes`;
      end(new IsthmusError('kube/rejected', message, { subject: { server: target.server } }));
    });
    response.on('aborted', () => end(new Error('the watch was cut off')));
    response.on('error', end);
    response.on('end', () => end());
  };
  const start = async (): Promise<void> => {
    const { headers, options } = await target.connection();
    if (done) return;
    call = target.send(target.url(path, query), {
      agent: false,
      ...options,
      headers: { ...headers, accept: 'application/json' },
    });
    call.on('error', end);
    // A dead network shows in some 20 s (10 s idle, then a probe a second), long before a bookmark is missed.
    call.on('socket', (socket) => socket.setKeepAlive(true, 10_000));
    call.on('response', (response) => {
      timer.cancel();
      if (done) return;
      const status = response.statusCode ?? 0;
      const what = `WATCH ${path}`;
      if (status === 200) accepted(response);
      else {
        collect(response, what, (result) =>
          end(typeof result === 'string' ? statusError(target.server, what, status, result) : result),
        );
      }
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
};

/**
 * Requests to the current cluster of the configuration.
 * @param clock measures the timeouts.
 * @throws IsthmusError 'kube/config' when the configuration names no server.
 */
export const openKubeApi = (kubeConfig: KubeConfig, clock: Clock): KubeApi => {
  const server = kubeConfig.getCurrentCluster()?.server ?? '';
  if (!URL.canParse(server)) throw new IsthmusError('kube/config', `"${server}" is not the URL of an API server`);
  const base = new URL(server);
  const secure = base.protocol === 'https:';
  const prefix = base.pathname.replace(/\/$/, '');
  const connections = openConnections(kubeConfig, secure);
  const target: Target = {
    server,
    clock,
    send: secure ? https.request : (http.request as typeof https.request),
    url: (path, query = {}) => {
      const url = new URL(prefix + path, base);
      for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
      return url;
    },
    connection: connections.connection,
  };
  return {
    server,
    request: async (request) => {
      try {
        return await requestOnce(target, request);
      } catch (error) {
        if (wasStale(error)) return requestOnce(target, request);
        throw error;
      }
    },
    stream: (path, query, handler) => startStream(target, path, query, handler),
    close: connections.close,
  };
};
