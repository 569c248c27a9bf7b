/** A real Envoy on the mTLS port: it gets what it asks for, in an order that breaks nothing, and refuses what is bad. */
import { type ChildProcess, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, createServer, get, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createRegistry, type DescMessage, fromJson, type JsonValue, toBinary } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { toolPath } from '../../../scenarios/lab/tools.ts';
import { ClusterSchema } from '../../../src/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { TypedExtensionConfigSchema } from '../../../src/gen/envoy/config/core/v3/extension_pb.ts';
import { ClusterLoadAssignmentSchema } from '../../../src/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { ListenerSchema } from '../../../src/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import { LocalRateLimitSchema } from '../../../src/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts';
import { RouterSchema } from '../../../src/gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import { HttpConnectionManagerSchema } from '../../../src/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import type { DiscoveryServer } from '../../../src/server/api.ts';
import { startServer } from '../../../src/server/grpc.ts';
import { makeResource } from '../../../src/xds/encode.ts';
import type { Resource } from '../../../src/xds/resource.ts';
import { types } from '../../../src/xds/resource.ts';
import { ResourceTable } from '../../../src/xds/table.ts';
import { eventually, gatewayIdentity, testClock } from '../../unit/server/rig.ts';
import { newTestCa, type TestCa } from '../pki.ts';

const registry = createRegistry(HttpConnectionManagerSchema, RouterSchema, LocalRateLimitSchema);
const encode = (typeUrl: string, schema: DescMessage, name: string, json: JsonValue): Resource =>
  makeResource(typeUrl, name, toBinary(schema, fromJson(schema, json, { registry })));
const ads = { ads: {}, resource_api_version: 'V3' };
const clusterOf = (name: string): Resource =>
  encode(types.cluster, ClusterSchema, name, {
    name,
    type: 'EDS',
    connect_timeout: '1s',
    eds_cluster_config: { eds_config: ads },
  });
const endpointsOf = (name: string, port: number): Resource =>
  encode(types.endpoints, ClusterLoadAssignmentSchema, name, {
    cluster_name: name,
    endpoints: [
      { lb_endpoints: [{ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } }] },
    ],
  });
const routesTo = (cluster: string, domains: string[] = ['*']): Resource =>
  encode(types.routes, RouteConfigurationSchema, 'routes', {
    name: 'routes',
    virtual_hosts: [{ name: 'v', domains, routes: [{ match: { prefix: '/' }, route: { cluster } }] }],
  });
const limitType = 'type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit';
const always = { default_value: { numerator: 100 } };
/** A filter that lets `requests` through, and then one a day. */
const limitOf = (requests: number): Resource =>
  encode(types.extension, TypedExtensionConfigSchema, 'limit', {
    name: 'limit',
    typed_config: {
      '@type': limitType,
      stat_prefix: 'limit',
      filter_enabled: always,
      filter_enforced: always,
      token_bucket: { max_tokens: requests, tokens_per_fill: 1, fill_interval: '86400s' },
    },
  });
const discoveredLimit = {
  name: 'limit',
  config_discovery: {
    config_source: { ...ads, initial_fetch_timeout: '2s' },
    default_config: { '@type': limitType, stat_prefix: 'none' },
    type_urls: [limitType],
  },
};
const listenerOn = (port: number, filters: JsonValue[] = []): Resource =>
  encode(types.listener, ListenerSchema, 'listener', {
    name: 'listener',
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
    filter_chains: [
      {
        filters: [
          {
            name: 'hcm',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              stat_prefix: 'x',
              rds: { route_config_name: 'routes', config_source: ads },
              http_filters: [
                ...filters,
                {
                  name: 'router',
                  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
                },
              ],
            },
          },
        ],
      },
    ],
  });

let dir: string;
let ca: TestCa;
let backend: Server;
let server: DiscoveryServer | undefined;
let envoy: ChildProcess | undefined;
let pushed: { typeUrl: string; resources: number }[] = [];
let backendPort: number;
let listenerPort: number;

const freePort = async (): Promise<number> => {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
};
const start = async (table: ResourceTable, port: number): Promise<DiscoveryServer> => {
  const serving = await ca.issue({ commonName: 'controller', dns: ['controller'] });
  return startServer({
    tokenListen: { host: '127.0.0.1', port: 0 },
    mtlsListen: { host: '127.0.0.1', port },
    tls: { cert: serving.cert.toString(), key: serving.key.toString(), clientRoots: ca.cert.toString() },
    gatewayIdentity,
    gatewayIssuers: () => [new X509Certificate(ca.cert)],
    authenticateToken: () => Promise.reject(new Error('not here')),
    tables: { ztunnel: new ResourceTable([types.address]), gateway: table },
    certificates: () => Promise.reject(new Error('not here')),
    clock: testClock,
    rng: () => 0.5,
    log: () => {},
    hooks: { pushed: (_role, typeUrl, resources) => pushed.push({ typeUrl, resources }) },
  });
};
const startEnvoy = async (port: number): Promise<ChildProcess> => {
  const own = await ca.issue({ commonName: 'gateway', uris: [gatewayIdentity] });
  writeFileSync(join(dir, 'cert.pem'), own.cert);
  writeFileSync(join(dir, 'key.pem'), own.key);
  writeFileSync(join(dir, 'ca.pem'), ca.cert);
  const bootstrap = {
    node: { id: 'isthmus-gateway-0~0', cluster: 'east' },
    dynamic_resources: {
      ads_config: {
        api_type: 'DELTA_GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: 'controller' } }],
      },
      cds_config: ads,
      lds_config: ads,
    },
    static_resources: {
      clusters: [
        {
          name: 'controller',
          connect_timeout: '1s',
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          load_assignment: {
            cluster_name: 'controller',
            endpoints: [
              {
                lb_endpoints: [
                  { endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } },
                ],
              },
            ],
          },
          transport_socket: {
            name: 'tls',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
              sni: 'controller',
              common_tls_context: {
                tls_params: { tls_minimum_protocol_version: 'TLSv1_3', tls_maximum_protocol_version: 'TLSv1_3' },
                tls_certificates: [
                  {
                    certificate_chain: { filename: join(dir, 'cert.pem') },
                    private_key: { filename: join(dir, 'key.pem') },
                  },
                ],
                validation_context: { trusted_ca: { filename: join(dir, 'ca.pem') } },
              },
            },
          },
        },
      ],
    },
  };
  writeFileSync(join(dir, 'bootstrap.json'), JSON.stringify(bootstrap));
  const args = ['-c', join(dir, 'bootstrap.json'), '--concurrency', '1', '-l', 'error', '--use-dynamic-base-id'];
  return spawn(await toolPath('envoy'), args, { stdio: 'ignore' });
};

const agent = new Agent({ keepAlive: true });
const fetchStatus = (): Promise<number> =>
  new Promise((resolve) => {
    const request = get({ port: listenerPort, host: '127.0.0.1', agent }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    request.on('error', () => resolve(0));
  });
const serves = async (): Promise<void> => {
  const deadline = Date.now() + 30_000;
  while ((await fetchStatus()) !== 200) {
    if (Date.now() > deadline) throw new Error('Envoy does not serve');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};

beforeAll(async () => {
  ca = await newTestCa();
  backend = createServer((_request, response) => response.end('hello')).listen(0, '127.0.0.1');
  await once(backend, 'listening');
  backendPort = (backend.address() as AddressInfo).port;
});
afterAll(async () => {
  backend.closeAllConnections();
  backend.close();
  agent.destroy();
});
afterEach(async () => {
  envoy?.kill('SIGKILL');
  await server?.close(0);
  if (dir !== undefined) rmSync(dir, { recursive: true, force: true });
});

test('make before break, refusals and a restart, with traffic all the while', async () => {
  dir = mkdtempSync(join(tmpdir(), 'isthmus-envoy-'));
  listenerPort = await freePort();
  const table = new ResourceTable([types.cluster, types.endpoints, types.listener, types.routes, types.secret]);
  table.apply({ upserts: [clusterOf('c0'), endpointsOf('c0', backendPort), listenerOn(listenerPort), routesTo('c0')] });
  server = await start(table, 0);
  const port = server.mtlsPort;
  envoy = await startEnvoy(port);
  await serves();
  await eventually(() => server!.proxies()[0]?.synced === true);

  const statuses = new Map<number, number>();
  let calling = true;
  const caller = (async () => {
    while (calling) {
      const status = await fetchStatus();
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  })();
  // Each round replaces cluster, endpoints and the route to them in one change, and takes the old ones away.
  const rounds = 40;
  for (let i = 1; i <= rounds; i++) {
    table.apply({
      removes: [
        { typeUrl: types.cluster, name: `c${i - 1}` },
        { typeUrl: types.endpoints, name: `c${i - 1}` },
      ],
      upserts: [clusterOf(`c${i}`), endpointsOf(`c${i}`, backendPort), routesTo(`c${i}`)],
    });
    server.changed();
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  await eventually(() => server!.proxies()[0]?.synced === true);

  // A route that Envoy refuses: the last good one serves, and the cluster that it leads to stays although it is gone here.
  table.apply({
    removes: [{ typeUrl: types.cluster, name: `c${rounds}` }],
    upserts: [routesTo(`c${rounds}`, ['*', '*'])],
  });
  server.changed();
  await eventually(() => server!.proxies()[0]!.types.some((type) => type.rejected.length > 0));
  const rejected = server.proxies()[0]!.types.flatMap((type) => type.rejected);
  expect(rejected).toMatchObject([{ name: 'routes' }]);
  expect(rejected[0]!.reason).not.toBe('');
  await new Promise((resolve) => setTimeout(resolve, 500));
  table.apply({ upserts: [clusterOf(`c${rounds}`), routesTo(`c${rounds}`)] });
  server.changed();
  await eventually(() => server!.proxies()[0]!.types.every((type) => type.rejected.length === 0));

  // Another server in its place, with the same content: the proxy comes back and is sent nothing that it has.
  await server.close(100);
  pushed = [];
  server = await start(table, port);
  const deadline = Date.now() + 20_000;
  while (server.proxies()[0]?.synced !== true || server.proxies()[0]!.types.length < 4) {
    if (Date.now() > deadline) throw new Error('Envoy did not come back');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(pushed.length).toBeGreaterThan(0);
  expect(pushed.filter(({ resources }) => resources > 0)).toEqual([]);
  calling = false;
  await caller;
  expect([...statuses.keys()]).toEqual([200]);
  expect(statuses.get(200)).toBeGreaterThan(100);
});

test('a filter configured apart from its listener: changed and taken back without the loss of a connection', async () => {
  dir = mkdtempSync(join(tmpdir(), 'isthmus-envoy-'));
  listenerPort = await freePort();
  const table = new ResourceTable([types.cluster, types.endpoints, types.listener, types.routes, types.extension]);
  table.apply({
    upserts: [
      clusterOf('c0'),
      endpointsOf('c0', backendPort),
      listenerOn(listenerPort, [discoveredLimit]),
      routesTo('c0'),
      limitOf(1_000_000),
    ],
  });
  server = await start(table, 0);
  envoy = await startEnvoy(server.mtlsPort);
  await serves();
  let sockets = 0;
  const one = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (): Promise<number> =>
    new Promise((resolve) => {
      const request = get({ port: listenerPort, host: '127.0.0.1', agent: one }, (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode ?? 0));
      });
      request.on('socket', (socket) => {
        if (socket.connecting) sockets += 1;
      });
      request.on('error', () => resolve(0));
    });
  const change = async (changes: Parameters<ResourceTable['apply']>[0]): Promise<void> => {
    table.apply(changes);
    server!.changed();
    await eventually(() => server!.proxies()[0]!.types.every((type) => type.ackedVersion === type.sentVersion));
    await new Promise((resolve) => setTimeout(resolve, 200));
  };
  expect(await ask()).toBe(200);
  await change({ upserts: [limitOf(2)] });
  expect([await ask(), await ask(), await ask()]).toEqual([200, 200, 429]);
  await change({ upserts: [limitOf(1_000)] });
  expect(await ask()).toBe(200);
  await change({ upserts: [limitOf(1)] });
  expect([await ask(), await ask()]).toEqual([200, 429]);
  await change({ removes: [{ typeUrl: types.extension, name: 'limit' }] });
  expect([await ask(), await ask(), await ask()]).toEqual([200, 200, 200]);
  expect(sockets).toBe(1);
  one.destroy();
});
