/**
 * What this room hands out: a resource as bytes, encoded once for every gateway and every stream that gets it.
 *
 * Bytes, not messages: two replicas must serve the same version for the same content, and a version is a hash of bytes.
 * protobuf-es writes fields in the order of their numbers, so equal messages give equal bytes; maps with more than one
 * key would not, so none is used here.
 */
import { create, type DescMessage, type MessageInitShape, type MessageShape, toBinary } from '@bufbuild/protobuf';
import { type Any, anyPack, type Duration, DurationSchema } from '@bufbuild/protobuf/wkt';
import { ApiVersion, type ConfigSource, ConfigSourceSchema } from '../../gen/envoy/config/core/v3/config_source_pb.ts';

/** The discovery types that a gateway gets, as Envoy names them. */
export const typeUrls = {
  listener: 'type.googleapis.com/envoy.config.listener.v3.Listener',
  cluster: 'type.googleapis.com/envoy.config.cluster.v3.Cluster',
  endpoints: 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment',
  routes: 'type.googleapis.com/envoy.config.route.v3.RouteConfiguration',
  secret: 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
  extension: 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig',
} as const;

export type GatewayTypeUrl = (typeof typeUrls)[keyof typeof typeUrls];

export interface Encoded {
  readonly typeUrl: GatewayTypeUrl;
  readonly name: string;
  readonly bytes: Uint8Array;
}

export const encode = <D extends DescMessage>(
  typeUrl: GatewayTypeUrl,
  name: string,
  schema: D,
  message: MessageShape<D>,
): Encoded => ({ typeUrl, name, bytes: toBinary(schema, message) });

/** A message inside an Any, from its plain form. */
export const packed = <D extends DescMessage>(schema: D, init: MessageInitShape<D>): Any =>
  anyPack(schema, create(schema, init));

/** A named extension, the form in which Envoy takes filters, transport sockets and retry plugins. */
export const extension = <D extends DescMessage>(
  name: string,
  schema: D,
  init: MessageInitShape<D>,
): { name: string; configType: { case: 'typedConfig'; value: Any } } => ({
  name,
  configType: { case: 'typedConfig', value: packed(schema, init) },
});

/** Milliseconds as a protobuf Duration. */
export const duration = (ms: number): Duration =>
  create(DurationSchema, { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.round((ms % 1000) * 1_000_000) });

/** "Ask the stream you are on": everything comes from the controller's one ADS stream. */
export const fromAds = (): ConfigSource =>
  create(ConfigSourceSchema, {
    configSourceSpecifier: { case: 'ads', value: {} },
    resourceApiVersion: ApiVersion.V3,
  });
