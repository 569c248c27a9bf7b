/** The stand-in's parts that need no network: its choice of an upstream, its certificate request, its environment. */
import { generateKeyPairSync } from 'node:crypto';
import 'reflect-metadata';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import * as x509 from '@peculiar/x509';
import { describe, expect, test } from 'vitest';
import { accessLine } from '../../../scenarios/lab/standin/accesslog.ts';
import { readConfig } from '../../../scenarios/lab/standin/config.ts';
import { certificateRequest } from '../../../scenarios/lab/standin/csr.ts';
import { routeTo } from '../../../scenarios/lab/standin/route.ts';
import { MeshState } from '../../../scenarios/lab/standin/state.ts';
import { parseAccess } from '../../../scenarios/lab/ztunnel-rig.ts';
import {
  AddressSchema,
  LoadBalancing_HealthPolicy,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  type ServiceSchema,
  TunnelProtocol,
  type Workload,
  type WorkloadSchema,
  WorkloadStatus,
} from '../../../src/gen/istio/workload/workload_pb.ts';

type WorkloadInit = MessageInitShape<typeof WorkloadSchema>;
type ServiceInit = MessageInitShape<typeof ServiceSchema>;
const { NETWORK, REGION, ZONE, NODE } = LoadBalancing_Scope;
const key = 'shop/checkout.shop';
const ip = (address: string): Uint8Array => Uint8Array.from(address.split('.').map(Number));

const put = (state: MeshState, type: MessageInitShape<typeof AddressSchema>['type'], name = 'x'): string[] =>
  state.applyAddresses([{ name, bytes: toBinary(AddressSchema, create(AddressSchema, { type: type as never })) }], []);
const workload = (state: MeshState, uid: string, o: WorkloadInit = {}): string[] =>
  put(state, {
    case: 'workload',
    value: {
      uid,
      name: uid,
      namespace: 'shop',
      network: 'one',
      addresses: [ip('10.0.0.9')],
      tunnelProtocol: TunnelProtocol.HBONE,
      services: { [key]: { ports: [{ servicePort: 80, targetPort: 8_080 }] } },
      ...o,
    },
  });
const service = (state: MeshState, o: ServiceInit = {}): string[] =>
  put(state, {
    case: 'service',
    value: {
      name: 'checkout',
      namespace: 'shop',
      hostname: 'checkout.shop',
      addresses: [{ network: 'one', address: ip('10.96.0.1') }],
      ports: [{ servicePort: 80, targetPort: 8_080 }],
      ...o,
    },
  });
const self = {
  network: 'one',
  node: 'n1',
  clusterId: 'c',
  locality: { region: 'r', zone: 'z', subzone: '' },
} as Workload;
const pick = (state: MeshState, random = 0.5): string =>
  routeTo(state, self, '10.96.0.1', 80, () => random).workload.uid;
const failover = (...routingPreference: LoadBalancing_Scope[]) => ({
  mode: LoadBalancing_Mode.FAILOVER,
  routingPreference,
});

describe('choice of an upstream', () => {
  test('by rank: network before region and zone, and remote ones still ranked by both', () => {
    const state = new MeshState();
    service(state, { loadBalancing: failover(NETWORK, REGION, ZONE) });
    const gateway = {
      destination: { case: 'hostname' as const, value: { namespace: 's', hostname: 'g' } },
      hboneMtlsPort: 15_018,
    };
    const remote = { network: 'two', addresses: [], networkGateway: gateway };
    put(state, {
      case: 'service',
      value: { name: 'g', namespace: 's', hostname: 'g', ports: [{ servicePort: 15_018, targetPort: 15_018 }] },
    });
    workload(state, 'gw', { namespace: 's', services: { 's/g': { ports: [] } }, addresses: [ip('10.0.0.50')] });
    workload(state, 'far', { ...remote, locality: { region: 'other' } });
    const route = () => routeTo(state, self, '10.96.0.1', 80, () => 0.5);
    expect(route()).toMatchObject({ kind: 'double', authority: 'checkout.shop:80', host: '10.0.0.50', port: 15_018 });
    workload(state, 'near', { ...remote, locality: { region: 'r', zone: 'y' }, capacity: 7 });
    workload(state, 'nearer', { ...remote, locality: { region: 'r', zone: 'z' } });
    workload(state, 'here', { locality: { region: 'other' } });
    expect(route()).toMatchObject({ kind: 'hbone', authority: '10.0.0.9:8080', workload: { uid: 'here' } });
    workload(state, 'here', { status: WorkloadStatus.UNHEALTHY });
    expect(route().kind).toBe('double');
    workload(state, 'nearer', { ...remote, status: WorkloadStatus.UNHEALTHY });
    expect(route().kind).toBe('double');
  });

  test('by capacity within a rank; a rank of zeros serves nobody, though lower ranks could', () => {
    const state = new MeshState();
    service(state, { loadBalancing: failover(NODE) });
    workload(state, 'a', { node: 'n1', capacity: 1 });
    workload(state, 'b', { node: 'n1', capacity: 3 });
    workload(state, 'c', { node: 'n2', capacity: 100 });
    const share = Array.from({ length: 400 }, (_, i) => pick(state, i / 400)).filter((uid) => uid === 'a').length;
    expect(share).toBe(100);
    workload(state, 'a', { node: 'n1', capacity: 0 });
    workload(state, 'b', { node: 'n1', capacity: 0 });
    expect(() => pick(state)).toThrow('no healthy upstream');
  });

  test('STRICT wants all scopes, ALLOW_ALL takes the unhealthy too, an unknown port nobody', () => {
    const state = new MeshState();
    service(state, { loadBalancing: { mode: LoadBalancing_Mode.STRICT, routingPreference: [REGION, ZONE] } });
    workload(state, 'a', { locality: { region: 'r', zone: 'other' } });
    expect(() => pick(state)).toThrow('no healthy upstream');
    service(state, { loadBalancing: { healthPolicy: LoadBalancing_HealthPolicy.ALLOW_ALL } });
    workload(state, 'a', { status: WorkloadStatus.UNHEALTHY });
    expect(pick(state)).toBe('a');
    expect(() => routeTo(state, self, '10.96.0.1', 81, () => 0.5)).toThrow('no healthy upstream');
    expect(() => routeTo(state, self, '10.96.0.2', 80, () => 0.5)).toThrow('no service');
  });

  test('across networks only through a gateway that is known', () => {
    const state = new MeshState();
    service(state);
    workload(state, 'far', { network: 'two' });
    expect(() => pick(state)).toThrow('has no gateway');
    const address = { network: 'one', address: ip('10.0.0.50') };
    workload(state, 'far', {
      network: 'two',
      addresses: [],
      networkGateway: { destination: { case: 'address', value: address }, hboneMtlsPort: 15_008 },
    });
    expect(() => pick(state)).toThrow('unknown network gateway');
    workload(state, 'gw', { services: {}, addresses: [ip('10.0.0.50')], serviceAccount: 'gateway' });
    expect(routeTo(state, self, '10.96.0.1', 80, () => 0.5)).toMatchObject({
      kind: 'double',
      host: '10.0.0.50',
      port: 15_008,
      accept: ['spiffe://cluster.local/ns/shop/sa/gateway'],
      acceptInner: [],
    });
  });

  test('without HBONE it is plain TCP to the target port', () => {
    const state = new MeshState();
    service(state);
    workload(state, 'a', { tunnelProtocol: TunnelProtocol.NONE });
    expect(routeTo(state, self, '10.96.0.1', 80, () => 0)).toMatchObject({
      kind: 'tcp',
      host: '10.0.0.9',
      port: 8_080,
    });
  });
});

describe('what discovery said', () => {
  test('workloads may come before their service; removal takes endpoints and addresses along', () => {
    const state = new MeshState();
    workload(state, 'a');
    service(state);
    expect(pick(state)).toBe('a');
    state.applyAddresses([], ['a']);
    expect(() => pick(state)).toThrow();
    workload(state, 'b');
    state.applyAddresses([], ['shop/checkout.shop']);
    expect(state.serviceAt('one', '10.96.0.1')).toBeUndefined();
    service(state);
    expect(pick(state)).toBe('b');
  });

  test('a service that moves to another address leaves the old one', () => {
    const state = new MeshState();
    service(state);
    service(state, { addresses: [{ network: 'one', address: ip('10.96.0.7') }] });
    expect(state.serviceAt('one', '10.96.0.1')).toBeUndefined();
    expect(state.serviceAt('one', '10.96.0.7')?.name).toBe('checkout');
    expect(state.serviceAt('two', '10.96.0.7')).toBeUndefined();
  });

  test('a bad resource rejects itself alone', () => {
    const state = new MeshState();
    const good = toBinary(
      AddressSchema,
      create(AddressSchema, { type: { case: 'service', value: { namespace: 'shop', hostname: 'h' } } }),
    );
    const rejected = state.applyAddresses(
      [
        { name: 'garbage', bytes: Uint8Array.from([255, 255, 255]) },
        { name: 'empty', bytes: new Uint8Array() },
        { name: 'good', bytes: good },
      ],
      [],
    );
    expect(rejected.map((reason) => reason.split(':')[0])).toEqual(['garbage', 'empty']);
    expect(state.service('shop', 'h')).toBeDefined();
    expect(workload(state, 'a', { addresses: [Uint8Array.from([1, 2, 3])] })).toHaveLength(1);
  });

  test('a policy is refused and closes the door until it is gone', () => {
    const state = new MeshState();
    expect(state.applyPolicies([{ name: 'shop/deny', bytes: new Uint8Array() }], [])).toHaveLength(1);
    expect(state.guarded).toBe(true);
    state.applyPolicies([], ['shop/deny']);
    expect(state.guarded).toBe(false);
  });
});

test('the certificate request is P-256, signed, without a subject, with one critical URI name', async () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  for (const account of ['a', 'b'.repeat(63)]) {
    const uri = `spiffe://cluster.local/ns/${'n'.repeat(60)}/sa/${account}`;
    const csr = new x509.Pkcs10CertificateRequest(certificateRequest(privateKey, uri));
    expect(await csr.verify()).toBe(true);
    expect(csr.subject).toBe('');
    expect(csr.publicKey.algorithm).toMatchObject({ name: 'ECDSA', namedCurve: 'P-256' });
    const [extension] = csr.extensions;
    expect(csr.extensions).toHaveLength(1);
    expect(extension?.critical).toBe(true);
    const { items } = new x509.SubjectAlternativeNameExtension(extension?.rawData as ArrayBuffer).names;
    expect(items).toMatchObject([{ type: 'url', value: uri }]);
  }
});

test('the environment is a ztunnel’s; what is wrong with it is named', () => {
  const env = {
    PROXY_MODE: 'dedicated',
    PROXY_WORKLOAD_INFO: 'shop/client-0/client',
    XDS_ADDRESS: 'https://10.0.0.1:15012',
    CA_ADDRESS: 'controller.local:15012',
    XDS_ROOT_CA: 'pem',
    SECRET_TTL: '1h',
    AUTH_TOKEN: 'literal',
    XDS_HEADER_x_a: 'b',
  };
  const config = readConfig(env);
  expect(config).toMatchObject({
    namespace: 'shop',
    name: 'client-0',
    serviceAccount: 'client',
    secretTtlSeconds: 3_600,
    clusterId: 'Kubernetes',
  });
  expect(config.xds).toMatchObject({ host: '10.0.0.1', port: 15_012 });
  expect(config.ca).toMatchObject({ host: 'controller.local', port: 15_012 });
  expect(config.token()).toBe('literal');
  expect(config.xdsHeaders).toEqual({ x_a: 'b' });
  for (const [name, value] of [
    ['PROXY_MODE', 'shared'],
    ['PROXY_WORKLOAD_INFO', 'a/b'],
    ['XDS_ADDRESS', ''],
    ['CA_ADDRESS', 'http://x'],
    ['SECRET_TTL', 'soon'],
  ] as const) {
    expect(() => readConfig({ ...env, [name]: value })).toThrow(name);
  }
});

test('access lines of both are read alike', () => {
  const ours = accessLine(new Date(0), {
    direction: 'outbound',
    source: { address: '10.0.0.2:4000', identity: 'spiffe://td/ns/a/sa/b' },
    destination: { address: '10.0.0.3:15008', authority: 'checkout.shop:80', identity: 'spiffe://td/ns/c/sa/d' },
    sent: 1,
    received: 2,
    durationMs: 3,
    error: 'said "no"',
  });
  expect(parseAccess(ours)).toEqual({
    direction: 'outbound',
    srcIdentity: 'spiffe://td/ns/a/sa/b',
    dstIdentity: 'spiffe://td/ns/c/sa/d',
    dstAddress: '10.0.0.3:15008',
    authority: 'checkout.shop:80',
    error: 'said "no"',
  });
  const real =
    '2026-11-21T12:28:52.929293Z\terror\taccess\tconnection complete\tsrc.addr=10.77.0.1:36416 src.identity="spiffe://td/ns/shop/sa/client" dst.addr=10.77.0.4:15008 dst.hbone_addr=checkout.shop:80 dst.identity="spiffe://td/ns/shop/sa/far" direction="inbound" bytes_sent=0 bytes_recv=0 duration="0ms" error="connection failed: Connection refused (os error 111)"';
  expect(parseAccess(real)).toMatchObject({
    direction: 'inbound',
    srcIdentity: 'spiffe://td/ns/shop/sa/client',
    error: 'connection failed: Connection refused (os error 111)',
  });
  expect(parseAccess('2026 info xds Stream established')).toBeUndefined();
});
