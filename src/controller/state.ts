/**
 * The last good state of this replica: records of the members, the local cluster, what tokens said, the gateways' certificates.
 *
 * Saved when something changed, at most every `saveIntervalMs`, and at the end. Each part is a file of its own, so that one that is
 * corrupt costs itself alone. The local cluster is kept in V8's own format: it is read by this program alone, under a MAC, and a
 * version that cannot read it starts without.
 */
import { deserialize, serialize } from 'node:v8';
import type { Clock, Timer } from '../core/clock.ts';
import type { LocalCluster } from '../federation/local.ts';
import type { Log } from '../ops/log.ts';
import type { SavedState } from '../store/saved.ts';
import type { GatewaySecrets } from '../translate/envoy/input.ts';

export type Part = 'records' | 'cluster' | 'tokens' | 'gateways';

/** How each part is made when it is to be saved; undefined: there is nothing to save yet. */
export type Sources = Record<Part, () => Uint8Array | undefined>;

const localFormat = 1;
/** The pause after a save is at least so many times what it took. */
const costRatio = 20;
const slightMs = 10_000;

export const packLocal = (local: LocalCluster): Uint8Array => serialize({ format: localFormat, local });
export const unpackLocal = (bytes: Uint8Array): LocalCluster | undefined => {
  const read = deserialize(bytes) as { format?: number; local?: LocalCluster };
  // An earlier version saved no failover policies.
  return read.format === localFormat && read.local !== undefined
    ? { ...read.local, failoverPolicies: read.local.failoverPolicies ?? new Map() }
    : undefined;
};
export const packSecrets = (secrets: GatewaySecrets): Uint8Array => Buffer.from(JSON.stringify(secrets));
export const unpackSecrets = (bytes: Uint8Array): GatewaySecrets =>
  JSON.parse(Buffer.from(bytes).toString('utf8')) as GatewaySecrets;

export class StateKeeper {
  readonly #disk: SavedState;
  readonly #sources: Sources;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #intervalMs: number;
  readonly #dirty = new Set<Part>();
  #timer: Timer | undefined;
  #dueMs = Number.POSITIVE_INFINITY;
  #saving: Promise<void> = Promise.resolve();
  #savedAtMs: number | undefined;
  #tookMs = 0;
  #closed = false;

  constructor(o: { disk: SavedState; sources: Sources; clock: Clock; log: Log; intervalMs: number }) {
    this.#disk = o.disk;
    this.#sources = o.sources;
    this.#clock = o.clock;
    this.#log = o.log;
    this.#intervalMs = o.intervalMs;
  }

  /** Since the last save of this run, seconds; null when there was none. */
  ageSeconds(): number | null {
    return this.#savedAtMs === undefined ? null : (this.#clock.monotonicMs() - this.#savedAtMs) / 1000;
  }

  /** A part has changed. `slight`: only in how old something is; it need not be saved soon. */
  touch(part: Part, slight = false): void {
    this.#dirty.add(part);
    if (this.#closed) return;
    // However much there is to save, saving takes a small part of the time.
    const waitMs = Math.max(slight ? slightMs : this.#intervalMs, this.#tookMs * costRatio);
    const dueMs = this.#clock.monotonicMs() + waitMs;
    if (this.#dueMs <= dueMs) return;
    this.#timer?.cancel();
    this.#dueMs = dueMs;
    this.#timer = this.#clock.after(waitMs, () => void this.flush());
  }

  /** Saves what changed. Never rejects: a disk that does not take it is told, and tried again with the next change. */
  flush(): Promise<void> {
    this.#saving = this.#saving.then(() => this.#write());
    return this.#saving;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.flush();
  }

  async #write(): Promise<void> {
    this.#timer?.cancel();
    this.#dueMs = Number.POSITIVE_INFINITY;
    const parts = [...this.#dirty];
    this.#dirty.clear();
    const startedMs = this.#clock.monotonicMs();
    for (const part of parts) {
      try {
        const bytes = this.#sources[part]();
        if (bytes === undefined) continue;
        await this.#disk.save(part, bytes);
        this.#savedAtMs = this.#clock.monotonicMs();
      } catch (error) {
        this.#dirty.add(part);
        this.#log('error', 'state not saved', {
          part,
          error: error instanceof Error ? error : new Error(String(error)),
        });
      }
    }
    this.#tookMs = this.#clock.monotonicMs() - startedMs;
  }
}
