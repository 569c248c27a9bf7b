/**
 * The objects of one kind as last seen, and who is told when they differ. Kept apart from the informer's loop so that the
 * loop is about continuity alone. A handler that throws costs its own call, never the loop.
 */
import type { Log } from './api.ts';
import { type Json, record, text } from './json.ts';
import { same } from './objects.ts';

export interface CacheOptions<T> {
  readonly kind: string;
  readonly log: Log;
  /** Keeps what is needed of an object. Undefined leaves it out; throwing keeps what was known, with a warning. */
  project(object: Json): T | undefined;
  onChange(key: string, value: T | undefined, previous: T | undefined): void;
}

export interface ObjectCache<T> {
  readonly items: ReadonlyMap<string, T>;
  /** Whether any object of the selection is known, also of those that `project` leaves out. */
  readonly empty: boolean;
  /** Takes an object in and returns its key; undefined when it has none. */
  put(object: Json): string | undefined;
  remove(object: Json): void;
  /** Drops all that a complete list does not contain. */
  keepOnly(present: ReadonlySet<string>): void;
}

/** `namespace/name`, or the name alone for kinds without a namespace. */
const keyOf = (object: Json): string => {
  const metadata = record(object, 'metadata');
  const namespace = text(metadata, 'namespace');
  return namespace === '' ? text(metadata, 'name') : `${namespace}/${text(metadata, 'name')}`;
};

export const createObjectCache = <T>(options: CacheOptions<T>): ObjectCache<T> => {
  const { kind, log } = options;
  const items = new Map<string, T>();
  const known = new Set<string>();

  const tell = (key: string, value: T | undefined, previous: T | undefined): void => {
    try {
      options.onChange(key, value, previous);
    } catch (error) {
      log('error', 'a handler of Kubernetes changes failed', { kind, object: key, error });
    }
  };

  const drop = (key: string): void => {
    known.delete(key);
    const previous = items.get(key);
    if (items.delete(key)) tell(key, undefined, previous);
  };

  return {
    items,
    get empty() {
      return known.size === 0;
    },
    put: (object) => {
      const key = keyOf(object);
      if (key === '') return undefined;
      known.add(key);
      const previous = items.get(key);
      let value: T | undefined;
      try {
        value = options.project(object);
      } catch (error) {
        log('warn', 'a Kubernetes object was left as it was: it is malformed', { kind, object: key, error });
        return key;
      }
      // By content, not by resourceVersion: most versions mean nothing here, and a restored etcd gives old ones again.
      if (same(previous, value)) return key;
      if (value === undefined) items.delete(key);
      else items.set(key, value);
      tell(key, value, previous);
      return key;
    },
    remove: (object) => drop(keyOf(object)),
    keepOnly: (present) => {
      for (const key of [...known]) if (!present.has(key)) drop(key);
    },
  };
};
