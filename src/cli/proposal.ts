/**
 * What a cluster can say of itself when it joins: where its nodes are, its pods' ranges, its namespaces in the mesh. Only a proposal, for
 * where the token left something open; the authority decides.
 */
import { limits } from '../core/limits.ts';
import type { KubeApi } from '../kube/api.ts';
import type { Terms } from '../trust/joining.ts';

interface Labelled {
  readonly metadata?: { readonly name?: string; readonly labels?: Readonly<Record<string, string>> };
  readonly spec?: { readonly podCIDRs?: readonly string[]; readonly podCIDR?: string };
}

const itemsOf = async (api: KubeApi, path: string): Promise<readonly Labelled[]> => {
  const list = (await api.request({ method: 'GET', path, query: { limit: '500' } })) as { items?: Labelled[] };
  return list.items ?? [];
};

/** The value that most of them have. */
const common = (items: readonly Labelled[], label: string): string => {
  const counts = new Map<string, number>();
  for (const { metadata } of items) {
    const value = metadata?.labels?.[label];
    if (value !== undefined && value !== '') counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? '';
};

export const proposalOf = async (api: KubeApi, cluster: string, systemNamespace: string): Promise<Terms> => {
  const [nodes, namespaces] = await Promise.all([itemsOf(api, '/api/v1/nodes'), itemsOf(api, '/api/v1/namespaces')]);
  const ranges = new Set(nodes.flatMap(({ spec }) => spec?.podCIDRs ?? (spec?.podCIDR ? [spec.podCIDR] : [])));
  const meshed = namespaces.flatMap(({ metadata }) =>
    metadata?.name !== undefined && metadata.labels?.['istio.io/dataplane-mode'] === 'ambient' ? [metadata.name] : [],
  );
  const system = namespaces.filter(({ metadata }) => [systemNamespace, 'istio-system'].includes(metadata?.name ?? ''));
  const zones = new Set(nodes.map(({ metadata }) => metadata?.labels?.['topology.kubernetes.io/zone'] ?? ''));
  return {
    region: common(nodes, 'topology.kubernetes.io/region'),
    zone: zones.size === 1 ? [...zones][0]! : '',
    network: common(system, 'topology.istio.io/network') || cluster,
    addressRanges: [...ranges].slice(0, limits.addressRangesMax),
    namespaces: meshed.filter((name) => name !== systemNamespace).sort(),
    serviceAccounts: [],
  };
};
