/**
 * Local pods, and addresses behind a service that are not pods, as workloads.
 *
 * Readiness becomes the status: ztunnel drops an unhealthy endpoint but still knows whose address it is. A pod keeps its
 * place in its services while it is not ready, because the ztunnel beside it needs that place to resolve the port of a
 * tunnel that is already on its way. Only where a pod is ready for one service and not for another is it left out of the latter,
 * for a workload has one status; and where the plan moves a service's local callers away, it is left out of that one (shares.ts).
 */

import { create } from '@bufbuild/protobuf';
import { carriesTcp } from '../../core/transport.ts';
import type { LocalEndpoint, Locality, LocalPod, LocalService } from '../../federation/local.ts';
import {
  LocalitySchema,
  NetworkMode,
  type PortList,
  TunnelProtocol,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from '../../gen/istio/workload/workload_pb.ts';
import { membershipName, type ZtunnelConfig } from './inputs.ts';
import { formatAddress, parseAddress } from './ip.ts';
import { orderedServices, portList, type Translated, workloadResource } from './resource.ts';
import { podCapacity } from './shares.ts';

/** A pod's place behind one service. */
export interface Membership {
  readonly service: LocalService;
  readonly endpoint: LocalEndpoint;
  /** Local callers of the service are sent elsewhere: the pod is ready for it, and not offered. */
  readonly away: boolean;
}

export const podUid = (pod: LocalPod, config: ZtunnelConfig): string =>
  `${config.clusterId}//Pod/${pod.namespace}/${pod.name}`;

export const isReady = (pod: LocalPod): boolean => pod.ready && !pod.terminating;

const label = (labels: Readonly<Record<string, string>>, ...names: string[]): string | undefined =>
  names.map((name) => labels[name]).find((value) => value !== undefined && value !== '');

/** The names under which telemetry groups workloads, by Istio's labels. */
const canonical = (pod: LocalPod): { canonicalName: string; canonicalRevision: string } => ({
  canonicalName:
    label(pod.labels, 'service.istio.io/canonical-name', 'app.kubernetes.io/name', 'app') ?? pod.workloadName,
  canonicalRevision:
    label(pod.labels, 'service.istio.io/canonical-revision', 'app.kubernetes.io/version', 'version') ?? 'latest',
});

export const localityOf = (locality: Locality) =>
  locality.region === '' && locality.zone === '' && locality.subzone === ''
    ? {}
    : { locality: create(LocalitySchema, { ...locality }) };

const endpointPorts = ({ service, endpoint }: Omit<Membership, 'away'>): PortList => {
  const tcp = new Set(service.ports.filter((p) => carriesTcp(p.protocol)).map((p) => p.port));
  return portList([...endpoint.ports].filter(([port]) => tcp.has(port)));
};

const places = (memberships: readonly Membership[], config: ZtunnelConfig): Record<string, PortList> => {
  const anyReady = memberships.some((m) => m.endpoint.ready);
  return orderedServices(
    new Map(
      memberships
        .filter((m) => !m.away && (m.endpoint.ready || !anyReady))
        .map((m) => [membershipName(m.service.namespace, m.service.name, config), endpointPorts(m)] as const),
    ),
  );
};

const healthyIf = (healthy: boolean): WorkloadStatus => (healthy ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY);

const addressBytes = (addresses: readonly string[]): Uint8Array[] =>
  addresses.map(parseAddress).filter((bytes) => bytes !== undefined);

/**
 * `override` is the verdict on a gateway pod, which takes the place of its readiness. Undefined when the pod has no address
 * yet: nothing can reach it.
 */
export const podWorkload = (
  pod: LocalPod,
  memberships: readonly Membership[],
  config: ZtunnelConfig,
  override?: boolean,
): Translated | undefined => {
  const addresses = addressBytes(pod.addresses);
  if (addresses.length === 0) return undefined;
  const offered = memberships.length === 0 || memberships.some((m) => m.endpoint.ready);
  const workload = create(WorkloadSchema, {
    uid: podUid(pod, config),
    name: pod.name,
    namespace: pod.namespace,
    addresses,
    network: config.network,
    tunnelProtocol: pod.hbone ? TunnelProtocol.HBONE : TunnelProtocol.NONE,
    trustDomain: config.trustDomain,
    serviceAccount: pod.serviceAccount,
    node: pod.node,
    ...canonical(pod),
    workloadType: pod.workloadName === pod.name ? WorkloadType.POD : WorkloadType.DEPLOYMENT,
    workloadName: pod.workloadName,
    status: healthyIf(override ?? (isReady(pod) && offered)),
    clusterId: config.clusterId,
    services: places(memberships, config),
    ...localityOf(pod.locality),
    networkMode: pod.hostNetwork ? NetworkMode.HOST_NETWORK : NetworkMode.STANDARD,
    capacity: podCapacity,
  });
  const aliases = pod.hostNetwork ? [] : addresses.map((a) => `${config.network}/${formatAddress(a)}`);
  return workloadResource(workload, aliases);
};

/**
 * Endpoints that name no pod (an address put into an EndpointSlice by hand, the API server itself). Several services may
 * name one address, so it is not to be looked up by it: that is what HOST_NETWORK says.
 */
export const addressWorkloads = (service: LocalService, config: ZtunnelConfig): Translated[] => {
  const seen = new Set<string>();
  return service.endpoints.flatMap((endpoint) => {
    const address = parseAddress(endpoint.address);
    if (endpoint.pod !== undefined || address === undefined || seen.has(endpoint.address)) return [];
    seen.add(endpoint.address);
    const workload = create(WorkloadSchema, {
      uid: `${config.clusterId}/discovery.k8s.io/EndpointSlice/${service.namespace}/${service.name}/${endpoint.address}`,
      name: service.name,
      namespace: service.namespace,
      addresses: [address],
      network: config.network,
      trustDomain: config.trustDomain,
      canonicalName: service.name,
      canonicalRevision: 'latest',
      workloadType: WorkloadType.POD,
      workloadName: service.name,
      status: healthyIf(endpoint.ready && !endpoint.terminating),
      clusterId: config.clusterId,
      services: places([{ service, endpoint, away: false }], config),
      networkMode: NetworkMode.HOST_NETWORK,
      capacity: podCapacity,
    });
    return [workloadResource(workload, [])];
  });
};
