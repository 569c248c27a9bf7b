/**
 * Gateways as ztunnel sees them.
 *
 * Ours are ordinary pods; here is only the verdict on each. Another member's (direct mode) become one service without an
 * address, with one workload for each gateway as its endpoints, and remote workloads name that service. Naming one gateway's
 * address, as stock does, was passed over: ztunnel would neither balance nor leave a draining gateway.
 */
import { create } from '@bufbuild/protobuf';
import type { LocalPod } from '../../federation/local.ts';
import type { MemberView } from '../../federation/view.ts';
import type { Gateway } from '../../gen/isthmus/v1/records_pb.ts';
import {
  PortSchema,
  ServiceSchema,
  TunnelProtocol,
  WorkloadSchema,
  WorkloadStatus,
  WorkloadType,
} from '../../gen/istio/workload/workload_pb.ts';
import type { Member } from '../../trust/membership.ts';
import { parseAccount } from './identities.ts';
import { hbonePort, isGatewayPod, type ZtunnelConfig } from './inputs.ts';
import { formatAddress, parseAddress } from './ip.ts';
import { isReady, localityOf } from './pods.ts';
import { byName, orderedServices, portList, serviceResource, type Translated, workloadResource } from './resource.ts';

/**
 * The verdict on every local gateway pod, by `namespace/name`: unhealthy when it does not answer, is not ready, or is being drained.
 * When that would leave none, those that drain stay, then all that are ready, and when none is ready all stay: a client that
 * finds no gateway fails for certain.
 */
export const gatewayVerdicts = (
  pods: ReadonlyMap<string, LocalPod>,
  gatewayHealth: ReadonlyMap<string, boolean>,
  draining: ReadonlySet<string>,
  config: ZtunnelConfig,
): ReadonlyMap<string, boolean> => {
  const ours = [...pods].filter(([, pod]) => isGatewayPod(pod, config));
  const ready = ours.filter(([, pod]) => isReady(pod));
  const answering = ready.filter(([, pod]) => gatewayHealth.get(pod.name) !== false);
  const staying = answering.filter(([, pod]) => !draining.has(pod.name));
  const best = [staying, answering, ready, ours].find((set) => set.length > 0) ?? [];
  const chosen = new Set(best.map(([key]) => key));
  return new Map(ours.map(([key]) => [key, chosen.has(key)]));
};

/** Clusters on our own network need another name for theirs: ztunnel uses a network gateway only across networks. */
export const memberNetwork = (member: Member, config: ZtunnelConfig): string =>
  member.network === config.network ? `${member.network}/${member.name}` : member.network;

/** A name of ours alone; it resolves nowhere but in the workloads that we serve. */
export const gatewayHostname = (member: string, config: ZtunnelConfig): string =>
  `${member}.gateways.${config.namespace}.isthmus.internal`;

export const usableGateways = (member: MemberView): readonly Gateway[] => {
  if (parseAccount(member.gateways?.account ?? '') === undefined) return [];
  const seen = new Set<string>();
  return (member.gateways?.gateways ?? []).filter((g) => {
    const key = `${g.address}/${g.hbonePort}`;
    if (g.hbonePort === 0 || parseAddress(g.address) === undefined || seen.has(key)) return false;
    seen.add(key);
    return true;
  });
};

const gatewayWorkload = (member: MemberView, gateway: Gateway, healthy: boolean, config: ZtunnelConfig): Translated => {
  const network = memberNetwork(member.member, config);
  const address = parseAddress(gateway.address)!;
  const text = formatAddress(address);
  const account = parseAccount(member.gateways!.account)!;
  const { region, zone } = member.member;
  const workload = create(WorkloadSchema, {
    uid: `NetworkGateway/${network}/${text}/${gateway.hbonePort}`,
    name: `${member.member.name}-gateway`,
    namespace: account.namespace,
    addresses: [address],
    network,
    tunnelProtocol: TunnelProtocol.HBONE,
    trustDomain: config.trustDomain,
    serviceAccount: account.name,
    canonicalName: 'isthmus-gateway',
    canonicalRevision: 'latest',
    workloadType: WorkloadType.DEPLOYMENT,
    workloadName: `${member.member.name}-gateway`,
    status: healthy ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
    clusterId: member.member.name,
    services: orderedServices(
      new Map([
        [
          `${config.namespace}/${gatewayHostname(member.member.name, config)}`,
          portList([[hbonePort, gateway.hbonePort]]),
        ] as const,
      ]),
    ),
    ...localityOf({ region, zone, subzone: '' }),
  });
  return workloadResource(workload, [`${network}/${text}`]);
};

/** A member's gateways for direct mode: their service and one workload each. Draining ones are unhealthy, never all of them. */
export const memberGateways = (member: MemberView, config: ZtunnelConfig): Translated[] => {
  const gateways = [...usableGateways(member)].sort((a, b) => byName(a.address, b.address));
  if (gateways.length === 0) return [];
  const allDrain = gateways.every((g) => g.draining);
  const name = `${member.member.name}-gateways`;
  const service = create(ServiceSchema, {
    name,
    namespace: config.namespace,
    hostname: gatewayHostname(member.member.name, config),
    ports: [create(PortSchema, { servicePort: hbonePort, targetPort: hbonePort })],
  });
  return [
    serviceResource(service),
    ...gateways.map((g) => gatewayWorkload(member, g, allDrain || !g.draining, config)),
  ];
};
