/**
 * HBONE from the client's side: a TLS 1.3 connection with a mesh certificate, HTTP/2 on it, and CONNECT streams that
 * carry bytes. `nest` runs the same once more inside such a stream, which makes it double HBONE.
 *
 * Built on node:tls and node:http2, whose sockets stack on any Duplex. A hand-written HTTP/2 framing was passed over: it
 * would be quicker by some 0.2 ms a connection, and a second implementation to trust. Every failure is an `IsthmusError`
 * that says which hop, by the name the caller gave it.
 */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import type { Clock, Timer } from '../core/clock.ts';
import { type ErrorCode, IsthmusError } from '../core/errors.ts';
import { type Credentials, contextOf } from './credentials.ts';
import { identityOf } from './identity.ts';

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface HopOptions {
  /** What to call this hop in errors: `egress gateway`, `ztunnel of checkout`. */
  readonly hop: string;
  readonly clock: Clock;
  readonly credentials: Credentials;
  /** Identities that the other end may have. An empty list accepts nobody, as in ztunnel. */
  readonly accept: readonly string[];
  /** For TLS; undefined waits for ever, as ztunnel does. */
  readonly tlsTimeoutMs?: number;
  /** SNI, where the other end chooses by it. */
  readonly servername?: string;
}

export interface ConnectOptions extends HopOptions {
  readonly address: Address;
  readonly tcpTimeoutMs: number;
}

export interface HboneConnection {
  readonly session: ClientHttp2Session;
  /** The identity that the other end proved. */
  readonly identity: string;
  readonly hop: string;
  /** `ip:port`, or the outer hop's for a nested connection. */
  readonly address: string;
  readonly clock: Clock;
  /** Undefined for a nested connection. */
  readonly tcpMs: number | undefined;
  readonly tlsMs: number;
}

export interface ConnectRequest {
  /** `host:port` */
  readonly authority: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

export interface ConnectAnswer {
  readonly stream: ClientHttp2Stream;
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly ms: number;
}

const windowBytes = 4 * 1024 * 1024;
const settings = { enablePush: false, initialWindowSize: windowBytes, maxFrameSize: 1024 * 1024 };

const hints: Partial<Record<ErrorCode, string>> = {
  'path/tcp': 'check that the address is right, that something listens there, and that no network policy drops it',
  'path/tls': 'check that both ends have certificates of roots that the other trusts, and that they have not expired',
  'path/identity': 'compare the expected identities with the certificate of the workload that listens there',
  'path/timeout': 'check for a partition or a hung process at this hop',
};

export const pathError = (
  code: ErrorCode,
  hop: string,
  address: string,
  message: string,
  cause?: unknown,
  subject: Record<string, string | number> = {},
): IsthmusError => {
  const hint = hints[code];
  return new IsthmusError(code, `${hop} (${address}): ${message}`, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
    subject: { hop, address, ...subject },
  });
};

/** TCP with a bound on the wait. Rejects with `path/tcp` or `path/timeout`. */
export const dial = (options: {
  readonly address: Address;
  readonly hop: string;
  readonly tcpTimeoutMs: number;
  readonly clock: Clock;
}): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const { address, hop, tcpTimeoutMs, clock } = options;
    const name = `${address.host}:${address.port}`;
    const socket = connectTcp({ host: address.host, port: address.port, noDelay: true, allowHalfOpen: true });
    const timer = clock.after(tcpTimeoutMs, () => {
      socket.destroy();
      reject(pathError('path/timeout', hop, name, `no TCP connection within ${tcpTimeoutMs} ms`));
    });
    socket.once('connect', () => {
      timer.cancel();
      socket.off('error', failed);
      // Whoever gets it sees 'close'; an error before they look must not end the process.
      socket.on('error', () => {});
      resolve(socket);
    });
    const failed = (cause: NodeJS.ErrnoException): void => {
      timer.cancel();
      reject(pathError('path/tcp', hop, name, cause.message, cause));
    };
    socket.once('error', failed);
  });

const tlsMessage = (cause: NodeJS.ErrnoException): string =>
  cause.code === 'ECONNRESET' ? 'the connection was closed during the TLS handshake' : cause.message;

/** TLS with our certificate over any stream; checks chain, ALPN and identity. Destroys the stream on failure. */
const secure = (stream: Duplex, address: string, options: HopOptions): Promise<{ tls: TLSSocket; identity: string }> =>
  new Promise((resolve, reject) => {
    const { hop, clock, tlsTimeoutMs } = options;
    const tls = connectTls({
      socket: stream as Socket,
      secureContext: contextOf(options.credentials),
      ALPNProtocols: ['h2'],
      rejectUnauthorized: true,
      // Names are checked below, on the one URI SAN.
      checkServerIdentity: () => undefined,
      ...(options.servername === undefined ? {} : { servername: options.servername }),
    });
    let timer: Timer | undefined;
    const fail = (error: IsthmusError): void => {
      timer?.cancel();
      tls.on('error', () => {});
      tls.destroy();
      stream.destroy();
      reject(error);
    };
    const failed = (cause: NodeJS.ErrnoException): void =>
      fail(pathError('path/tls', hop, address, tlsMessage(cause), cause));
    const closed = (): void =>
      fail(pathError('path/tls', hop, address, 'the connection was closed during the TLS handshake'));
    tls.once('error', failed);
    tls.once('close', closed);
    if (tlsTimeoutMs !== undefined) {
      timer = clock.after(tlsTimeoutMs, () =>
        fail(pathError('path/timeout', hop, address, `no TLS handshake within ${tlsTimeoutMs} ms`)),
      );
    }
    tls.once('secureConnect', () => {
      tls.off('close', closed);
      if (tls.alpnProtocol !== 'h2') {
        fail(pathError('path/tls', hop, address, 'the peer does not speak HTTP/2 (ALPN h2)'));
        return;
      }
      const identity = identityOf(tls.getPeerX509Certificate());
      if (!identity.ok) {
        fail(pathError('path/identity', hop, address, identity.error.message));
        return;
      }
      if (!options.accept.includes(identity.value)) {
        const wanted = options.accept.length === 0 ? 'none at all' : options.accept.join(' or ');
        const message = `the peer is ${identity.value}, expected ${wanted}`;
        fail(pathError('path/identity', hop, address, message, undefined, { identity: identity.value }));
        return;
      }
      timer?.cancel();
      tls.off('error', failed);
      resolve({ tls, identity: identity.value });
    });
  });

const overTls = async (
  stream: Duplex,
  address: string,
  options: HopOptions,
  tcpMs: number | undefined,
): Promise<HboneConnection> => {
  const started = options.clock.monotonicMs();
  const { tls, identity } = await secure(stream, address, options);
  const tlsMs = options.clock.monotonicMs() - started;
  const session = connect('https://hbone', {
    createConnection: () => tls,
    settings,
    // Until the peer's settings are here; then its own limit holds.
    peerMaxConcurrentStreams: 100,
    maxSessionMemory: 256,
  });
  session.setLocalWindowSize(4 * windowBytes);
  session.once('remoteSettings', () => greeted.add(session));
  // Both HTTP/2 streams and dialled sockets stay half-open; a session whose peer has hung up is over.
  tls.once('end', () => session.destroy());
  session.on('error', (cause: NodeJS.ErrnoException) => sessionErrors.set(session, cause));
  return { session, identity, hop: options.hop, address, clock: options.clock, tcpMs, tlsMs };
};

/** Outer connection: TCP, TLS, HTTP/2. */
export const connectHbone = async (options: ConnectOptions): Promise<HboneConnection> => {
  const started = options.clock.monotonicMs();
  const socket = await dial(options);
  const tcpMs = options.clock.monotonicMs() - started;
  return overTls(socket, `${options.address.host}:${options.address.port}`, options, tcpMs);
};

/** Inner connection: TLS and HTTP/2 inside a CONNECT stream of another one. */
export const nest = (stream: Duplex, address: string, options: HopOptions): Promise<HboneConnection> =>
  overTls(stream, address, options, undefined);

/**
 * A TLS handshake over a stream and nothing after it, with the same checks. With TLS 1.3 the other side judges our certificate when
 * for us all is over, so this listens for `lingerMs` more, or until a word comes. Ends the TLS session; the stream is the caller's.
 * @returns the identity of the other end. Rejects with `path/tls`, `path/identity` or `path/timeout`.
 */
export const handshake = async (
  stream: Duplex,
  address: string,
  options: HopOptions,
  lingerMs: number,
): Promise<string> => {
  const { tls, identity } = await secure(stream, address, options);
  try {
    await new Promise<void>((resolve, reject) => {
      const refused = (cause?: NodeJS.ErrnoException): void =>
        reject(
          pathError(
            'path/tls',
            options.hop,
            address,
            `the peer refused our certificate: ${cause?.message ?? 'it hung up after the handshake'}`,
            cause,
          ),
        );
      const timer = options.clock.after(lingerMs, resolve);
      tls.once('error', refused).once('end', () => refused());
      tls.once('close', () => {
        timer.cancel();
        refused();
      });
      for (const word of ['session', 'data'] as const) tls.once(word, () => resolve());
    });
    return identity;
  } finally {
    tls.on('error', () => {});
    tls.destroy();
  }
};

/** Why a session ended, kept for the streams that end with it. */
const sessionErrors = new WeakMap<ClientHttp2Session, NodeJS.ErrnoException>();

/** Sessions whose peer has said a word of HTTP/2: before that, hanging up is its way to refuse our certificate. */
const greeted = new WeakSet<ClientHttp2Session>();

/** Why a stream or its session ended before the answer came. */
const failure = (connection: HboneConnection, cause: NodeJS.ErrnoException | undefined, code: number): IsthmusError => {
  const { hop, address } = connection;
  // With TLS 1.3 the peer judges our certificate only after our handshake is over.
  const socketCause = cause?.code?.startsWith('ERR_SSL_') ? cause : undefined;
  if (socketCause !== undefined)
    return pathError('path/tls', hop, address, `the peer refused our certificate: ${socketCause.message}`, cause);
  if (!greeted.has(connection.session) && connection.session.destroyed) {
    const message = 'the peer hung up right after the TLS handshake; it may have refused our certificate';
    return pathError('path/tls', hop, address, message, cause);
  }
  const why = code === 0 ? (cause?.message ?? 'connection closed') : (resetNames.get(code) ?? `code ${code}`);
  return pathError('path/reset', hop, address, `the stream was reset before the answer (${why})`, cause);
};

const resetNames = new Map<number, string>([
  [constants.NGHTTP2_PROTOCOL_ERROR, 'PROTOCOL_ERROR'],
  [constants.NGHTTP2_INTERNAL_ERROR, 'INTERNAL_ERROR'],
  [constants.NGHTTP2_FLOW_CONTROL_ERROR, 'FLOW_CONTROL_ERROR'],
  [constants.NGHTTP2_REFUSED_STREAM, 'REFUSED_STREAM'],
  [constants.NGHTTP2_CANCEL, 'CANCEL'],
  [constants.NGHTTP2_CONNECT_ERROR, 'CONNECT_ERROR'],
  [constants.NGHTTP2_ENHANCE_YOUR_CALM, 'ENHANCE_YOUR_CALM'],
]);

/** Sends a CONNECT and waits for the answer, whatever its status. Rejects with `path/reset`, `path/tls` or `path/timeout`. */
export const sendConnect = (connection: HboneConnection, request: ConnectRequest): Promise<ConnectAnswer> =>
  new Promise((resolve, reject) => {
    const { session, clock, hop, address } = connection;
    const started = clock.monotonicMs();
    if (session.closed || session.destroyed)
      return reject(pathError('path/reset', hop, address, 'the connection is closed'));
    const headers: OutgoingHttpHeaders = { ...request.headers, ':method': 'CONNECT', ':authority': request.authority };
    let stream: ClientHttp2Stream;
    try {
      stream = session.request(headers);
    } catch (cause) {
      return reject(pathError('path/reset', hop, address, (cause as Error).message, cause));
    }
    let timer: Timer | undefined;
    let cause: NodeJS.ErrnoException | undefined;
    const settle = (): void => {
      timer?.cancel();
      stream.off('close', closed);
    };
    const closed = (): void => {
      settle();
      reject(failure(connection, sessionErrors.get(session) ?? cause, stream.rstCode ?? 0));
    };
    stream.on('error', (error: NodeJS.ErrnoException) => {
      cause = error;
    });
    stream.once('close', closed);
    stream.once('response', (answer) => {
      settle();
      const { ':status': status, ...rest } = answer;
      resolve({ stream, status: Number(status), headers: rest, ms: clock.monotonicMs() - started });
    });
    if (request.timeoutMs !== undefined) {
      timer = clock.after(request.timeoutMs, () => {
        settle();
        stream.close(constants.NGHTTP2_CANCEL);
        reject(
          pathError(
            'path/timeout',
            hop,
            address,
            `no answer to CONNECT ${request.authority} within ${request.timeoutMs} ms`,
          ),
        );
      });
    }
  });

/** As `sendConnect`, and anything but 200 rejects with `path/connect-status` (`subject.status`). */
export const openTunnel = async (connection: HboneConnection, request: ConnectRequest): Promise<ConnectAnswer> => {
  const answer = await sendConnect(connection, request);
  if (answer.status === 200) return answer;
  answer.stream.close(constants.NGHTTP2_CANCEL);
  const { hop, address } = connection;
  throw pathError(
    'path/connect-status',
    hop,
    address,
    `CONNECT ${request.authority} was answered with ${answer.status}`,
    undefined,
    {
      status: answer.status,
    },
  );
};

/** Ends a stream as ztunnel ends a double-HBONE tunnel: RST_STREAM with CANCEL. */
export const cancelTunnel = (stream: ClientHttp2Stream): void => {
  if (!stream.closed && !stream.destroyed) stream.close(constants.NGHTTP2_CANCEL);
};

/** Pings an idle connection and destroys it when no answer comes in time. */
export const keepAlive = (connection: HboneConnection, intervalMs: number, timeoutMs: number): void => {
  const { session, clock } = connection;
  let timer: Timer;
  const round = (): void => {
    if (session.destroyed) return;
    const late = clock.after(timeoutMs, () => session.destroy());
    const sent = session.ping((error) => {
      late.cancel();
      if (error === null && !session.destroyed) timer = clock.after(intervalMs, round);
    });
    if (!sent) late.cancel();
  };
  timer = clock.after(intervalMs, round);
  session.once('close', () => timer.cancel());
};
