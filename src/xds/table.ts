/**
 * All resources that one role of proxies may get, by type and name, with a log of what changed.
 *
 * One mutator, `apply`. Each change that really changes something gets a revision, and the log remembers for each
 * changed name the version it had before. So a stream that knows "my client had the table as it was at revision 17"
 * needs no copy of it: what to send is what the log says since then, in O(changes), and a resource that went from A to B
 * and back to A is not sent at all. A map of sent versions per stream was passed over: a thousand proxies times ten
 * thousand resources is a gigabyte to remember what the table knows anyway.
 */
import { limits } from '../core/limits.ts';
import type { Resource } from './resource.ts';

export interface TableChanges {
  readonly upserts?: Iterable<Resource>;
  readonly removes?: Iterable<{ readonly typeUrl: string; readonly name: string }>;
}

export interface Applied {
  readonly revision: number;
  readonly upserted: number;
  readonly removed: number;
  /** Upserts whose version was the one already there. */
  readonly suppressed: number;
}

export interface Change {
  readonly name: string;
  /** Version at the start of the delta; undefined when the resource did not exist. */
  readonly before: string | undefined;
  readonly now: Resource | undefined;
}

/** What differs between an earlier revision and the present. `id` is equal for equal starting points. */
export interface Delta {
  readonly id: string;
  readonly removed: readonly Change[];
  readonly upserted: readonly Change[];
}

interface LogEntry {
  readonly revision: number;
  readonly name: string;
  readonly before: string | undefined;
}

const digestMask = (1n << 64n) - 1n;

class TypeTable {
  readonly resources = new Map<string, Resource>();
  log: LogEntry[] = [];
  /** How many entries were cut off the front of the log. */
  logStart = 0;
  /** Revision of the newest entry that was cut off. */
  lostThrough = 0;
  changedAt = 0;
  bytes = 0;
  digest = 0n;
  digestText: string | undefined;
  readonly deltas = new Map<number, Delta>();
  whole: Delta | undefined;
}

export interface TypeCounts {
  readonly typeUrl: string;
  readonly resources: number;
  readonly bytes: number;
  readonly digest: string;
  readonly changedAt: number;
}

export class ResourceTable {
  readonly #types = new Map<string, TypeTable>();
  #revision = 0;

  constructor(typeUrls: readonly string[]) {
    for (const typeUrl of typeUrls) this.#types.set(typeUrl, new TypeTable());
  }

  get revision(): number {
    return this.#revision;
  }
  get typeUrls(): readonly string[] {
    return [...this.#types.keys()];
  }

  holds(typeUrl: string): boolean {
    return this.#types.has(typeUrl);
  }

  /** Applies a batch as one revision. Removals come first, so a name that is in both ends up present. */
  apply(changes: TableChanges): Applied {
    const revision = this.#revision + 1;
    let upserted = 0;
    let removed = 0;
    let suppressed = 0;
    for (const { typeUrl, name } of changes.removes ?? []) {
      if (this.#put(this.#type(typeUrl), revision, name, undefined)) removed++;
    }
    for (const resource of changes.upserts ?? []) {
      if (this.#put(this.#type(resource.typeUrl), revision, resource.name, resource)) upserted++;
      else suppressed++;
    }
    if (upserted + removed > 0) this.#revision = revision;
    return { revision: this.#revision, upserted, removed, suppressed };
  }

  /** Makes the table equal to `resources`, for the types given (all of them by default), as one revision. */
  replace(resources: Iterable<Resource>, typeUrls: readonly string[] = this.typeUrls): Applied {
    const upserts: Resource[] = [];
    const kept = new Map<string, Set<string>>(typeUrls.map((typeUrl) => [typeUrl, new Set<string>()]));
    for (const resource of resources) {
      const names = kept.get(resource.typeUrl);
      if (names === undefined) throw new Error(`xds: ${resource.typeUrl} is not among the types replaced`);
      names.add(resource.name);
      upserts.push(resource);
    }
    const removes: { typeUrl: string; name: string }[] = [];
    for (const [typeUrl, names] of kept) {
      for (const name of this.#type(typeUrl).resources.keys()) {
        if (!names.has(name)) removes.push({ typeUrl, name });
      }
    }
    return this.apply({ upserts, removes });
  }

  get(typeUrl: string, name: string): Resource | undefined {
    return this.#type(typeUrl).resources.get(name);
  }
  names(typeUrl: string): IterableIterator<string> {
    return this.#type(typeUrl).resources.keys();
  }
  /** Hash of everything of a type: equal on replicas that hold the same, whatever the order they got it in. */
  digest(typeUrl: string): string {
    const type = this.#type(typeUrl);
    type.digestText ??= type.digest.toString(16).padStart(16, '0');
    return type.digestText;
  }
  /** True when nothing of the type changed after `revision`. */
  unchanged(typeUrl: string, revision: number): boolean {
    return this.#type(typeUrl).changedAt <= revision;
  }

  /** What changed since a revision; undefined when the log no longer reaches back that far. Shared by all who ask. */
  since(typeUrl: string, revision: number): Delta | undefined {
    const type = this.#type(typeUrl);
    if (revision < type.lostThrough) return undefined;
    const from = firstAfter(type.log, revision);
    const key = type.logStart + from;
    const known = type.deltas.get(key);
    if (known !== undefined) return known;
    const before = new Map<string, string | undefined>();
    for (let i = from; i < type.log.length; i++) {
      const entry = type.log[i]!;
      if (!before.has(entry.name)) before.set(entry.name, entry.before);
    }
    const delta = makeDelta(`${key.toString(36)}-${this.#revision.toString(36)}`, before, type.resources);
    type.deltas.set(key, delta);
    return delta;
  }

  /** Everything, for a client that holds nothing. Shared by all who ask. */
  whole(typeUrl: string): Delta {
    const type = this.#type(typeUrl);
    type.whole ??= {
      id: `all-${this.#revision.toString(36)}`,
      removed: [],
      upserted: Array.from(type.resources.values(), (now) => ({ name: now.name, before: undefined, now })),
    };
    return type.whole;
  }

  counts(): readonly TypeCounts[] {
    return Array.from(this.#types, ([typeUrl, type]) => ({
      typeUrl,
      resources: type.resources.size,
      bytes: type.bytes,
      digest: this.digest(typeUrl),
      changedAt: type.changedAt,
    }));
  }

  #type(typeUrl: string): TypeTable {
    const type = this.#types.get(typeUrl);
    if (type === undefined) throw new Error(`xds: this table does not hold ${typeUrl}`);
    return type;
  }

  #put(type: TypeTable, revision: number, name: string, next: Resource | undefined): boolean {
    const previous = type.resources.get(name);
    if (previous?.version === next?.version) return false;
    if (previous !== undefined) {
      type.bytes -= previous.frame.length;
      type.digest = (type.digest - BigInt(`0x${previous.version}`)) & digestMask;
    }
    if (next === undefined) type.resources.delete(name);
    else {
      type.resources.set(name, next);
      type.bytes += next.frame.length;
      type.digest = (type.digest + BigInt(`0x${next.version}`)) & digestMask;
    }
    type.digestText = undefined;
    type.changedAt = revision;
    type.deltas.clear();
    type.whole = undefined;
    type.log.push({ revision, name, before: previous?.version });
    if (type.log.length > Math.max(limits.changeLogEntriesMax, 4 * type.resources.size)) trim(type);
    return true;
  }
}

/** Index of the first entry after a revision; the log is in order of revisions. */
const firstAfter = (log: readonly LogEntry[], revision: number): number => {
  let low = 0;
  let high = log.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (log[middle]!.revision <= revision) low = middle + 1;
    else high = middle;
  }
  return low;
};

/** Cuts the older half off, whole revisions only. */
const trim = (type: TypeTable): void => {
  const cut = firstAfter(type.log, type.log[type.log.length >>> 1]!.revision);
  type.lostThrough = type.log[cut - 1]!.revision;
  type.log = type.log.slice(cut);
  type.logStart += cut;
};

const makeDelta = (
  id: string,
  before: ReadonlyMap<string, string | undefined>,
  resources: ReadonlyMap<string, Resource>,
): Delta => {
  const removed: Change[] = [];
  const upserted: Change[] = [];
  for (const [name, version] of before) {
    const now = resources.get(name);
    if (now?.version === version) continue;
    (now === undefined ? removed : upserted).push({ name, before: version, now });
  }
  return { id, removed, upserted };
};
