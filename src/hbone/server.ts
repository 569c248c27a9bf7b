/**
 * HBONE from the server's side: mutual TLS 1.3, HTTP/2, and each CONNECT handed to a handler with the identity that the
 * caller proved. The handler answers: `accept` gives the bytes, `refuse` a status.
 *
 * A tls.Server with HTTP/2 laid on each accepted socket, instead of http2.createSecureServer: the certificate may change
 * between two connections, and the identity is checked once per connection, before the first stream.
 */

import { constants, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls';
import { type Credentials, contextOf } from './credentials.ts';
import { identityOf } from './identity.ts';

export interface HboneRequest {
  /** `host:port` as sent; not checked. */
  readonly authority: string;
  /** The caller's identity. */
  readonly identity: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly remote: { readonly host: string; readonly port: number };
  readonly local: { readonly host: string; readonly port: number };
  /** Answers 200; the bytes that follow. May be called once, instead of `refuse`. */
  accept(headers?: Readonly<Record<string, string>>): Duplex;
  refuse(status: number, headers?: Readonly<Record<string, string>>): void;
  /** The caller went away before an answer. */
  onAbort(fn: () => void): void;
}

export interface HboneServerOptions {
  readonly host: string;
  readonly port: number;
  /** Asked on every connection; the same object is the same certificate. */
  readonly credentials: () => Credentials;
  readonly handler: (request: HboneRequest) => void;
  /** May this identity connect at all? Default: every identity under the roots. */
  readonly admit?: (identity: string) => boolean;
  /** Told of connections that were refused before a CONNECT. */
  readonly refused?: (remote: string, error: Error) => void;
  readonly handshakeTimeoutMs?: number;
  readonly maxStreams?: number;
  readonly maxConnections?: number;
}

export interface HboneServer {
  readonly port: number;
  /** Ends the listener and every connection. */
  close(): Promise<void>;
}

const windowBytes = 4 * 1024 * 1024;

class Listener {
  readonly #options: HboneServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #current: Credentials;

  constructor(options: HboneServerOptions) {
    this.#options = options;
    this.#current = options.credentials();
    contextOf(this.#current);
    this.#server = createServer({
      ...pem(this.#current),
      ALPNProtocols: ['h2'],
      requestCert: true,
      rejectUnauthorized: true,
      noDelay: true,
      handshakeTimeout: options.handshakeTimeoutMs ?? 10_000,
    });
    this.#server.maxConnections = options.maxConnections ?? 10_000;
    this.#server.prependListener('connection', (socket: Socket) => this.#accepted(socket));
    this.#server.on('secureConnection', (tls) => this.#secured(tls));
    this.#server.on('tlsClientError', (error, tls) => options.refused?.(remoteOf(tls), refusalOf(tls, error)));
  }

  /** Runs before TLS starts on the socket, so that a rotated certificate serves from the next connection on. */
  #accepted(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    const next = this.#options.credentials();
    if (next === this.#current) return;
    this.#server.setSecureContext(pem(next));
    this.#current = next;
  }

  #secured(tls: TLSSocket): void {
    const refuse = (error: Error): void => {
      this.#options.refused?.(remoteOf(tls), error);
      tls.destroy();
    };
    const identity = identityOf(tls.getPeerX509Certificate());
    if (!identity.ok) refuse(identity.error);
    else if (this.#options.admit?.(identity.value) === false) refuse(new Error(`${identity.value} may not connect`));
    else if (tls.alpnProtocol !== 'h2') refuse(new Error('the client does not speak HTTP/2 (ALPN h2)'));
    else this.#serve(tls, identity.value);
  }

  #serve(tls: TLSSocket, identity: string): void {
    const session = performServerHandshake(tls, {
      settings: {
        initialWindowSize: windowBytes,
        maxConcurrentStreams: this.#options.maxStreams ?? 1_000,
        enableConnectProtocol: false,
      },
      // ztunnel ends every double-HBONE tunnel by RST_STREAM; the default budget of 33 a second would end the connection.
      streamResetBurst: 10_000,
      streamResetRate: 2_000,
      maxSessionMemory: 256,
    });
    session.setLocalWindowSize(4 * windowBytes);
    session.on('error', () => session.destroy());
    session.on('stream', (stream, headers) => this.#stream(session, stream, headers, identity));
  }

  #stream(
    session: ServerHttp2Session,
    stream: ServerHttp2Stream,
    headers: Record<string, unknown>,
    identity: string,
  ): void {
    stream.on('error', () => {});
    if (headers[':method'] !== 'CONNECT' || headers[':protocol'] !== undefined) {
      stream.respond({ ':status': 400 }, { endStream: true });
      return;
    }
    const socket = session.socket;
    const answer = (status: number, extra: Readonly<Record<string, string>>, endStream: boolean): void => {
      if (stream.destroyed || stream.closed || stream.headersSent) return;
      stream.respond({ ...extra, ':status': status }, { endStream });
    };
    this.#options.handler({
      authority: String(headers[':authority'] ?? ''),
      identity,
      headers: headers as HboneRequest['headers'],
      remote: { host: plain(socket.remoteAddress), port: socket.remotePort ?? 0 },
      local: { host: plain(socket.localAddress), port: socket.localPort ?? 0 },
      accept: (extra = {}) => {
        answer(200, extra, false);
        return stream;
      },
      refuse: (status, extra = {}) => {
        answer(status, extra, true);
        // The caller may never end its side; what it has sent is of no use.
        stream.resume();
        stream.once('finish', () => stream.close(constants.NGHTTP2_NO_ERROR));
      },
      onAbort: (fn) => {
        if (stream.destroyed) fn();
        else stream.once('close', fn);
      },
    });
  }

  listen(): Promise<HboneServer> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#options.port, this.#options.host, () => {
        this.#server.off('error', reject);
        resolve({ port: (this.#server.address() as AddressInfo).port, close: () => this.#close() });
      });
    });
  }

  #close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      for (const socket of this.#sockets) socket.destroy();
    });
  }
}

const pem = (c: Credentials): SecureContextOptions => ({
  cert: c.certificatePem,
  key: c.keyPem,
  ca: c.rootsPem,
  minVersion: 'TLSv1.3',
  ecdhCurve: 'X25519:P-256',
});

/** Node says `socket hang up` for a client certificate that it rejected itself; the reason is on the socket. */
const refusalOf = (tls: TLSSocket, error: Error): Error => {
  const why: unknown = tls.authorizationError;
  return why ? new Error(`the client's certificate was refused: ${String(why)}`, { cause: error }) : error;
};

/** `::ffff:10.0.0.1` → `10.0.0.1`. */
const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:/, '');
const remoteOf = (tls: TLSSocket | undefined): string => `${plain(tls?.remoteAddress)}:${tls?.remotePort ?? 0}`;

/** Starts to listen. Rejects when the port cannot be bound or the credentials are unusable (`trust/invalid`). */
export const serveHbone = async (options: HboneServerOptions): Promise<HboneServer> => new Listener(options).listen();
