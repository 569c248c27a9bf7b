/**
 * Probes applications that asked for it, here and at every member that exports them: the whole way of a call, HTTP included.
 *
 * Here: straight to a pod, with the controller's identity, for local traffic meets no gateway. There: through the local gateway on the
 * pinned route, through the far one, and a whole inner tunnel. A path that breaks before the application is no gray failure: other
 * probes tell of that, and this says nothing. Neither does a policy that refuses the controller: the way to say so is `onProblem`.
 */
import type { Clock, Rng } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import { probeSni } from '../core/probing.ts';
import type { Tunnel, TunnelConnection, TunnelDialer } from '../core/tunnel.ts';
import type { GraySignal, PathTime } from '../health/signals.ts';
import { askGray } from './gray_request.ts';
import type { GraySpec } from './gray_spec.ts';
import { type GrayOutcome, GrayWindow } from './gray_window.ts';
import { judge } from './judge.ts';
import { type LocalGateway, LocalGateways } from './local_gateways.ts';
import type { ServiceTarget } from './rotation.ts';
import { ServiceTurns, type Turn } from './service_turns.ts';
import { pinned, type RemoteGateway } from './single.ts';
import { probeTimeoutMs } from './timing.ts';

/** One ready pod behind the service here. */
export interface LocalPodTarget {
  readonly address: string;
  /** Where its ztunnel takes HBONE: 15008. */
  readonly tunnelPort: number;
  /** Of the application. */
  readonly port: number;
  readonly accept: readonly string[];
}

export interface GrayTarget {
  readonly service: ServiceKey;
  readonly spec: GraySpec;
  /** `host` of the request, and of the inner CONNECT there. */
  readonly hostname: string;
  readonly local: readonly LocalPodTarget[];
  readonly remotes: readonly ServiceTarget[];
}

export interface GrayProberOptions {
  readonly self: string;
  readonly clusterset: string;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly dialer: TunnelDialer;
  readonly gatewayIdentity: string;
  readonly localGateways: () => readonly LocalGateway[];
  /** Gateways of a member; those that answered last first. */
  readonly gateways: (member: string) => readonly RemoteGateway[];
  readonly path: (member: string) => PathTime | undefined;
  readonly onSignal: (signal: GraySignal) => void;
  /** Why nothing can be said of a service somewhere: once for each change; undefined: it can again. */
  readonly onProblem?: (service: ServiceKey, member: string, problem: string | undefined) => void;
}

interface Place {
  readonly window: GrayWindow;
  problem: string | undefined;
}

interface Watched extends Turn<GrayTarget> {
  readonly places: Map<string, Place>;
  turn: number;
}

/** Requests of one round to one place. */
const requestsPerRound = 3;
const localTimeoutMs = 1_000;

/** The way ended before the application: nothing can be said of it. */
class NoAnswer extends Error {}

export class GrayProber {
  readonly #o: GrayProberOptions;
  readonly #gateways: LocalGateways;
  readonly #turns: ServiceTurns<GrayTarget, Watched>;
  #inFlight = 0;

  constructor(options: GrayProberOptions) {
    this.#o = options;
    this.#turns = new ServiceTurns(options.clock, options.rng, (watched) => this.#turn(watched));
    this.#gateways = new LocalGateways({
      dialer: options.dialer,
      clock: options.clock,
      pods: options.localGateways,
      identity: options.gatewayIdentity,
      servername: probeSni(options.clusterset),
    });
  }

  /** Undefined: it is not probed (any more). */
  setService(service: ServiceKey, target: GrayTarget | undefined): void {
    const known = this.#turns.get(service);
    if (target === undefined) this.#turns.remove(service);
    else if (known !== undefined) {
      known.target = target;
      const members = new Set([this.#o.self, ...target.remotes.map(({ member }) => member)]);
      for (const member of [...known.places.keys()]) if (!members.has(member)) known.places.delete(member);
    } else this.#turns.add({ target, timer: undefined, places: new Map(), turn: 0 });
  }

  /** Services that are probed. */
  get services(): ReadonlySet<ServiceKey> {
    return new Set(this.#turns.services);
  }

  start(): void {
    this.#turns.start();
  }

  stop(): void {
    this.#turns.stop();
    this.#gateways.close();
  }

  #turn(watched: Watched): void {
    const startMs = this.#o.clock.monotonicMs();
    void this.#round(watched).then(() => {
      if (!this.#turns.current(watched)) return;
      const spentMs = this.#o.clock.monotonicMs() - startMs;
      const { intervalMs } = watched.target.spec;
      const asked = ({ remotes }: GrayTarget) => (1 + remotes.length) * requestsPerRound;
      const pauseMs = this.#turns.pauseMs(intervalMs, limits.grayProbesPerSecondMax, asked);
      this.#turns.schedule(watched, Math.max(100, pauseMs * (0.9 + 0.2 * this.#o.rng()) - spentMs));
    });
  }

  async #round(watched: Watched): Promise<void> {
    const { target } = watched;
    watched.turn += requestsPerRound;
    const places = target.remotes.map((remote) => ({
      member: remote.member,
      ask: () => this.#askRemote(target, remote),
    }));
    const { local, spec } = target;
    const asks =
      local.length === 0
        ? []
        : [...Array(requestsPerRound).keys()].map((i) => local[(watched.turn + i) % local.length]!);
    await Promise.all([
      ...places.map(({ member, ask }) => this.#place(watched, member, Array(requestsPerRound).fill(ask))),
      ...(asks.length === 0
        ? []
        : [
            this.#place(
              watched,
              this.#o.self,
              asks.map((pod) => () => this.#askPod(target, pod, spec)),
            ),
          ]),
    ]);
  }

  /**
   * One after another: a round must not be a burst. One that hangs ends it: it says enough, and others would only delay what follows
   * from it.
   */
  async #place(watched: Watched, member: string, asks: readonly (() => Promise<GrayOutcome>)[]): Promise<void> {
    let place = watched.places.get(member);
    if (place === undefined) {
      place = { window: new GrayWindow(), problem: undefined };
      watched.places.set(member, place);
    }
    const outcomes: GrayOutcome[] = [];
    let problem: string | undefined;
    for (const ask of asks) {
      if (!this.#turns.current(watched) || this.#inFlight >= limits.probesInFlightMax) break;
      this.#inFlight++;
      try {
        const outcome = await ask();
        outcomes.push(outcome);
        if (outcome.slow === true) break;
      } catch (error) {
        if (!(error instanceof IsthmusError || error instanceof NoAnswer)) throw error;
        problem = error.message;
      } finally {
        this.#inFlight--;
      }
    }
    if (!this.#turns.current(watched)) return;
    const { service } = watched.target;
    const said = outcomes.length > 0 ? undefined : problem;
    if (said !== place.problem && (said !== undefined || outcomes.length > 0)) {
      place.problem = said;
      this.#o.onProblem?.(service, member, said);
    }
    if (outcomes.length === 0) return;
    const { ok, detail } = place.window.add(outcomes);
    this.#o.onSignal({ service, member, atMs: this.#o.clock.monotonicMs(), ok, detail });
  }

  async #askPod({ hostname, service }: GrayTarget, pod: LocalPodTarget, spec: GraySpec): Promise<GrayOutcome> {
    const connection = await this.#o.dialer.dial({
      host: pod.address,
      port: pod.tunnelPort,
      hop: `pod ${pod.address} of ${service}`,
      accept: pod.accept,
      timeoutMs: localTimeoutMs,
    });
    try {
      const authority = `${pod.address.includes(':') ? `[${pod.address}]` : pod.address}:${pod.port}`;
      const tunnel = await connection.connect({ authority, timeoutMs: localTimeoutMs });
      return await this.#askIn(tunnel, hostname, spec);
    } finally {
      connection.close();
    }
  }

  async #askRemote({ hostname, spec }: GrayTarget, remote: ServiceTarget): Promise<GrayOutcome> {
    const { member, authority, accept, service } = remote;
    const gateway = this.#o.gateways(member)[0];
    if (gateway === undefined) throw new NoAnswer(`${member} has no gateway`);
    const timeoutMs = probeTimeoutMs(this.#o.path(member));
    const outer = await (await this.#gateways.next()).connect({
      authority,
      headers: pinned(member, gateway),
      timeoutMs,
    });
    let inner: TunnelConnection | undefined;
    try {
      const verdict = judge(outer);
      if (verdict.kind !== 'reached' || !verdict.open) throw new NoAnswer(`${member} answered ${outer.status}`);
      inner = await outer.nest({ hop: `workload of ${service} at ${member}`, accept, timeoutMs });
      return await this.#askIn(await inner.connect({ authority, timeoutMs }), hostname, spec);
    } finally {
      inner?.close();
      outer.end();
    }
  }

  async #askIn(tunnel: Tunnel, hostname: string, spec: GraySpec): Promise<GrayOutcome> {
    try {
      // 503: the ztunnel found nobody on the application's port. That is the application's failure.
      if (tunnel.status === 503) return { ok: false, detail: 'nothing listens on its port' };
      if (tunnel.status !== 200) {
        throw new NoAnswer(
          `the probe is refused with ${tunnel.status}: allow the controller's identity, or drop the probe`,
        );
      }
      return await askGray(tunnel.stream, hostname, spec, this.#o.clock);
    } finally {
      tunnel.end();
    }
  }
}
