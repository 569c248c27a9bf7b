/**
 * The runner's health, for the kubelet and for the controllers' probers, which hold their connection and ask many times a
 * second: a connection that ends tells them of our death at once.
 */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { Shares } from '../core/shares.ts';

export interface HealthReply {
  readonly ok: boolean;
  /** One line each. */
  readonly lines: readonly string[];
}

export interface HealthRoutes {
  /** Calls back with lines until the returned function is called. */
  readonly ejections?: (listener: (line: string) => void) => () => void;
  readonly readyz: () => HealthReply;
  readonly livez: () => HealthReply;
}

export interface HealthServer {
  readonly address: string;
  close(): Promise<void>;
}

const split = (address: string): { host: string; port: number } => {
  const at = address.lastIndexOf(':');
  return { host: address.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(address.slice(at + 1)) };
};

/** Readers at once: controllers, and one that is being replaced. */
const readersMax = 16;
const unreadMax = 256 * 1024;

/** A line now and with each change, for as long as the reader stays. One that does not read is let go. */
const streamOf = (listen: NonNullable<HealthRoutes['ejections']>) => {
  let readers = 0;
  return (response: ServerResponse): void => {
    if (readers >= readersMax) {
      response.writeHead(503).end();
      return;
    }
    readers++;
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.flushHeaders();
    const leave = listen((line) => {
      if (response.writableLength > unreadMax) response.destroy();
      else response.write(`${line}\n`);
    });
    response.on('error', () => {});
    response.once('close', () => {
      readers--;
      leave();
    });
  };
};

const handler = (routes: HealthRoutes, ejections = routes.ejections && streamOf(routes.ejections)): Server =>
  createServer({ keepAliveTimeout: 60_000, requestTimeout: 10_000 }, (request, response) => {
    const path = (request.url ?? '').split('?')[0];
    const route = path === '/readyz' ? routes.readyz : path === '/livez' ? routes.livez : undefined;
    if (path === '/v1/ejections' && request.method === 'GET' && ejections !== undefined) return ejections(response);
    const wrongMethod = request.method !== 'GET' && request.method !== 'HEAD';
    const reply = route?.();
    const status = wrongMethod ? 405 : reply === undefined ? 404 : reply.ok ? 200 : 503;
    const body = wrongMethod || reply === undefined ? '' : `${reply.lines.join('\n')}\n`;
    response.writeHead(status, { 'content-type': 'text/plain', 'content-length': Buffer.byteLength(body) });
    response.end(request.method === 'HEAD' ? undefined : body);
  });

/** Throws 'config/invalid' when the address cannot be bound. */
export const serveHealth = async (address: string, routes: HealthRoutes): Promise<HealthServer> => {
  const server = handler(routes);
  // Any pod reaches this port: none may keep out the kubelet, or fill the process that watches the Envoys.
  server.maxConnections = limits.httpConnectionsMax;
  const shares = new Shares(limits.httpConnectionsPerAddressMax);
  server.on('connection', (socket) => {
    const from = socket.remoteAddress ?? '';
    if (shares.take(from)) socket.once('close', () => shares.leave(from));
    else socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        new IsthmusError('config/invalid', `healthAddress "${address}" cannot be bound: ${cause.message}`, {
          hint: 'choose an address of this machine and a free port',
          cause,
        }),
      );
    });
    server.listen(split(address), resolve);
  });
  const bound = server.address() as AddressInfo;
  return {
    address: bound.family === 'IPv6' ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};
