/** What no proxy would send, thrown at a port: how the other side takes it. */
import { createHash } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { CallerTls } from './load.ts';

export const garbageKinds = [
  'noise',
  'TLS record of noise',
  'HTTP/1',
  'HTTP/2 without TLS',
  'cut off at once',
  'TLS without a certificate',
  'TLS 1.2',
  'noise in TLS',
  'HTTP/1 in TLS',
  'HTTP/2 frames of noise in TLS',
] as const;
export type GarbageKind = (typeof garbageKinds)[number];

export interface GarbageSpec {
  readonly address: string;
  readonly port: number;
  readonly kind: GarbageKind;
  /** A certificate that the port takes. */
  readonly tls: CallerTls;
}

export interface GarbageResult {
  /** The other side ended it, within the time that a handshake has. */
  readonly ended: boolean;
  /** What it answered, of the first kilobyte, as Latin-1; what came inside TLS where that stood. */
  readonly answer: string;
}

/** Bytes that look random and are the same in every run. */
const noise = (seed: string, length: number): Buffer => {
  const parts: Buffer[] = [];
  for (let i = 0; i * 32 < length; i++) parts.push(createHash('sha256').update(`${seed} ${i}`).digest());
  return Buffer.concat(parts).subarray(0, length);
};

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const http1 = Buffer.from('CONNECT checkout.shop.svc.cluster.local:80 HTTP/1.1\r\nhost: checkout\r\n\r\n');
const emptySettings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);

const content: Record<GarbageKind, Buffer> = {
  noise: noise('plain', 5_000),
  'TLS record of noise': Buffer.concat([Buffer.from([0x16, 3, 1, 0x10, 0]), noise('record', 4_096)]),
  'HTTP/1': http1,
  'HTTP/2 without TLS': Buffer.concat([preface, emptySettings]),
  'cut off at once': Buffer.from([0x16, 3, 1]),
  'TLS without a certificate': Buffer.concat([preface, emptySettings]),
  'TLS 1.2': Buffer.concat([preface, emptySettings]),
  'noise in TLS': noise('inside', 5_000),
  'HTTP/1 in TLS': http1,
  'HTTP/2 frames of noise in TLS': Buffer.concat([preface, emptySettings, noise('frames', 20_000)]),
};

const open = ({ address, port, kind, tls }: GarbageSpec): Socket => {
  if (!kind.includes('TLS') || kind === 'HTTP/2 without TLS' || kind === 'TLS record of noise') {
    return connectTcp({ host: address, port });
  }
  return connectTls({
    host: address,
    port,
    ca: tls.ca,
    ALPNProtocols: [kind === 'HTTP/1 in TLS' ? 'http/1.1' : 'h2'],
    checkServerIdentity: () => undefined,
    ...(kind === 'TLS without a certificate' ? {} : { cert: tls.cert, key: tls.key }),
    ...(kind === 'TLS 1.2' ? { maxVersion: 'TLSv1.2' } : {}),
    ...(tls.servername === undefined ? {} : { servername: tls.servername }),
  });
};

export const garbage = (spec: GarbageSpec): Promise<GarbageResult> =>
  new Promise((resolve) => {
    const socket = open(spec);
    let answer = '';
    const finish = (ended: boolean): void => {
      clearTimeout(timer);
      resolve({ ended, answer });
      socket.destroy();
    };
    const timer = setTimeout(() => finish(false), 8_000);
    socket.on('data', (data) => {
      if (answer.length < 1_024) answer += data.toString('latin1');
    });
    socket.on('error', () => {});
    socket.once('close', () => finish(true));
    socket.write(content[spec.kind]);
    if (spec.kind === 'cut off at once') socket.end();
  });
