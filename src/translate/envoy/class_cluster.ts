/**
 * The cluster of a class: the gateways of its members over HTTP/2 and federation TLS.
 *
 * Which endpoints, in which order, is discovered apart (class_endpoints.ts), so that a gateway that comes or goes pushes one
 * small resource. Members are part of the cluster: each has its own transport socket, with its own CA and exact name.
 *
 * Panic threshold 1, not 0: when a blip has ejected everybody, everybody is tried again instead of every call refused.
 * A new cluster is of no use before its first health checks: Envoy answers 503 for a cluster that it still warms, and the
 * check of a dead member takes its whole timeout. So routes move to a new class only some time later (translation.ts).
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { TrafficPolicy } from '../../federation/local.ts';
import type { CircuitBreakersSchema } from '../../gen/envoy/config/cluster/v3/circuit_breaker_pb.ts';
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from '../../gen/envoy/config/cluster/v3/cluster_pb.ts';
import type { HealthCheckSchema } from '../../gen/envoy/config/core/v3/health_check_pb.ts';
import { HttpProtocolOptionsSchema } from '../../gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts';
import { CodecClientType } from '../../gen/envoy/type/v3/http_pb.ts';
import { duration, type Encoded, encode, fromAds, packed, typeUrls } from './encoded.ts';
import { clientHttp2 } from './http2.ts';
import type { GatewaySettings } from './input.ts';
import { gatewayOutlier } from './outlier.ts';
import type { PeerTimers } from './timers.ts';
import { upstreamTls } from './tls.ts';

/** Envoy's own bounds (1,024 of each, 3 retries) would cut a gateway's traffic short; the machine's memory is the bound. */
const unbounded = 1_000_000_000;

/**
 * `connections`: a user's `connectionPool.tcp.maxConnections`. To the caller a tunnel is the TCP connection, so it bounds
 * tunnels; the connections that carry them can never be more.
 */
export const breakers = (connections: number | undefined): MessageInitShape<typeof CircuitBreakersSchema> => ({
  thresholds: [
    {
      maxConnections: connections ?? unbounded,
      maxRequests: connections ?? unbounded,
      maxPendingRequests: unbounded,
      maxRetries: unbounded,
    },
  ],
});

const healthCheck = (timers: PeerTimers): MessageInitShape<typeof HealthCheckSchema> => ({
  interval: duration(500),
  noTrafficInterval: duration(2_000),
  timeout: duration(timers.healthTimeoutMs),
  // Twice: on a long lossy line one check may well be late, and this verdict moves everything. A gateway that says 503 to
  // its check (it is about to go) is left at once all the same.
  unhealthyThreshold: 2,
  healthyThreshold: 2,
  healthChecker: {
    case: 'httpHealthCheck',
    value: { host: 'healthz', path: '/healthz', codecClientType: CodecClientType.HTTP2 },
  },
});

/** `members`: every member of the class's tiers. `timers`: those that suit the slowest of them. */
export const classCluster = (
  { self }: GatewaySettings,
  name: string,
  members: readonly string[],
  timers: PeerTimers,
  policy: TrafficPolicy | undefined,
): Encoded => {
  const sockets = [...members].sort().map((member) => ({
    name: member,
    match: { member },
    transportSocket: upstreamTls(self.clusterset, self.name, member),
  }));
  const first = sockets[0];
  const cluster = create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
    edsClusterConfig: { edsConfig: fromAds() },
    connectTimeout: duration(timers.connectTimeoutMs),
    lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
    typedExtensionProtocolOptions: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': packed(HttpProtocolOptionsSchema, {
        upstreamProtocolOptions: {
          case: 'explicitHttpConfig',
          value: { protocolConfig: { case: 'http2ProtocolOptions', value: clientHttp2(timers) } },
        },
      }),
    },
    circuitBreakers: breakers(policy?.maxConnections),
    // The next connection is opened when one is two thirds full: on a long line its handshake would hold up calls.
    preconnectPolicy: { perUpstreamPreconnectRatio: 1.5 },
    healthChecks: [healthCheck(timers)],
    // A gateway that is withdrawn is withdrawn, however healthy.
    ignoreHealthOnHostRemoval: true,
    outlierDetection: gatewayOutlier(policy),
    commonLbConfig: {
      healthyPanicThreshold: { value: 1 },
      updateMergeWindow: duration(0),
      localityConfigSpecifier: { case: 'localityWeightedLbConfig', value: {} },
    },
    transportSocketMatches: sockets,
    // For an endpoint that matches none of them: it will fail the first one's check, never go out in the clear.
    ...(first === undefined ? {} : { transportSocket: first.transportSocket }),
  });
  return encode(typeUrls.cluster, name, ClusterSchema, cluster);
};
