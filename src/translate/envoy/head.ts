/**
 * How a gateway answers for itself: a CONNECT to a reserved authority gets 200, the head of our newest manifest, and who was put out.
 *
 * So freshness has a second channel: a peer that sees our gateway answer sees how far our records should be, whatever a store
 * withholds, and marks of revocation reach it that a store keeps from it. The head changes every few seconds, and the routes of a thousand services must not be sent again for that. So the
 * federation listener's route leads to a listener inside the same Envoy whose own routes are some hundred bytes and hold the head.
 * An endpoint of the controller was passed over: peers would have reached it, and its death would have looked like the gateway's.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { gatewayAuthority, headHeader, headText, revocationsHeader } from '../../core/probing.ts';
import { Cluster_DiscoveryType, ClusterSchema } from '../../gen/envoy/config/cluster/v3/cluster_pb.ts';
import { HeaderValueOption_HeaderAppendAction } from '../../gen/envoy/config/core/v3/base_pb.ts';
import { ListenerSchema } from '../../gen/envoy/config/listener/v3/listener_pb.ts';
import { VirtualHostSchema } from '../../gen/envoy/config/route/v3/route_components_pb.ts';
import { RouteConfigurationSchema } from '../../gen/envoy/config/route/v3/route_pb.ts';
import { RouterSchema } from '../../gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import {
  HttpConnectionManager_CodecType,
  HttpConnectionManagerSchema,
} from '../../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { HttpProtocolOptionsSchema } from '../../gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts';
import { breakers } from './class_cluster.ts';
import { duration, type Encoded, encode, extension, fromAds, packed, typeUrls } from './encoded.ts';
import type { GatewayInput } from './input.ts';
import { headName } from './resource_names.ts';
import type { EncodedHost } from './routes.ts';

const cluster = (): Encoded =>
  encode(
    typeUrls.cluster,
    headName,
    ClusterSchema,
    create(ClusterSchema, {
      name: headName,
      clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.STATIC },
      connectTimeout: duration(250),
      typedExtensionProtocolOptions: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': packed(HttpProtocolOptionsSchema, {
          upstreamProtocolOptions: {
            case: 'explicitHttpConfig',
            value: { protocolConfig: { case: 'http2ProtocolOptions', value: { allowConnect: true } } },
          },
        }),
      },
      circuitBreakers: breakers(undefined),
      loadAssignment: {
        clusterName: headName,
        endpoints: [
          {
            lbEndpoints: [
              {
                hostIdentifier: {
                  case: 'endpoint',
                  value: {
                    address: {
                      address: {
                        case: 'envoyInternalAddress',
                        value: { addressNameSpecifier: { case: 'serverListenerName', value: headName } },
                      },
                    },
                  },
                },
              },
            ],
          },
        ],
      },
    }),
  );

const listener = (): Encoded =>
  encode(
    typeUrls.listener,
    headName,
    ListenerSchema,
    create(ListenerSchema, {
      name: headName,
      statPrefix: headName,
      listenerSpecifier: { case: 'internalListener', value: {} },
      filterChains: [
        {
          filters: [
            extension('envoy.filters.network.http_connection_manager', HttpConnectionManagerSchema, {
              codecType: HttpConnectionManager_CodecType.HTTP2,
              statPrefix: headName,
              routeSpecifier: { case: 'rds', value: { routeConfigName: headName, configSource: fromAds() } },
              httpFilters: [extension('envoy.filters.http.router', RouterSchema, { suppressEnvoyHeaders: true })],
              http2ProtocolOptions: { allowConnect: true },
              upgradeConfigs: [{ upgradeType: 'CONNECT' }],
              generateRequestId: false,
              // This request came from another member: nothing of it is trusted, and nothing is added.
              useRemoteAddress: true,
              internalAddressConfig: {},
              skipXffAppend: true,
            }),
          ],
        },
      ],
    }),
  );

const header = (key: string, value: string) => ({
  header: { key, value },
  appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
});

/** The small resource: changes with every head that is told. Without a head the gateway answers without. */
export const headRoutes = ({ head, revocations }: Pick<GatewayInput, 'head' | 'revocations'>): Encoded =>
  encode(
    typeUrls.routes,
    headName,
    RouteConfigurationSchema,
    create(RouteConfigurationSchema, {
      name: headName,
      responseHeadersToAdd: [
        ...(head === undefined ? [] : [header(headHeader, headText(head))]),
        ...(revocations === undefined ? [] : [header(revocationsHeader, revocations)]),
      ],
      virtualHosts: [
        {
          name: headName,
          domains: ['*'],
          routes: [
            {
              match: { pathSpecifier: { case: 'connectMatcher', value: {} } },
              action: { case: 'directResponse', value: { status: 200 } },
            },
          ],
        },
      ],
    }),
  );

export const headResources = (): Encoded[] => [cluster(), listener()];

/** Among the federation listener's hosts. */
export const headHost = (): EncodedHost => ({
  name: gatewayAuthority,
  bytes: toBinary(
    VirtualHostSchema,
    create(VirtualHostSchema, {
      name: gatewayAuthority,
      domains: [gatewayAuthority],
      routes: [
        {
          match: { pathSpecifier: { case: 'connectMatcher', value: {} } },
          action: {
            case: 'route',
            value: {
              timeout: duration(0),
              idleTimeout: duration(0),
              clusterSpecifier: { case: 'cluster', value: headName },
            },
          },
        },
      ],
    }),
  ),
});
