/** A proxy's side of the delta protocol, as a model: what it asked for, what it holds, what it refuses. */
import { fromBinary } from '@bufbuild/protobuf';
import { expect } from 'vitest';
import { DeltaDiscoveryResponseSchema } from '../../../src/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { DeltaRequest } from '../../../src/xds/decode.ts';
import { makeResource } from '../../../src/xds/encode.ts';
import type { Push } from '../../../src/xds/push.ts';
import type { Resource } from '../../../src/xds/resource.ts';

export const resource = (typeUrl: string, name: string, content: string): Resource =>
  makeResource(typeUrl, name, Buffer.from(content));

export const request = (typeUrl: string, fields: Partial<DeltaRequest> = {}): DeltaRequest => ({
  nodeId: undefined,
  typeUrl,
  subscribe: [],
  unsubscribe: [],
  initialVersions: new Map(),
  nonce: '',
  error: undefined,
  ...fields,
});

export interface Received {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly systemVersion: string;
  readonly resources: ReadonlyMap<string, { readonly version: string; readonly content: string }>;
  readonly removed: readonly string[];
}

/** Decodes the bytes with the generated code: what is read here is what a proxy reads. */
export const receive = (push: Push): Received => {
  const message = fromBinary(DeltaDiscoveryResponseSchema, push.bytes);
  expect(message.typeUrl).toBe(push.typeUrl);
  expect(message.nonce).toBe(push.nonce);
  return {
    typeUrl: message.typeUrl,
    nonce: message.nonce,
    systemVersion: message.systemVersionInfo,
    resources: new Map(
      message.resources.map((entry) => {
        expect(entry.resource?.typeUrl).toBe(message.typeUrl);
        return [entry.name, { version: entry.version, content: Buffer.from(entry.resource!.value).toString() }];
      }),
    ),
    removed: message.removedResources,
  };
};

export const ack = (received: Received): DeltaRequest => request(received.typeUrl, { nonce: received.nonce });
export const nack = (received: Received, error: string): DeltaRequest =>
  request(received.typeUrl, { nonce: received.nonce, error });
