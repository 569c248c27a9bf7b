/**
 * What the gateways' resources are made from. The wiring fills it from the view, the plan and the saved certificates;
 * nothing here is measured locally, so both replicas translate the same input to the same bytes.
 */
import type { ServiceKey } from '../../core/names.ts';
import type { Plan } from '../../failover/plan.ts';
import type { LocalCluster } from '../../federation/local.ts';
import type { ManifestHead, MemberView, ServiceView } from '../../federation/view.ts';
import type { EgressRules } from '../../trust/egress_rules.ts';
import type { Member } from '../../trust/membership.ts';

export interface CertificatePem {
  /** Leaf first, then intermediates; no root. */
  readonly chain: string;
  readonly key: string;
}

/** Certificates and roots of this cluster's gateways. All PEM. */
export interface GatewaySecrets {
  /** spiffe://<trust domain>/ns/<system namespace>/sa/<gateway account> */
  readonly mesh: CertificatePem;
  /** spiffe://<clusterset>/cluster/<self> */
  readonly federation: CertificatePem;
  /** Roots of our own mesh. */
  readonly meshRoots: string;
  /** Our own roots and those of the members that we trade with. */
  readonly tradedRoots: string;
  /** Revocation lists of every CA under the one and under the other; none: nothing is checked against lists. */
  readonly meshLists?: string;
  readonly tradedLists?: string;
}

/** Where the listeners stand. Other values than the default serve tests and machines with several gateways. */
export interface Binding {
  readonly address: string;
  readonly egressPort: number;
  readonly federationPort: number;
  readonly hbonePort: number;
  /** Where pods take HBONE. */
  readonly podPort: number;
}

export const defaultBinding: Binding = {
  address: '0.0.0.0',
  egressPort: 15018,
  federationPort: 15028,
  hbonePort: 15008,
  podPort: 15008,
};

/** What does not change from tick to tick. */
export interface GatewaySettings {
  readonly self: Member;
  readonly trustDomain: string;
  readonly binding: Binding;
  /** Who may send probes through the egress; default: the account `isthmus-controller` of `isthmus-system`. */
  readonly controllerIdentity?: string;
  /** DNS suffix of Kubernetes services; default: `cluster.local`. */
  readonly clusterDomain?: string;
  /** New tunnels a second through the egress of each identity, where no rule says otherwise; default: `limits.identityConnectsPerSecond`. */
  readonly identityConnectsPerSecond?: number;
  /** Envoys in each gateway pod, which share what is granted to others; default: 2. */
  readonly envoysPerGateway?: number;
}

/** Round trip to a peer's gateways and its mean deviation, from our own vantage record. */
export interface RoundTrip {
  readonly rttMs: number;
  readonly varMs: number;
}

export interface GatewayInput {
  readonly settings: GatewaySettings;
  readonly secrets: GatewaySecrets;
  /** Every member, ourselves included or not: our own entry is skipped. */
  readonly members: ReadonlyMap<string, MemberView>;
  readonly services: ReadonlyMap<ServiceKey, ServiceView>;
  readonly plan: Plan;
  readonly local: LocalCluster;
  /** Rights and limits of our own workloads at the egress; default: everybody may call everything. */
  readonly egress?: EgressRules;
  /** By member; a peer that is not in it has not been measured. */
  readonly roundTrips: ReadonlyMap<string, RoundTrip>;
  /**
   * The head that our gateways tell probes of other members. Each change is pushed: give a new one every few seconds, not with every
   * manifest.
   */
  readonly head?: ManifestHead | undefined;
  /** What they tell with it of who was put out (`federation/revocation_text.ts`). */
  readonly revocations?: string | undefined;
}
