/** A discovery server on loopback with a throw-away PKI, and a client that speaks to it the way proxies do. */
import { X509Certificate } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, type ClientDuplexStream, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Clock } from '../../../src/core/clock.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../../../src/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { DiscoveryServer, ServerOptions, TokenPeer } from '../../../src/server/api.ts';
import { startServer } from '../../../src/server/grpc.ts';
import { makeResource } from '../../../src/xds/encode.ts';
import { types } from '../../../src/xds/resource.ts';
import { ResourceTable } from '../../../src/xds/table.ts';
import { newTestCa, type TestCa } from '../../real/pki.ts';

export const gatewayIdentity = 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-gateway';
export const zNode = (pod: string): string => `ztunnel~10.0.0.1~${pod}.shop~shop.svc.cluster.local`;

export const testClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

export interface Rig {
  readonly ca: TestCa;
  readonly server: DiscoveryServer;
  readonly tables: { readonly ztunnel: ResourceTable; readonly gateway: ResourceTable };
  readonly events: string[];
  readonly tokensSeen: string[];
}

/** Tokens are `pod:<name>`; anything else is unknown. */
export const startRig = async (overrides: Partial<ServerOptions> = {}): Promise<Rig> => {
  const ca = await newTestCa();
  const serving = await ca.issue({ commonName: 'controller', dns: ['controller'], ips: ['127.0.0.1'] });
  const tables = {
    ztunnel: new ResourceTable([types.address, types.authorization]),
    gateway: new ResourceTable([
      types.cluster,
      types.endpoints,
      types.listener,
      types.routes,
      types.secret,
      types.extension,
    ]),
  };
  const events: string[] = [];
  const tokensSeen: string[] = [];
  const authenticateToken = async (token: string): Promise<TokenPeer> => {
    tokensSeen.push(token);
    if (!token.startsWith('pod.')) throw new IsthmusError('auth/unauthenticated', 'the token is refused');
    const name = token.slice(4);
    const pod = name === '' ? undefined : { name, uid: `uid-${name}` };
    return { namespace: 'shop', serviceAccount: 'checkout', pod, node: 'node-1' };
  };
  const server = await startServer({
    tokenListen: { host: '127.0.0.1', port: 0 },
    mtlsListen: { host: '127.0.0.1', port: 0 },
    tls: { cert: serving.cert.toString(), key: serving.key.toString(), clientRoots: ca.cert.toString() },
    gatewayIdentity,
    gatewayIssuers: () => [new X509Certificate(ca.cert)],
    authenticateToken,
    isGatewayPod: (pod) => pod.startsWith('isthmus-gateway-'),
    tables,
    certificates: async (call, peer) => [
      `${peer.serviceAccount} ${call.validityS} ${call.impersonatedIdentity ?? ''} ${call.csr}`,
    ],
    clock: testClock,
    rng: () => 0.5,
    log: () => {},
    hooks: {
      opened: (role) => events.push(`opened ${role}`),
      closed: (role, error) => events.push(`closed ${role} ${error?.code ?? 'ok'}`),
      rejected: (_role, _type, node, resources) => events.push(`rejected ${node} ${resources.map(({ name }) => name)}`),
      refused: (port, error) => events.push(`refused ${port} ${error.code}`),
    },
    ...overrides,
  });
  return { ca, server, tables, events, tokensSeen };
};

export const put = (table: ResourceTable, typeUrl: string, name: string, content: string): void => {
  table.apply({ upserts: [makeResource(typeUrl, name, Buffer.from(content))] });
};

const bytes = (value: Buffer): Buffer => value;
export const deltaPath = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
export const sotwPath = '/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources';

export class ProxyClient {
  readonly client: Client;
  readonly stream: ClientDuplexStream<Buffer, Buffer>;
  readonly responses: DeltaDiscoveryResponse[] = [];
  readonly status: Promise<{ readonly code: number; readonly details: string }>;
  #wake: (() => void) | undefined;
  acks = true;

  constructor(port: number, creds: ReturnType<typeof credentials.createSsl>, token?: string, path = deltaPath) {
    this.client = new Client(`127.0.0.1:${port}`, creds, { 'grpc.ssl_target_name_override': 'controller' });
    const metadata = new Metadata();
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
    this.stream = this.client.makeBidiStreamRequest(path, bytes, bytes, metadata);
    this.status = new Promise((resolve) => {
      this.stream.on('status', ({ code, details }) => {
        resolve({ code, details });
        this.#wake?.();
      });
    });
    this.stream.on('error', (_error: ServiceError) => {});
    this.stream.on('data', (data: Buffer) => {
      const response = fromBinary(DeltaDiscoveryResponseSchema, data);
      this.responses.push(response);
      if (this.acks) this.ask({ typeUrl: response.typeUrl, responseNonce: response.nonce });
      this.#wake?.();
    });
  }
  ask(fields: Parameters<typeof create<typeof DeltaDiscoveryRequestSchema>>[1]): void {
    this.stream.write(
      Buffer.from(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, fields as object))),
    );
  }
  /** Waits for the next response. */
  async next(): Promise<DeltaDiscoveryResponse> {
    const deadline = Date.now() + 5_000;
    while (this.responses.length === 0) {
      if (Date.now() > deadline) throw new Error('no response');
      await Promise.race([
        new Promise<void>((resolve) => {
          this.#wake = resolve;
        }),
        new Promise((resolve) => setTimeout(resolve, 100).unref()),
      ]);
    }
    return this.responses.shift()!;
  }
  close(): void {
    this.stream.cancel();
    this.client.close();
  }
}

export const ztunnel = (rig: Rig, pod: string, token = `pod.${pod}`): ProxyClient =>
  new ProxyClient(rig.server.tokenPort, credentials.createSsl(rig.ca.cert), token);

export const gateway = async (
  rig: Rig,
  uris: readonly string[] = [gatewayIdentity],
  dns: readonly string[] = [],
): Promise<ProxyClient> => {
  const own = await rig.ca.issue({ commonName: 'gateway', uris, dns });
  return new ProxyClient(rig.server.mtlsPort, credentials.createSsl(rig.ca.cert, own.key, own.cert));
};

export const contents = (response: DeltaDiscoveryResponse): Record<string, string> =>
  Object.fromEntries(response.resources.map((entry) => [entry.name, Buffer.from(entry.resource!.value).toString()]));

export const eventually = async (what: () => boolean): Promise<void> => {
  const deadline = Date.now() + 5_000;
  while (!what()) {
    if (Date.now() > deadline) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};
