/** Workloads and services for the rig, as a ztunnel gets them. */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  AddressSchema,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  type ServiceSchema,
  TunnelProtocol,
  type WorkloadSchema,
  WorkloadStatus,
} from '../../../src/gen/istio/workload/workload_pb.ts';

export type Named = readonly [name: string, base64: string];
export const ipBytes = (address: string): Uint8Array => Uint8Array.from(address.split('.').map(Number));
const encode = (name: string, init: MessageInitShape<typeof AddressSchema>): Named => [
  name,
  Buffer.from(toBinary(AddressSchema, create(AddressSchema, init))).toString('base64'),
];

const domain = 'svc.cluster.local';
export const hostOf = (name: string, namespace: string): string => `${name}.${namespace}.${domain}`;
export const identity = (namespace: string, account: string): string =>
  `spiffe://cluster.local/ns/${namespace}/sa/${account}`;

export const pod = (o: {
  name: string;
  address?: string;
  namespace?: string;
  account?: string;
  network?: string;
  region?: string;
  capacity?: number;
  healthy?: boolean;
  services?: Record<string, number>;
  gateway?: { namespace: string; hostname: string };
}): Named => {
  const namespace = o.namespace ?? 'shop';
  const uid = `rig//Pod/${namespace}/${o.name}`;
  const value: MessageInitShape<typeof WorkloadSchema> = {
    uid,
    name: o.name,
    namespace,
    serviceAccount: o.account ?? o.name,
    trustDomain: 'cluster.local',
    network: o.network ?? 'one',
    clusterId: 'rig',
    node: `node-${o.name}`,
    workloadName: o.name,
    canonicalName: o.name,
    addresses: o.address === undefined ? [] : [ipBytes(o.address)],
    tunnelProtocol: TunnelProtocol.HBONE,
    status: o.healthy === false ? WorkloadStatus.UNHEALTHY : WorkloadStatus.HEALTHY,
    locality: { region: o.region ?? 'here' },
    services: Object.fromEntries(
      Object.entries(o.services ?? {}).map(([key, targetPort]) => [key, { ports: [{ servicePort: 80, targetPort }] }]),
    ),
    ...(o.capacity === undefined ? {} : { capacity: o.capacity }),
    ...(o.gateway === undefined
      ? {}
      : { networkGateway: { destination: { case: 'hostname', value: o.gateway }, hboneMtlsPort: 15_008 } }),
  };
  return encode(uid, { type: { case: 'workload', value } });
};

export const service = (o: {
  name: string;
  namespace?: string;
  vip: string;
  network?: string;
  port?: number;
  targetPort?: number;
  sans?: string[];
}): Named => {
  const namespace = o.namespace ?? 'shop';
  const hostname = hostOf(o.name, namespace);
  const value: MessageInitShape<typeof ServiceSchema> = {
    name: o.name,
    namespace,
    hostname,
    addresses: [{ network: o.network ?? 'one', address: ipBytes(o.vip) }],
    ports: [{ servicePort: o.port ?? 80, targetPort: o.targetPort ?? 8_080 }],
    subjectAltNames: o.sans ?? [],
    loadBalancing: {
      mode: LoadBalancing_Mode.FAILOVER,
      routingPreference: [LoadBalancing_Scope.NETWORK, LoadBalancing_Scope.REGION],
    },
  };
  return encode(`${namespace}/${hostname}`, { type: { case: 'service', value } });
};
