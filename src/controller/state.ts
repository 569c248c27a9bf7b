/**
 * The last good state of this replica: records of the members and who was put out, the local cluster, what tokens said, the gateways'
 * certificates.
 *
 * Saved when something changed, at most every `saveIntervalMs`, and at the end. Each part is a file of its own, so that one that is
 * corrupt costs itself alone. The local cluster is kept in V8's own format: it is read by this program alone, under a MAC, and a
 * version that cannot read it starts without.
 */
import { deserialize, serialize } from 'node:v8';
import type { Clock, Timer } from '../core/clock.ts';
import type { LocalCluster } from '../federation/local.ts';
import type { SignedMark } from '../federation/revocation_text.ts';
import type { Log } from '../ops/log.ts';
import type { SavedState } from '../store/saved.ts';
import type { GatewaySecrets } from '../translate/envoy/input.ts';
import type { Cluster } from './cluster.ts';
import type { Engine } from './engine.ts';
import type { Records } from './records.ts';

export type Part = 'revocations' | 'records' | 'cluster' | 'tokens' | 'gateways';

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

/** By themselves, since they outlive whatever else is damaged, and are saved when nothing else is: with the store dark. */
export const packRevocations = (marks: readonly SignedMark[]): Uint8Array =>
  Buffer.from(JSON.stringify(marks.map(([name, bytes]) => [name, Buffer.from(bytes).toString('base64')])));
export const unpackRevocations = (bytes: Uint8Array): readonly SignedMark[] =>
  (JSON.parse(Buffer.from(bytes).toString('utf8')) as [string, string][]).map(([name, text]) => [
    name,
    new Uint8Array(Buffer.from(text, 'base64')),
  ]);

/** What is saved of each part of the running controller. */
export const stateSources = (of: {
  readonly records: Records;
  readonly cluster: Cluster;
  readonly engine: Engine;
}): Sources => ({
  revocations: () => packRevocations(of.records.federation.revocations.signed()),
  // From disk it is there already, with its true age.
  records: () =>
    of.records.known && !of.records.fromDisk
      ? Buffer.concat([...of.records.federation.save(of.records.times())])
      : undefined,
  cluster: () =>
    of.cluster.pending().length === 0
      ? packLocal({ ...of.cluster.local, egressPolicies: of.cluster.egress.objects })
      : undefined,
  tokens: () => of.cluster.tokens.snapshot(),
  gateways: () => (of.engine.secrets === undefined ? undefined : packSecrets(of.engine.secrets)),
});

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

  /** A part has changed that must survive whatever comes next. */
  now(part: Part): void {
    this.#dirty.add(part);
    if (!this.#closed) void this.flush();
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
