/**
 * One kind of object, kept as the API server has it: list, then watch, for ever.
 *
 * It only ever learns from answers. While the API server is dark, or a list fails halfway, it keeps what it knows and lets
 * its staleness grow; objects go only by a DELETED event or by being absent from a complete list. When continuity is lost
 * (410, a malformed line) it lists again and reports the difference, so a reader never sees a storm.
 *
 * client-node's informer was passed over: any error other than 410 ends it, it does not follow `continue`, asks for no
 * bookmarks and so ages into 410, and a throwing handler ends the process.
 */
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { KubeApi, KubeStream, Log } from './api.ts';
import { statusOf } from './api.ts';
import { isRecord, type Json, record, text } from './json.ts';

export interface InformerOptions<T> {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  /** For logs and `pending`. */
  readonly kind: string;
  /** Collection paths, the preferred API version first. All answering 404 means: the kind does not exist here (yet). */
  readonly paths: readonly string[];
  /** labelSelector and fieldSelector. */
  readonly query?: Readonly<Record<string, string>>;
  /** Keeps what is needed of an object. Undefined leaves it out; throwing too, with a warning. */
  project(object: Json): T | undefined;
  /** An object came, changed (`value`) or went (undefined). Errors thrown here are logged and change nothing. */
  onChange(key: string, value: T | undefined, previous: T | undefined): void;
  /** After the first complete list, or once it is certain that the kind does not exist. */
  onSynced?(): void;
  onProblem?(error: IsthmusError): void;
}

export interface Informer<T> {
  readonly items: ReadonlyMap<string, T>;
  readonly synced: boolean;
  /** A watch is open. */
  readonly connected: boolean;
  /** Since the API server was last heard about this kind. Up to about a minute is normal: bookmarks are that far apart. */
  staleMs(): number;
  close(): void;
}

type WatchEnd = 'ended' | 'expired' | 'broken';

/** `namespace/name`, or the name alone for kinds without a namespace. */
const keyOf = (metadata: Json): string => {
  const namespace = text(metadata, 'namespace');
  return namespace === '' ? text(metadata, 'name') : `${namespace}/${text(metadata, 'name')}`;
};

export const startInformer = <T>(options: InformerOptions<T>): Informer<T> => {
  const { api, clock, rng, log, kind } = options;
  const items = new Map<string, T>();
  /** Versions of all objects of the selection, also of those that `project` leaves out. */
  const versions = new Map<string, string>();
  let synced = false;
  let connected = false;
  let closed = false;
  let heardAt = clock.monotonicMs();
  let listedAt = 0;
  let path: string | undefined;
  let resourceVersion: string | undefined;
  let absences = 0;
  let failures = 0;
  let told = '';
  let stream: KubeStream | undefined;
  let wake: (() => void) | undefined;
  let sleeping: Timer | undefined;

  const heard = () => {
    heardAt = clock.monotonicMs();
  };
  const jitter = (ms: number): number => ms * (0.8 + rng() * 0.4);
  const sleep = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
      sleeping = clock.after(ms, resolve);
    });

  const tell = (key: string, value: T | undefined, previous: T | undefined): void => {
    try {
      options.onChange(key, value, previous);
    } catch (error) {
      log('error', 'a handler of Kubernetes changes failed', { kind, object: key, error });
    }
  };

  const put = (object: Json): string | undefined => {
    const metadata = record(object, 'metadata');
    const key = keyOf(metadata);
    if (key === '') return undefined;
    const version = text(metadata, 'resourceVersion');
    if (versions.get(key) === version && version !== '') return key;
    versions.set(key, version);
    let value: T | undefined;
    try {
      value = options.project(object);
    } catch (error) {
      log('warn', 'a Kubernetes object was left as it was: it is malformed', { kind, object: key, error });
      return key;
    }
    const previous = items.get(key);
    if (value === undefined) {
      if (items.delete(key)) tell(key, undefined, previous);
    } else {
      items.set(key, value);
      tell(key, value, previous);
    }
    return key;
  };

  const remove = (key: string): void => {
    versions.delete(key);
    const previous = items.get(key);
    if (items.delete(key)) tell(key, undefined, previous);
  };

  const markSynced = (): void => {
    if (synced) return;
    synced = true;
    options.onSynced?.();
  };

  /** All pages of one path, or an error: half a list is no list. */
  const listPath = async (from: string): Promise<{ objects: Json[]; version: string }> => {
    const objects: Json[] = [];
    let next = '';
    for (;;) {
      const query = {
        ...options.query,
        limit: String(limits.kubePageSize),
        ...(next === '' ? {} : { continue: next }),
      };
      const page = await api.request({ method: 'GET', path: from, query });
      const metadata = isRecord(page) ? record(page, 'metadata') : {};
      const version = text(metadata, 'resourceVersion');
      if (!isRecord(page) || !Array.isArray(page.items) || version === '') {
        throw new IsthmusError('kube/unavailable', `the list of ${kind} is not a list`, {
          subject: { server: api.server, kind },
        });
      }
      for (const item of page.items) if (isRecord(item)) objects.push(item);
      next = text(metadata, 'continue');
      if (next === '') return { objects, version };
    }
  };

  /** False: no version of the kind exists. */
  const relist = async (): Promise<boolean> => {
    const order = path === undefined ? options.paths : [path, ...options.paths.filter((other) => other !== path)];
    for (const candidate of order) {
      try {
        const { objects, version } = await listPath(candidate);
        if (closed) return true;
        const present = new Set<string>();
        for (const object of objects) {
          const key = put(object);
          if (key !== undefined) present.add(key);
        }
        for (const key of [...versions.keys()]) if (!present.has(key)) remove(key);
        path = candidate;
        resourceVersion = version;
        listedAt = clock.monotonicMs();
        return true;
      } catch (error) {
        if (statusOf(error) !== 404) throw error;
      }
    }
    return false;
  };

  const onLine = (line: string): WatchEnd | undefined => {
    let event: unknown;
    try {
      event = JSON.parse(line);
    } catch (error) {
      log('warn', 'a watch sent malformed JSON; listing again', { kind, bytes: line.length, error });
      return 'expired';
    }
    const object = isRecord(event) ? record(event, 'object') : {};
    const metadata = record(object, 'metadata');
    const version = text(metadata, 'resourceVersion');
    switch (isRecord(event) ? event.type : undefined) {
      case 'ADDED':
      case 'MODIFIED':
        put(object);
        break;
      case 'DELETED':
        remove(keyOf(metadata));
        break;
      case 'BOOKMARK':
        break;
      case 'ERROR': {
        if (object.code === 410) return 'expired';
        log('warn', 'a watch reported an error', {
          kind,
          reason: text(object, 'reason'),
          error: text(object, 'message'),
        });
        return 'broken';
      }
      default:
        log('warn', 'a watch sent an unknown event; listing again', { kind });
        return 'expired';
    }
    if (version !== '') resourceVersion = version;
    return undefined;
  };

  const watch = (from: string): Promise<WatchEnd> =>
    new Promise((resolve) => {
      let silence: Timer | undefined;
      const startedAt = clock.monotonicMs();
      const finish = (end: WatchEnd, error?: IsthmusError): void => {
        silence?.cancel();
        stream?.close();
        stream = undefined;
        const lived = connected && clock.monotonicMs() - startedAt > 1_000;
        connected = false;
        if (lived) failures = 0;
        if (error !== undefined) log(lived ? 'info' : 'debug', 'a watch was lost', { kind, error });
        if (error?.code === 'kube/denied' || error?.code === 'kube/config') options.onProblem?.(error);
        resolve(end);
      };
      let checkAt = 0;
      const rearm = (): void => {
        checkAt = clock.monotonicMs() + limits.kubeWatchSilenceMaxMs;
        silence ??= clock.after(limits.kubeWatchSilenceMaxMs, expire);
      };
      const expire = (): void => {
        silence = undefined;
        const left = checkAt - clock.monotonicMs();
        if (left > 0) silence = clock.after(left, expire);
        else finish('broken', new IsthmusError('kube/unavailable', `the watch of ${kind} fell silent`));
      };
      wake = () => finish('ended');
      stream = api.stream(
        from,
        {
          ...options.query,
          watch: 'true',
          allowWatchBookmarks: 'true',
          timeoutSeconds: String(Math.round(jitter(limits.kubeWatchTimeoutS))),
          resourceVersion: resourceVersion ?? '',
        },
        {
          open: () => {
            connected = true;
            heard();
            rearm();
          },
          bytes: () => {
            heard();
            rearm();
          },
          line: (line) => {
            const end = onLine(line);
            if (end !== undefined) finish(end);
          },
          end: (error) => {
            if (error === undefined) finish('ended');
            else finish(statusOf(error) === 410 || statusOf(error) === 404 ? 'expired' : 'broken', error);
          },
        },
      );
    });

  /** One round of the loop. Returns how long to wait before the next one. */
  const round = async (): Promise<number> => {
    if (resourceVersion === undefined) {
      if (!(await relist())) return absent();
      if (closed) return 0;
      absences = 0;
      heard();
      told = '';
      log('debug', 'listed', { kind, objects: items.size });
      markSynced();
    } else if (clock.monotonicMs() - listedAt > limits.kubeResyncMs) {
      await resync();
    }
    if (path === undefined) return 0;
    const end = await watch(path);
    if (end === 'expired') resourceVersion = undefined;
    failures++;
    return failures === 1 ? 0 : backoff();
  };

  /** The periodic check that no event was lost. If it fails, the watch goes on from where it was. */
  const resync = async (): Promise<void> => {
    listedAt = clock.monotonicMs();
    try {
      if (!(await relist())) resourceVersion = undefined;
      heard();
    } catch (error) {
      report(error);
    }
  };

  /** Once per cause: a dark API server would otherwise fill the log, kind by kind. */
  const report = (error: unknown): void => {
    const known = error instanceof IsthmusError ? error : undefined;
    const cause = `${known?.code} ${statusOf(error)}`;
    log(known === undefined ? 'error' : cause === told ? 'debug' : 'warn', 'a list failed; what is known is kept', {
      kind,
      error,
    });
    told = cause;
    if (known && !closed) options.onProblem?.(known);
  };

  const backoff = (): number => {
    const most = Math.min(limits.kubeBackoffMaxMs, limits.kubeBackoffMinMs * 2 ** Math.min(failures, 10));
    return most * (0.5 + rng() / 2);
  };

  /** A server that starts may answer 404 for a moment, so what we know goes only when the answer repeats itself. */
  const absent = (): number => {
    heard();
    absences++;
    failures = 0;
    if (versions.size > 0 && absences < 3) return 1_000;
    for (const key of [...versions.keys()]) remove(key);
    path = undefined;
    markSynced();
    return jitter(limits.kubeAbsentPollMs);
  };

  const run = async (): Promise<void> => {
    while (!closed) {
      let waitMs: number;
      try {
        waitMs = await round();
      } catch (error) {
        failures++;
        resourceVersion = undefined;
        waitMs = backoff();
        report(error);
      }
      if (!closed && waitMs > 0) await sleep(waitMs);
    }
  };
  run().catch((error) => log('error', 'an informer ended', { kind, error }));

  return {
    items,
    get synced() {
      return synced;
    },
    get connected() {
      return connected;
    },
    staleMs: () => clock.monotonicMs() - heardAt,
    close: () => {
      closed = true;
      sleeping?.cancel();
      stream?.close();
      wake?.();
    },
  };
};
