/**
 * What other clusters can serve, as workloads without an address that lie behind a network gateway.
 *
 * Gateway mode: one workload a service stands for all clusters, and the local gateway chooses among them. So a cluster that
 * dies changes nothing here, and nothing here has to be sent for a failover to work. Direct mode: one a (member, service),
 * behind that member's gateways; those of the plan's first tier that can be reached are in use, the others are there and unhealthy.
 *
 * One workload also where several accounts serve: a client checks the inner tunnel against the service's list of identities,
 * never against the remote workload's own, and splitting the capacity among accounts would be a guess.
 */
import { create } from '@bufbuild/protobuf';
import { limits } from '../../core/limits.ts';
import { serviceHostname } from '../../core/names.ts';
import { carriesTcp } from '../../core/transport.ts';
import type { ServicePlan } from '../../failover/plan.ts';
import { capacityReady } from '../../federation/capacity.ts';
import type { MemberView, ServiceView, View } from '../../federation/view.ts';
import type { ServiceRecord } from '../../gen/isthmus/v1/records_pb.ts';
import {
  GatewayAddressSchema,
  NamespacedHostnameSchema,
  TunnelProtocol,
  type Workload,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from '../../gen/istio/workload/workload_pb.ts';
import { gatewayHostname, memberNetwork, usableGateways } from './gateways.ts';
import { parseAccount, remoteAccounts } from './identities.ts';
import { egressPort, federationNetwork, hbonePort, membershipName, type ZtunnelConfig } from './inputs.ts';
import { localityOf } from './pods.ts';
import { tcpPorts } from './ports.ts';
import { byName, orderedServices, portList, type Translated, workloadResource } from './resource.ts';
import { divided, type Sharing } from './shares.ts';

/**
 * Whether a service has a data path to other clusters: it exists here, is exported here (the opt-in: a peer can join only
 * what we share too), somebody else exports it, and its kind can cross.
 */
export const isFederated = (service: ServiceView): boolean =>
  service.local?.exported !== undefined &&
  service.local.type !== 'ExternalName' &&
  !service.local.headless &&
  service.unsupported === undefined &&
  service.remotes.size > 0;

/** Members that may serve, by name. A plan that names nobody does not take the last path away. */
export const servingMembers = (service: ServiceView, plan: ServicePlan | undefined): string[] => {
  const planned = new Set((plan?.tiers ?? []).flat().map((cell) => cell.member));
  const known = [...service.remotes.keys()].sort(byName);
  const chosen = known.filter((member) => planned.has(member));
  return chosen.length > 0 ? chosen : known;
};

/** At least 1: a weight of 0 in the best rank leaves ztunnel without any upstream. */
const weight = (ready: number): number => Math.min(Math.max(ready, 1), limits.capacityMax);

/** What the plan says of one remote workload. */
interface Use {
  readonly capacity: number;
  readonly healthy: boolean;
}

const sharedPorts = (service: ServiceView, records: readonly ServiceRecord[]): [number, number][] => {
  const offered = new Set(records.flatMap((r) => r.ports.filter((p) => carriesTcp(p.protocol)).map((p) => p.port)));
  // The target stands for "known": the far ztunnel takes the real one from its own workloads.
  return [...tcpPorts(service.local!).keys()].filter((port) => offered.has(port)).map((port) => [port, port]);
};

const firstAccount = (service: ServiceView, members: readonly string[], view: View): string =>
  parseAccount(remoteAccounts(service, members, view)[0] ?? '')?.name ?? 'default';

/** `offering`: those whose ports count. The local gateway finds for each port who has it, whoever serves the others. */
const common = (
  service: ServiceView,
  members: readonly string[],
  offering: readonly ServiceRecord[],
  { capacity, healthy }: Use,
  view: View,
  config: ZtunnelConfig,
): Partial<Omit<Workload, '$typeName' | '$unknown'>> => {
  return {
    namespace: service.namespace,
    tunnelProtocol: TunnelProtocol.HBONE,
    trustDomain: config.trustDomain,
    serviceAccount: firstAccount(service, members, view),
    canonicalName: service.name,
    canonicalRevision: 'latest',
    workloadType: WorkloadType.DEPLOYMENT,
    workloadName: service.name,
    capacity,
    status: healthy ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    services: orderedServices(
      new Map([
        [membershipName(service.namespace, service.name, config), portList(sharedPorts(service, offering))] as const,
      ]),
    ),
  };
};

const behind = (namespace: string, hostname: string, port: number) =>
  create(GatewayAddressSchema, {
    destination: { case: 'hostname', value: create(NamespacedHostnameSchema, { namespace, hostname }) },
    hboneMtlsPort: port,
  });

const throughLocalGateway = (
  service: ServiceView,
  plan: ServicePlan | undefined,
  sharing: Sharing,
  view: View,
  config: ZtunnelConfig,
): Translated => {
  const egress = serviceHostname(config.namespace, config.gatewayService, config.clusterDomain);
  const target = `${service.namespace}/${serviceHostname(service.namespace, service.name, config.clusterDomain)}`;
  const members = servingMembers(service, plan);
  const ready = members.reduce((sum, name) => sum + capacityReady(service.remotes.get(name)!), 0);
  const capacity = sharing.kind === 'weighted' ? sharing.remoteCapacity : weight(ready);
  const use = { capacity, healthy: plan?.failFast !== true };
  const workload = create(WorkloadSchema, {
    ...common(service, members, [...service.remotes.values()], use, view, config),
    uid: `${federationNetwork}/SplitHorizonWorkload/${config.namespace}/${config.gatewayService}/${egress}/${target}`,
    name: `${federationNetwork}-${service.name}`,
    network: federationNetwork,
    clusterId: federationNetwork,
    networkGateway: behind(config.namespace, egress, egressPort),
  });
  return workloadResource(workload, []);
};

const throughRemoteGateway = (
  service: ServiceView,
  member: MemberView,
  use: Use,
  view: View,
  config: ZtunnelConfig,
): Translated => {
  const name = member.member.name;
  const host = gatewayHostname(name, config);
  const network = memberNetwork(member.member, config);
  const target = `${service.namespace}/${serviceHostname(service.namespace, service.name, config.clusterDomain)}`;
  const workload = create(WorkloadSchema, {
    ...common(service, [name], [service.remotes.get(name)!], use, view, config),
    uid: `${network}/SplitHorizonWorkload/${config.namespace}/${name}/${host}/${target}`,
    name: `${name}-${service.name}`,
    network,
    clusterId: name,
    networkGateway: behind(config.namespace, host, hbonePort),
    ...localityOf({ region: member.member.region, zone: member.member.zone, subzone: '' }),
  });
  return workloadResource(workload, []);
};

/**
 * Direct mode: the members to serve, with the weights of the first tier that has any that can be reached. Without a plan all
 * serve by what they have ready.
 */
const usesOf = (
  service: ServiceView,
  plan: ServicePlan | undefined,
  reachable: readonly string[],
  sharing: Sharing,
): ReadonlyMap<string, Use> => {
  const tier = plan?.tiers
    .map((cells) => cells.filter(({ member }) => reachable.includes(member)))
    .find((c) => c.length);
  const chosen = tier ?? reachable.map((member) => ({ member, weight: capacityReady(service.remotes.get(member)!) }));
  const weights = chosen.map((cell) => cell.weight);
  const total = sharing.kind === 'weighted' ? sharing.remoteCapacity : limits.capacityMax;
  const capacities = tier === undefined && sharing.kind !== 'weighted' ? weights.map(weight) : divided(total, weights);
  const healthy = plan?.failFast !== true;
  const used = new Map(chosen.map(({ member }, i) => [member, { capacity: capacities[i]!, healthy }]));
  return new Map(reachable.map((member) => [member, used.get(member) ?? { capacity: 1, healthy: false }]));
};

/** Members that could serve the service: with gateways that a ztunnel can reach in direct mode, all in gateway mode. */
export const reachableMembers = (service: ServiceView, plan: ServicePlan | undefined, view: View): string[] => {
  if (!isFederated(service)) return [];
  const members = servingMembers(service, plan);
  if (service.mode === 'gateway') return members;
  return members.filter((name) => {
    const member = view.members.get(name);
    return member !== undefined && usableGateways(member).length > 0;
  });
};

/** The remote workloads of a service: none when it has no data path. */
export const remoteWorkloads = (
  service: ServiceView,
  plan: ServicePlan | undefined,
  sharing: Sharing,
  view: View,
  config: ZtunnelConfig,
): Translated[] => {
  if (!isFederated(service)) return [];
  if (service.mode === 'gateway') return [throughLocalGateway(service, plan, sharing, view, config)];
  const uses = usesOf(service, plan, reachableMembers(service, plan, view), sharing);
  return [...uses].map(([name, use]) => throughRemoteGateway(service, view.members.get(name)!, use, view, config));
};
