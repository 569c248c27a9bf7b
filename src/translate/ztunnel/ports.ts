/** Which ports of a service ztunnel can carry: TCP, whatever runs on it. */
import { carriesTcp } from '../../core/transport.ts';
import type { LocalService } from '../../federation/local.ts';

/**
 * Service port → target port. The target is the one on which all endpoints agree, else 0, which means that only the
 * workloads know. It matters when a pod turns unready while a tunnel is on its way: its ztunnel has then dropped it from
 * the service and resolves the port by this number.
 */
export const tcpPorts = (service: LocalService): ReadonlyMap<number, number> => {
  const out = new Map<number, number>();
  for (const { port, protocol } of service.ports) {
    if (!carriesTcp(protocol)) continue;
    const targets = new Set(service.endpoints.map((e) => e.ports.get(port)).filter((t) => t !== undefined));
    out.set(port, targets.size === 1 ? [...targets][0]! : 0);
  }
  return out;
};
