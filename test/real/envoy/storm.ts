/** One caller with a valid certificate that asks for more than it should: connections, resets, headers, or silence. */
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { CallerTls } from './load.ts';

export interface StormSpec {
  readonly address: string;
  readonly port: number;
  readonly tls: CallerTls;
  readonly authority: string;
}

const sessionOf = ({ address, port, tls }: StormSpec): ClientHttp2Session =>
  connect(`https://${address}:${port}`, {
    settings: { enablePush: false },
    createConnection: () =>
      connectTls({
        host: address,
        port,
        ca: tls.ca,
        cert: tls.cert,
        key: tls.key,
        ALPNProtocols: ['h2'],
        checkServerIdentity: () => undefined,
        ...(tls.servername === undefined ? {} : { servername: tls.servername }),
      }),
  });

const opened = (session: ClientHttp2Session): Promise<boolean> =>
  new Promise((resolve) => {
    session.once('remoteSettings', () => resolve(true));
    session.once('error', () => resolve(false));
    session.once('close', () => resolve(false));
  });

export class Storm {
  #sessions: ClientHttp2Session[] = [];
  #sockets: Socket[] = [];

  /** Opens so many connections, some at a time, and keeps them. @returns how many stood */
  async connections(spec: StormSpec, count: number): Promise<number> {
    let stood = 0;
    for (let at = 0; at < count; at += 50) {
      const some = Array.from({ length: Math.min(50, count - at) }, () => sessionOf(spec));
      for (const session of some) session.on('error', () => {});
      this.#sessions.push(...some);
      stood += (await Promise.all(some.map(opened))).filter(Boolean).length;
    }
    return stood;
  }

  /** How many of those still stand. */
  standing(): number {
    return this.#sessions.filter((session) => !session.closed && !session.destroyed).length;
  }

  /** Opens tunnels and resets each at once, on one connection. @returns how many were sent before the other side had enough */
  async resets(spec: StormSpec, count: number): Promise<number> {
    const session = sessionOf(spec);
    session.on('error', () => {});
    if (!(await opened(session))) return 0;
    let sent = 0;
    while (sent < count && !session.closed && !session.destroyed) {
      for (let i = 0; i < 100 && !session.closed && !session.destroyed; i++) {
        const stream = session.request({ ':method': 'CONNECT', ':authority': spec.authority });
        stream.on('error', () => {});
        stream.close(constants.NGHTTP2_CANCEL);
        sent++;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    session.destroy();
    return sent;
  }

  /** One CONNECT with headers of so many bytes. @returns its status; undefined when it was ended */
  async headers(spec: StormSpec, bytes: number): Promise<number | undefined> {
    const session = sessionOf(spec);
    session.on('error', () => {});
    if (!(await opened(session))) return undefined;
    const value = 'x'.repeat(4_000);
    const many = Object.fromEntries(Array.from({ length: Math.ceil(bytes / 4_000) }, (_, i) => [`x-h-${i}`, value]));
    const status = await new Promise<number | undefined>((resolve) => {
      const stream = session.request({ ':method': 'CONNECT', ':authority': spec.authority, ...many });
      stream.on('error', () => resolve(undefined));
      stream.on('close', () => resolve(undefined));
      stream.on('response', (answer) => resolve(answer[':status']));
    });
    session.destroy();
    return status;
  }

  /** Opens so many TCP connections and says nothing. */
  async silence({ address, port }: StormSpec, count: number): Promise<void> {
    const sockets = Array.from({ length: count }, () => connectTcp({ host: address, port }));
    for (const socket of sockets) socket.on('error', () => {});
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once('connect', resolve))));
    for (const socket of sockets) socket.resume();
    this.#sockets.push(...sockets);
  }

  /** How many of the silent ones still stand. */
  silent(): number {
    return this.#sockets.filter((socket) => !socket.closed && !socket.destroyed).length;
  }

  end(): void {
    for (const session of this.#sessions.splice(0)) session.destroy();
    for (const socket of this.#sockets.splice(0)) socket.destroy();
  }
}
