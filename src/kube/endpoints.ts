/** All EndpointSlices of a service, joined into its endpoints: one per pod, or per address where there is no pod. */
import type { LocalEndpoint } from '../federation/local.ts';
import type { ServiceObject, SliceObject } from './objects.ts';

/** service port → target port, for the endpoints of one slice. */
const targetPorts = (service: ServiceObject, slice: SliceObject): ReadonlyMap<number, number> => {
  const out = new Map<number, number>();
  for (const port of service.ports) {
    const match = slice.ports.find((p) => p.name === port.name && p.transport === port.transport);
    // A slice port without a number means every port: the target is the port itself.
    if (match !== undefined) out.set(port.port, match.port ?? port.port);
  }
  return out;
};

/**
 * While slices are rewritten one endpoint may be in two of them: it is then ready if it is so in either, and has the ports
 * of both. A pod with an address of each family counts once, with the address of the service's own family.
 */
export const joinEndpoints = (service: ServiceObject, slices: Iterable<SliceObject>): readonly LocalEndpoint[] => {
  const joined = new Map<string, LocalEndpoint & { family: string }>();
  for (const slice of slices) {
    const ports = targetPorts(service, slice);
    for (const endpoint of slice.endpoints) {
      const id = endpoint.pod ?? endpoint.address;
      const known = joined.get(id);
      if (known === undefined) {
        joined.set(id, { ...endpoint, ports, family: slice.family });
        continue;
      }
      if (known.address !== endpoint.address && known.family !== slice.family) {
        if (slice.family === service.family) joined.set(id, { ...endpoint, ports, family: slice.family });
        continue;
      }
      joined.set(id, {
        address: endpoint.ready ? endpoint.address : known.address,
        pod: known.pod,
        ready: known.ready || endpoint.ready,
        serving: known.serving || endpoint.serving,
        terminating: known.terminating && endpoint.terminating,
        ports: new Map([...known.ports, ...ports]),
        family: known.family,
      });
    }
  }
  return [...joined.values()]
    .map(({ family: _, ...endpoint }) => endpoint)
    .sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
};
