/**
 * The gateways' resources as a whole, kept up to date by keys.
 *
 * Said is what may have changed; only that is computed again, and only resources whose bytes differ come out. Classes are counted
 * by the services in them: the cluster of a class that nobody uses any more is removed, in the same delta in which the
 * routes leave it.
 */
import type { ServiceKey } from '../../core/names.ts';
import type { ServiceClass } from '../../failover/classes.ts';
import type { Encoded, GatewayTypeUrl } from './encoded.ts';
import type { GatewayInput } from './input.ts';
import { classResources, gatewayClass, isExported, localResources, memberResources } from './resources.ts';
import { type EncodedHost, egressHosts, egressRoutes, localHosts, localRoutes } from './routes.ts';

export interface GatewayDirty {
  /** Services whose local object, view or plan changed. */
  readonly services: ReadonlySet<ServiceKey>;
  /** `namespace/name` of local pods. */
  readonly pods: ReadonlySet<string>;
  /** A membership, a member's gateways or our round trips changed, or a certificate. */
  readonly members: boolean;
}

export interface GatewayDelta {
  readonly changed: readonly Encoded[];
  readonly removed: readonly { readonly typeUrl: GatewayTypeUrl; readonly name: string }[];
}

const idOf = (r: { readonly typeUrl: string; readonly name: string }): string => `${r.typeUrl} ${r.name}`;

export class GatewayTranslation {
  readonly #current = new Map<string, Encoded>();
  /** Owner (a service, a class, `members`, `routes`) → ids of its resources. */
  readonly #owned = new Map<string, readonly Encoded[]>();
  readonly #outward = new Map<ServiceKey, readonly EncodedHost[]>();
  readonly #inward = new Map<ServiceKey, readonly EncodedHost[]>();
  readonly #classOf = new Map<ServiceKey, string>();
  readonly #classes = new Map<string, { entry: ServiceClass; users: number }>();
  readonly #servicesOf = new Map<string, Set<ServiceKey>>();
  readonly #podsOf = new Map<ServiceKey, readonly string[]>();
  #members: ReadonlySet<string> = new Set();

  /** Computes everything again, whatever changed. */
  rebuild(input: GatewayInput): GatewayDelta {
    return this.update(input, {
      services: new Set(
        [...input.services.keys(), ...this.#owned.keys()].filter((k) => k.includes('/') && !k.startsWith('class ')),
      ),
      pods: new Set(),
      members: true,
    });
  }

  update(input: GatewayInput, dirty: GatewayDirty): GatewayDelta {
    const changed: Encoded[] = [];
    const removed: { typeUrl: GatewayTypeUrl; name: string }[] = [];
    const services = new Set(dirty.services);
    for (const pod of dirty.pods) for (const key of this.#servicesOf.get(pod) ?? []) services.add(key);
    const before = new Set(this.#classes.keys());
    let routes = this.#owned.get('routes') === undefined;
    for (const key of services) if (this.#service(key, input, changed, removed)) routes = true;
    const classesChanged = dirty.members || this.#membersChanged(input);
    for (const [name, { entry }] of this.#classes) {
      if (!classesChanged && before.has(name)) continue;
      this.#replace(
        `class ${name}`,
        classResources(input.settings, entry, input.members, input.roundTrips),
        changed,
        removed,
      );
    }
    if (classesChanged || this.#owned.get('members') === undefined) {
      this.#replace('members', memberResources(input), changed, removed);
    }
    if (routes) this.#replace('routes', this.#routes(input), changed, removed);
    for (const [name, { users }] of [...this.#classes]) {
      if (users > 0) continue;
      this.#classes.delete(name);
      this.#replace(`class ${name}`, [], changed, removed);
    }
    return { changed, removed };
  }

  #membersChanged(input: GatewayInput): boolean {
    const now = new Set(input.members.keys());
    const same = now.size === this.#members.size && [...now].every((m) => this.#members.has(m));
    this.#members = now;
    return !same;
  }

  /** True when the service's virtual hosts changed. */
  #service(
    key: ServiceKey,
    input: GatewayInput,
    changed: Encoded[],
    removed: GatewayDelta['removed'][number][],
  ): boolean {
    const service = input.services.get(key);
    this.#notePods(
      key,
      input.local.services.get(key)?.endpoints.flatMap((e) => (e.pod === undefined ? [] : [e.pod])) ?? [],
    );
    const serviceClass = service === undefined ? undefined : gatewayClass(service, input.plan.services.get(key));
    this.#moveClass(key, serviceClass);
    const outward = service === undefined || serviceClass === undefined ? [] : egressHosts(service, serviceClass.name);
    const inward = service !== undefined && isExported(service) ? localHosts(service) : [];
    this.#replace(key, service === undefined ? [] : localResources(service, input), changed, removed);
    const outwardChanged = replaceHosts(this.#outward, key, outward);
    const inwardChanged = replaceHosts(this.#inward, key, inward);
    return outwardChanged || inwardChanged;
  }

  #notePods(key: ServiceKey, pods: readonly string[]): void {
    for (const pod of this.#podsOf.get(key) ?? []) {
      const services = this.#servicesOf.get(pod);
      services?.delete(key);
      if (services?.size === 0) this.#servicesOf.delete(pod);
    }
    for (const pod of pods) {
      let services = this.#servicesOf.get(pod);
      if (services === undefined) {
        services = new Set();
        this.#servicesOf.set(pod, services);
      }
      services.add(key);
    }
    if (pods.length > 0) this.#podsOf.set(key, pods);
    else this.#podsOf.delete(key);
  }

  #moveClass(key: ServiceKey, to: ServiceClass | undefined): void {
    const from = this.#classOf.get(key);
    if (from === to?.name) return;
    const left = from === undefined ? undefined : this.#classes.get(from);
    if (left !== undefined) left.users--;
    if (to === undefined) {
      this.#classOf.delete(key);
      return;
    }
    this.#classOf.set(key, to.name);
    const entered = this.#classes.get(to.name);
    if (entered === undefined) this.#classes.set(to.name, { entry: to, users: 1 });
    else entered.users++;
  }

  #routes({ settings }: GatewayInput): Encoded[] {
    const self = settings.self.name;
    return [
      egressRoutes(self, [...this.#outward.values()].flat()),
      ...localRoutes(self, [...this.#inward.values()].flat()),
    ];
  }

  #replace(
    owner: string,
    now: readonly Encoded[],
    changed: Encoded[],
    removed: GatewayDelta['removed'][number][],
  ): void {
    const ids = new Set(now.map(idOf));
    for (const old of this.#owned.get(owner) ?? []) {
      if (ids.has(idOf(old))) continue;
      this.#current.delete(idOf(old));
      removed.push({ typeUrl: old.typeUrl, name: old.name });
    }
    for (const resource of now) {
      const known = this.#current.get(idOf(resource));
      if (known !== undefined && Buffer.compare(known.bytes, resource.bytes) === 0) continue;
      this.#current.set(idOf(resource), resource);
      changed.push(resource);
    }
    if (now.length > 0) this.#owned.set(owner, now);
    else this.#owned.delete(owner);
  }
}

const replaceHosts = (
  hosts: Map<ServiceKey, readonly EncodedHost[]>,
  key: ServiceKey,
  now: readonly EncodedHost[],
): boolean => {
  const before = hosts.get(key) ?? [];
  const same = before.length === now.length && before.every((h, i) => Buffer.compare(h.bytes, now[i]!.bytes) === 0);
  if (same) return false;
  if (now.length > 0) hosts.set(key, now);
  else hosts.delete(key);
  return true;
};
