/**
 * Which services are asked about again and again, and when each has its turn: what probes of applications and queries of metrics share.
 *
 * A first turn falls anywhere in the interval, so that a start is no burst; what a turn does, and how long it then waits, is its owner's.
 */
import type { Clock, Rng, Timer } from '../core/clock.ts';
import type { ServiceKey } from '../core/names.ts';

export interface TurnTarget {
  readonly service: ServiceKey;
  readonly spec: { readonly intervalMs: number };
}

export interface Turn<T extends TurnTarget> {
  target: T;
  timer: Timer | undefined;
}

export class ServiceTurns<T extends TurnTarget, W extends Turn<T>> {
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #onTurn: (watched: W) => void;
  readonly #watched = new Map<ServiceKey, W>();
  #started = false;

  /** @param onTurn - it is its turn; whoever does it schedules the next */
  constructor(clock: Clock, rng: Rng, onTurn: (watched: W) => void) {
    this.#clock = clock;
    this.#rng = rng;
    this.#onTurn = onTurn;
  }

  get services(): IterableIterator<ServiceKey> {
    return this.#watched.keys();
  }

  get(service: ServiceKey): W | undefined {
    return this.#watched.get(service);
  }

  add(watched: W): void {
    this.#watched.set(watched.target.service, watched);
    if (this.#started) this.#first(watched);
  }

  remove(service: ServiceKey): void {
    this.#watched.get(service)?.timer?.cancel();
    this.#watched.delete(service);
  }

  start(): void {
    if (this.#started) return;
    this.#started = true;
    for (const watched of this.#watched.values()) this.#first(watched);
  }

  stop(): void {
    this.#started = false;
    for (const { timer } of this.#watched.values()) timer?.cancel();
  }

  /** Nothing was stopped, removed or made anew meanwhile. */
  current(watched: W): boolean {
    return this.#started && this.#watched.get(watched.target.service) === watched;
  }

  schedule(watched: W, afterMs: number): void {
    watched.timer = this.#clock.after(afterMs, () => {
      if (this.current(watched)) this.#onTurn(watched);
    });
  }

  /** The interval asked for, or longer when what all ask for together is more than may be. @param cost - of one turn */
  pauseMs(intervalMs: number, perSecondMax: number, cost: (target: T) => number): number {
    let perSecond = 0;
    for (const { target } of this.#watched.values()) perSecond += (cost(target) * 1_000) / target.spec.intervalMs;
    return intervalMs * Math.max(1, perSecond / perSecondMax);
  }

  #first(watched: W): void {
    this.schedule(watched, watched.target.spec.intervalMs * this.#rng());
  }
}
