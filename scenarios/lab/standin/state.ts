/**
 * What discovery said: workloads, services, and which workload stands behind which service. Workloads may arrive before
 * their service, so endpoints are kept by service key whether or not the service is known.
 */
import { fromBinary } from '@bufbuild/protobuf';
import {
  AddressSchema,
  LoadBalancing_HealthPolicy,
  type Service,
  type Workload,
  WorkloadStatus,
} from '../../../src/gen/istio/workload/workload_pb.ts';
import type { Update } from './ads.ts';

export const ipText = (bytes: Uint8Array): string => {
  if (bytes.length === 4) return bytes.join('.');
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((((bytes[i] as number) << 8) | (bytes[i + 1] as number)).toString(16));
  return groups.join(':');
};

export const serviceKeyOf = (service: Service): string => `${service.namespace}/${service.hostname}`;
const vipKey = (network: string, ip: string): string => `${network}/${ip}`;

export const identityOfWorkload = (workload: Workload): string => {
  const domain = workload.trustDomain || 'cluster.local';
  return `spiffe://${domain}/ns/${workload.namespace}/sa/${workload.serviceAccount || 'default'}`;
};

const check = (bytes: Uint8Array, what: string): void => {
  if (bytes.length !== 4 && bytes.length !== 16) throw new Error(`${what}: an address of ${bytes.length} bytes`);
};

export class MeshState {
  readonly #workloads = new Map<string, Workload>();
  readonly #services = new Map<string, Service>();
  /** Service key to uids. */
  readonly #endpoints = new Map<string, Set<string>>();
  readonly #vips = new Map<string, Service>();
  readonly #addresses = new Map<string, Workload>();
  readonly #policies = new Set<string>();

  services(): IterableIterator<Service> {
    return this.#services.values();
  }

  /** Returns a reason for each resource that was refused; the others are applied. */
  applyAddresses(updates: readonly Update[], removed: readonly string[]): string[] {
    const rejected: string[] = [];
    for (const name of removed) this.#remove(name);
    for (const { name, bytes } of updates) {
      try {
        const { type } = fromBinary(AddressSchema, bytes);
        if (type.case === 'workload') this.#putWorkload(type.value);
        else if (type.case === 'service') this.#putService(type.value);
        else throw new Error('neither a workload nor a service');
      } catch (cause) {
        rejected.push(`${name}: ${(cause as Error).message}`);
      }
    }
    return rejected;
  }

  /** Policies are not evaluated here, so one that would have to be is refused rather than ignored. */
  applyPolicies(updates: readonly Update[], removed: readonly string[]): string[] {
    for (const name of removed) this.#policies.delete(name);
    for (const { name } of updates) this.#policies.add(name);
    return updates.map(
      ({ name }) => `${name}: this stand-in evaluates no authorization policies and refuses all traffic`,
    );
  }

  /** While a policy is known that we cannot evaluate, nothing is let in. */
  get guarded(): boolean {
    return this.#policies.size > 0;
  }

  #putWorkload(workload: Workload): void {
    if (workload.uid === '') throw new Error('a workload without uid');
    for (const address of workload.addresses) check(address, workload.uid);
    this.#remove(workload.uid);
    this.#workloads.set(workload.uid, workload);
    for (const address of workload.addresses) this.#addresses.set(vipKey(workload.network, ipText(address)), workload);
    for (const key of Object.keys(workload.services)) {
      const uids = this.#endpoints.get(key) ?? new Set();
      uids.add(workload.uid);
      this.#endpoints.set(key, uids);
    }
  }

  #putService(service: Service): void {
    if (service.namespace === '' || service.hostname === '') throw new Error('a service without namespace or hostname');
    for (const { address } of service.addresses) check(address, service.hostname);
    this.#remove(serviceKeyOf(service));
    this.#services.set(serviceKeyOf(service), service);
    for (const { network, address } of service.addresses) this.#vips.set(vipKey(network, ipText(address)), service);
  }

  #remove(name: string): void {
    const workload = this.#workloads.get(name);
    if (workload !== undefined) {
      this.#workloads.delete(name);
      for (const address of workload.addresses) {
        const key = vipKey(workload.network, ipText(address));
        if (this.#addresses.get(key) === workload) this.#addresses.delete(key);
      }
      for (const key of Object.keys(workload.services)) this.#endpoints.get(key)?.delete(name);
      return;
    }
    const service = this.#services.get(name);
    if (service === undefined) return;
    this.#services.delete(name);
    for (const { network, address } of service.addresses) {
      const key = vipKey(network, ipText(address));
      if (this.#vips.get(key) === service) this.#vips.delete(key);
    }
  }

  serviceAt(network: string, ip: string): Service | undefined {
    return this.#vips.get(vipKey(network, ip));
  }
  workloadAt(network: string, ip: string): Workload | undefined {
    return this.#addresses.get(vipKey(network, ip));
  }
  service(namespace: string, hostname: string): Service | undefined {
    return this.#services.get(`${namespace}/${hostname}`);
  }

  /** Like ztunnel: the one in the preferred namespace, else the canonical one, else the first by namespace. */
  serviceByHost(hostname: string, namespace: string): Service | undefined {
    const own = this.service(namespace, hostname);
    if (own !== undefined) return own;
    const all = [...this.#services.values()].filter((service) => service.hostname === hostname);
    return all.find((service) => service.canonical) ?? all.sort((a, b) => (a.namespace < b.namespace ? -1 : 1))[0];
  }

  workloadByHost(namespace: string, hostname: string): Workload | undefined {
    for (const w of this.#workloads.values()) if (w.namespace === namespace && w.hostname === hostname) return w;
    return undefined;
  }

  /** Our own workload. Like ztunnel, only on our own node, when that is known. */
  workloadNamed(namespace: string, name: string, serviceAccount: string, node: string): Workload | undefined {
    for (const w of this.#workloads.values()) {
      if (node !== '' && w.node !== node) continue;
      if (w.namespace === namespace && w.name === name && (w.serviceAccount || 'default') === serviceAccount) return w;
    }
    return undefined;
  }

  /** The workloads behind a service that its health policy lets serve. */
  endpoints(service: Service): Workload[] {
    const all = service.loadBalancing?.healthPolicy === LoadBalancing_HealthPolicy.ALLOW_ALL;
    const found: Workload[] = [];
    for (const uid of this.#endpoints.get(serviceKeyOf(service)) ?? []) {
      const workload = this.#workloads.get(uid);
      if (workload !== undefined && (all || workload.status === WorkloadStatus.HEALTHY)) found.push(workload);
    }
    return found;
  }
}

/** The port that `servicePort` means on this workload; 0 when it has none. */
export const targetPortOf = (service: Service, workload: Workload, servicePort: number): number => {
  const own = workload.services[serviceKeyOf(service)]?.ports.find((port) => port.servicePort === servicePort);
  const common = service.ports.find((port) => port.servicePort === servicePort);
  return own?.targetPort || common?.targetPort || 0;
};
