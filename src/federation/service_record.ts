/** The record of one exported service: what it is, and how much of it is ready in which locality. */
import { serviceHostname } from '../core/names.ts';
import type { Capacity, ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { LocalCluster, LocalEndpoint, Locality, LocalPod, LocalService } from './local.ts';

const unknownLocality: Locality = { region: '', zone: '', subzone: '' };

const localityKey = ({ region, zone, subzone }: Locality): string => `${region}/${zone}/${subzone}`;

/** The rule by which our own gateways pick endpoints: a pod needs a ztunnel in front, and one not known yet is taken at its word. */
const reachable = (pod: LocalPod | undefined): boolean => pod === undefined || (pod.hbone && !pod.hostNetwork);
const isReady = (endpoint: LocalEndpoint, pod: LocalPod | undefined): boolean =>
  endpoint.ready && (pod === undefined || pod.ready);

const capacityOf = (
  service: LocalService,
  pods: LocalCluster['pods'],
): { capacity: Capacity[]; accounts: string[] } => {
  const byLocality = new Map<string, Capacity>();
  const accounts = new Set<string>();
  for (const endpoint of service.endpoints) {
    const pod = endpoint.pod === undefined ? undefined : pods.get(endpoint.pod);
    if (!reachable(pod)) continue;
    const { region, zone, subzone } = pod?.locality ?? unknownLocality;
    const key = localityKey({ region, zone, subzone });
    const entry: Capacity = byLocality.get(key) ?? {
      $typeName: 'isthmus.v1.Capacity',
      locality: { $typeName: 'isthmus.v1.Locality', region, zone, subzone },
      ready: 0,
      total: 0,
    };
    entry.total++;
    if (isReady(endpoint, pod)) entry.ready++;
    byLocality.set(key, entry);
    if (pod !== undefined) accounts.add(`${pod.namespace}/${pod.serviceAccount}`);
  }
  const sorted = [...byLocality].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, capacity]) => capacity);
  return { capacity: sorted, accounts: [...accounts].sort() };
};

/** The record of an exported service. */
export const serviceRecord = (
  service: LocalService,
  sinceMs: number,
  pods: LocalCluster['pods'],
  clusterDomain: string,
  said: { readonly draining?: boolean; readonly perEndpoint?: number | undefined } = {},
): ServiceRecord => ({
  $typeName: 'isthmus.v1.ServiceRecord',
  namespace: service.namespace,
  name: service.name,
  hostname: serviceHostname(service.namespace, service.name, clusterDomain),
  ports: service.ports.map(({ name, port, protocol }) => ({
    $typeName: 'isthmus.v1.ServicePort',
    name,
    port,
    protocol,
  })),
  ...capacityOf(service, pods),
  exportedMs: BigInt(Math.max(0, Math.floor(sinceMs))),
  headless: service.headless,
  sessionAffinity: service.sessionAffinity,
  // Direct callers are workloads: nobody can tell there of which member they are.
  mode: service.exported?.to === undefined ? service.mode : 'gateway',
  ...(said.draining === true && { draining: true }),
  ...(said.perEndpoint !== undefined && { declaredCapacityPerSecond: said.perEndpoint }),
  critical: [],
});
