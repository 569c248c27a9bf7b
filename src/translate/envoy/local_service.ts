/**
 * Our own exported services: a cluster for each port, its ready pods as endpoints.
 *
 * Readiness must empty the endpoints: behind an app that is dead while its pod is up the tunnel opens, and the error is
 * inside the inner TLS where no gateway sees it. With no ready endpoint the CONNECT itself gets 503, at once, and the other
 * side looks elsewhere. Plain TCP: the inner session is the ztunnels' own.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { LocalEndpoint, LocalPod, LocalService } from '../../federation/local.ts';
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from '../../gen/envoy/config/cluster/v3/cluster_pb.ts';
import type { LbEndpointSchema } from '../../gen/envoy/config/endpoint/v3/endpoint_components_pb.ts';
import { ClusterLoadAssignmentSchema } from '../../gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { breakers } from './class_cluster.ts';
import { duration, type Encoded, encode, fromAds, typeUrls } from './encoded.ts';
import { podOutlier } from './outlier.ts';
import { localClusterName } from './resource_names.ts';
import { tunnelPorts } from './tunnel_ports.ts';

/** Within one cluster a connection takes milliseconds; a pod that needs longer is gone or overrun. */
const connectTimeoutMs = 250;

const localCluster = (name: string): Encoded =>
  encode(
    typeUrls.cluster,
    name,
    ClusterSchema,
    create(ClusterSchema, {
      name,
      clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
      edsClusterConfig: { edsConfig: fromAds() },
      connectTimeout: duration(connectTimeoutMs),
      lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
      circuitBreakers: breakers(undefined),
      outlierDetection: podOutlier(),
      commonLbConfig: {
        // All pods out: 503 at once, so that the caller's gateway goes elsewhere.
        healthyPanicThreshold: { value: 0 },
        updateMergeWindow: duration(0),
      },
      // Frees the tunnels of a pod that vanished without a word.
      upstreamConnectionOptions: { tcpKeepalive: { keepaliveTime: 10, keepaliveInterval: 5, keepaliveProbes: 3 } },
    }),
  );

/** Clusters of an exported service. They change with its ports alone. */
export const localClusters = (service: LocalService): Encoded[] =>
  tunnelPorts(service.ports).map((port) => localCluster(localClusterName(service.key, port)));

/**
 * Whether this endpoint can take a tunnel for `port`: it is ready, serves the port, and has a ztunnel in front. A pod that
 * is not known yet is taken at its word: a refused connection costs one retry.
 */
const takes = (endpoint: LocalEndpoint, port: number, pods: ReadonlyMap<string, LocalPod>): boolean => {
  if (!endpoint.ready || !endpoint.ports.has(port)) return false;
  const pod = endpoint.pod === undefined ? undefined : pods.get(endpoint.pod);
  return pod === undefined || (pod.hbone && !pod.hostNetwork && pod.ready);
};

/** Endpoints of an exported service, one assignment a port; empty when nothing is ready. */
export const localEndpoints = (
  service: LocalService,
  pods: ReadonlyMap<string, LocalPod>,
  podPort: number,
): Encoded[] =>
  tunnelPorts(service.ports).map((port) => {
    const name = localClusterName(service.key, port);
    const addresses = new Set(
      service.endpoints.filter((endpoint) => takes(endpoint, port, pods)).map((endpoint) => endpoint.address),
    );
    const lbEndpoints = [...addresses].sort().map(
      (address): MessageInitShape<typeof LbEndpointSchema> => ({
        hostIdentifier: {
          case: 'endpoint',
          value: {
            address: {
              address: {
                case: 'socketAddress',
                value: { address, portSpecifier: { case: 'portValue', value: podPort } },
              },
            },
          },
        },
      }),
    );
    const assignment = create(ClusterLoadAssignmentSchema, {
      clusterName: name,
      endpoints: lbEndpoints.length === 0 ? [] : [{ lbEndpoints }],
    });
    return encode(typeUrls.endpoints, name, ClusterLoadAssignmentSchema, assignment);
  });
