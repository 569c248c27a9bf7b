/** One CONNECT, looked at closely: the answer's status and marks, or how it was refused. */
import type { IncomingHttpHeaders } from 'node:http';
import { connect, constants } from 'node:http2';
import { connect as connectTls } from 'node:tls';
import { hopHeader, parseHops, refusedHeader } from '../../../src/core/hop.ts';
import type { CallerTls } from './load.ts';

export interface CallSpec {
  readonly address: string;
  readonly port: number;
  readonly tls: CallerTls;
  readonly authority: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A plain request for this path instead of a CONNECT. */
  readonly path?: string;
  /** Sent through the tunnel; it ends in good order once something came back. */
  readonly say?: string;
}

export interface CallResult {
  readonly status: number | undefined;
  readonly hops: ReturnType<typeof parseHops>;
  /** Which bound of the far gateway refused it. */
  readonly refused?: string | undefined;
  readonly ms: number;
  /** Set when no answer came. */
  readonly error: string | undefined;
}

export const call = (spec: CallSpec): Promise<CallResult> => {
  const { tls } = spec;
  const at = performance.now();
  return new Promise((resolve) => {
    const session = connect(`https://${spec.address}:${spec.port}`, {
      createConnection: () =>
        connectTls({
          host: spec.address,
          port: spec.port,
          ca: tls.ca,
          cert: tls.cert,
          key: tls.key,
          ALPNProtocols: ['h2'],
          checkServerIdentity: () => undefined,
          ...(tls.servername === undefined ? {} : { servername: tls.servername }),
        }),
    });
    const end = (status: number | undefined, headers: IncomingHttpHeaders | undefined, error?: string) => {
      clearTimeout(timer);
      const hops = parseHops(headers?.[hopHeader]);
      resolve({ status, hops, refused: headers?.[refusedHeader]?.toString(), ms: performance.now() - at, error });
      session.destroy();
    };
    const timer = setTimeout(() => end(undefined, undefined, 'timeout'), 10_000);
    session.on('error', (error) => end(undefined, undefined, error.message));
    const what =
      spec.path === undefined
        ? { ':method': 'CONNECT', ':authority': spec.authority }
        : { ':method': 'GET', ':path': spec.path, ':authority': spec.authority, ':scheme': 'https' };
    const stream = session.request({ ...what, ...spec.headers });
    stream.on('error', (error) => end(undefined, undefined, error.message));
    stream.on('close', () => end(undefined, undefined, `closed ${stream.rstCode}`));
    stream.on('response', (headers) => {
      if (spec.say !== undefined && headers[':status'] === 200) {
        stream.write(spec.say);
        stream.once('data', () => {
          stream.removeAllListeners('close');
          stream.on('close', () => end(headers[':status'], headers)).end();
        });
        return;
      }
      end(headers[':status'], headers);
      stream.close(constants.NGHTTP2_CANCEL);
    });
  });
};
