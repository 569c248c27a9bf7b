/**
 * A proxy as far as discovery goes: asks for its types, acknowledges, remembers every resource with its version, and says what
 * it holds when it connects again. A gateway asks for endpoints, routes and secrets by the names that it was told of, as
 * Envoy does.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, type ClientDuplexStream, credentials, Metadata } from '@grpc/grpc-js';
import { ClusterSchema } from '../../../src/gen/envoy/config/cluster/v3/cluster_pb.ts';
import {
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../../../src/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { listenerNames, routeNames, secretNames } from '../../../src/translate/envoy/resource_names.ts';
import { types } from '../../../src/xds/resource.ts';
import { eventually } from '../kube/objects.ts';

export const controllerName = 'isthmus-controller.isthmus-system.svc';
const path = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const identity = (value: Buffer): Buffer => value;

export interface ProxyOptions {
  readonly nodeId: string;
  readonly role: 'ztunnel' | 'gateway';
  /** PEM. */
  readonly roots: string;
  readonly token?: string;
  readonly certificate?: { readonly cert: string; readonly key: string };
  /** Extension configurations that it asks for. */
  readonly extensions?: readonly string[];
}

export interface Held {
  readonly version: string;
  readonly bytes: Uint8Array;
}

/** One response, as it came. */
export interface Received {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly atMs: number;
  readonly names: readonly string[];
  readonly removed: readonly string[];
}

type Request = Parameters<typeof create<typeof DeltaDiscoveryRequestSchema>>[1];

export class TestProxy {
  readonly options: ProxyOptions;
  /** Type → name → what is held. */
  readonly held = new Map<string, Map<string, Held>>();
  /** Responses since the last connect. */
  received: Received[] = [];
  /** Returns why a resource is refused. */
  refuse: ((typeUrl: string, name: string) => string | undefined) | undefined;
  /** Called for each resource that came. */
  onResource: ((typeUrl: string, name: string, bytes: Uint8Array) => void) | undefined;
  ended: { code: number; details: string } | undefined;
  readonly #asked = new Map<string, Set<string>>();
  #client: Client | undefined;
  #stream: ClientDuplexStream<Buffer, Buffer> | undefined;

  constructor(options: ProxyOptions) {
    this.options = options;
  }

  /** Connects, or connects again, saying what is held. */
  connect(port: number): void {
    this.close();
    const { role, roots, token, certificate, extensions } = this.options;
    this.received = [];
    this.ended = undefined;
    const pem = (text: string | undefined): Buffer | null => (text === undefined ? null : Buffer.from(text));
    const tls = credentials.createSsl(pem(roots), pem(certificate?.key), pem(certificate?.cert));
    const client = new Client(`127.0.0.1:${port}`, tls, {
      'grpc.ssl_target_name_override': controllerName,
      'grpc.default_authority': controllerName,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': 256 * 1024 * 1024,
    });
    const metadata = new Metadata();
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
    const stream = client.makeBidiStreamRequest(path, identity, identity, metadata);
    stream.on('error', () => {});
    stream.on('status', ({ code, details }) => {
      if (this.#stream === stream) this.ended = { code, details };
    });
    stream.on('data', (bytes: Buffer) => {
      if (this.#stream === stream) this.#receive(fromBinary(DeltaDiscoveryResponseSchema, bytes));
    });
    this.#client = client;
    this.#stream = stream;
    // As Envoy does, all that was asked for by name is asked for again at once.
    const named = (typeUrl: string, names: readonly string[]) => [
      ...new Set([...names, ...(this.#asked.get(typeUrl) ?? [])]),
    ];
    const { mesh, federation, meshRoots, tradedRoots } = secretNames;
    const asks: [string, readonly string[]][] =
      role === 'ztunnel'
        ? [
            [types.address, []],
            [types.authorization, []],
          ]
        : [
            [types.cluster, []],
            [types.endpoints, named(types.endpoints, [])],
            [types.listener, []],
            [types.routes, Object.values(routeNames)],
            [types.secret, named(types.secret, [mesh, federation, meshRoots, tradedRoots])],
            ...(extensions === undefined ? [] : [[types.extension, extensions] as [string, readonly string[]]]),
          ];
    for (const [typeUrl, names] of asks) {
      this.#asked.set(typeUrl, new Set(names));
      // Envoy opens a type with the first name that it wants, and says what it holds.
      if (typeUrl === types.endpoints && names.length === 0) continue;
      this.#send({
        node: { id: this.options.nodeId },
        typeUrl,
        resourceNamesSubscribe: [...names],
        initialResourceVersions: this.versions(typeUrl),
      });
    }
  }

  close(): void {
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.cancel();
    this.#client?.close();
    this.#client = undefined;
  }

  /** Name → version of what is held of a type. */
  versions(typeUrl: string): Record<string, string> {
    return Object.fromEntries([...(this.held.get(typeUrl) ?? [])].map(([name, { version }]) => [name, version]).sort());
  }

  /** All that is held, as text that can be compared. */
  snapshot(): Record<string, Record<string, string>> {
    return Object.fromEntries(
      [...this.held.keys()]
        .sort()
        .map((typeUrl) => [typeUrl, this.versions(typeUrl)] as const)
        .filter(([, versions]) => Object.keys(versions).length > 0),
    );
  }

  get(typeUrl: string, name: string): Uint8Array | undefined {
    return this.held.get(typeUrl)?.get(name)?.bytes;
  }
  names(typeUrl: string): string[] {
    return [...(this.held.get(typeUrl)?.keys() ?? [])].sort();
  }

  /** Resources that came since the last connect, as `type name`. */
  get resources(): string[] {
    return this.received.flatMap((r) => r.names.map((name) => `${r.typeUrl.split('.').at(-1)} ${name}`));
  }

  /** Waits for what a proxy needs to begin: every type of its role answered. */
  async synced(withinMs = 30_000): Promise<void> {
    const first =
      this.options.role === 'ztunnel' ? [types.address, types.authorization] : [types.cluster, types.listener];
    const seen = () => new Set(this.received.map((r) => r.typeUrl));
    await eventually(
      `${this.options.nodeId} got its first resources${this.ended === undefined ? '' : ` (${this.ended.details})`}`,
      () => first.every((typeUrl) => seen().has(typeUrl)),
      withinMs,
    ).catch((error: Error) => {
      throw new Error(`${error.message}; stream: ${JSON.stringify(this.ended)}; got ${[...seen()].join(', ')}`);
    });
    await this.quiet();
  }

  /** Waits until nothing has come for so long. */
  async quiet(ms = 300): Promise<void> {
    let count = -1;
    while (count !== this.received.length) {
      count = this.received.length;
      await new Promise((resolve) => setTimeout(resolve, ms));
    }
  }

  #send(fields: Request): void {
    if (this.ended !== undefined) return;
    this.#stream?.write(
      Buffer.from(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, fields))),
    );
  }

  #receive(response: DeltaDiscoveryResponse): void {
    const { typeUrl, nonce, resources, removedResources } = response;
    let held = this.held.get(typeUrl);
    if (held === undefined) {
      held = new Map();
      this.held.set(typeUrl, held);
    }
    const reasons: string[] = [];
    for (const { name, version, resource } of resources) {
      const reason = this.refuse?.(typeUrl, name);
      const bytes = resource?.value ?? new Uint8Array();
      if (reason === undefined) held.set(name, { version, bytes });
      else reasons.push(`${name}: ${reason}`);
      this.onResource?.(typeUrl, name, bytes);
    }
    for (const name of removedResources) held.delete(name);
    this.received.push({
      typeUrl,
      nonce,
      atMs: performance.now(),
      names: resources.map((r) => r.name),
      removed: removedResources,
    });
    this.#send({
      typeUrl,
      responseNonce: nonce,
      ...(reasons.length === 0 ? {} : { errorDetail: { code: 13, message: reasons.join('\n') } }),
    });
    if (typeUrl === types.cluster) this.#askFor(types.endpoints, this.#endpointNames());
    if (typeUrl === types.cluster || typeUrl === types.listener) this.#askFor(types.secret, this.#secretNames());
  }

  #endpointNames(): string[] {
    return [...(this.held.get(types.cluster)?.values() ?? [])].flatMap(({ bytes }) => {
      const cluster = fromBinary(ClusterSchema, bytes);
      return cluster.edsClusterConfig === undefined ? [] : [cluster.edsClusterConfig.serviceName || cluster.name];
    });
  }

  /** The secrets that clusters and listeners name: found by their spelling, for their place differs. */
  #secretNames(): string[] {
    const names = new Set<string>();
    for (const typeUrl of [types.cluster, types.listener]) {
      for (const { bytes } of this.held.get(typeUrl)?.values() ?? []) {
        for (const [name] of Buffer.from(bytes)
          .toString('latin1')
          .matchAll(/member\/[a-z0-9-]+/g))
          names.add(name);
      }
    }
    return [...names];
  }

  #askFor(typeUrl: string, names: readonly string[]): void {
    const asked = this.#asked.get(typeUrl) ?? new Set<string>();
    const fresh = names.filter((name) => !asked.has(name));
    const gone = typeUrl === types.endpoints ? [...asked].filter((name) => !names.includes(name)) : [];
    if (fresh.length + gone.length === 0) return;
    const first = asked.size === 0;
    for (const name of fresh) asked.add(name);
    for (const name of gone) {
      asked.delete(name);
      this.held.get(typeUrl)?.delete(name);
    }
    this.#asked.set(typeUrl, asked);
    this.#send({
      typeUrl,
      resourceNamesSubscribe: fresh,
      resourceNamesUnsubscribe: gone,
      ...(first ? { initialResourceVersions: this.versions(typeUrl) } : {}),
    });
  }
}

export const listeners = Object.values(listenerNames);
