/**
 * How long it takes to conclude that something is bad: from the first signal against it since it was last well, to the verdict.
 *
 * A peer and each service at it are timed apart, by the same rules by which evidence is told apart (`health/reading`). Readiness is not
 * timed: it is told, not detected.
 */
import type { Decision } from '../failover/decision.ts';
import { readProbe, type Says } from '../health/reading.ts';
import type { GraySignal, ProbeResult, TrafficWindow } from '../health/signals.ts';
import { type CellState, cellKey, cellStates } from '../health/verdict.ts';

/** Signals against more than these are timed from their first verdict on. */
const keptMax = 10_000;

const rank = (state: unknown): number => cellStates.indexOf(state as CellState);

export class Detecting {
  /** By member, or by cell: monotonic ms. */
  readonly #since = new Map<string, number>();

  probe(probe: ProbeResult): void {
    const { peer, service } = readProbe(probe);
    this.#note(probe.member, peer, probe.atMs);
    if (probe.service !== undefined) this.#note(cellKey(probe.service, probe.member), service, probe.atMs);
  }

  traffic({
    member,
    service,
    atMs,
    windowMs,
    established,
    localErrors,
    gatewayErrors,
    otherErrors,
  }: TrafficWindow): void {
    const failed = localErrors + gatewayErrors + otherErrors;
    const says: Says = failed > 0 ? 'bad' : established > 0 ? 'good' : 'nothing';
    // What is in a window began with it.
    this.#note(
      service === undefined ? member : cellKey(service, member),
      says,
      says === 'bad' ? atMs - windowMs : atMs,
    );
  }

  gray({ service, member, ok, atMs }: GraySignal): void {
    this.#note(cellKey(service, member), ok ? 'good' : 'bad', atMs);
  }

  /** @returns seconds, one for each verdict that became worse and had signals against it */
  detected(decisions: readonly Decision[], nowMs: number): number[] {
    const seconds: number[] = [];
    for (const { kind, service, member, before, after } of decisions) {
      if (kind !== 'state' || member === undefined || rank(after) <= rank(before)) continue;
      const since = this.#since.get(service === undefined ? member : cellKey(service, member));
      if (since !== undefined) seconds.push(Math.max(0, nowMs - since) / 1000);
    }
    return seconds;
  }

  #note(key: string, says: Says, atMs: number): void {
    if (says === 'good') this.#since.delete(key);
    else if (says === 'bad' && !this.#since.has(key) && this.#since.size < keptMax) this.#since.set(key, atMs);
  }
}
