/**
 * What other members send us: CONNECTs at our federation listeners, by peer and service.
 *
 * It answers two questions: for which services we take spill just now, and whether a peer keeps to what was granted. Counts only
 * grow, so that whoever reads them makes rates of his own; a rate of the last seconds is here for decisions.
 */
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';

export interface BorderCount {
  readonly peer: string;
  readonly service: ServiceKey;
  /** All CONNECTs, those of probes left out. */
  readonly connects: number;
  readonly established: number;
  /** 429: above the grant or a limit. */
  readonly refused: number;
  readonly failed: number;
  readonly probes: number;
  /** CONNECTs a second, over some seconds. */
  readonly perSecond: number;
  /** Of them, refused by the grant. */
  readonly refusedPerSecond: number;
}

interface Entry {
  readonly peer: string;
  readonly service: ServiceKey;
  connects: number;
  established: number;
  refused: number;
  failed: number;
  probes: number;
  perSecond: number;
  refusedPerSecond: number;
  /** Since the last tick. */
  fresh: number;
  freshRefused: number;
  heardMs: number;
}

/** Half of a change of the rate is seen after so long. */
const halfLifeMs = 2_000;
/** Without a word for so long it is forgotten; its rate is 0 by then. */
const forgetMs = 600_000;
/** A peer probes a service at most so often; more that calls itself a probe is traffic. */
const probesPerSecondMax = 3;

export class BorderCounts {
  readonly #entries = new Map<string, Entry>();
  #freshProbes = new Map<Entry, number>();

  add(peer: string, service: ServiceKey, status: number, probe: boolean, nowMs: number): void {
    const entry = this.#entry(peer, service);
    if (entry === undefined) return;
    entry.heardMs = nowMs;
    if (probe) {
      const probes = (this.#freshProbes.get(entry) ?? 0) + 1;
      this.#freshProbes.set(entry, probes);
      if (probes <= probesPerSecondMax) {
        entry.probes++;
        return;
      }
    }
    entry.connects++;
    entry.fresh++;
    if (status === 429) {
      entry.refused++;
      entry.freshRefused++;
    } else if (status >= 200 && status < 300) entry.established++;
    else entry.failed++;
  }

  /** Once a second or so. */
  tick(nowMs: number, elapsedMs: number): void {
    const keep = 0.5 ** (elapsedMs / halfLifeMs);
    for (const [key, entry] of this.#entries) {
      if (nowMs - entry.heardMs > forgetMs) {
        this.#entries.delete(key);
        continue;
      }
      const rate = (count: number) => (elapsedMs > 0 ? (count * 1_000) / elapsedMs : 0);
      entry.perSecond = settled(entry.perSecond * keep + rate(entry.fresh) * (1 - keep));
      entry.refusedPerSecond = settled(entry.refusedPerSecond * keep + rate(entry.freshRefused) * (1 - keep));
      entry.fresh = 0;
      entry.freshRefused = 0;
    }
    this.#freshProbes = new Map();
  }

  /** Copies: what a reader holds does not change under it. */
  counts(): BorderCount[] {
    return [...this.#entries.values()].map(({ fresh: _f, freshRefused: _r, heardMs: _h, ...count }) => count);
  }

  /** Services for which other members send us more than `perSecond` together. */
  receiving(perSecond: number): Set<ServiceKey> {
    const sums = new Map<ServiceKey, number>();
    for (const { service, perSecond: rate } of this.#entries.values())
      sums.set(service, (sums.get(service) ?? 0) + rate);
    return new Set([...sums].filter(([, rate]) => rate > perSecond).map(([service]) => service));
  }

  #entry(peer: string, service: ServiceKey): Entry | undefined {
    const key = `${service}|${peer}`;
    let entry = this.#entries.get(key);
    if (entry !== undefined) return entry;
    if (this.#entries.size >= limits.telemetryCellsMax) return undefined;
    entry = {
      peer,
      service,
      connects: 0,
      established: 0,
      refused: 0,
      failed: 0,
      probes: 0,
      perSecond: 0,
      refusedPerSecond: 0,
      fresh: 0,
      freshRefused: 0,
      heardMs: 0,
    };
    this.#entries.set(key, entry);
    return entry;
  }
}

/** A rate that has died away is none. */
const settled = (rate: number): number => (rate < 0.001 ? 0 : rate);
