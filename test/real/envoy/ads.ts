/**
 * The smallest delta discovery server that an Envoy works with: per node a set of resources, sent when subscribed to or
 * changed. For tests of translations; what the project serves with is in src/server.
 */
import { createHash } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../../../src/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { Encoded } from '../../../src/translate/envoy/encoded.ts';
import { Reports } from './reports.ts';

type Stream = ServerDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

/** Make before break: what is pointed at goes before what points at it, and removals last. */
const order = ['Secret', 'Cluster', 'ClusterLoadAssignment', 'Listener', 'RouteConfiguration'];
const rank = (typeUrl: string): number => order.findIndex((name) => typeUrl.endsWith(`.${name}`));

const versionOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex').slice(0, 12);

class Client {
  readonly #stream: Stream;
  readonly #wanted = new Map<string, Set<string>>();
  readonly #sent = new Map<string, string>();
  node = '';
  #nonce = 0;
  bytes = 0;

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  note(request: DeltaDiscoveryRequest): void {
    if (request.node !== undefined) this.node = request.node.id;
    let wanted = this.#wanted.get(request.typeUrl);
    if (wanted === undefined) {
      wanted = new Set(/\.(Cluster|Listener)$/.test(request.typeUrl) ? ['*'] : []);
      this.#wanted.set(request.typeUrl, wanted);
    }
    for (const name of request.resourceNamesSubscribe) wanted.add(name);
    for (const name of request.resourceNamesUnsubscribe) {
      wanted.delete(name);
      this.#sent.delete(`${request.typeUrl} ${name}`);
    }
    for (const name of request.resourceNamesSubscribe) this.#sent.delete(`${request.typeUrl} ${name}`);
  }

  push(resources: ReadonlyMap<string, Encoded>): void {
    const types = [...this.#wanted.keys()].sort((a, b) => rank(a) - rank(b));
    const send = (typeUrl: string, rest: object) => {
      const message = create(DeltaDiscoveryResponseSchema, { typeUrl, nonce: String(++this.#nonce), ...rest });
      this.bytes += toBinary(DeltaDiscoveryResponseSchema, message).length;
      this.#stream.write(message);
    };
    for (const typeUrl of types) {
      const wanted = this.#wanted.get(typeUrl)!;
      const changed = [...resources.values()].filter((resource) => {
        if (resource.typeUrl !== typeUrl || !(wanted.has('*') || wanted.has(resource.name))) return false;
        const key = `${typeUrl} ${resource.name}`;
        const version = versionOf(resource.bytes);
        if (this.#sent.get(key) === version) return false;
        this.#sent.set(key, version);
        return true;
      });
      if (changed.length === 0) continue;
      send(typeUrl, {
        resources: changed.map(({ name, bytes }) => ({
          name,
          version: versionOf(bytes),
          resource: { typeUrl, value: bytes },
        })),
      });
    }
    for (const typeUrl of types.reverse()) {
      const gone = [...this.#sent.keys()].filter((key) => key.startsWith(`${typeUrl} `) && !resources.has(key));
      if (gone.length === 0) continue;
      for (const key of gone) this.#sent.delete(key);
      send(typeUrl, { removedResources: gone.map((key) => key.slice(typeUrl.length + 1)) });
    }
  }
}

export interface AdsTls {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export class AdsServer {
  readonly #server = new Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 });
  readonly #clients = new Set<Client>();
  readonly #resources = new Map<string, Map<string, Encoded>>();
  /** What Envoys refused, with their words. */
  readonly refusals: string[] = [];
  readonly reports = new Reports();

  constructor() {
    this.reports.addTo(this.#server);
    this.#server.addService(
      {
        deltaAggregatedResources: {
          path: '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
          requestStream: true,
          responseStream: true,
          requestSerialize: (message: DeltaDiscoveryRequest) =>
            Buffer.from(toBinary(DeltaDiscoveryRequestSchema, message)),
          requestDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, bytes),
          responseSerialize: (message: DeltaDiscoveryResponse) =>
            Buffer.from(toBinary(DeltaDiscoveryResponseSchema, message)),
          responseDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
        },
      },
      { deltaAggregatedResources: (stream: Stream) => this.#accept(stream) },
    );
  }

  #accept(stream: Stream): void {
    const client = new Client(stream);
    this.#clients.add(client);
    stream.on('data', (request: DeltaDiscoveryRequest) => {
      if (request.errorDetail !== undefined) {
        this.refusals.push(`${client.node} ${request.typeUrl}: ${request.errorDetail.message}`);
      }
      client.note(request);
      client.push(this.#resources.get(client.node) ?? new Map());
    });
    const leave = () => this.#clients.delete(client);
    stream
      .on('end', () => stream.end())
      .on('close', leave)
      .on('error', leave);
  }

  listen(address: string, tls: AdsTls): Promise<number> {
    const credentials = ServerCredentials.createSsl(tls.ca, [{ cert_chain: tls.cert, private_key: tls.key }], true);
    return new Promise((resolve, reject) =>
      this.#server.bindAsync(address, credentials, (error, port) => (error ? reject(error) : resolve(port))),
    );
  }

  /** Replaces all that a node gets. */
  set(node: string, resources: readonly Encoded[]): void {
    const byKey = new Map(resources.map((resource) => [`${resource.typeUrl} ${resource.name}`, resource]));
    if (byKey.size !== resources.length) throw new Error('two resources of one name');
    this.#resources.set(node, byKey);
    for (const client of this.#clients) if (client.node === node) client.push(byKey);
  }

  /** Bytes of responses written to a node's streams. */
  sent(node: string): number {
    return [...this.#clients].filter((client) => client.node === node).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  close(): void {
    this.#server.forceShutdown();
  }
}
