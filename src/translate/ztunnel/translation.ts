/**
 * The workloads as a whole, kept up to date by keys.
 *
 * Everything belongs to a pod, a service or a member. What changed is said by those keys; only their resources are computed
 * again, and only those whose bytes differ come out. A full recomputation on each change was passed over: one pod among
 * ten thousand changes every few milliseconds.
 */
import type { ServiceKey } from '../../core/names.ts';
import type { LocalEndpoint } from '../../federation/local.ts';
import type { ServiceView, View } from '../../federation/view.ts';
import { gatewayVerdicts, memberGateways } from './gateways.ts';
import { serviceSans } from './identities.ts';
import { isGatewayPod, type ZtunnelConfig, type ZtunnelInputs } from './inputs.ts';
import { addressWorkloads, type Membership, podWorkload } from './pods.ts';
import { isFederated, reachableMembers, remoteWorkloads } from './remotes.ts';
import { sameBytes, type Translated } from './resource.ts';
import { localService } from './services.ts';
import { type Sharing, sharingOf } from './shares.ts';

/** What may have changed since the last call. Too much is harmless, too little is not. */
export interface ZtunnelDirty {
  /** `namespace/name` of local pods. */
  readonly pods: ReadonlySet<string>;
  /** Services whose local object, view or plan changed. */
  readonly services: ReadonlySet<ServiceKey>;
  /** Members whose membership or gateways changed. */
  readonly members: ReadonlySet<string>;
  readonly gatewayHealth: boolean;
}

export interface ZtunnelDelta {
  readonly changed: readonly Translated[];
  readonly removed: readonly string[];
}

type Owner = `pod ${string}` | `service ${string}` | `member ${string}`;

const sameEndpoint = (a: LocalEndpoint | undefined, b: LocalEndpoint): boolean =>
  a !== undefined &&
  a.ready === b.ready &&
  a.ports.size === b.ports.size &&
  [...a.ports].every(([port, target]) => b.ports.get(port) === target);

export class ZtunnelTranslation {
  readonly #config: ZtunnelConfig;
  readonly #resources = new Map<string, Translated>();
  readonly #names = new Map<Owner, readonly string[]>();
  /** Pod → service → its endpoint there. */
  readonly #places = new Map<string, Map<ServiceKey, LocalEndpoint>>();
  /** Service → pods behind it, as last seen. */
  readonly #behind = new Map<ServiceKey, ReadonlySet<string>>();
  /** Pod → account as last seen, to tell when a service's identities may change. */
  readonly #accounts = new Map<string, string>();
  /** Service → members that it reaches directly. */
  readonly #direct = new Map<ServiceKey, readonly string[]>();
  #gatewayOnly = false;
  /** Services whose local endpoints do not simply come first. */
  readonly #sharing = new Map<ServiceKey, Sharing>();
  #verdicts: ReadonlyMap<string, boolean> = new Map();
  #draining: ReadonlySet<string> = new Set();

  constructor(config: ZtunnelConfig) {
    this.#config = config;
  }

  /** All resources, by name. Live: changes with the next call of `update` or `rebuild`. */
  get resources(): ReadonlyMap<string, Translated> {
    return this.#resources;
  }

  /** Computes everything. For the start, and after continuity was lost. */
  rebuild(inputs: ZtunnelInputs): ZtunnelDelta {
    const owned = (kind: string): string[] =>
      [...this.#names.keys()].filter((o) => o.startsWith(`${kind} `)).map((o) => o.slice(kind.length + 1));
    return this.update(inputs, {
      pods: new Set([...inputs.local.pods.keys(), ...owned('pod')]),
      services: new Set([...inputs.local.services.keys(), ...inputs.view.services.keys(), ...owned('service')]),
      members: new Set([...inputs.view.members.keys(), ...owned('member')]),
      gatewayHealth: true,
    });
  }

  update(inputs: ZtunnelInputs, dirty: ZtunnelDirty): ZtunnelDelta {
    const changed: Translated[] = [];
    const removed: string[] = [];
    const pods = new Set(dirty.pods);
    const members = new Set(dirty.members);
    const services = this.#servicesTouched(inputs, dirty);
    const { gatewayOnly = false } = inputs;
    if (gatewayOnly !== this.#gatewayOnly)
      for (const [key, { mode }] of inputs.view.services) if (mode === 'direct') services.add(key);
    this.#gatewayOnly = gatewayOnly;
    for (const key of services) this.#placePods(key, inputs, pods);
    for (const key of services) this.#share(key, inputs, pods);
    for (const key of this.#verdictsTouched(inputs, dirty, pods)) pods.add(key);
    for (const key of services) {
      this.#replace(`service ${key}`, this.#serviceResources(key, inputs, members), changed, removed);
    }
    for (const key of pods) this.#replace(`pod ${key}`, this.#podResources(key, inputs), changed, removed);
    for (const name of members) this.#replace(`member ${name}`, this.#memberResources(name, inputs), changed, removed);
    return { changed, removed };
  }

  /**
   * The services named, those whose pods gained or lost an account, those that trade with a changed member, and those that share by
   * the number of their pods.
   */
  #servicesTouched(inputs: ZtunnelInputs, dirty: ZtunnelDirty): Set<ServiceKey> {
    const services = new Set(dirty.services);
    for (const key of dirty.pods) {
      for (const service of this.#places.get(key)?.keys() ?? []) {
        if (this.#sharing.get(service)?.kind === 'weighted') services.add(service);
      }
      const account = inputs.local.pods.get(key)?.serviceAccount;
      if (account === this.#accounts.get(key)) continue;
      if (account === undefined) this.#accounts.delete(key);
      else this.#accounts.set(key, account);
      for (const service of this.#places.get(key)?.keys() ?? []) services.add(service);
    }
    if (dirty.members.size > 0) {
      for (const [key, service] of inputs.view.services) {
        if ([...dirty.members].some((member) => service.remotes.has(member))) services.add(key);
      }
    }
    return services;
  }

  /** Notes which pods are behind the service now, and marks those whose place changed. */
  #placePods(key: ServiceKey, inputs: ZtunnelInputs, pods: Set<string>): void {
    const now = new Set<string>();
    for (const endpoint of inputs.local.services.get(key)?.endpoints ?? []) {
      if (endpoint.pod === undefined) continue;
      now.add(endpoint.pod);
      const places = this.#places.get(endpoint.pod) ?? new Map<ServiceKey, LocalEndpoint>();
      this.#places.set(endpoint.pod, places);
      if (!sameEndpoint(places.get(key), endpoint)) pods.add(endpoint.pod);
      places.set(key, endpoint);
    }
    for (const pod of this.#behind.get(key) ?? []) {
      if (now.has(pod)) continue;
      const places = this.#places.get(pod);
      places?.delete(key);
      if (places?.size === 0) this.#places.delete(pod);
      pods.add(pod);
    }
    if (now.size > 0) this.#behind.set(key, now);
    else this.#behind.delete(key);
  }

  /** Notes what local callers get of the service; when they are sent away, or come back, its pods change. */
  #share(key: ServiceKey, { local, view, plan }: ZtunnelInputs, pods: Set<string>): void {
    const service = local.services.get(key);
    const seen = this.#seen(key, view);
    const before = this.#sharing.get(key)?.kind === 'away';
    const planned = plan.services.get(key);
    const remotes = seen === undefined ? [] : reachableMembers(seen, planned, view);
    const now: Sharing =
      service === undefined ? { kind: 'ranked' } : sharingOf(service, planned, remotes.length > 0, local);
    if (now.kind === 'ranked') this.#sharing.delete(key);
    else this.#sharing.set(key, now);
    if (before !== (now.kind === 'away')) for (const pod of this.#behind.get(key) ?? []) pods.add(pod);
  }

  /** A gateway's verdict depends on the other gateways: one that dies may be the last but one. */
  #verdictsTouched(inputs: ZtunnelInputs, dirty: ZtunnelDirty, pods: ReadonlySet<string>): string[] {
    const gateway = (key: string): boolean => {
      const pod = inputs.local.pods.get(key);
      return this.#verdicts.has(key) || (pod !== undefined && isGatewayPod(pod, this.#config));
    };
    const draining = inputs.plan.draining.gateways;
    const drains = draining.size !== this.#draining.size || [...draining].some((name) => !this.#draining.has(name));
    if (!dirty.gatewayHealth && !drains && ![...pods].some(gateway)) return [];
    const before = this.#verdicts;
    this.#draining = new Set(draining);
    this.#verdicts = gatewayVerdicts(inputs.local.pods, inputs.gatewayHealth, draining, this.#config);
    return [...this.#verdicts].filter(([key, healthy]) => before.get(key) !== healthy).map(([key]) => key);
  }

  #serviceResources(key: ServiceKey, inputs: ZtunnelInputs, members: Set<string>): Translated[] {
    const { local, view, plan } = inputs;
    const config = this.#config;
    const service = local.services.get(key);
    const seen = this.#seen(key, view);
    const federated = service !== undefined && seen !== undefined && isFederated(seen) ? seen : undefined;
    this.#noteDirect(key, federated?.mode === 'direct' ? [...federated.remotes.keys()] : [], members);
    if (service === undefined) return [];
    const sharing: Sharing = this.#sharing.get(key) ?? { kind: 'ranked' };
    const remote =
      federated === undefined
        ? undefined
        : {
            ranked: sharing.kind !== 'weighted',
            sans: serviceSans(federated, service, local, view, config.trustDomain),
          };
    const own = localService(service, remote, config);
    if (own === undefined) return [];
    const planned = plan.services.get(key);
    const remotes = federated === undefined ? [] : remoteWorkloads(federated, planned, sharing, view, config);
    const addresses = sharing.kind === 'away' ? [] : addressWorkloads(service, config);
    return [own, ...addresses, ...remotes];
  }

  #seen(key: ServiceKey, view: View): ServiceView | undefined {
    const seen = view.services.get(key);
    return seen?.mode === 'direct' && this.#gatewayOnly ? { ...seen, mode: 'gateway' } : seen;
  }

  #noteDirect(key: ServiceKey, now: readonly string[], members: Set<string>): void {
    const before = this.#direct.get(key) ?? [];
    if (now.length > 0) this.#direct.set(key, now);
    else this.#direct.delete(key);
    for (const member of [...before, ...now]) if (before.includes(member) !== now.includes(member)) members.add(member);
  }

  #podResources(key: string, inputs: ZtunnelInputs): Translated[] {
    const pod = inputs.local.pods.get(key);
    if (pod === undefined) return [];
    const memberships: Membership[] = [];
    for (const [service, endpoint] of this.#places.get(key) ?? []) {
      const found = inputs.local.services.get(service);
      if (found === undefined) continue;
      memberships.push({ service: found, endpoint, away: this.#sharing.get(service)?.kind === 'away' });
    }
    const workload = podWorkload(pod, memberships, this.#config, this.#verdicts.get(key));
    return workload === undefined ? [] : [workload];
  }

  /** Only for members that some service reaches directly. */
  #memberResources(name: string, inputs: ZtunnelInputs): Translated[] {
    const member = inputs.view.members.get(name);
    const used = [...this.#direct.values()].some((members) => members.includes(name));
    return member === undefined || !used ? [] : memberGateways(member, this.#config);
  }

  #replace(owner: Owner, now: readonly Translated[], changed: Translated[], removed: string[]): void {
    const names = now.map((r) => r.name);
    for (const name of this.#names.get(owner) ?? []) {
      if (names.includes(name)) continue;
      this.#resources.delete(name);
      removed.push(name);
    }
    for (const resource of now) {
      const before = this.#resources.get(resource.name);
      if (before !== undefined && sameBytes(before.bytes, resource.bytes)) continue;
      this.#resources.set(resource.name, resource);
      changed.push(resource);
    }
    if (names.length > 0) this.#names.set(owner, names);
    else this.#names.delete(owner);
  }
}
