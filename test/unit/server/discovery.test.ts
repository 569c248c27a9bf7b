import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import { afterEach, expect, test } from 'vitest';
import type { Authority } from '../../../src/ca/authority.ts';
import { issueServing } from '../../../src/ca/serving.ts';
import { initTrust } from '../../../src/ca/trustfiles.ts';
import { limits } from '../../../src/core/limits.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '../../../src/gen/istio/ca/citadel_pb.ts';
import { types } from '../../../src/xds/resource.ts';
import { newTestCa } from '../../real/pki.ts';
import {
  contents,
  deltaPath,
  eventually,
  gateway,
  gatewayIdentity,
  ProxyClient,
  put,
  type Rig,
  sotwPath,
  startRig,
  testClock,
  zNode,
  ztunnel,
} from './rig.ts';

const clients: ProxyClient[] = [];
let rig: Rig;
const keep = (client: ProxyClient): ProxyClient => {
  clients.push(client);
  return client;
};
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await rig.server.close(0);
});

test('a ztunnel gets both types, then changes as they come, and shows as synced', async () => {
  rig = await startRig();
  put(rig.tables.ztunnel, types.address, 'a', '1');
  const proxy = keep(ztunnel(rig, 'z1'));
  proxy.ask({ typeUrl: types.address, node: { id: zNode('z1'), metadata: { big: 'x'.repeat(1000) } } });
  proxy.ask({ typeUrl: types.authorization });
  expect(contents(await proxy.next())).toEqual({ a: '1' });
  expect((await proxy.next()).typeUrl).toBe(types.authorization);
  put(rig.tables.ztunnel, types.address, 'a', '2');
  rig.server.changed();
  expect(contents(await proxy.next())).toEqual({ a: '2' });
  await eventually(() => rig.server.proxies()[0]?.synced === true);
  expect(rig.server.proxies()).toMatchObject([{ nodeId: zNode('z1'), role: 'ztunnel', slow: false }]);
  const [type] = rig.server.proxies()[0]!.types;
  expect(type!.ackedVersion).toBe(rig.tables.ztunnel.digest(types.address));
});

test('a gateway gets Envoy resources over mTLS, a refusal is reported with its reason', async () => {
  rig = await startRig();
  const proxy = keep(await gateway(rig));
  proxy.acks = false;
  proxy.ask({ typeUrl: types.cluster, node: { id: 'isthmus-gateway-0~1' } });
  expect((await proxy.next()).resources).toEqual([]);
  put(rig.tables.gateway, types.cluster, 'c', 'bad');
  rig.server.changed();
  const response = await proxy.next();
  proxy.ask({ typeUrl: types.cluster, responseNonce: response.nonce, errorDetail: { code: 3, message: 'c: broken' } });
  await eventually(() => rig.events.includes('rejected isthmus-gateway-0~1 c'));
  const [type] = rig.server.proxies()[0]!.types;
  expect(type!.rejected).toMatchObject([{ name: 'c', reason: 'c: broken' }]);
  expect(Date.now() - type!.rejected[0]!.sinceMs).toBeLessThan(5_000);
});

test('who is not authenticated is refused before anything is read', async () => {
  rig = await startRig();
  const cases: [token: string | undefined, code: number][] = [
    [undefined, status.UNAUTHENTICATED],
    ['stranger', status.UNAUTHENTICATED],
    ['x'.repeat(limits.tokenBytesMax + 100), status.UNAUTHENTICATED],
  ];
  for (const [token, code] of cases) {
    const proxy = keep(new ProxyClient(rig.server.tokenPort, credentials.createSsl(rig.ca.cert), token));
    proxy.stream.write(Buffer.from('this is no request'));
    expect(await proxy.status).toMatchObject({ code });
  }
  expect(rig.tokensSeen).toEqual(['stranger']);
  expect(rig.events.filter((event) => event.startsWith('opened'))).toEqual([]);
});

test('the mTLS port is for the one gateway identity, from the mesh roots', async () => {
  rig = await startRig();
  const other = 'spiffe://cluster.local/ns/shop/sa/checkout';
  for (const uris of [[other], [`${'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-gateway'}`, other], []]) {
    const proxy = keep(await gateway(rig, uris));
    expect(await proxy.status).toMatchObject({ code: status.PERMISSION_DENIED });
  }
  const withDns = keep(await gateway(rig, undefined, ['isthmus-gateway']));
  expect(await withDns.status).toMatchObject({ code: status.PERMISSION_DENIED });
  const stranger = await (await newTestCa()).issue({
    commonName: 'g',
    uris: ['spiffe://cluster.local/ns/isthmus-system/sa/isthmus-gateway'],
  });
  const wrongCa = keep(
    new ProxyClient(rig.server.mtlsPort, credentials.createSsl(rig.ca.cert, stranger.key, stranger.cert)),
  );
  expect(await wrongCa.status).toMatchObject({ code: status.UNAVAILABLE });
  const nobody = keep(new ProxyClient(rig.server.mtlsPort, credentials.createSsl(rig.ca.cert)));
  expect(await nobody.status).toMatchObject({ code: status.UNAVAILABLE });
  // A token helps nobody here, and certificates are not to be had.
  expect(rig.events.some((event) => event.startsWith('opened'))).toBe(false);
});

const twoClusters = async (): Promise<readonly [Authority, Authority]> => {
  const outDir = mkdtempSync(join(tmpdir(), 'isthmus-server-'));
  try {
    const input = { outDir, trustDomain: 'cluster.local', clusters: ['east', 'west'], nowMs: Date.now() };
    const { clusters } = await initTrust(input, random);
    return [clusters.get('east')!, clusters.get('west')!];
  } finally {
    rmSync(outDir, { recursive: true, force: true });
  }
};
const random = (bytes: number): Uint8Array => randomBytes(bytes);

test("another cluster's CA under the same root cannot make our gateways' certificate", async () => {
  const [east, west] = await twoClusters();
  const now = { ttlS: 3_600, nowMs: Date.now() };
  const serving = await issueServing(east, { dns: ['controller'], ...now }, random);
  const tls = { cert: serving.cert, key: serving.key, clientRoots: serving.roots };
  rig = await startRig({ tls, gatewayIssuers: () => [east.certificate] });
  const gatewayOf = async (authority: Authority): Promise<ProxyClient> => {
    const own = await issueServing(authority, { dns: [], uris: [gatewayIdentity], ...now }, random);
    expect(own.roots).toBe(serving.roots);
    const creds = credentials.createSsl(Buffer.from(own.roots), Buffer.from(own.key), Buffer.from(own.cert));
    const proxy = keep(new ProxyClient(rig.server.mtlsPort, creds));
    proxy.ask({ typeUrl: types.cluster, node: { id: 'isthmus-gateway-0~0' } });
    return proxy;
  };
  put(rig.tables.gateway, types.cluster, 'egress', '1');
  expect(contents(await (await gatewayOf(east)).next())).toEqual({ egress: '1' });
  const impostor = await gatewayOf(west);
  expect(await impostor.status).toMatchObject({ code: status.PERMISSION_DENIED });
  expect(impostor.responses).toEqual([]);
  expect(rig.events).toContain('refused mtls auth/denied');
});

test('a node may only be itself and ask only for what is for its role', async () => {
  rig = await startRig();
  const refusal = async (proxy: ProxyClient, id: string | undefined, typeUrl: string) => {
    keep(proxy).ask({ typeUrl, ...(id === undefined ? {} : { node: { id } }) });
    return await proxy.status;
  };
  const { PERMISSION_DENIED: denied, INVALID_ARGUMENT: invalid } = status;
  expect(await refusal(ztunnel(rig, 'z1'), zNode('z2'), types.address)).toMatchObject({
    code: denied,
    details: /node-mismatch/,
  });
  expect(await refusal(ztunnel(rig, 'z1'), 'ztunnel~1~z1.bank~x', types.address)).toMatchObject({ code: denied });
  expect(await refusal(ztunnel(rig, 'z1'), 'sidecar~1~z1.shop~x', types.address)).toMatchObject({ code: denied });
  expect(await refusal(ztunnel(rig, 'z1', 'pod.'), zNode('z1'), types.address)).toMatchObject({
    code: denied,
    details: /bound to no pod/,
  });
  expect(await refusal(ztunnel(rig, 'z1'), undefined, types.address)).toMatchObject({ code: invalid });
  expect(await refusal(ztunnel(rig, 'z1'), 'z'.repeat(limits.nodeIdLengthMax + 1), types.address)).toMatchObject({
    code: invalid,
  });
  expect(await refusal(ztunnel(rig, 'z1'), zNode('z1'), types.secret)).toMatchObject({
    code: denied,
    details: /type-denied/,
  });
  expect(await refusal(await gateway(rig), 'isthmus-gateway-0', types.address)).toMatchObject({ code: denied });
  expect(await refusal(await gateway(rig), 'checkout-1', types.cluster)).toMatchObject({
    code: denied,
    details: /node-mismatch/,
  });
  const changes = keep(ztunnel(rig, 'z1'));
  changes.ask({ typeUrl: types.address, node: { id: zNode('z1') } });
  await changes.next();
  expect(await refusal(changes, zNode('z9'), types.address)).toMatchObject({ code: denied });
  expect(rig.server.proxies()).toEqual([]);
});

test('state-of-the-world discovery is refused with the reason', async () => {
  rig = await startRig();
  const proxy = keep(new ProxyClient(rig.server.tokenPort, credentials.createSsl(rig.ca.cert), 'pod.z1', sotwPath));
  expect(await proxy.status).toMatchObject({ code: status.UNIMPLEMENTED, details: /use delta/ });
});

test('a reconnect with its versions is sent nothing that did not change', async () => {
  rig = await startRig();
  put(rig.tables.ztunnel, types.address, 'a', '1');
  put(rig.tables.ztunnel, types.address, 'b', '1');
  const first = keep(ztunnel(rig, 'z1'));
  first.ask({ typeUrl: types.address, node: { id: zNode('z1') } });
  const held = Object.fromEntries((await first.next()).resources.map(({ name, version }) => [name, version]));
  first.close();
  rig.tables.ztunnel.apply({ removes: [{ typeUrl: types.address, name: 'b' }] });
  const second = keep(ztunnel(rig, 'z1'));
  second.ask({ typeUrl: types.address, node: { id: zNode('z1') }, initialResourceVersions: held });
  expect(await second.next()).toMatchObject({ resources: [], removedResources: ['b'] });
});

test('certificates come to the caller of the token', async () => {
  rig = await startRig();
  const call = (request: Buffer, token = 'pod.z1') =>
    new Promise<{ code: number; chain?: string[] }>((resolve) => {
      const client = new Client(`127.0.0.1:${rig.server.tokenPort}`, credentials.createSsl(rig.ca.cert), {
        'grpc.ssl_target_name_override': 'controller',
      });
      const metadata = new Metadata();
      metadata.set('authorization', `Bearer ${token}`);
      const bytes = (value: Buffer) => value;
      client.makeUnaryRequest(
        '/istio.v1.auth.IstioCertificateService/CreateCertificate',
        bytes,
        bytes,
        request,
        metadata,
        (error, value) => {
          client.close();
          if (error !== null) resolve({ code: error.code });
          else resolve({ code: 0, chain: fromBinary(IstioCertificateResponseSchema, value!).certChain });
        },
      );
    });
  const write = (fields: object) =>
    Buffer.from(toBinary(IstioCertificateRequestSchema, create(IstioCertificateRequestSchema, fields)));
  const good = write({ csr: 'CSR', validityDuration: 60n, metadata: { ImpersonatedIdentity: 'spiffe://x' } });
  expect(await call(good)).toEqual({ code: 0, chain: ['checkout 60 spiffe://x CSR'] });
  expect(await call(good, 'stranger')).toEqual({ code: status.UNAUTHENTICATED });
  expect(await call(Buffer.from('garbage!'))).toEqual({ code: status.INVALID_ARGUMENT });
  expect(await call(write({ csr: 'x'.repeat(100_000) }))).toEqual({ code: status.INVALID_ARGUMENT });
  expect(await call(write({ csr: 'x', metadata: { ImpersonatedIdentity: 7 } }))).toEqual({
    code: status.INVALID_ARGUMENT,
  });
});

test('a new serving certificate is used by new connections, streams go on; a bad one is refused and changes nothing', async () => {
  rig = await startRig();
  const before = keep(ztunnel(rig, 'z1'));
  before.ask({ typeUrl: types.address, node: { id: zNode('z1') } });
  await before.next();
  const ca = await newTestCa('the next CA');
  const next = await ca.issue({ commonName: 'controller', dns: ['controller'] });
  expect(() =>
    rig.server.updateTls({ cert: next.cert.toString(), key: 'no key', clientRoots: ca.cert.toString() }),
  ).toThrow(/serving certificate/);
  const still = keep(ztunnel(rig, 'z2'));
  still.ask({ typeUrl: types.address, node: { id: zNode('z2') } });
  await still.next();
  rig.server.updateTls({ cert: next.cert.toString(), key: next.key.toString(), clientRoots: ca.cert.toString() });
  const after = keep(new ProxyClient(rig.server.tokenPort, credentials.createSsl(ca.cert), 'pod.z3'));
  after.ask({ typeUrl: types.address, node: { id: zNode('z3') } });
  await after.next();
  put(rig.tables.ztunnel, types.address, 'a', '1');
  rig.server.changed();
  for (const proxy of [before, still, after]) expect(contents(await proxy.next())).toEqual({ a: '1' });
});

test('closing ends streams in good order and lets nothing new in', async () => {
  rig = await startRig();
  const proxies = ['z1', 'z2', 'z3'].map((pod) => {
    const proxy = keep(ztunnel(rig, pod));
    proxy.ask({ typeUrl: types.address, node: { id: zNode(pod) } });
    return proxy;
  });
  for (const proxy of proxies) await proxy.next();
  const port = rig.server.tokenPort;
  const closed = rig.server.close(1_000);
  for (const proxy of proxies) expect(await proxy.status).toMatchObject({ code: status.OK });
  await closed;
  const late = keep(new ProxyClient(port, credentials.createSsl(rig.ca.cert), 'pod.z1', deltaPath));
  expect(await late.status).toMatchObject({ code: status.UNAVAILABLE });
});

test('a proxy that does not read is held to one response, gets only the latest, and is cut in the end', async () => {
  let skipMs = 0;
  rig = await startRig({ clock: { ...testClock, monotonicMs: () => performance.now() + skipMs } });
  const slow = keep(ztunnel(rig, 'slow'));
  const quick = keep(ztunnel(rig, 'quick'));
  for (const [proxy, pod] of [
    [slow, 'slow'],
    [quick, 'quick'],
  ] as const) {
    proxy.ask({ typeUrl: types.address, node: { id: zNode(pod) } });
    await proxy.next();
  }
  await eventually(() => rig.server.proxies().every((proxy) => proxy.synced));
  slow.stream.pause();
  const big = 'x'.repeat(200_000);
  for (let i = 0; i < 50; i++) {
    put(rig.tables.ztunnel, types.address, 'a', `${i}${big}`);
    rig.server.changed();
    expect(contents(await quick.next()).a).toBe(`${i}${big}`);
  }
  const status1 = rig.server.proxies().find(({ nodeId }) => nodeId === zNode('slow'))!;
  expect(status1).toMatchObject({ synced: false });
  slow.stream.resume();
  let last = '';
  let count = 0;
  while (last !== `49${big}`) {
    last = contents(await slow.next()).a!;
    count++;
  }
  expect(count).toBeLessThan(20);
  await eventually(() => rig.server.proxies().every((proxy) => proxy.synced));
  slow.stream.pause();
  for (let i = 0; i < 40; i++) {
    put(rig.tables.ztunnel, types.address, 'a', `again ${i}${big}${big}`);
    rig.server.changed();
    await quick.next();
  }
  skipMs = limits.slowStreamTimeoutMs;
  await eventually(() => rig.events.includes('closed ztunnel xds/slow'));
  expect(rig.server.proxies().map(({ nodeId }) => nodeId)).toEqual([zNode('quick')]);
});

test('streams end after their age so that proxies spread', async () => {
  rig = await startRig({ streamAgeMaxMs: 50 });
  const proxy = keep(ztunnel(rig, 'z1'));
  proxy.ask({ typeUrl: types.address, node: { id: zNode('z1') } });
  expect(await proxy.status).toMatchObject({ code: status.OK });
});

test('one pod has so many streams, and no more; others come in, and a place that is left is free', async () => {
  rig = await startRig();
  const open = (pod: string): ProxyClient => {
    const client = keep(ztunnel(rig, pod));
    client.ask({ node: { id: zNode(pod) }, typeUrl: types.address });
    return client;
  };
  const many = Array.from({ length: limits.streamsPerPodMax }, () => open('greedy'));
  await eventually(() => rig.server.proxies().length === limits.streamsPerPodMax);
  expect(await keep(ztunnel(rig, 'greedy')).status).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  expect(rig.events.filter((event) => event === 'refused token xds/too-many')).toHaveLength(1);
  await open('modest').next();
  many[0]!.close();
  await eventually(() => rig.server.proxies().length === limits.streamsPerPodMax);
  await open('greedy').next();
});
