/**
 * What is known of the local gateway pods, and which of them count as healthy. Pure: times are arguments.
 *
 * Two signals are wanted for a death, because a wrong verdict moves all traffic of a cluster: new connections to the egress
 * port fail, the runner's health is silent, the Envoys' discovery streams ended just now. That they are gone means nothing later:
 * streams age out, and move to the other replica. One signal is enough where it cannot be mistaken:
 * the runner itself says that it is unready (a planned end), or connections have failed for a whole second. Coming back
 * takes several good rounds in a row. The last healthy pod stays, however bad it looks: no gateway is certain failure.
 */

export const livenessTimes = {
  /** Failed connections alone are enough after this. */
  connectAloneMs: 1_000,
  /** The end of the discovery streams counts for so long: several rounds of the other signals. */
  streamsEndedMs: 1_000,
  goodRoundsToReturn: 5,
} as const;

type Signal = 'unknown' | 'good' | 'bad';

interface PodState {
  connect: Signal;
  connectBadSinceMs: number;
  runner: Signal | 'unready';
  streams: Signal;
  streamsEndedMs: number;
  alive: boolean;
  diedMs: number;
  goodRounds: number;
  connectGood: boolean;
  runnerGood: boolean;
}

export interface HealthChange {
  readonly pod: string;
  readonly healthy: boolean;
  readonly reason: string;
}

const fresh = (): PodState => ({
  connect: 'unknown',
  connectBadSinceMs: 0,
  runner: 'unknown',
  streams: 'unknown',
  streamsEndedMs: 0,
  alive: true,
  diedMs: 0,
  goodRounds: 0,
  connectGood: false,
  runnerGood: false,
});

const reasonToDie = (pod: PodState, nowMs: number): string | undefined => {
  if (pod.runner === 'unready') return 'the runner says that it is not ready';
  const bad = [
    pod.connect === 'bad' ? 'connections fail' : undefined,
    pod.runner === 'bad' ? 'the runner is silent' : undefined,
    pod.streams === 'bad' && nowMs - pod.streamsEndedMs <= livenessTimes.streamsEndedMs
      ? 'discovery streams ended'
      : undefined,
  ].filter((reason) => reason !== undefined);
  if (bad.length >= 2) return bad.join(', ');
  const alone = pod.connect === 'bad' && nowMs - pod.connectBadSinceMs >= livenessTimes.connectAloneMs;
  return alone ? 'connections keep failing' : undefined;
};

/** A round is good when both probes succeeded since the last one; a failure of either starts the count anew. */
const countRound = (pod: PodState, which: 'connectGood' | 'runnerGood', ok: boolean): void => {
  pod[which] = ok;
  if (!ok) pod.goodRounds = 0;
  if (!(pod.connectGood && pod.runnerGood)) return;
  pod.goodRounds += 1;
  pod.connectGood = pod.runnerGood = false;
};

export class LivenessState {
  readonly #pods = new Map<string, PodState>();
  readonly #published = new Map<string, boolean>();

  /** Healthy or not, for every pod. */
  get health(): ReadonlyMap<string, boolean> {
    return this.#published;
  }

  /** The pods there are now; those in `replaced` begin anew. New ones count as healthy until they show otherwise. */
  setPods(names: readonly string[], replaced: ReadonlySet<string> = new Set()): HealthChange[] {
    const keep = new Set(names);
    for (const name of this.#pods.keys()) {
      if (keep.has(name) && !replaced.has(name)) continue;
      this.#pods.delete(name);
      this.#published.delete(name);
    }
    for (const name of names) {
      if (this.#pods.has(name)) continue;
      this.#pods.set(name, fresh());
      this.#published.set(name, true);
    }
    return this.#publish();
  }

  connected(name: string, ok: boolean, nowMs: number): HealthChange[] {
    return this.#signal(name, nowMs, (pod) => {
      if (!ok && pod.connect !== 'bad') pod.connectBadSinceMs = nowMs;
      pod.connect = ok ? 'good' : 'bad';
      countRound(pod, 'connectGood', ok);
    });
  }

  /** `unready`: it answered, and said no. */
  runner(name: string, answer: 'ready' | 'unready' | 'silent', nowMs: number): HealthChange[] {
    return this.#signal(name, nowMs, (pod) => {
      pod.runner = answer === 'ready' ? 'good' : answer === 'unready' ? 'unready' : 'bad';
      countRound(pod, 'runnerGood', answer === 'ready');
    });
  }

  /** How many discovery streams the pod's Envoys hold here. Ended ones are a signal; none from the start is not. */
  streams(name: string, open: number, nowMs: number): HealthChange[] {
    return this.#signal(name, nowMs, (pod) => {
      if (open > 0) pod.streams = 'good';
      else if (pod.streams === 'good') {
        pod.streams = 'bad';
        pod.streamsEndedMs = nowMs;
      }
    });
  }

  #signal(name: string, nowMs: number, apply: (pod: PodState) => void): HealthChange[] {
    const pod = this.#pods.get(name);
    if (pod === undefined) return [];
    apply(pod);
    return this.#publish(name, this.#judge(pod, nowMs));
  }

  #judge(pod: PodState, nowMs: number): string {
    const death = reasonToDie(pod, nowMs);
    if (pod.alive && death !== undefined) {
      pod.alive = false;
      pod.diedMs = nowMs;
    } else if (!pod.alive && death === undefined && pod.goodRounds >= livenessTimes.goodRoundsToReturn) {
      pod.alive = true;
      return 'answers again';
    }
    return death ?? 'answers';
  }

  /** All that are alive; if none is, the one that died last. */
  #publish(cause?: string, why = ''): HealthChange[] {
    const alive = [...this.#pods].filter(([, pod]) => pod.alive).map(([name]) => name);
    const last = [...this.#pods].reduce<[string, PodState] | undefined>(
      (best, entry) => (best === undefined || entry[1].diedMs > best[1].diedMs ? entry : best),
      undefined,
    );
    const healthy = new Set(alive.length > 0 || last === undefined ? alive : [last[0]]);
    const changes: HealthChange[] = [];
    for (const name of this.#pods.keys()) {
      if (this.#published.get(name) === healthy.has(name)) continue;
      this.#published.set(name, healthy.has(name));
      const reason = name === cause ? why : healthy.has(name) ? 'no other is left' : 'another one answers again';
      changes.push({ pod: name, healthy: healthy.has(name), reason });
    }
    return changes;
  }
}
