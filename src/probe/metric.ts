/**
 * Asks for the metrics of services that say when a number is bad, and tells it as gray signals: of each member that a sample names, or of
 * this cluster where it names none.
 *
 * What is not there says nothing: no sample, a number that is none, a source that does not answer. A source that is down must
 * not take every service with it.
 */
import type { Clock, Rng } from '../core/clock.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { GraySignal } from '../health/signals.ts';
import { type MetricSource, queryMetric, type Sample } from './metric_request.ts';
import { isBad, type MetricTarget } from './metric_spec.ts';
import { ServiceTurns, type Turn } from './service_turns.ts';

export interface MetricProberOptions {
  readonly self: string;
  readonly source: MetricSource;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly onSignal: (signal: GraySignal) => void;
  /** Why nothing can be said of a service: once for each change; undefined: it can again. */
  readonly onProblem?: (service: ServiceKey, problem: string | undefined) => void;
}

interface Watched extends Turn<MetricTarget> {
  problem: string | undefined;
}

/** Until a query that found too many others on their way is tried again. */
const busyMs = 100;

export class MetricProber {
  readonly #o: MetricProberOptions;
  readonly #turns: ServiceTurns<MetricTarget, Watched>;
  #inFlight = 0;

  constructor(options: MetricProberOptions) {
    this.#o = options;
    this.#turns = new ServiceTurns(options.clock, options.rng, (watched) => this.#turn(watched));
  }

  /** Undefined: it is not asked for (any more). */
  setService(service: ServiceKey, target: MetricTarget | undefined): void {
    const known = this.#turns.get(service);
    if (target === undefined) this.#turns.remove(service);
    else if (known !== undefined) known.target = target;
    else this.#turns.add({ target, timer: undefined, problem: undefined });
  }

  start(): void {
    this.#turns.start();
  }

  stop(): void {
    this.#turns.stop();
  }

  #turn(watched: Watched): void {
    if (this.#inFlight >= limits.metricQueriesInFlightMax) {
      this.#turns.schedule(watched, busyMs * (0.5 + this.#o.rng()));
      return;
    }
    void this.#ask(watched).then(() => {
      if (!this.#turns.current(watched)) return;
      const { intervalMs } = watched.target.spec;
      const pauseMs = this.#turns.pauseMs(intervalMs, limits.metricQueriesPerSecondMax, () => 1);
      this.#turns.schedule(watched, pauseMs * (0.9 + 0.2 * this.#o.rng()));
    });
  }

  async #ask(watched: Watched): Promise<void> {
    const { source, clock, onProblem } = this.#o;
    const { service, spec } = watched.target;
    this.#inFlight++;
    const answer = await queryMetric(source, spec.query, clock).finally(() => this.#inFlight--);
    if (!this.#turns.current(watched)) return;
    const problem = answer.ok ? undefined : answer.error.message;
    if (problem !== watched.problem) {
      watched.problem = problem;
      onProblem?.(service, problem);
    }
    // The spec may be another by now: what was asked is judged by what asked it.
    if (answer.ok && watched.target.spec.query === spec.query) this.#tell(watched.target, answer.value);
  }

  #tell({ service, spec, members }: MetricTarget, samples: readonly Sample[]): void {
    const { self, clock, onSignal } = this.#o;
    const worst = new Map<string, number>();
    for (const { labels, value } of samples) {
      const member = labels[spec.memberLabel] || self;
      if (!members.has(member)) continue;
      const known = worst.get(member);
      if (known === undefined || (spec.bad === 'above' ? value > known : value < known)) worst.set(member, value);
    }
    for (const [member, value] of worst) {
      const ok = !isBad(spec, value);
      const detail = `metric ${Number(value.toPrecision(4))}, ${ok ? 'not ' : ''}${spec.bad} ${spec.threshold}`;
      onSignal({ service, member, atMs: clock.monotonicMs(), ok, detail });
    }
  }
}
