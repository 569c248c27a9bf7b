/**
 * How many gateways of each peer our Envoys hold out of use, told to whoever asks, line by line as it changes.
 *
 * Neither access logs nor load reports know of ejections, and the event log of Envoy is seconds late. So the runner, which is beside the
 * Envoy, looks at its list of hosts over the admin socket, and the controllers read one stream from here instead of asking an admin
 * interface that can also stop an Envoy. The list is long when there are many peers: it is asked for only so often that it costs
 * the Envoy a fiftieth of its time at most.
 */
import type { Clock, Timer } from '../core/clock.ts';

/** `[held out, known]` gateways. */
export type Held = readonly [number, number];

/** By member; of services with a traffic policy of their own, which have their own ejections, also by service. */
export interface EjectionSummary {
  readonly members: Readonly<Record<string, Held>>;
  readonly services: Readonly<Record<string, Readonly<Record<string, Held>>>>;
}

interface HostStatus {
  readonly address?: { readonly socket_address?: { readonly address?: string; readonly port_value?: number } };
  readonly health_status?: {
    readonly failed_outlier_check?: boolean;
    readonly failed_active_health_check?: boolean;
  };
  readonly locality?: { readonly sub_zone?: string };
}

interface ClusterStatus {
  readonly name?: string;
  readonly host_statuses?: readonly HostStatus[];
}

/** Clusters that lead to peers: no slash before the part that names a service. */
export const clustersTarget = `/clusters?format=json&filter=${encodeURIComponent('^[^/@]+(@.*)?$')}`;

class Tally {
  readonly #known = new Map<string, Set<string>>();
  readonly #out = new Map<string, Set<string>>();

  add(member: string, host: string, out: boolean): void {
    setOf(this.#known, member).add(host);
    if (out) setOf(this.#out, member).add(host);
  }

  held(): Record<string, Held> {
    return Object.fromEntries(
      [...this.#known]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([member, known]) => [member, [this.#out.get(member)?.size ?? 0, known.size]]),
    );
  }
}

const setOf = <K>(map: Map<K, Set<string>>, key: K): Set<string> => {
  let set = map.get(key);
  if (set === undefined) {
    set = new Set();
    map.set(key, set);
  }
  return set;
};

/** From the pages of a pod's Envoys. A gateway counts as held out when one of them holds it out, in one of its classes. */
export const summarize = (pages: readonly string[]): EjectionSummary => {
  const members = new Tally();
  const services = new Map<string, Tally>();
  for (const page of pages) {
    const { cluster_statuses: clusters = [] } = JSON.parse(page) as { cluster_statuses?: readonly ClusterStatus[] };
    for (const { name = '', host_statuses: hosts = [] } of clusters) {
      const at = name.indexOf('@');
      const service = at < 0 ? undefined : name.slice(at + 1);
      let tally = service === undefined ? members : services.get(service);
      if (tally === undefined) {
        tally = new Tally();
        services.set(service!, tally);
      }
      for (const { address, health_status: health, locality } of hosts) {
        const member = locality?.sub_zone ?? '';
        if (member === '') continue;
        const host = `${address?.socket_address?.address}:${address?.socket_address?.port_value}`;
        tally.add(member, host, health?.failed_outlier_check === true || health?.failed_active_health_check === true);
      }
    }
  }
  const named = [...services].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, tally]) => [key, tally.held()] as const);
  return { members: members.held(), services: Object.fromEntries(named) };
};

export interface EjectionPollOptions {
  readonly clock: Clock;
  /** The page of each Envoy that runs; those that do not answer are left out. */
  readonly ask: () => Promise<readonly string[]>;
}

const intervalMs = 1_000;
/** Of the Envoys' main threads, at most. */
const share = 50;
/** Without a change a line comes all the same, so that silence means that we are gone. */
const heartbeatMs = 5_000;

export class EjectionPoll {
  readonly #o: EjectionPollOptions;
  readonly #listeners = new Set<(line: string) => void>();
  #timer: Timer | undefined;
  #line: string | undefined;
  #saidMs = 0;
  #closed = false;

  constructor(options: EjectionPollOptions) {
    this.#o = options;
  }

  /** Calls back with the newest summary, as a line of JSON, and then whenever it changes. Nothing is polled while nobody listens. */
  listen(listener: (line: string) => void): () => void {
    this.#listeners.add(listener);
    if (this.#line !== undefined) listener(this.#line);
    if (this.#timer === undefined && !this.#closed) this.#again(0);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#listeners.clear();
  }

  #again(afterMs: number): void {
    this.#timer = this.#o.clock.after(afterMs, () => {
      if (this.#listeners.size === 0) {
        this.#timer = undefined;
        this.#line = undefined;
        return;
      }
      const startMs = this.#o.clock.monotonicMs();
      void this.#look().then(() => {
        const tookMs = this.#o.clock.monotonicMs() - startMs;
        if (!this.#closed) this.#again(Math.max(intervalMs, tookMs * share));
      });
    });
  }

  async #look(): Promise<void> {
    let line: string;
    try {
      const pages = await this.#o.ask();
      if (pages.length === 0) return;
      line = JSON.stringify(summarize(pages));
    } catch {
      // An Envoy that restarts, or a page that was too long: the next look may do better.
      return;
    }
    const nowMs = this.#o.clock.monotonicMs();
    if (line === this.#line && nowMs - this.#saidMs < heartbeatMs) return;
    this.#line = line;
    this.#saidMs = nowMs;
    for (const listener of this.#listeners) listener(line);
  }
}
