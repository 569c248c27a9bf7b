/** From a token file to a renewed certificate: client, server and service together, over TLS on loopback. */
import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect as tlsConnect, createServer as tlsServer } from 'node:tls';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Authority } from '../../../src/ca/authority.ts';
import {
  type CertificateClient,
  type CertificateClientOptions,
  fetchCertificate,
  keepCertificate,
  type WorkloadCertificate,
} from '../../../src/ca/client.ts';
import { createCertificateService } from '../../../src/ca/service.ts';
import { issueServing } from '../../../src/ca/serving.ts';
import { initTrust } from '../../../src/ca/trustfiles.ts';
import type { Clock } from '../../../src/core/clock.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import type { DiscoveryServer } from '../../../src/server/api.ts';
import { startServer } from '../../../src/server/grpc.ts';
import { types } from '../../../src/xds/resource.ts';
import { ResourceTable } from '../../../src/xds/table.ts';
import { eventually, gatewayIdentity } from '../server/rig.ts';
import { random, type TestDir, tempDir } from './pki.ts';

const identity = 'spiffe://cluster.local/ns/shop/sa/checkout';
/** Long timers pass at once: half a life takes no time. */
const clock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms > 60_000 ? 50 : ms);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

let dir: TestDir;
let authority: Authority;
let server: DiscoveryServer;
let client: CertificateClient | undefined;

beforeEach(async () => {
  dir = tempDir();
  const { clusters } = await initTrust(
    { outDir: join(dir.path, 'trust'), trustDomain: 'cluster.local', clusters: ['east'], nowMs: Date.now() },
    random,
  );
  authority = clusters.get('east')!;
  const serving = await issueServing(
    authority,
    { dns: ['isthmus-controller.isthmus-system.svc'], ttlS: 3_600, nowMs: Date.now() },
    random,
  );
  server = await startServer({
    tokenListen: { host: '127.0.0.1', port: 0 },
    mtlsListen: { host: '127.0.0.1', port: 0 },
    tls: { cert: serving.cert, key: serving.key, clientRoots: serving.roots },
    gatewayIdentity,
    gatewayIssuers: () => [],
    authenticateToken: async (token) => {
      if (token !== 'good') throw new IsthmusError('auth/unauthenticated', 'the token is refused');
      return { namespace: 'shop', serviceAccount: 'checkout', pod: { name: 'c', uid: 'u' }, node: 'n' };
    },
    tables: { ztunnel: new ResourceTable([types.address]), gateway: new ResourceTable([types.cluster]) },
    certificates: createCertificateService({
      trustDomain: 'cluster.local',
      authority: () => authority,
      moreRoots: () => [],
      accountOnNode: () => false,
      ttlMaxS: 86_400,
      clock,
      random,
    }),
    clock,
    rng: () => 0.5,
    log: () => {},
  });
  writeFileSync(join(dir.path, 'token'), 'good\n');
  writeFileSync(join(dir.path, 'roots.pem'), serving.roots);
});
afterEach(async () => {
  client?.close();
  await server.close(0);
  dir[Symbol.dispose]();
});

const options = (more: Partial<CertificateClientOptions> = {}): CertificateClientOptions => ({
  address: `127.0.0.1:${server.tokenPort}`,
  serverName: 'isthmus-controller.isthmus-system.svc',
  rootsFile: join(dir.path, 'roots.pem'),
  tokenFile: join(dir.path, 'token'),
  identity,
  ttlS: 3_600,
  clock,
  rng: () => 0.5,
  onCertificate: () => {},
  onError: () => {},
  ...more,
});

test('what comes back makes a TLS server that its peers verify', async () => {
  const got = await fetchCertificate(options());
  expect(new X509Certificate(got.cert).subjectAltName).toBe(`URI:${identity}`);
  const peer = tlsServer(
    { cert: got.cert, key: got.key, ca: got.roots, requestCert: true, rejectUnauthorized: true },
    (socket) => socket.end('hello'),
  );
  await new Promise<void>((resolve) => peer.listen(0, '127.0.0.1', resolve));
  const { port } = peer.address() as { port: number };
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = tlsConnect({
      port,
      host: '127.0.0.1',
      cert: got.cert,
      key: got.key,
      ca: got.roots,
      checkServerIdentity: () => undefined,
    });
    let text = '';
    socket.on('data', (data) => {
      text += data;
    });
    socket.on('end', () => resolve(text));
    socket.on('error', reject);
  });
  peer.close();
  expect(answer).toBe('hello');
});

test('is renewed with a new key at half its life', async () => {
  const certificates: WorkloadCertificate[] = [];
  client = keepCertificate(options({ onCertificate: (certificate) => certificates.push(certificate) }));
  await eventually(() => certificates.length >= 3);
  expect(new Set(certificates.map(({ key }) => key)).size).toBe(certificates.length);
  expect(client.current).toBe(certificates.at(-1));
});

test('a failure is told, and tried again until it succeeds', async () => {
  const errors: IsthmusError[] = [];
  writeFileSync(join(dir.path, 'token'), 'bad');
  client = keepCertificate(options({ onError: (error) => errors.push(error) }));
  await eventually(() => errors.length >= 1);
  expect(errors[0]!.code).toBe('auth/unauthenticated');
  expect(client.current).toBeUndefined();
  writeFileSync(join(dir.path, 'token'), 'good');
  await eventually(() => client?.current !== undefined);
});

test.each([
  ['another identity', { identity: 'spiffe://cluster.local/ns/shop/sa/admin' }, 'csr/denied'],
  ['a server with another name', { serverName: 'somebody.else' }, 'controller/unreachable'],
  ['nobody there', { address: '127.0.0.1:1' }, 'controller/unreachable'],
  ['no token file', { tokenFile: '/nonexistent/token' }, 'files/invalid'],
  ['no roots file', { rootsFile: '/nonexistent/roots' }, 'files/invalid'],
] as const)('%s: a clear error', async (_what, more, code) => {
  await expect(fetchCertificate(options(more))).rejects.toMatchObject({ code });
});
