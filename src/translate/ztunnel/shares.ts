/**
 * How much of a service's local traffic its local endpoints get, in the words that ztunnel has.
 *
 * ztunnel's choice is: among the endpoints of the best rank, by weight. So
 * - 100 %: ranks, local endpoints first;
 * - a part: no ranks, and weights. A pod's weight belongs to the pod, and a pod may be behind several services; so every pod has the
 *   same constant one, and the share of a service is set by the weight of its remote workloads alone. A ramp changes one or two
 *   resources, however many pods there are;
 * - 0: the service is taken out of the places of its pods. A workload has one status for all its services, so UNHEALTHY would take
 *   the pods from those too. Callers of a pod's own address are not concerned. Neither is the ztunnel beside the pod, which
 *   resolves a tunnel from another cluster by the service's own target port. Where the pods of a service do not agree on that
 *   port only their places know it: then they stay, and the remote workloads get all the weight that there is.
 *
 * Ranks that prefer other clusters were passed over: a rank says what the far end has in common with the caller, and nothing has
 * more in common with it than a local pod.
 */
import type { ServicePlan } from '../../failover/plan.ts';
import type { LocalCluster, LocalService } from '../../federation/local.ts';
import { parseAddress } from './ip.ts';
import { tcpPorts } from './ports.ts';

/** Weight of every local endpoint. Large enough that one pod and the remote share divide to a tenth of a percent. */
export const podCapacity = 1_000;

/** A weight has 32 bits. */
const capacityMax = 2 ** 32 - 1;

export type Sharing =
  | { readonly kind: 'ranked' }
  /** `remoteCapacity`: of all remote workloads that are in use together. */
  | { readonly kind: 'weighted'; readonly remoteCapacity: number }
  | { readonly kind: 'away' };

const ranked: Sharing = { kind: 'ranked' };

const clamp = (capacity: number): number => Math.min(capacityMax, Math.max(1, Math.round(capacity)));

/** Endpoints of the service that a local ztunnel would use: those that are ready, each pod and address once. */
export const usableEndpoints = (service: LocalService, local: LocalCluster): number => {
  const usable = new Set<string>();
  for (const endpoint of service.endpoints) {
    if (!endpoint.ready) continue;
    const pod = endpoint.pod === undefined ? undefined : local.pods.get(endpoint.pod);
    if (endpoint.pod === undefined) {
      if (!endpoint.terminating && parseAddress(endpoint.address) !== undefined) usable.add(endpoint.address);
    } else if (pod?.ready === true && !pod.terminating) usable.add(endpoint.pod);
  }
  return usable.size;
};

/** Weight of the remote side beside `endpoints` local ones, of which all together get `percent`, between 0 and 100. */
const remoteCapacity = (endpoints: number, percent: number): number =>
  clamp((Math.max(1, endpoints) * podCapacity * (100 - percent)) / percent);

/**
 * What the plan means for the service here. Without a remote workload local endpoints are all there is, and keep everything.
 */
export const sharingOf = (
  service: LocalService,
  plan: ServicePlan | undefined,
  hasRemotes: boolean,
  local: LocalCluster,
): Sharing => {
  const percent = plan?.local.percent ?? 100;
  if (!hasRemotes || percent >= 100) return ranked;
  if (percent > 0)
    return { kind: 'weighted', remoteCapacity: remoteCapacity(usableEndpoints(service, local), percent) };
  // With nothing here to leave out, ranks say the same, and what another cluster has ready stays the weight.
  if (usableEndpoints(service, local) === 0) return ranked;
  const agreed = [...tcpPorts(service).values()].every((target) => target > 0);
  return agreed ? { kind: 'away' } : { kind: 'weighted', remoteCapacity: capacityMax };
};

/** Divides the remote side's weight; equal shares where no weight is known. Each gets at least 1: 0 could be all there is. */
export const divided = (total: number, weights: readonly number[]): number[] => {
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => clamp(sum > 0 ? (total * weight) / sum : total / weights.length));
};
