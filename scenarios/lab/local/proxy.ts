/**
 * A very small kube-proxy: in a pod's namespace, connections to the cluster address of some services go to one of their ready
 * pods. Only for services of the system namespace: what a mesh workload calls by a service address is its ztunnel's to route.
 */
import type { PodState, ServiceShape } from './objects.ts';

const table = 'isthmus_proxy';

export interface ProxiedService {
  readonly service: ServiceShape & { readonly spec: { readonly clusterIP?: string } };
  readonly ready: readonly PodState[];
}

/** The ruleset of a pod's namespace, which replaces what was there. */
export const proxyRules = (services: readonly ProxiedService[]): string => {
  const rules = services.flatMap(({ service, ready }) => {
    const { clusterIP, ports = [] } = service.spec;
    if (clusterIP === undefined || clusterIP === '' || clusterIP === 'None') return [];
    return ports.map((port) => {
      const match = `ip daddr ${clusterIP} tcp dport ${port.port}`;
      if (ready.length === 0) return undefined;
      const target = Number(port.targetPort ?? port.port) || port.port;
      const addresses = ready.map(({ address }, i) => `${i} : ${address}`).join(', ');
      return `${match} dnat ip to numgen random mod ${ready.length} map { ${addresses} } : ${target}`;
    });
  });
  // Before the mesh's own redirection (-100): what is translated here is not captured there.
  const chain = ` chain output {\n  type nat hook output priority -110; policy accept;\n  ${rules.filter(Boolean).join('\n  ')}\n }\n`;
  return `table ip ${table}\ndelete table ip ${table}\ntable ip ${table} {\n${chain}}\n`;
};
