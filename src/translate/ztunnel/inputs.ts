/** What the workload translation is given. */
import { serviceHostname } from '../../core/names.ts';
import type { Plan } from '../../failover/plan.ts';
import type { LocalCluster, LocalPod } from '../../federation/local.ts';
import type { View } from '../../federation/view.ts';

export interface ZtunnelConfig {
  /** Name of this cluster: `CLUSTER_ID` of its ztunnels. */
  readonly clusterId: string;
  readonly network: string;
  readonly trustDomain: string;
  readonly clusterDomain: string;
  /** Namespace of the gateways and of their Service. */
  readonly namespace: string;
  /** Name of the Service in front of the local gateways. */
  readonly gatewayService: string;
}

export interface ZtunnelInputs {
  readonly local: LocalCluster;
  readonly view: View;
  readonly plan: Plan;
  /** Gateway pod name → answers now. Pods that are not listed are judged by their readiness alone. */
  readonly gatewayHealth: ReadonlyMap<string, boolean>;
  /** Rules of our egress are in force: a path around it, in direct mode, would be one around them. Default: false. */
  readonly gatewayOnly?: boolean;
}

/** Network of the workloads that are reached through the local gateways. */
export const federationNetwork = 'isthmus';

export const egressPort = 15_018;
export const hbonePort = 15_008;

const gatewayLabel = 'isthmus-gateway';

export const isGatewayPod = (pod: LocalPod, config: ZtunnelConfig): boolean =>
  pod.namespace === config.namespace && pod.labels['app'] === gatewayLabel;

/** The name under which pods say that they are behind a service: `namespace/hostname`. */
export const membershipName = (namespace: string, name: string, config: ZtunnelConfig): string =>
  `${namespace}/${serviceHostname(namespace, name, config.clusterDomain)}`;
