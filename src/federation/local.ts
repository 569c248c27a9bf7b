/**
 * What this cluster looks like, as its own API server tells it: the input of exports and of the workloads that the local
 * ztunnels get. Made by `kube/`, read by the pure rooms; values are never changed in place.
 */
import type { ErrorCode } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { LocalEgressPolicy } from '../trust/egress_rules.ts';

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subzone: string;
}

export interface LocalPort {
  readonly name: string;
  readonly port: number;
  /** TCP | UDP | SCTP, or appProtocol. */
  readonly protocol: string;
}

/** One address behind a service, from its EndpointSlices. */
export interface LocalEndpoint {
  readonly address: string;
  /** `namespace/name` of the pod behind it, when it is one. */
  readonly pod: string | undefined;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  /** service port → target port. */
  readonly ports: ReadonlyMap<number, number>;
}

export interface LocalService {
  readonly key: ServiceKey;
  readonly namespace: string;
  readonly name: string;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  readonly clusterIPs: readonly string[];
  readonly headless: boolean;
  readonly sessionAffinity: boolean;
  readonly ports: readonly LocalPort[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly endpoints: readonly LocalEndpoint[];
  /** Set when the service is exported: by a ServiceExport or by the label `istio.io/global=true`, in an ambient namespace. */
  readonly exported:
    | {
        readonly by: 'ServiceExport' | 'label';
        readonly sinceMs: number;
        /** The members that it is for, by name; absent: all. */
        readonly to?: readonly string[];
      }
    | undefined;
  /** Annotation `isthmus.dev/mode`, else the cluster's default. */
  readonly mode: 'gateway' | 'direct';
  /** From the user's DestinationRule for this host. */
  readonly trafficPolicy: TrafficPolicy | undefined;
}

/** The part of an Istio DestinationRule that the gateways honour. Undefined fields keep the defaults. */
export interface TrafficPolicy {
  readonly consecutive5xxErrors: number | undefined;
  readonly consecutiveGatewayErrors: number | undefined;
  readonly intervalMs: number | undefined;
  readonly baseEjectionTimeMs: number | undefined;
  readonly maxEjectionPercent: number | undefined;
  /** connectionPool.tcp.maxConnections */
  readonly maxConnections: number | undefined;
}

export interface LocalPod {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly node: string;
  readonly serviceAccount: string;
  readonly ready: boolean;
  readonly terminating: boolean;
  readonly hostNetwork: boolean;
  /** In an ambient namespace and not opted out: has a ztunnel in front. */
  readonly hbone: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly locality: Locality;
  /** Owner for canonical names: the Deployment-like name, or the pod's own. */
  readonly workloadName: string;
}

export interface LocalNode {
  readonly name: string;
  readonly locality: Locality;
}

/** Why an export cannot work; shown as a condition on the ServiceExport. */
export interface ExportProblem {
  readonly key: ServiceKey;
  readonly code: ErrorCode;
  readonly message: string;
}

/** Objects that standalone cannot translate yet and must not ignore. */
export interface UntranslatablePolicy {
  readonly kind: 'AuthorizationPolicy' | 'PeerAuthentication';
  readonly namespace: string;
  readonly name: string;
}

/**
 * A FailoverPolicy of this cluster, as its API server has it. What it asks for is read by `failover/policy_object.ts`: here it is
 * only what somebody wrote.
 */
export interface LocalFailoverPolicy {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  readonly createdMs: number;
  /** Parsed JSON. */
  readonly spec: unknown;
}

/** Everything known of the local cluster. Maps are replaced or updated by their owner only, between ticks. */
export interface LocalCluster {
  readonly services: ReadonlyMap<ServiceKey, LocalService>;
  /** By `namespace/name`. */
  readonly pods: ReadonlyMap<string, LocalPod>;
  readonly nodes: ReadonlyMap<string, LocalNode>;
  readonly problems: ReadonlyMap<ServiceKey, ExportProblem>;
  readonly policies: readonly UntranslatablePolicy[];
  /** By `namespace/name`. */
  readonly failoverPolicies: ReadonlyMap<string, LocalFailoverPolicy>;
  /** EgressPolicies, by name. */
  readonly egressPolicies?: ReadonlyMap<string, LocalEgressPolicy>;
  /** Namespaces that say whether services of others are imported there. */
  readonly imports?: ReadonlyMap<string, boolean>;
}

/** What changed since the last tick: keys of services, `namespace/name` of pods. */
export interface LocalChange {
  readonly services: ReadonlySet<ServiceKey>;
  readonly pods: ReadonlySet<string>;
  readonly policies: boolean;
  readonly failoverPolicies: boolean;
  readonly egressPolicies?: boolean;
  /** Namespaces that say something else about imports than before. */
  readonly imports?: ReadonlySet<string>;
}
