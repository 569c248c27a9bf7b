/** Tunnels for those who only use them: the port of core/tunnel.ts, made of this room's client. */
import type { Clock } from '../core/clock.ts';
import type { Tunnel, TunnelConnection, TunnelDialer } from '../core/tunnel.ts';
import {
  type ConnectAnswer,
  cancelTunnel,
  connectHbone,
  type HboneConnection,
  handshake,
  nest,
  sendConnect,
} from './client.ts';
import type { Credentials } from './credentials.ts';

export interface DialerOptions {
  /** Asked for each connection, so that a renewed certificate is used from then on. Hand out the same object until it changes. */
  readonly credentials: () => Credentials;
  readonly clock: Clock;
}

const ping = ({ session, clock }: HboneConnection, timeoutMs: number): Promise<boolean> =>
  new Promise((resolve) => {
    if (session.closed || session.destroyed) return resolve(false);
    const end = (answered: boolean): void => {
      timer.cancel();
      session.off('close', closed);
      resolve(answered);
    };
    const closed = (): void => end(false);
    const timer = clock.after(timeoutMs, closed);
    session.once('close', closed);
    if (!session.ping((error) => end(error === null))) end(false);
  });

export const createDialer = ({ credentials, clock }: DialerOptions): TunnelDialer => {
  const tunnel = (answer: ConnectAnswer, address: string): Tunnel => ({
    status: answer.status,
    headers: answer.headers,
    ms: answer.ms,
    stream: answer.stream,
    handshake: ({ hop, accept, timeoutMs, lingerMs }) =>
      handshake(
        answer.stream,
        address,
        { hop, accept, clock, credentials: credentials(), tlsTimeoutMs: timeoutMs },
        lingerMs,
      ),
    nest: async ({ hop, accept, timeoutMs }) =>
      connection(
        await nest(answer.stream, address, { hop, accept, clock, credentials: credentials(), tlsTimeoutMs: timeoutMs }),
      ),
    end: () => cancelTunnel(answer.stream),
  });
  const connection = (made: HboneConnection): TunnelConnection => ({
    get usable() {
      return !made.session.closed && !made.session.destroyed;
    },
    connect: async (request) => tunnel(await sendConnect(made, request), made.address),
    ping: (timeoutMs) => ping(made, timeoutMs),
    close: () => made.session.destroy(),
  });
  return {
    dial: async ({ host, port, hop, accept, servername, timeoutMs }) =>
      connection(
        await connectHbone({
          address: { host, port },
          hop,
          accept,
          ...(servername === undefined ? {} : { servername }),
          tcpTimeoutMs: timeoutMs,
          tlsTimeoutMs: timeoutMs,
          clock,
          credentials: credentials(),
        }),
      ),
  };
};
