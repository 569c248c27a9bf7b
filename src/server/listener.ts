/**
 * One listening port: accepts within bounds, hands each connection to the gRPC server, and keeps the serving certificate
 * replaceable.
 *
 * The socket is ours and is injected into grpc-js instead of letting grpc-js listen: only so can connections be counted,
 * limited in number and rate before a TLS handshake is paid for, and closed one by one. TLS 1.3 only, HTTP/2 only; what
 * speaks anything else never gets past OpenSSL.
 */
import { createServer, type Socket } from 'node:net';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { type Server, ServerCredentials } from '@grpc/grpc-js';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { Shares } from '../core/shares.ts';
import type { ListenAddress } from './api.ts';
import { Buckets } from './buckets.ts';

export interface ListenerTls {
  readonly cert: string;
  readonly key: string;
  /** Set: a client certificate is required and must chain to one of these. */
  readonly clientRoots: string | undefined;
}

/** Server credentials whose certificate, key and roots can be replaced under a running server. */
class ReloadableCredentials extends ServerCredentials {
  constructor(tls: ListenerTls) {
    const requireClient = tls.clientRoots !== undefined;
    super(
      {
        requestCert: requireClient,
        rejectUnauthorized: requireClient,
        minVersion: 'TLSv1.3',
        handshakeTimeout: limits.tlsHandshakeTimeoutMs,
      },
      contextOf(tls),
    );
  }
  reload(tls: ListenerTls): void {
    this.updateSecureContextOptions(contextOf(tls));
  }
  override _equals(other: ServerCredentials): boolean {
    return other === this;
  }
}

/** Checked here, for grpc-js would log a bad certificate and refuse every connection from then on. */
const contextOf = (tls: ListenerTls): SecureContextOptions => {
  const context: SecureContextOptions = {
    cert: tls.cert,
    key: tls.key,
    minVersion: 'TLSv1.3',
    ...(tls.clientRoots === undefined ? {} : { ca: tls.clientRoots }),
  };
  try {
    createSecureContext(context);
  } catch (error) {
    throw new IsthmusError('trust/invalid', `serving certificate, key or roots: ${(error as Error).message}`, {
      hint: 'the certificate must be PEM, the key must belong to it',
      cause: error,
    });
  }
  return context;
};

export interface Listener {
  readonly port: number;
  /** @throws IsthmusError 'trust/invalid'; the old material stays. */
  reload(tls: ListenerTls): void;
  /** No new connections from now on; those that are there may finish. */
  stop(): void;
  /** Ends all connections politely, after `graceMs` for good. */
  drain(graceMs: number): Promise<void>;
}

export interface ListenerOptions {
  readonly listen: ListenAddress;
  readonly server: Server;
  readonly tls: ListenerTls;
  readonly clock: Clock;
  /** Connections of one address: so many open, and so many new ones a second. Absent: no more than all together. */
  readonly perAddress?: { readonly open: number; readonly perSecond: number };
  refused(error: IsthmusError): void;
}

export const openListener = async (options: ListenerOptions): Promise<Listener> => {
  const { listen, server, clock } = options;
  const credentials = new ReloadableCredentials(options.tls);
  const injector = server.createConnectionInjector(credentials);
  const sockets = new Set<Socket>();
  const admit = connectionBucket(clock);
  const share = addressShare(options);
  const listener = createServer({ noDelay: true, keepAlive: true }, (socket) => {
    socket.on('error', () => {});
    // Before the bucket of all: who is beyond its own share takes nothing from the others.
    if (!share(socket)) {
      options.refused(
        new IsthmusError('xds/too-many', `too many connections of ${socket.remoteAddress ?? 'one address'}`),
      );
      socket.destroy();
      return;
    }
    if (sockets.size >= limits.connectionsMax || !admit()) {
      options.refused(
        new IsthmusError(
          'xds/too-many',
          `${sockets.size} connections, or more than ${limits.connectionsPerSecondMax} new ones a second`,
        ),
      );
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    injector.injectConnection(socket);
  });
  await new Promise<void>((resolve, reject) => {
    listener.once('error', (cause) =>
      reject(
        new IsthmusError('config/invalid', `cannot listen on ${listen.host}:${listen.port}: ${cause.message}`, {
          cause,
        }),
      ),
    );
    listener.listen(listen.port, listen.host, resolve);
  });
  listener.on('error', (error) => options.refused(new IsthmusError('xds/too-many', error.message, { cause: error })));
  const address = listener.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : listen.port,
    reload: (tls) => credentials.reload(tls),
    stop: () => listener.close(),
    drain: (graceMs) =>
      new Promise((resolve) => {
        const finish = (): void => {
          if (sockets.size > 0) return;
          timer.cancel();
          injector.destroy();
          resolve();
        };
        const timer = clock.after(graceMs, () => {
          for (const socket of sockets) socket.destroy();
        });
        for (const socket of sockets) socket.once('close', () => setImmediate(finish));
        injector.drain(graceMs);
        finish();
      }),
  };
};

const addressShare = ({ perAddress, clock }: ListenerOptions): ((socket: Socket) => boolean) => {
  if (perAddress === undefined) return () => true;
  const open = new Shares(perAddress.open);
  const fresh = new Buckets(perAddress.perSecond, perAddress.open, clock);
  return (socket) => {
    const from = socket.remoteAddress ?? '';
    if (!fresh.take(from) || !open.take(from)) return false;
    socket.once('close', () => open.leave(from));
    return true;
  };
};

/** A token bucket: a restart of the whole fleet is let in at a rate that TLS handshakes can bear. */
const connectionBucket = (clock: Clock): (() => boolean) => {
  let tokens: number = limits.connectionsBurstMax;
  let atMs = clock.monotonicMs();
  return () => {
    const nowMs = clock.monotonicMs();
    tokens = Math.min(limits.connectionsBurstMax, tokens + ((nowMs - atMs) / 1_000) * limits.connectionsPerSecondMax);
    atMs = nowMs;
    if (tokens < 1) return false;
    tokens--;
    return true;
  };
};
