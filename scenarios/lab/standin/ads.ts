/**
 * The delta stream of a ztunnel: Address and Authorization, both wildcard; each response is acknowledged or, with the reason,
 * rejected; a reconnect says what is held already. Pauses grow from 10 ms to 15 s.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { Client, ClientDuplexStream } from '@grpc/grpc-js';
import type { Clock } from '../../../src/core/clock.ts';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../../../src/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { types } from '../../../src/xds/resource.ts';
import { callMetadata, grpcClient } from './certificate.ts';
import type { StandinConfig } from './config.ts';

const path = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources';
const subscribed = [types.address, types.authorization] as const;
const backoffMinMs = 10;
const backoffMaxMs = 15_000;
const connectTimeoutMs = 5_000;

export interface Update {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Applies what it can; returns a reason per resource that it cannot. */
export type Apply = (typeUrl: string, updates: readonly Update[], removed: readonly string[]) => readonly string[];

type Stream = ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

export class AdsClient {
  readonly #config: StandinConfig;
  readonly #clock: Clock;
  readonly #apply: Apply;
  readonly #log: (line: string) => void;
  /** Type to resource to version: what we hold. */
  readonly #known = new Map<string, Map<string, string>>(subscribed.map((type) => [type, new Map()]));
  readonly #answered = new Set<string>();
  #backoffMs = backoffMinMs;

  constructor(config: StandinConfig, clock: Clock, apply: Apply, log: (line: string) => void) {
    this.#config = config;
    this.#clock = clock;
    this.#apply = apply;
    this.#log = log;
  }

  /** Both types were answered and accepted at least once. */
  get synced(): boolean {
    return subscribed.every((type) => this.#answered.has(type));
  }

  start(): void {
    const client = grpcClient(this.#config.xds, { 'grpc.max_receive_message_length': 200 * 1024 * 1024 });
    // grpc-js waits for ever for the server's SETTINGS; this deadline ends that too.
    client.waitForReady(Date.now() + connectTimeoutMs, (error) => {
      if (error !== undefined) this.#again(client, `not connected: ${error.message}`);
      else this.#open(client);
    });
  }

  #again(client: Client, reason: string): void {
    client.close();
    this.#log(`warn XDS client connection error: ${reason}, retrying in ${this.#backoffMs}ms`);
    this.#clock.after(this.#backoffMs, () => this.start());
    this.#backoffMs = Math.min(this.#backoffMs * 2, backoffMaxMs);
  }

  #open(client: Client): void {
    const metadata = callMetadata(this.#config);
    for (const [key, value] of Object.entries(this.#config.xdsHeaders)) metadata.set(key, value);
    const stream: Stream = client.makeBidiStreamRequest(
      path,
      (value: DeltaDiscoveryRequest) => Buffer.from(toBinary(DeltaDiscoveryRequestSchema, value)),
      (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
      metadata,
    );
    let over = false;
    const ended = (reason: string): void => {
      if (over) return;
      over = true;
      this.#again(client, reason);
    };
    stream.on('error', (error) => ended(error.message));
    stream.on('end', () => ended('the server ended the stream'));
    stream.on('data', (response: DeltaDiscoveryResponse) => {
      this.#backoffMs = backoffMinMs;
      this.#receive(stream, response);
    });
    for (const typeUrl of subscribed) {
      stream.write(
        create(DeltaDiscoveryRequestSchema, {
          node: this.#node(),
          typeUrl,
          initialResourceVersions: Object.fromEntries(this.#known.get(typeUrl) ?? []),
        }),
      );
    }
    this.#log('info Stream established');
  }

  #receive(stream: Stream, response: DeltaDiscoveryResponse): void {
    const { typeUrl, nonce, resources, removedResources } = response;
    const known = this.#known.get(typeUrl);
    const updates = resources.map(({ name, resource }) => ({ name, bytes: resource?.value ?? new Uint8Array() }));
    const rejected =
      known === undefined ? [`type ${typeUrl} was not asked for`] : this.#apply(typeUrl, updates, removedResources);
    for (const { name, version } of resources) known?.set(name, version);
    for (const name of removedResources) known?.delete(name);
    if (rejected.length === 0) this.#answered.add(typeUrl);
    else this.#log(`error NACK type_url="${typeUrl}" nonce="${nonce}" error="${rejected.join('; ')}"`);
    stream.write(
      create(DeltaDiscoveryRequestSchema, {
        typeUrl,
        responseNonce: nonce,
        ...(rejected.length === 0 ? {} : { errorDetail: { code: 3, message: rejected.join('; ') } }),
      }),
    );
  }

  #node(): { id: string; metadata: Record<string, string> } {
    const { instanceIp, podName, podNamespace, nodeName } = this.#config;
    return {
      id: `ztunnel~${instanceIp}~${podName}.${podNamespace}~${podNamespace}.svc.cluster.local`,
      metadata: { NAME: podName, NAMESPACE: podNamespace, INSTANCE_IPS: instanceIp, NODE_NAME: nodeName },
    };
  }
}
