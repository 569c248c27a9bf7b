/**
 * The gateways' resources as a whole, kept up to date by keys.
 *
 * Said is what may have changed; only that is computed again, and only resources whose bytes differ come out. Classes are counted
 * by the services in them: the cluster of a class that nobody uses any more is removed, in the same delta in which the
 * routes leave it.
 *
 * A route moves to a new class only when the class's cluster has had time to become warm. Until its first health checks
 * are over, and that of a dead member takes the whole timeout, Envoy answers 503 for the cluster (measured: every new
 * connection for 0.45 s, just when a member has died). Meanwhile the old class serves, and looks after itself. Envoy does
 * not say when a cluster is warm, so this waits; time is an argument, and the delta says when to come back.
 */
import type { ServiceKey } from '../../core/names.ts';
import type { ServiceClass } from '../../failover/classes.ts';
import { type EgressRules, noEgressRules } from '../../trust/egress_rules.ts';
import { envoysPerGateway, Grants, sharers } from './border.ts';
import { answeringFor } from './egress_members.ts';
import type { Encoded, GatewayTypeUrl } from './encoded.ts';
import { headHost, headRoutes } from './head.ts';
import type { GatewayInput } from './input.ts';
import {
  classResources,
  classTimers,
  egressResources,
  gatewayClasses,
  grantResources,
  isExported,
  isForSome,
  localResources,
  localShape,
  memberResources,
} from './resources.ts';
import { type EncodedHost, egressHosts, egressRoutes, localHosts, localRoutes } from './routes.ts';
import { tunnelAgeOf } from './tunnel_age.ts';

export interface GatewayDirty {
  /** Services whose local object, view or plan changed. */
  readonly services: ReadonlySet<ServiceKey>;
  /** `namespace/name` of local pods. */
  readonly pods: ReadonlySet<string>;
  /** A membership, a member's gateways or our round trips changed, or a certificate. */
  readonly members: boolean;
}

export interface GatewayDelta {
  /** Routes wait for new classes: call `update` again then, with nothing dirty. */
  readonly wakeAtMs: number | undefined;
  readonly changed: readonly Encoded[];
  readonly removed: readonly { readonly typeUrl: GatewayTypeUrl; readonly name: string }[];
}

const idOf = (r: { readonly typeUrl: string; readonly name: string }): string => `${r.typeUrl} ${r.name}`;

interface KnownClass {
  readonly entry: ServiceClass;
  /** Services routed to it, and those that want to be. */
  readonly users: Set<ServiceKey>;
  readonly warmAtMs: number;
}

/** By `slotOf` the port. */
type ClassNames = ReadonlyMap<string, string>;
const noNames: ClassNames = new Map();

/** After the health checks' timeout: for the resources to arrive, and for a slow machine. */
const warmMarginMs = 300;

export class GatewayTranslation {
  readonly #current = new Map<string, Encoded>();
  /** Owner (a service, a class, `members`, `routes`) → ids of its resources. */
  readonly #owned = new Map<string, readonly Encoded[]>();
  /** From what a service's hosts and clusters were made: pods that come and go change none of them. */
  readonly #madeFrom = new Map<ServiceKey, { readonly outward: string; readonly inward: string }>();
  readonly #outward = new Map<ServiceKey, readonly EncodedHost[]>();
  readonly #inward = new Map<ServiceKey, readonly EncodedHost[]>();
  /** Of services that are for some members alone. */
  readonly #forSome = new Set<ServiceKey>();
  /** To which class each service's routes lead, port by port, and to which they should. */
  readonly #routed = new Map<ServiceKey, ClassNames>();
  readonly #wanted = new Map<ServiceKey, ClassNames>();
  readonly #classes = new Map<string, KnownClass>();
  /** Services whose class is not warm yet. */
  readonly #moving = new Set<ServiceKey>();
  readonly #servicesOf = new Map<string, Set<ServiceKey>>();
  readonly #podsOf = new Map<ServiceKey, readonly string[]>();
  readonly #grants = new Grants();
  #members: ReadonlySet<string> = new Set();
  /** In the route of the head. */
  #told: Pick<GatewayInput, 'head' | 'revocations'> | undefined;
  #egress: { readonly rules: EgressRules | undefined; readonly envoys: number } | undefined;

  /** Computes everything again, whatever changed. */
  rebuild(input: GatewayInput, nowMs?: number): GatewayDelta {
    const services = new Set([...input.services.keys(), ...this.#wanted.keys(), ...this.#inward.keys()]);
    return this.update(input, { services, pods: new Set(), members: true }, nowMs);
  }

  /** @param nowMs - monotonic; without it routes move at once, as they do in the first update. */
  update(input: GatewayInput, dirty: GatewayDirty, nowMs = Number.POSITIVE_INFINITY): GatewayDelta {
    const changed: Encoded[] = [];
    const removed: { typeUrl: GatewayTypeUrl; name: string }[] = [];
    const first = this.#owned.get('routes') === undefined;
    const now = first ? Number.POSITIVE_INFINITY : nowMs;
    const bornMs = Number.isFinite(nowMs) ? nowMs : Number.NEGATIVE_INFINITY;
    const services = new Set([...dirty.services, ...this.#moving, ...this.#answeredAnew(input)]);
    for (const pod of dirty.pods) for (const key of this.#servicesOf.get(pod) ?? []) services.add(key);
    const before = new Set(this.#classes.keys());
    let routes = first;
    for (const key of services) if (this.#service(key, input, bornMs, now, changed, removed)) routes = true;
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
    const told = this.#told;
    if (told === undefined || told.head !== input.head || told.revocations !== input.revocations) {
      this.#told = { head: input.head, revocations: input.revocations };
      this.#replace('head', [headRoutes(input)], changed, removed);
    }
    this.#egressRules(input, changed, removed);
    this.#replace('grants', grantResources(input, this.#grants), changed, removed);
    for (const [name, { users }] of [...this.#classes]) {
      if (users.size > 0) continue;
      this.#classes.delete(name);
      this.#replace(`class ${name}`, [], changed, removed);
    }
    return { changed, removed, wakeAtMs: this.#wakeAtMs() };
  }

  /** Services whose callers may be answered by others than before. */
  #answeredAnew({ egress, services }: GatewayInput): Iterable<ServiceKey> {
    const before = this.#egress?.rules;
    if (before === egress || this.#egress === undefined) return [];
    const named = (rules: EgressRules | undefined): boolean =>
      (rules?.allow ?? []).some(({ members }) => members !== undefined);
    return named(before) || named(egress) ? services.keys() : [];
  }

  /** Rules may be thousands: they are encoded again only when they, or those who share the limits, are others. */
  #egressRules(input: GatewayInput, changed: Encoded[], removed: GatewayDelta['removed'][number][]): void {
    const { settings, members, egress } = input;
    const envoys = sharers(members.get(settings.self.name), settings.envoysPerGateway ?? envoysPerGateway);
    const before = this.#egress;
    if (before !== undefined && before.rules === egress && before.envoys === envoys) return;
    this.#egress = { rules: egress, envoys };
    this.#replace('egress', egressResources(input), changed, removed);
  }

  #wakeAtMs(): number | undefined {
    let wakeAtMs: number | undefined;
    for (const key of this.#moving) {
      const routed = this.#routed.get(key);
      for (const [slot, name] of this.#wanted.get(key) ?? noNames) {
        if (routed?.get(slot) === name) continue;
        const { warmAtMs } = this.#classes.get(name)!;
        if (wakeAtMs === undefined || warmAtMs < wakeAtMs) wakeAtMs = warmAtMs;
      }
    }
    return wakeAtMs;
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
    bornMs: number,
    nowMs: number,
    changed: Encoded[],
    removed: GatewayDelta['removed'][number][],
  ): boolean {
    const service = input.services.get(key);
    const plan = input.plan.services.get(key);
    const ageMs = tunnelAgeOf(plan);
    this.#notePods(
      key,
      input.local.services.get(key)?.endpoints.flatMap((e) => (e.pod === undefined ? [] : [e.pod])) ?? [],
    );
    const answering =
      service === undefined ? [] : answeringFor(input.egress ?? noEgressRules, service.namespace, service.name);
    const wanted = new Map<string, string>();
    for (const [slot, entry] of service === undefined ? [] : gatewayClasses(service, plan, answering)) {
      this.#know(entry, input, bornMs);
      wanted.set(slot, entry.name);
    }
    const routed = this.#move(key, wanted, nowMs);
    const before = this.#madeFrom.get(key);
    const made = {
      outward:
        service === undefined
          ? ''
          : `${service.hostname} ${ageMs ?? ''} ${[...routed].join(' ')}${answering.length === 0 ? '' : JSON.stringify(answering)}`,
      inward: service === undefined || !isExported(service) ? '' : localShape(service),
    };
    if (service === undefined) this.#madeFrom.delete(key);
    else this.#madeFrom.set(key, made);
    const known = before?.inward === made.inward ? this.#owned.get(key) : undefined;
    this.#replace(key, service === undefined ? [] : localResources(service, input, known), changed, removed);
    let hostsChanged = false;
    if (before?.outward !== made.outward) {
      hostsChanged = replaceHosts(
        this.#outward,
        key,
        service === undefined ? [] : egressHosts(service, routed, ageMs, answering),
      );
    }
    if (before?.inward !== made.inward) {
      const hosts = made.inward === '' || service === undefined ? [] : localHosts(service);
      if (service !== undefined && isForSome(service)) this.#forSome.add(key);
      else this.#forSome.delete(key);
      if (replaceHosts(this.#inward, key, hosts)) hostsChanged = true;
    }
    return hostsChanged;
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

  #know(entry: ServiceClass, { roundTrips }: GatewayInput, bornMs: number): void {
    if (this.#classes.has(entry.name)) return;
    const warmMs = classTimers(entry, roundTrips).healthTimeoutMs + warmMarginMs;
    this.#classes.set(entry.name, { entry, users: new Set(), warmAtMs: bornMs + warmMs });
  }

  /** Takes note of the classes that the service's ports should use; those that its routes use now. */
  #move(key: ServiceKey, to: ClassNames, nowMs: number): ClassNames {
    const from = this.#routed.get(key) ?? noNames;
    const next = new Map<string, string>();
    let waits = false;
    for (const [slot, name] of to) {
      const before = from.get(slot);
      // Without a class so far there is nothing to wait with: the first calls are better refused for milliseconds.
      const stays = before !== undefined && before !== name && this.#classes.get(name)!.warmAtMs > nowMs;
      next.set(slot, stays ? before : name);
      waits ||= stays;
    }
    for (const names of [from, this.#wanted.get(key) ?? noNames])
      for (const name of names.values()) this.#classes.get(name)?.users.delete(key);
    for (const names of [next, to]) for (const name of names.values()) this.#classes.get(name)?.users.add(key);
    note(this.#wanted, key, to);
    note(this.#routed, key, next);
    if (waits) this.#moving.add(key);
    else this.#moving.delete(key);
    return next;
  }

  #routes({ settings }: GatewayInput): Encoded[] {
    const self = settings.self.name;
    const forAll: EncodedHost[] = [];
    const atBorder = [headHost()];
    for (const [key, hosts] of this.#inward) (this.#forSome.has(key) ? atBorder : forAll).push(...hosts);
    return [egressRoutes(self, [...this.#outward.values()].flat()), ...localRoutes(self, forAll, atBorder)];
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
      if (known === resource || (known !== undefined && Buffer.compare(known.bytes, resource.bytes) === 0)) continue;
      this.#current.set(idOf(resource), resource);
      changed.push(resource);
    }
    if (now.length > 0) this.#owned.set(owner, now);
    else this.#owned.delete(owner);
  }
}

const note = (of: Map<ServiceKey, ClassNames>, key: ServiceKey, names: ClassNames): void => {
  if (names.size > 0) of.set(key, names);
  else of.delete(key);
};

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
