/** Names of the gateways' resources, identities and headers: the one place where two rooms could disagree on a string. */
import type { ServiceKey } from '../../core/names.ts';

export const listenerNames = { egress: 'egress', federation: 'federation', hbone: 'hbone' } as const;

/** `egress`: exported services of others, to their class. The other two: our exported services, to our pods. */
export const routeNames = { egress: 'egress', federation: 'federation', hbone: 'hbone' } as const;

export const secretNames = {
  /** The gateways' certificate in the mesh (towards ztunnels). */
  mesh: 'mesh',
  /** The gateways' certificate in the federation (towards other members' gateways). */
  federation: 'federation',
  /** Roots of this cluster's own mesh: who may use the egress. */
  meshRoots: 'mesh-roots',
  /** Own roots and those of the members that this cluster trades with: who may use the direct listener. */
  tradedRoots: 'traded-roots',
  /** A member's federation CA, alone. */
  member: (member: string): string => `member/${member}`,
} as const;

/** The cluster of a local service's port: `local/<namespace>/<service>/<port>`. */
export const localClusterName = (key: ServiceKey, port: number): string => `local/${key}/${port}`;

/** Routes of probes through our own gateway, and the cluster that leads to one member: `probe/<member>`. */
export const probeRoutes = 'probe';
export const probeClusterName = (member: string): string => `probe/${member}`;

/** Listener, cluster and routes by which a gateway answers for itself. */
export const headName = 'head';

/** Whether a cluster carries calls to other members: of those alone loads are reported. */
export const isClassCluster = (name: string): boolean =>
  name !== headName && !name.startsWith('local/') && !name.startsWith('probe/') && !name.startsWith('isthmus-');

/** In the bootstrap: where access logs and load reports go. */
export const telemetryCluster = 'isthmus-telemetry';

/** How many federation hops a CONNECT has made: set to 1 by the egress, refused above 1, refused at all on the egress. */
export const hopsHeader = 'x-isthmus-hops';

/** From which member a CONNECT came: written by that member's own filter chain before a route is looked for, whatever the caller wrote. */
export const peerHeader = 'x-isthmus-peer';

/** Environment variable by which an Envoy knows which gateway of its cluster it is; set by whoever starts it. */
export const gatewayIdVariable = 'ISTHMUS_GATEWAY_ID';
