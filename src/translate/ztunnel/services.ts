/**
 * Local services.
 *
 * A service with remote workloads ranks them below its own endpoints. There is one rank, NETWORK: ztunnel uses the best rank
 * alone, so ranking by zone too, as stock does for PreferClose, would pin every client to the pods of its zone from the moment its
 * service is exported; and ranking clusters by region, in direct mode, would put ztunnel's order in place of the plan's. While the
 * plan shares a service's traffic out there are no ranks, only weights (shares.ts).
 */
import { create } from '@bufbuild/protobuf';
import { serviceHostname } from '../../core/names.ts';
import type { LocalService } from '../../federation/local.ts';
import {
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  LoadBalancingSchema,
  NetworkAddressSchema,
  PortSchema,
  ServiceSchema,
} from '../../gen/istio/workload/workload_pb.ts';
import { egressPort, type ZtunnelConfig } from './inputs.ts';
import { parseAddress } from './ip.ts';
import { tcpPorts } from './ports.ts';
import { serviceResource, type Translated } from './resource.ts';

/** What the federation adds to a local service. */
export interface Remote {
  /** False: local endpoints and remote workloads share by weight. */
  readonly ranked: boolean;
  /** SPIFFE ids accepted from the far end of the inner tunnel. */
  readonly sans: readonly string[];
}

const localFirst = () =>
  create(LoadBalancingSchema, {
    mode: LoadBalancing_Mode.FAILOVER,
    routingPreference: [LoadBalancing_Scope.NETWORK],
  });

const isEgress = (service: LocalService, config: ZtunnelConfig): boolean =>
  service.namespace === config.namespace && service.name === config.gatewayService;

const portsOf = (service: LocalService, config: ZtunnelConfig): [number, number][] => {
  const ports = new Map(tcpPorts(service));
  // Remote workloads name the gateways' service by this port, so it must resolve whatever the Service calls its ports.
  if (isEgress(service, config)) ports.set(egressPort, egressPort);
  return [...ports].sort(([a], [b]) => a - b);
};

/** Undefined for ExternalName: it has no address of its own, its name resolves elsewhere and ztunnel passes that through. */
export const localService = (
  service: LocalService,
  remote: Remote | undefined,
  config: ZtunnelConfig,
): Translated | undefined => {
  if (service.type === 'ExternalName') return undefined;
  const addresses = (service.headless ? [] : service.clusterIPs)
    .map(parseAddress)
    .filter((bytes) => bytes !== undefined);
  return serviceResource(
    create(ServiceSchema, {
      name: service.name,
      namespace: service.namespace,
      hostname: serviceHostname(service.namespace, service.name, config.clusterDomain),
      addresses: addresses.map((address) => create(NetworkAddressSchema, { network: config.network, address })),
      ports: portsOf(service, config).map(([servicePort, targetPort]) =>
        create(PortSchema, { servicePort, targetPort }),
      ),
      ...(remote === undefined ? {} : { subjectAltNames: [...remote.sans] }),
      ...(remote?.ranked === true ? { loadBalancing: localFirst() } : {}),
      canonical: true,
    }),
  );
};
