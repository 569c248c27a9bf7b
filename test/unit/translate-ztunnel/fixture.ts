/** A small world to translate: builders with defaults, so that a test names only what it is about. */
import { create, fromBinary } from '@bufbuild/protobuf';
import { noPlan, type Plan, type RemotePlan, type ServicePlan } from '../../../src/failover/plan.ts';
import type { LocalCluster, LocalEndpoint, LocalPod, LocalService } from '../../../src/federation/local.ts';
import type { MemberView, ServiceView, View } from '../../../src/federation/view.ts';
import {
  GatewaysRecordSchema,
  type ServiceRecord,
  ServiceRecordSchema,
} from '../../../src/gen/isthmus/v1/records_pb.ts';
import { AddressSchema, type Service, type Workload } from '../../../src/gen/istio/workload/workload_pb.ts';
import type { ZtunnelConfig, ZtunnelInputs } from '../../../src/translate/ztunnel/inputs.ts';
import type { Translated } from '../../../src/translate/ztunnel/resource.ts';
import { ZtunnelTranslation } from '../../../src/translate/ztunnel/translation.ts';
import { undecided } from '../failover/undecided.ts';

export const config: ZtunnelConfig = {
  clusterId: 'east',
  network: 'net-east',
  trustDomain: 'cluster.local',
  clusterDomain: 'cluster.local',
  namespace: 'isthmus-system',
  gatewayService: 'isthmus-egress',
};

export const endpoint = (
  pod: string | undefined,
  address: string,
  over: Partial<LocalEndpoint> = {},
): LocalEndpoint => ({
  address,
  pod,
  ready: true,
  serving: true,
  terminating: false,
  ports: new Map([[80, 8080]]),
  ...over,
});

export const service = (key: string, over: Partial<LocalService> = {}): LocalService => {
  const [namespace, name] = key.split('/') as [string, string];
  return {
    key,
    namespace,
    name,
    type: 'ClusterIP',
    clusterIPs: ['10.96.0.10'],
    headless: false,
    sessionAffinity: false,
    ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
    labels: {},
    annotations: {},
    endpoints: [],
    exported: { by: 'label', sinceMs: 1 },
    mode: 'gateway',
    trafficPolicy: undefined,
    ...over,
  };
};

export const pod = (key: string, address: string, over: Partial<LocalPod> = {}): LocalPod => {
  const [namespace, name] = key.split('/') as [string, string];
  return {
    uid: `uid-${name}`,
    namespace,
    name,
    addresses: [address],
    node: 'node-1',
    serviceAccount: 'default',
    ready: true,
    terminating: false,
    hostNetwork: false,
    hbone: true,
    labels: {},
    locality: { region: 'us-east', zone: 'us-east-1', subzone: '' },
    workloadName: name,
    ...over,
  };
};

export const record = (
  key: string,
  ready: number,
  over: Partial<Omit<ServiceRecord, '$typeName'>> = {},
): ServiceRecord => {
  const [namespace, name] = key.split('/') as [string, string];
  const made = create(ServiceRecordSchema, {
    namespace,
    name,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
    accounts: [`${namespace}/${name}`],
    capacity: [{ locality: { region: 'r', zone: 'z', subzone: '' }, ready, total: ready }],
  });
  return Object.assign(made, over);
};

export interface MemberOptions {
  readonly network?: string;
  readonly namespaces?: readonly string[];
  readonly serviceAccounts?: readonly string[];
  readonly gateways?: readonly { id: string; address: string; hbonePort?: number; draining?: boolean }[];
  readonly account?: string;
}

export const member = (name: string, options: MemberOptions = {}): MemberView => ({
  member: {
    clusterset: 'prod',
    name,
    sequence: 1n,
    region: `region-${name}`,
    zone: `zone-${name}`,
    network: options.network ?? `net-${name}`,
    addressRanges: ['192.0.2.0/24'],
    namespaces: options.namespaces ?? ['*'],
    serviceAccounts: options.serviceAccounts ?? [],
    federationCa: new Uint8Array(),
    recordKey: new Uint8Array(32),
    notBeforeMs: 0,
    notAfterMs: 1,
  },
  head: { epoch: 1n, sequence: 1n },
  freshAtMs: 0,
  shuttingDown: false,
  gateways: create(GatewaysRecordSchema, {
    account: options.account ?? 'isthmus-system/isthmus-gateway',
    gateways: (options.gateways ?? [{ id: 'a', address: '192.0.2.1' }]).map((g) => ({
      hbonePort: 15_008,
      federationPort: 15_028,
      ...g,
    })),
  }),
  trust: undefined,
  vantage: undefined,
  services: new Map(),
  problems: [],
});

export const serviceView = (
  local: LocalService,
  remotes: Readonly<Record<string, ServiceRecord>>,
  over: Partial<ServiceView> = {},
): ServiceView => ({
  key: local.key,
  namespace: local.namespace,
  name: local.name,
  hostname: `${local.name}.${local.namespace}.svc.cluster.local`,
  local,
  remotes: new Map(Object.entries(remotes)),
  ports: local.ports,
  mode: local.mode,
  unsupported: undefined,
  conflicts: [],
  ...over,
});

export interface World {
  readonly services?: readonly LocalService[];
  readonly pods?: readonly LocalPod[];
  readonly members?: readonly MemberView[];
  readonly views?: readonly ServiceView[];
  readonly plans?: readonly (RemotePlan & Partial<ServicePlan>)[];
  readonly gatewayHealth?: Readonly<Record<string, boolean>>;
}

export const cluster = (world: World): LocalCluster => ({
  services: new Map((world.services ?? []).map((s) => [s.key, s])),
  pods: new Map((world.pods ?? []).map((p) => [`${p.namespace}/${p.name}`, p])),
  nodes: new Map(),
  problems: new Map(),
  policies: [],
  failoverPolicies: new Map(),
});

export const inputs = (world: World): ZtunnelInputs => ({
  local: cluster(world),
  view: {
    self: 'east',
    members: new Map((world.members ?? []).map((m) => [m.member.name, m])),
    services: new Map((world.views ?? []).map((v) => [v.key, v])),
  } satisfies View,
  plan: {
    ...noPlan,
    services: new Map((world.plans ?? []).map((p) => [p.key, { ...undecided, ...p }])),
  } satisfies Plan,
  gatewayHealth: new Map(Object.entries(world.gatewayHealth ?? {})),
});

export const asWorkload = (resource: Translated | undefined): Workload => {
  const address = fromBinary(AddressSchema, resource!.bytes);
  if (address.type.case !== 'workload') throw new Error(`${resource!.name} is not a workload`);
  return address.type.value;
};

export const asService = (resource: Translated | undefined): Service => {
  const address = fromBinary(AddressSchema, resource!.bytes);
  if (address.type.case !== 'service') throw new Error(`${resource!.name} is not a service`);
  return address.type.value;
};

export const translate = (world: World) => {
  const translation = new ZtunnelTranslation(config);
  translation.rebuild(inputs(world));
  return translation.resources;
};

export const checkout = service('shop/checkout', { endpoints: [endpoint('shop/c1', '10.0.0.1')] });
export const c1 = pod('shop/c1', '10.0.0.1', { serviceAccount: 'checkout', workloadName: 'checkout' });
export const podName = 'east//Pod/shop/c1';
export const serviceName = 'shop/checkout.shop.svc.cluster.local';
export const splitName =
  'isthmus/SplitHorizonWorkload/isthmus-system/isthmus-egress/isthmus-egress.isthmus-system.svc.cluster.local/shop/checkout.shop.svc.cluster.local';
export const west = member('west');
export const central = member('central');
