/**
 * The way of probes through our own gateway: routes pinned to one member, over a cluster of its own for each.
 *
 * Probes come in by a filter chain of the egress listener that admits the controller alone, so no caller can choose a route, and the
 * services' routes do not know of them. They leave through clusters that carry nothing else: no retry, no ejection, no priority,
 * and no place in what is reported of traffic. Which gateway of the member is meant is said by a header: an endpoint
 * list would choose one itself, and a single dead gateway would make every other probe fail.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { probeGatewayHeader, probeHeader } from '../../core/probing.ts';
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from '../../gen/envoy/config/cluster/v3/cluster_pb.ts';
import type { RouteSchema } from '../../gen/envoy/config/route/v3/route_components_pb.ts';
import { RouteConfigurationSchema } from '../../gen/envoy/config/route/v3/route_pb.ts';
import { HttpProtocolOptionsSchema } from '../../gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts';
import { breakers } from './class_cluster.ts';
import { duration, type Encoded, encode, packed, typeUrls } from './encoded.ts';
import { answerMark, firstHop } from './hops.ts';
import { clientHttp2 } from './http2.ts';
import type { GatewaySettings, RoundTrip } from './input.ts';
import { probeClusterName, probeRoutes as routesName } from './resource_names.ts';
import { timersFor, unmeasured } from './timers.ts';
import { upstreamTls } from './tls.ts';

/** A connection is replaced after so many probes: new ones must work too, not only the one that was made in better times. */
const requestsPerConnection = 20;
/** Between pings: probes themselves show that a connection is alive. */
const pingIntervalMs = 1_000;

const probeCluster = ({ self }: GatewaySettings, member: string, trip: RoundTrip | undefined): Encoded => {
  const timers = timersFor([trip ?? unmeasured]);
  const name = probeClusterName(member);
  const cluster = create(ClusterSchema, {
    name,
    clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.ORIGINAL_DST },
    lbPolicy: Cluster_LbPolicy.CLUSTER_PROVIDED,
    lbConfig: { case: 'originalDstLbConfig', value: { useHttpHeader: true, httpHeaderName: probeGatewayHeader } },
    // Gateways that are gone are forgotten; a pause between two probes is shorter.
    cleanupInterval: duration(60_000),
    connectTimeout: duration(timers.connectTimeoutMs),
    typedExtensionProtocolOptions: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': packed(HttpProtocolOptionsSchema, {
        commonHttpProtocolOptions: { maxRequestsPerConnection: requestsPerConnection },
        upstreamProtocolOptions: {
          case: 'explicitHttpConfig',
          value: {
            protocolConfig: { case: 'http2ProtocolOptions', value: clientHttp2({ ...timers, pingIntervalMs }) },
          },
        },
      }),
    },
    circuitBreakers: breakers(undefined),
    transportSocket: upstreamTls(self.clusterset, self.name, member),
  });
  return encode(typeUrls.cluster, name, ClusterSchema, cluster);
};

/** Routes by the member's name in a header, whatever the authority: that one is for the far gateway to judge. */
const probeRoutes = (self: string, members: readonly string[]): Encoded =>
  encode(
    typeUrls.routes,
    routesName,
    RouteConfigurationSchema,
    create(RouteConfigurationSchema, {
      name: routesName,
      requestHeadersToAdd: [firstHop],
      responseHeadersToAdd: [answerMark('egress', self)],
      virtualHosts: [
        {
          name: routesName,
          domains: ['*'],
          routes: members.map(
            (member): MessageInitShape<typeof RouteSchema> => ({
              match: {
                pathSpecifier: { case: 'connectMatcher', value: {} },
                headers: [
                  {
                    name: probeHeader,
                    headerMatchSpecifier: {
                      case: 'stringMatch',
                      value: { matchPattern: { case: 'exact', value: member } },
                    },
                  },
                ],
              },
              action: {
                case: 'route',
                value: {
                  // The prober gives up by itself.
                  timeout: duration(0),
                  idleTimeout: duration(0),
                  clusterSpecifier: { case: 'cluster', value: probeClusterName(member) },
                },
              },
            }),
          ),
        },
      ],
    }),
  );

/** `members`: the other members, by name. */
export const probeResources = (
  settings: GatewaySettings,
  members: readonly string[],
  roundTrips: ReadonlyMap<string, RoundTrip>,
): Encoded[] => {
  const sorted = [...members].sort();
  return [
    ...sorted.map((member) => probeCluster(settings, member, roundTrips.get(member))),
    probeRoutes(settings.self.name, sorted),
  ];
};
