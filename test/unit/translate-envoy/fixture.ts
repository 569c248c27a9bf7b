/** A small world to translate: builders with defaults, so that a test names only what it is about. */
import { create, type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { type Cell, type Grant, noPlan, type ServicePlan } from '../../../src/failover/plan.ts';
import type { LocalCluster, LocalPod, LocalService, TrafficPolicy } from '../../../src/federation/local.ts';
import type { MemberView, ServiceView } from '../../../src/federation/view.ts';
import type { FilterChain } from '../../../src/gen/envoy/config/listener/v3/listener_components_pb.ts';
import { GatewaySchema, GatewaysRecordSchema } from '../../../src/gen/isthmus/v1/records_pb.ts';
import type { Encoded } from '../../../src/translate/envoy/encoded.ts';
import { defaultBinding, type GatewayInput } from '../../../src/translate/envoy/input.ts';
import type { Member } from '../../../src/trust/membership.ts';
import { undecided } from '../failover/undecided.ts';

export const member = (name: string, over: Partial<Member> = {}): Member => ({
  clusterset: 'demo',
  name,
  sequence: 1n,
  region: name,
  zone: `${name}-a`,
  network: name,
  addressRanges: ['127.0.0.0/8'],
  namespaces: ['*'],
  serviceAccounts: [],
  federationCa: new Uint8Array([0x30, 0x03, 1, 2, 3]),
  recordKey: new Uint8Array(32),
  notBeforeMs: 0,
  notAfterMs: 4_102_444_800_000,
  ...over,
});

export interface GatewaySpec {
  readonly id: string;
  readonly address: string;
  readonly draining?: boolean;
  readonly federationPort?: number;
}

export const memberView = (of: Member, gateways: readonly GatewaySpec[]): MemberView => ({
  member: of,
  head: undefined,
  freshAtMs: undefined,
  shuttingDown: false,
  gateways: create(GatewaysRecordSchema, {
    account: 'isthmus-system/isthmus-gateway',
    gateways: gateways.map((gateway) =>
      create(GatewaySchema, { federationPort: 15028, hbonePort: 15008, draining: false, ...gateway }),
    ),
  }),
  trust: undefined,
  vantage: undefined,
  services: new Map(),
  problems: [],
});

export interface PodSpec {
  readonly name: string;
  readonly address: string;
  readonly ready?: boolean;
  readonly over?: Partial<LocalPod>;
}

export const localPod = (namespace: string, spec: PodSpec): LocalPod => ({
  uid: spec.name,
  namespace,
  name: spec.name,
  addresses: [spec.address],
  node: 'node-1',
  serviceAccount: 'default',
  ready: spec.ready ?? true,
  terminating: false,
  hostNetwork: false,
  hbone: true,
  labels: {},
  locality: { region: '', zone: '', subzone: '' },
  workloadName: spec.name,
  ...spec.over,
});

export interface ServiceSpec {
  readonly key: string;
  readonly ports?: readonly number[];
  /** Our own pods; undefined: not a service of ours. */
  readonly pods?: readonly PodSpec[];
  /** Tiers of other members, a name or a name with a weight. */
  readonly tiers?: readonly (readonly (string | Cell)[])[];
  /** Tiers of ports that not all members have. */
  readonly portTiers?: Readonly<Record<number, readonly (readonly string[])[]>>;
  readonly trafficPolicy?: Partial<TrafficPolicy>;
  readonly tunnelAgeMs?: number;
  readonly exported?: boolean;
  /** Members that it is for. */
  readonly exportedTo?: readonly string[];
}

const noPolicy: TrafficPolicy = {
  consecutive5xxErrors: undefined,
  consecutiveGatewayErrors: undefined,
  intervalMs: undefined,
  baseEjectionTimeMs: undefined,
  maxEjectionPercent: undefined,
  maxConnections: undefined,
};

const ports = (spec: ServiceSpec) => (spec.ports ?? [80]).map((port) => ({ name: `p${port}`, port, protocol: 'TCP' }));

const localService = (spec: ServiceSpec): LocalService | undefined => {
  if (spec.pods === undefined && spec.trafficPolicy === undefined) return undefined;
  const [namespace, name] = spec.key.split('/') as [string, string];
  return {
    key: spec.key,
    namespace,
    name,
    type: 'ClusterIP',
    clusterIPs: ['10.96.0.10'],
    headless: false,
    sessionAffinity: false,
    ports: ports(spec),
    labels: {},
    annotations: {},
    endpoints: (spec.pods ?? []).map((pod) => ({
      address: pod.address,
      pod: `${namespace}/${pod.name}`,
      ready: pod.ready ?? true,
      serving: pod.ready ?? true,
      terminating: false,
      ports: new Map(ports(spec).map(({ port }) => [port, 8080])),
    })),
    exported:
      spec.exported === false
        ? undefined
        : { by: 'label', sinceMs: 1, ...(spec.exportedTo && { to: spec.exportedTo }) },
    mode: 'gateway',
    trafficPolicy: spec.trafficPolicy === undefined ? undefined : { ...noPolicy, ...spec.trafficPolicy },
  };
};

const serviceView = (spec: ServiceSpec): ServiceView => {
  const [namespace, name] = spec.key.split('/') as [string, string];
  return {
    key: spec.key,
    namespace,
    name,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    local: localService(spec),
    remotes: new Map(),
    ports: ports(spec),
    mode: 'gateway',
    unsupported: undefined,
    conflicts: [],
  };
};

const tiersOf = (tiers: ServiceSpec['tiers'] = []): ServicePlan['tiers'] =>
  tiers.map((tier) => tier.map((cell) => (typeof cell === 'string' ? { member: cell, weight: 1 } : cell)));

const planOf = ({ key, tiers, portTiers, tunnelAgeMs }: ServiceSpec): ServicePlan => ({
  ...undecided,
  key,
  tiers: tiersOf(tiers),
  usable: true,
  tunnelAgeMs,
  ...(portTiers === undefined
    ? {}
    : { ports: new Map(Object.entries(portTiers).map(([port, of]) => [Number(port), tiersOf(of)])) }),
});

export interface WorldSpec extends Partial<Omit<GatewayInput, 'members' | 'services' | 'plan' | 'local'>> {
  readonly grants?: readonly Grant[];
  readonly self?: Member;
  readonly members?: readonly MemberView[];
  readonly services?: readonly ServiceSpec[];
}

export const world = (spec: WorldSpec = {}): GatewayInput => {
  const specs = spec.services ?? [];
  const views = specs.map(serviceView);
  const local: LocalCluster = {
    services: new Map(views.flatMap((view) => (view.local === undefined ? [] : [[view.key, view.local]]))),
    pods: new Map(
      specs.flatMap(({ key, pods }) => {
        const namespace = key.split('/')[0]!;
        return (pods ?? []).map((pod) => [`${namespace}/${pod.name}`, localPod(namespace, pod)] as const);
      }),
    ),
    nodes: new Map(),
    problems: new Map(),
    policies: [],
    failoverPolicies: new Map(),
  };
  return {
    settings: spec.settings ?? {
      self: spec.self ?? member('us-east'),
      trustDomain: 'cluster.local',
      binding: defaultBinding,
    },
    secrets: spec.secrets ?? {
      mesh: { chain: 'MESH CHAIN', key: 'MESH KEY' },
      federation: { chain: 'FEDERATION CHAIN', key: 'FEDERATION KEY' },
      meshRoots: 'MESH ROOTS',
      tradedRoots: 'TRADED ROOTS',
    },
    members: new Map((spec.members ?? []).map((view) => [view.member.name, view])),
    services: new Map(views.map((view) => [view.key, view])),
    plan: {
      ...noPlan,
      grants: spec.grants ?? [],
      services: new Map(specs.filter(({ tiers }) => tiers).map((entry) => [entry.key, planOf(entry)])),
    },
    local,
    roundTrips: spec.roundTrips ?? new Map(),
    head: spec.head,
    revocations: spec.revocations,
    ...(spec.egress && { egress: spec.egress }),
  };
};

/** The resource of that name, decoded. */
export const decoded = <D extends DescMessage>(
  resources: readonly Encoded[],
  schema: D,
  name: string,
): MessageShape<D> => {
  const typeUrl = `type.googleapis.com/${schema.typeName}`;
  const found = resources.filter((resource) => resource.typeUrl === typeUrl && resource.name === name);
  if (found.length !== 1) throw new Error(`${found.length} resources ${typeUrl} ${name}`);
  return fromBinary(schema, found[0]!.bytes);
};

/** The connection manager of a chain: its last network filter. */
export const managerConfig = (chain: FilterChain): Any | undefined => {
  const last = chain.filters.at(-1)?.configType;
  return last?.case === 'typedConfig' ? last.value : undefined;
};

export const unpacked = <D extends DescMessage>(any: Any | undefined, schema: D): MessageShape<D> => {
  const message = any === undefined ? undefined : anyUnpack(any, schema);
  if (message === undefined) throw new Error(`not a ${schema.typeName}`);
  return message;
};
