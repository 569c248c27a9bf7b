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
import type { KubeApi, Log } from './api.ts';
import { statusOf } from './api_errors.ts';
import { isRecord, type Json, record, text } from './json.ts';
import { createObjectCache, type ObjectCache } from './object_cache.ts';
import { openWatch, type Watch } from './watch.ts';

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
  /** Keeps what is needed of an object. Undefined leaves it out; throwing keeps what was known, with a warning. */
  project(object: Json): T | undefined;
  /** An object came, changed (`value`) or went (undefined). Errors thrown here are logged and change nothing. */
  onChange(key: string, value: T | undefined, previous: T | undefined): void;
  /** After the first complete list, or once it is certain that the kind does not exist. */
  onSynced?(): void;
  /** What is not allowed to be read is gone without, and asked for again and again. */
  readonly dispensable?: boolean;
  onProblem?(error: IsthmusError): void;
}

export interface Informer<T> {
  readonly items: ReadonlyMap<string, T>;
  /** Also when it is gone without: see `denied`. */
  readonly synced: boolean;
  /** Why it is gone without, though it is dispensable. */
  readonly denied: IsthmusError | undefined;
  /** A watch is open. */
  readonly connected: boolean;
  /**
   * Since the API server was last heard about this kind. Up to `limits.kubeWatchSilenceMaxMs` is normal: bookmarks are a
   * minute apart, and a kind that never changes gets none, only a new watch after that time.
   */
  staleMs(): number;
  close(): void;
}

/** One page of a list. */
const readPage = async (
  options: Pick<InformerOptions<unknown>, 'api' | 'kind' | 'query'>,
  path: string,
  next: string,
): Promise<{ objects: readonly Json[]; version: string; next: string }> => {
  const { api, kind } = options;
  const query = { ...options.query, limit: String(limits.kubePageSize), ...(next === '' ? {} : { continue: next }) };
  const page = await api.request({ method: 'GET', path, query });
  const metadata = isRecord(page) ? record(page, 'metadata') : {};
  const version = text(metadata, 'resourceVersion');
  if (!isRecord(page) || !Array.isArray(page['items']) || version === '') {
    throw new IsthmusError('kube/unavailable', `the list of ${kind} is not a list`, {
      subject: { server: api.server, kind },
    });
  }
  return { objects: page['items'].filter(isRecord), version, next: text(metadata, 'continue') };
};

const denialsMin = 3;

class Supervisor<T> implements Informer<T> {
  readonly #options: InformerOptions<T>;
  readonly #cache: ObjectCache<T>;
  #synced = false;
  #closed = false;
  #heardAt: number;
  #listedAt = 0;
  #path: string | undefined;
  /** Where to watch from; undefined: continuity is lost, list first. */
  #version: string | undefined;
  /** How often in a row every path answered 404. */
  #absences = 0;
  /** How often in a row we were not allowed to read it, and what was said. */
  #denials = 0;
  #denied: IsthmusError | undefined;
  /** Lists and watches in a row that came to nothing. */
  #failures = 0;
  #told = '';
  #watch: Watch | undefined;
  #sleep: { readonly timer: Timer; readonly wake: () => void } | undefined;

  constructor(options: InformerOptions<T>) {
    this.#options = options;
    this.#cache = createObjectCache(options);
    this.#heardAt = options.clock.monotonicMs();
  }

  get items(): ReadonlyMap<string, T> {
    return this.#cache.items;
  }
  get synced(): boolean {
    return this.#synced;
  }
  get denied(): IsthmusError | undefined {
    return this.#denied;
  }
  get connected(): boolean {
    return this.#watch?.connected ?? false;
  }
  staleMs(): number {
    return this.#options.clock.monotonicMs() - this.#heardAt;
  }
  close(): void {
    this.#closed = true;
    this.#watch?.close();
    this.#sleep?.timer.cancel();
    this.#sleep?.wake();
  }

  async run(): Promise<void> {
    while (!this.#closed) {
      let waitMs: number;
      try {
        waitMs = await this.#round();
      } catch (error) {
        this.#failures++;
        this.#version = undefined;
        waitMs = this.#backoff();
        this.#report(error);
      }
      if (!this.#closed && waitMs > 0) await this.#pause(waitMs);
    }
  }

  /** Lists if it must, and watches until that ends. Returns how long to wait before the next round. */
  async #round(): Promise<number> {
    if (this.#version === undefined) {
      if (!(await this.#list())) return this.#absent();
      this.#told = '';
      this.#denials = 0;
      this.#denied = undefined;
      this.#options.log('debug', 'listed', { kind: this.#options.kind, objects: this.items.size });
      this.#markSynced();
    } else if (this.#options.clock.monotonicMs() - this.#listedAt > limits.kubeResyncMs) {
      await this.#resync();
    }
    if (this.#closed || this.#path === undefined || this.#version === undefined) return 0;
    await this.#follow(this.#path, this.#version);
    this.#failures++;
    // A version that the server cannot serve (a restored etcd) may look like any failure.
    if (this.#failures >= 3) this.#version = undefined;
    return this.#failures === 1 ? 0 : this.#backoff();
  }

  /** False: no version of the kind exists. Objects go only after the last page: half a list takes nothing away. */
  async #list(): Promise<boolean> {
    const { paths } = this.#options;
    const last = this.#path;
    const order = last === undefined ? paths : [last, ...paths.filter((other) => other !== last)];
    for (const path of order) {
      try {
        const present = new Set<string>();
        let page = await readPage(this.#options, path, '');
        for (;;) {
          if (this.#closed) return true;
          for (const object of page.objects) {
            const key = this.#cache.put(object);
            if (key !== undefined) present.add(key);
          }
          if (page.next === '') break;
          page = await readPage(this.#options, path, page.next);
        }
        this.#cache.keepOnly(present);
        this.#path = path;
        this.#version = page.version;
        this.#listedAt = this.#heardAt = this.#options.clock.monotonicMs();
        this.#absences = 0;
        return true;
      } catch (error) {
        if (statusOf(error) !== 404) throw error;
      }
    }
    return false;
  }

  /** The periodic check that no event was lost. If it fails, the watch goes on from where it was. */
  async #resync(): Promise<void> {
    this.#listedAt = this.#options.clock.monotonicMs();
    try {
      if (!(await this.#list())) this.#version = undefined;
    } catch (error) {
      this.#report(error);
    }
  }

  async #follow(path: string, from: string): Promise<void> {
    const { api, clock, kind, log, query } = this.#options;
    const startedAt = clock.monotonicMs();
    this.#watch = openWatch({
      api,
      clock,
      path,
      from,
      query: { ...query, timeoutSeconds: String(Math.round(this.#jitter(limits.kubeWatchTimeoutS))) },
      heard: () => {
        this.#heardAt = clock.monotonicMs();
      },
      put: (object) => void this.#cache.put(object),
      remove: (object) => this.#cache.remove(object),
    });
    const end = await this.#watch.ended;
    const lived = this.#watch.connected && clock.monotonicMs() - startedAt > 1_000;
    this.#version = end.lost ? undefined : this.#watch.version;
    this.#watch = undefined;
    if (lived) this.#failures = 0;
    const { error } = end;
    if (error === undefined || this.#closed) return;
    log(lived ? 'info' : 'debug', 'a watch was lost', { kind, error });
    if (error.code === 'kube/denied' || error.code === 'kube/config') this.#options.onProblem?.(error);
  }

  /** A server that starts may answer 404 for a moment, so what we know goes only when the answer repeats itself. */
  #absent(): number {
    this.#heardAt = this.#options.clock.monotonicMs();
    this.#failures = 0;
    if (!this.#cache.empty && ++this.#absences < 3) return 1_000;
    this.#cache.keepOnly(new Set());
    this.#path = undefined;
    this.#markSynced();
    return this.#jitter(limits.kubeAbsentPollMs);
  }

  #markSynced(): void {
    if (this.#synced || this.#closed) return;
    this.#synced = true;
    this.#options.onSynced?.();
  }

  /** Once per cause: a dark API server would otherwise fill the log, kind by kind. */
  #report(error: unknown): void {
    if (this.#closed) return;
    const { kind, log } = this.#options;
    const known = error instanceof IsthmusError ? error : undefined;
    const cause = `${known?.code} ${statusOf(error)}`;
    const level = known === undefined ? 'error' : cause === this.#told ? 'debug' : 'warn';
    log(level, 'a list failed; what is known is kept', { kind, error });
    this.#told = cause;
    if (known) this.#options.onProblem?.(known);
    if (known !== undefined && statusOf(error) === 403) this.#dispense(known);
  }

  /** An API server that starts may refuse for a moment, until it knows its roles: so not by the first answer. */
  #dispense(error: IsthmusError): void {
    if (this.#options.dispensable !== true || ++this.#denials < denialsMin) return;
    this.#denied = error;
    this.#markSynced();
  }

  #backoff(): number {
    const most = Math.min(limits.kubeBackoffMaxMs, limits.kubeBackoffMinMs * 2 ** Math.min(this.#failures, 10));
    return most * (0.5 + this.#options.rng() / 2);
  }

  #jitter(value: number): number {
    return value * (0.8 + this.#options.rng() * 0.4);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#sleep = { timer: this.#options.clock.after(ms, resolve), wake: resolve };
    });
  }
}

export const startInformer = <T>(options: InformerOptions<T>): Informer<T> => {
  const supervisor = new Supervisor(options);
  supervisor.run().catch((error) => options.log('error', 'an informer ended', { kind: options.kind, error }));
  return supervisor;
};
