/** Where a connection goes: ztunnel's choice of an upstream, pure. Errors are reasons for the access log. */
import type { Rng } from '../../../src/core/clock.ts';
import {
  type GatewayAddress,
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  type Service,
  TunnelProtocol,
  type Workload,
} from '../../../src/gen/istio/workload/workload_pb.ts';
import { identityOfWorkload, ipText, type MeshState, targetPortOf } from './state.ts';

export interface Route {
  readonly kind: 'tcp' | 'hbone' | 'double';
  /** Where to connect to. */
  readonly host: string;
  readonly port: number;
  /** `:authority` of the CONNECT; of both in double HBONE. */
  readonly authority: string;
  /** Who may answer the outer TLS. */
  readonly accept: readonly string[];
  /** Who may answer the inner one (double HBONE only). */
  readonly acceptInner: readonly string[];
  readonly workload: Workload;
  readonly service: Service | undefined;
}

const hbonePort = 15_008;
const scopes = LoadBalancing_Scope;

const matches = (scope: number, from: Workload, to: Workload): boolean => {
  switch (scope) {
    case scopes.REGION:
      return (from.locality?.region ?? '') === (to.locality?.region ?? '');
    case scopes.ZONE:
      return (from.locality?.zone ?? '') === (to.locality?.zone ?? '');
    case scopes.SUBZONE:
      return (from.locality?.subzone ?? '') === (to.locality?.subzone ?? '');
    case scopes.NODE:
      return from.node === to.node;
    case scopes.CLUSTER:
      return from.clusterId === to.clusterId;
    case scopes.NETWORK:
      return from.network === to.network;
    default:
      return false;
  }
};

/** How many preferences hold, in order. A leading NETWORK does not stop the count but outweighs the rest. */
export const rankOf = (preferences: readonly number[], from: Workload, to: Workload): number => {
  const networkFirst = preferences[0] === scopes.NETWORK;
  let rank = 0;
  let bonus = 0;
  for (const scope of preferences) {
    const match = matches(scope, from, to);
    if (scope === scopes.NETWORK && networkFirst) {
      if (!match) continue;
      bonus = preferences.length - 1;
    }
    if (!match) break;
    rank += 1;
  }
  return rank + bonus;
};

const capacityOf = (workload: Workload): number => workload.capacity ?? 1;

const weighted = (workloads: readonly Workload[], rng: Rng): Workload | undefined => {
  const total = workloads.reduce((sum, workload) => sum + capacityOf(workload), 0);
  if (total <= 0) return undefined;
  let at = rng() * total;
  for (const workload of workloads) {
    at -= capacityOf(workload);
    if (at < 0) return workload;
  }
  return workloads.at(-1);
};

/** A workload behind the service, or undefined when none can be reached. */
export const balance = (
  state: MeshState,
  from: Workload,
  service: Service,
  servicePort: number,
  rng: Rng,
): Workload | undefined => {
  if (!service.ports.some((port) => port.servicePort === servicePort)) return undefined;
  const usable = state.endpoints(service).filter((workload) => {
    const addressed = workload.addresses.length > 0 || workload.hostname !== '';
    if (!addressed && (workload.network === from.network || workload.networkGateway === undefined)) return false;
    return targetPortOf(service, workload, servicePort) > 0;
  });
  const lb = service.loadBalancing;
  const mode = lb?.mode ?? LoadBalancing_Mode.UNSPECIFIED_MODE;
  if (lb === undefined || (mode !== LoadBalancing_Mode.FAILOVER && mode !== LoadBalancing_Mode.STRICT)) {
    return weighted(usable, rng);
  }
  const wanted = lb.routingPreference;
  const ranked = usable
    .map((workload) => ({ workload, rank: rankOf(wanted, from, workload) }))
    .filter(
      ({ workload }) => mode !== LoadBalancing_Mode.STRICT || wanted.every((scope) => matches(scope, from, workload)),
    );
  const best = Math.max(...ranked.map(({ rank }) => rank));
  return weighted(
    ranked.filter(({ rank }) => rank === best).map(({ workload }) => workload),
    rng,
  );
};

const sansOf = (service: Service | undefined, workload: Workload): string[] => [
  ...(service?.subjectAltNames ?? []),
  identityOfWorkload(workload),
];

const addressOf = (workload: Workload, wanted: string): string => {
  const all = workload.addresses.map(ipText);
  const same = all.find((ip) => ip === wanted) ?? all.find((ip) => ip.includes(':') === wanted.includes(':')) ?? all[0];
  if (same === undefined) throw new Error(`no valid destination: workload ${workload.uid} has no address`);
  return same;
};

const gatewayOf = (
  state: MeshState,
  from: Workload,
  gateway: GatewayAddress,
  rng: Rng,
): { workload: Workload; port: number; service: Service | undefined } => {
  const port = gateway.hboneMtlsPort;
  const { destination } = gateway;
  if (destination.case === undefined) throw new Error('unknown network gateway: no address');
  let service: Service | undefined;
  let workload: Workload | undefined;
  let name: string;
  if (destination.case === 'hostname') {
    const { namespace, hostname } = destination.value;
    name = hostname;
    service = state.service(namespace, hostname);
    if (service === undefined) workload = state.workloadByHost(namespace, hostname);
  } else {
    const ip = ipText(destination.value.address);
    name = ip;
    service = state.serviceAt(destination.value.network, ip);
    if (service === undefined) workload = state.workloadAt(destination.value.network, ip);
  }
  if (service !== undefined) {
    workload = balance(state, from, service, port, rng);
    if (workload !== undefined) return { workload, port: targetPortOf(service, workload, port), service };
  }
  if (workload === undefined) throw new Error(`unknown network gateway: network gateway ${name} not found`);
  return { workload, port, service: undefined };
};

/** Throws a plain error with the reason when there is no way. */
export const routeTo = (state: MeshState, from: Workload, vip: string, port: number, rng: Rng): Route => {
  const service = state.serviceAt(from.network, vip);
  if (service === undefined) throw new Error(`no service at ${vip}:${port}`);
  const workload = balance(state, from, service, port, rng);
  if (workload === undefined) throw new Error(`no healthy upstream: ${vip}:${port}`);
  if (workload.network !== from.network) {
    if (workload.networkGateway === undefined) throw new Error(`no valid destination: ${workload.uid} has no gateway`);
    const gateway = gatewayOf(state, from, workload.networkGateway, rng);
    return {
      kind: 'double',
      host: addressOf(gateway.workload, vip),
      port: gateway.port,
      authority: `${service.hostname}:${port}`,
      accept: sansOf(gateway.service, gateway.workload),
      acceptInner: service.subjectAltNames,
      workload: gateway.workload,
      service,
    };
  }
  const host = addressOf(workload, vip);
  const target = targetPortOf(service, workload, port);
  const hbone = workload.tunnelProtocol === TunnelProtocol.HBONE;
  return {
    kind: hbone ? 'hbone' : 'tcp',
    host,
    port: hbone ? hbonePort : target,
    authority: host.includes(':') ? `[${host}]:${target}` : `${host}:${target}`,
    accept: sansOf(service, workload),
    acceptInner: [],
    workload,
    service,
  };
};
