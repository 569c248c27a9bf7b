/**
 * Watches the gateway pods of this cluster, so that ztunnels leave a dead one within 200 ms. Each replica watches for itself:
 * a verdict is about what can be reached now, and is never written anywhere.
 */
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { type HealthChange, LivenessState } from './liveness_state.ts';
import type { GatewayLog } from './log.ts';
import { PodProbe, type PodTarget } from './pod_probe.ts';

export interface GatewayLivenessOptions {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: GatewayLog;
  /** Between two rounds of one pod; 60 ms leaves room for the deadline within 200 ms. */
  readonly intervalMs?: number;
  readonly deadlineMs?: number;
  readonly egressPort?: number;
  readonly healthPort?: number;
  /** Called after each change, with the health of all pods by name. */
  readonly changed: (health: ReadonlyMap<string, boolean>) => void;
}

interface Watch {
  readonly address: string;
  readonly probe: PodProbe;
  timer: Timer | undefined;
}

const defaults = { intervalMs: 60, deadlineMs: 90, egressPort: 15_018, healthPort: 15_021 } as const;
/** Rounds of one pod are at least so far apart, whatever is configured. */
const intervalMinMs = 20;

export class GatewayLiveness {
  readonly #o: GatewayLivenessOptions;
  readonly #intervalMs: number;
  readonly #state = new LivenessState();
  readonly #watches = new Map<string, Watch>();

  constructor(options: GatewayLivenessOptions) {
    this.#o = options;
    this.#intervalMs = Math.max(intervalMinMs, options.intervalMs ?? defaults.intervalMs);
  }

  /** Pod name → healthy. Live: changes before `changed` is called. */
  get health(): ReadonlyMap<string, boolean> {
    return this.#state.health;
  }

  /** The gateway pods that exist now. A pod whose address changed is a new one. */
  setPods(pods: readonly { readonly name: string; readonly address: string }[]): void {
    const wanted = new Map(pods.map((pod) => [pod.name, pod.address]));
    const replaced = new Set<string>();
    for (const [name, watch] of this.#watches) {
      if (wanted.get(name) === watch.address) continue;
      this.#drop(name, watch);
      replaced.add(name);
    }
    this.#apply(this.#state.setPods([...wanted.keys()], replaced));
    for (const [name, address] of wanted) if (!this.#watches.has(name)) this.#watch(name, address);
  }

  /** How many discovery streams the Envoys of a pod hold at this replica now. */
  streams(pod: string, open: number): void {
    this.#apply(this.#state.streams(pod, open, this.#nowMs()));
  }

  close(): void {
    for (const [name, watch] of this.#watches) this.#drop(name, watch);
  }

  #nowMs(): number {
    return this.#o.clock.monotonicMs();
  }

  #drop(name: string, watch: Watch): void {
    watch.timer?.cancel();
    watch.probe.close();
    this.#watches.delete(name);
  }

  #watch(name: string, address: string): void {
    const { clock, rng, egressPort, healthPort, deadlineMs } = this.#o;
    const target: PodTarget = {
      name,
      address,
      egressPort: egressPort ?? defaults.egressPort,
      healthPort: healthPort ?? defaults.healthPort,
    };
    const probe = new PodProbe(target, clock, deadlineMs ?? defaults.deadlineMs, {
      connected: (ok) => this.#apply(this.#state.connected(name, ok, this.#nowMs())),
      runner: (answer) => this.#apply(this.#state.runner(name, answer, this.#nowMs())),
    });
    const watch: Watch = { address, probe, timer: undefined };
    this.#watches.set(name, watch);
    const again = (afterMs: number): void => {
      watch.timer = clock.after(afterMs, () => {
        again(this.#intervalMs);
        probe.round();
      });
    };
    // Rounds of several pods spread over the interval.
    again(this.#intervalMs * rng());
  }

  #apply(changes: readonly HealthChange[]): void {
    if (changes.length === 0) return;
    for (const { pod, healthy, reason } of changes) {
      this.#o.log(healthy ? 'info' : 'warn', healthy ? 'gateway pod healthy' : 'gateway pod unhealthy', {
        pod,
        reason,
      });
    }
    this.#o.changed(this.#state.health);
  }
}
