/**
 * Sums outcomes up to windows: one for each peer, and one for each (service, peer) of which something was heard.
 *
 * Many gateways and their workers write into one sum: a verdict is about what this cluster sees, not one process of it. Single
 * entries are not kept. A table of bounded size: what does not fit counts for its peer alone.
 */
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { TrafficWindow } from '../health/signals.ts';
import type { Outcome, OutcomeKind } from './outcome.ts';

interface Sum {
  tries: number;
  established: number;
  local: number;
  gateway: number;
  other: number;
  refused: number;
  cut: number;
  connectMs: number;
}

const noSum = (): Sum => ({
  tries: 0,
  established: 0,
  local: 0,
  gateway: 0,
  other: 0,
  refused: 0,
  cut: 0,
  connectMs: 0,
});

const fieldOf: Readonly<Record<OutcomeKind, keyof Sum | undefined>> = {
  established: 'established',
  local: 'local',
  gateway: 'gateway',
  other: 'other',
  refused: 'refused',
  denied: undefined,
  cut: 'cut',
};

/** Gateways of a peer that our Envoys hold out of use, of how many they know. */
export interface Ejected {
  readonly ejected: number;
  readonly gateways: number;
}

const nothingEjected: Ejected = { ejected: 0, gateways: 0 };

export class TrafficWindows {
  #members = new Map<string, Sum>();
  #cells = new Map<string, Map<ServiceKey, Sum>>();
  #cellCount = 0;

  /** `service` undefined: not one of ours to know. */
  add(outcome: Outcome, service: ServiceKey | undefined): void {
    this.#count(this.#member(outcome.member), outcome);
    if (service === undefined) return;
    const cell = this.#cell(outcome.member, service);
    if (cell !== undefined) this.#count(cell, outcome);
  }

  /** Tries that only a load report told of: of errors the kind is not known. */
  addReported(member: string, issued: number, succeeded: number, errors: number): void {
    const sum = this.#member(member);
    sum.tries += issued;
    sum.established += succeeded;
    sum.other += errors;
  }

  /**
   * The windows since the last call, and begins new ones.
   * @param ejected - of a peer, or of a service that has gateways' state of its own; peers with something ejected get a window even
   *   without traffic
   */
  take(
    atMs: number,
    windowMs: number,
    ejected: (member: string, service?: ServiceKey) => Ejected | undefined,
    of: Iterable<string>,
  ): TrafficWindow[] {
    const windows: TrafficWindow[] = [];
    const make = (member: string, service: ServiceKey | undefined, sum: Sum): void => {
      const own = service === undefined ? undefined : ejected(member, service);
      windows.push({
        member,
        service,
        atMs,
        windowMs,
        tries: sum.tries,
        established: sum.established,
        localErrors: sum.local,
        gatewayErrors: sum.gateway,
        otherErrors: sum.other,
        refused: sum.refused,
        cut: sum.cut,
        connectMsSum: sum.connectMs,
        ...(own ?? ejected(member) ?? nothingEjected),
      });
    };
    for (const [member, sum] of this.#members) make(member, undefined, sum);
    for (const [member, services] of this.#cells) for (const [service, sum] of services) make(member, service, sum);
    for (const member of of) {
      if (!this.#members.has(member) && (ejected(member)?.ejected ?? 0) > 0) make(member, undefined, noSum());
    }
    this.#members = new Map();
    this.#cells = new Map();
    this.#cellCount = 0;
    return windows;
  }

  #count(sum: Sum, { kind, connectMs }: Outcome): void {
    // A cut ends a tunnel that was counted when it began.
    if (kind !== 'cut') sum.tries++;
    const field = fieldOf[kind];
    if (field !== undefined) sum[field]++;
    sum.connectMs += connectMs;
  }

  #member(member: string): Sum {
    let sum = this.#members.get(member);
    if (sum === undefined) {
      sum = noSum();
      this.#members.set(member, sum);
    }
    return sum;
  }

  #cell(member: string, service: ServiceKey): Sum | undefined {
    let services = this.#cells.get(member);
    let sum = services?.get(service);
    if (sum !== undefined) return sum;
    if (this.#cellCount >= limits.telemetryCellsMax) return undefined;
    if (services === undefined) {
      services = new Map();
      this.#cells.set(member, services);
    }
    sum = noSum();
    services.set(service, sum);
    this.#cellCount++;
    return sum;
  }
}
