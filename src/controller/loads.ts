/**
 * How many new connections a second this cluster's callers make to each other cluster, by service: smoothed from the windows that the
 * gateways report, for dry runs. Calls that stay in the cluster meet no gateway and are not in it.
 *
 * Reading it off the newest window alone was passed over: a window is some seconds long, and a service that is called now and
 * then would be shown with a load of nothing, or of a burst.
 */
import type { TrafficWindow } from '../health/signals.ts';
import { type CellKey, cellKey } from '../health/verdict.ts';

/** What was measured this long ago counts for 1/e. */
const memoryMs = 60_000;
/** Below this there is nothing to speak of. */
const floorPerSecond = 0.01;

interface Load {
  readonly perSecond: number;
  readonly atMs: number;
}

export class Loads {
  readonly #loads = new Map<CellKey, Load>();

  add({ service, member, atMs, windowMs, tries, refused }: TrafficWindow): void {
    if (service === undefined || windowMs <= 0) return;
    const key = cellKey(service, member);
    // What the peer refused never became its load.
    const measured = (1_000 * Math.max(0, tries - refused)) / windowMs;
    const before = this.#loads.get(key);
    if (before === undefined) {
      this.#loads.set(key, { perSecond: measured, atMs });
      return;
    }
    const kept = Math.exp(-Math.max(windowMs, atMs - before.atMs) / memoryMs);
    this.#loads.set(key, { perSecond: before.perSecond * kept + measured * (1 - kept), atMs });
  }

  /** @param nowMs - on the scale of the windows: what has not been told of for a while has fallen silent */
  rates(nowMs: number): ReadonlyMap<CellKey, number> {
    const rates = new Map<CellKey, number>();
    for (const [key, { perSecond, atMs }] of this.#loads) {
      const now = perSecond * Math.exp(-Math.max(0, nowMs - atMs) / memoryMs);
      if (now < floorPerSecond) this.#loads.delete(key);
      else rates.set(key, now);
    }
    return rates;
  }
}
