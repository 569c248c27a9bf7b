/**
 * A resource, encoded once. `frame` is the whole `resources` entry of a DeltaDiscoveryResponse (tag, length, name,
 * version, Any), shared by every stream that gets it: sending costs a copy into the socket and nothing else.
 */

export interface Resource {
  readonly typeUrl: string;
  readonly name: string;
  /** Hash of the content: equal content has an equal version on every replica and after every restart. */
  readonly version: string;
  readonly frame: Uint8Array;
}

export const types = {
  listener: 'type.googleapis.com/envoy.config.listener.v3.Listener',
  cluster: 'type.googleapis.com/envoy.config.cluster.v3.Cluster',
  endpoints: 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment',
  routes: 'type.googleapis.com/envoy.config.route.v3.RouteConfiguration',
  secret: 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
  extension: 'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig',
  address: 'type.googleapis.com/istio.workload.Address',
  authorization: 'type.googleapis.com/istio.security.Authorization',
} as const;

export type TypeUrl = (typeof types)[keyof typeof types];
