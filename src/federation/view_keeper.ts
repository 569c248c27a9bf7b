/**
 * The merged view as a whole, kept up to date by keys: what was merged before stays, the very object, until its local service or one of
 * its records is another. Who decides by the view sees by identity what changed.
 *
 * Recomputing all on every change was passed over: at a hundred members and a thousand services one endpoint's change
 * would cost a hundred thousand merges.
 */
import type { ServiceKey } from '../core/names.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import { type Imports, isImported, namespaceOf } from './imports.ts';
import type { LocalCluster, LocalService } from './local.ts';
import { mergeService } from './merge.ts';
import type { MemberView, ServiceView, View } from './view.ts';

export interface ViewKeeperOptions {
  /** Our own member name. */
  readonly self: string;
  readonly clusterDomain: string;
  /** Default: `all`. */
  readonly imports?: Imports;
}

export interface ViewDirty {
  readonly services: Iterable<ServiceKey>;
  /** Members came or went, or their gateways changed: every service is looked at. */
  readonly members: boolean;
  /** Of which something else is imported than before. */
  readonly namespaces?: ReadonlySet<string>;
}

/** What a service was merged from. */
interface Sources {
  readonly local: LocalService | undefined;
  readonly remotes: ReadonlyMap<string, ServiceRecord>;
}

const same = (a: Sources, b: Sources): boolean => {
  if (a.local !== b.local || a.remotes.size !== b.remotes.size) return false;
  for (const [name, record] of a.remotes) if (b.remotes.get(name) !== record) return false;
  return true;
};

export class ViewKeeper {
  readonly #options: ViewKeeperOptions;
  readonly #services = new Map<ServiceKey, ServiceView>();
  readonly #notImported = new Map<ServiceKey, readonly string[]>();
  readonly #sources = new Map<ServiceKey, Sources>();
  #members: ReadonlyMap<string, MemberView> = new Map();

  constructor(options: ViewKeeperOptions) {
    this.#options = options;
  }

  /** Live: changes with the next `update`. */
  get view(): View {
    return {
      self: this.#options.self,
      members: this.#members,
      services: this.#services,
      notImported: this.#notImported,
    };
  }

  /** @returns the services that were looked at: with `members` all of them, for what is made of them names gateways too */
  update(local: LocalCluster, members: ReadonlyMap<string, MemberView>, dirty: ViewDirty): ReadonlySet<ServiceKey> {
    this.#members = members;
    const keys = new Set(dirty.services);
    const { namespaces } = dirty;
    const concerns = (key: ServiceKey): boolean => dirty.members || namespaces?.has(namespaceOf(key)) === true;
    if (dirty.members || (namespaces?.size ?? 0) > 0) {
      const known = [this.#services, this.#notImported, local.services, ...members.values().map((m) => m.services)];
      for (const of of known) for (const key of of.keys()) if (concerns(key)) keys.add(key);
    }
    for (const key of keys) this.#one(key, local, members);
    return keys;
  }

  #one(key: ServiceKey, local: LocalCluster, members: ReadonlyMap<string, MemberView>): void {
    const { self } = this.#options;
    const remotes = new Map<string, ServiceRecord>();
    for (const [name, view] of members) {
      const record = name === self ? undefined : view.services.get(key);
      if (record !== undefined) remotes.set(name, record);
    }
    if (remotes.size === 0 || isImported(key, local, this.#options.imports ?? 'all')) this.#notImported.delete(key);
    else {
      this.#notImported.set(key, [...remotes.keys()].sort());
      remotes.clear();
    }
    const sources = { local: local.services.get(key), remotes };
    const before = this.#sources.get(key);
    if (before !== undefined && same(before, sources)) return;
    const service = mergeService(key, sources.local, remotes, this.#options);
    if (service === undefined) {
      this.#services.delete(key);
      this.#sources.delete(key);
    } else {
      this.#services.set(key, service);
      this.#sources.set(key, sources);
    }
  }
}
