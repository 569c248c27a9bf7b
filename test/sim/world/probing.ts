/** What a controller measures: probes through the data path, round trips, opt-in probes of the application. */

import type { ManifestHead } from '../../../src/federation/view.ts';
import { addRoundTrip, type RoundTripClass, type RoundTripEstimate, roundTripClass } from '../../../src/health/rtt.ts';
import type { GraySignal, PathTime, ProbeResult } from '../../../src/health/signals.ts';
import { timersFor, unmeasured } from '../../../src/translate/envoy/timers.ts';
import type { Draw } from './draw.ts';
import type { Host } from './envoy.ts';
import type { Ground, Traffic } from './traffic.ts';

/** CONNECT, two TLS handshakes, TCP. */
const probeFlights = 4;
const probeDeadlineMs = 2_000;

export interface ProbingOptions {
  readonly self: string;
  readonly ground: Ground;
  readonly traffic: Traffic;
  readonly draw: Draw;
  /** The newest manifest that a member's gateways know of. */
  readonly head: (member: string) => ManifestHead | undefined;
}

export class Probing {
  readonly #o: ProbingOptions;
  readonly #estimates = new Map<string, RoundTripEstimate>();
  readonly #classes = new Map<string, RoundTripClass>();
  #turn = 0;

  constructor(options: ProbingOptions) {
    this.#o = options;
  }

  /** As published for the gateways' timers: smoothed and in steps. */
  class(member: string): RoundTripClass {
    return this.#classes.get(member) ?? unmeasured;
  }
  healthTimeoutMs(member: string): number {
    return timersFor([this.class(member)]).healthTimeoutMs;
  }
  paths(): Map<string, PathTime> {
    return new Map([...this.#estimates].map(([name, { srttMs, varMs }]) => [name, { rttMs: srttMs, varMs }]));
  }

  /** Every member's gateways, each, and a few services in turn. @param cells - service and member */
  round(
    members: readonly string[],
    cells: readonly (readonly [service: string, member: string])[],
    nowMs: number,
  ): ProbeResult[] {
    const results: ProbeResult[] = [];
    for (const member of members) {
      const hosts = [...this.#o.traffic.hosts.of(member)];
      for (const host of hosts) results.push(this.#probe(member, undefined, nowMs, host));
    }
    const share = Math.min(cells.length, Math.max(2, Math.ceil(cells.length / 5)));
    for (let i = 0; i < share; i++) {
      const [service, member] = cells[this.#turn++ % cells.length]!;
      results.push(this.#probe(member, service, nowMs));
    }
    return results;
  }

  /** Of services at members, ourselves included. Nothing is said where the path does not carry the question. */
  gray(cells: readonly (readonly [service: string, member: string])[], nowMs: number): GraySignal[] {
    const { self, ground, draw } = this.#o;
    const signals: GraySignal[] = [];
    for (const [service, member] of cells) {
      const pods = ground.cluster(member).pods.get(service);
      if (pods === undefined || pods.ready === 0) continue;
      if (member !== self && !this.#reaches(member)) continue;
      const bad = Math.max(0, ...pods.gray) / 100;
      const over = pods.arrivedBefore > pods.capacity ? 1 - pods.capacity / pods.arrivedBefore : 0;
      const ok = !draw.chance(Math.max(bad, over));
      signals.push({ service, member, atMs: nowMs, ok, detail: ok ? 'status 200' : 'status 500' });
    }
    return signals;
  }

  /** Of services that a member no longer publishes: does it still lead there? Nothing is said where the path is broken. */
  canaries(asked: ReadonlyMap<string, readonly string[]>, nowMs: number): ProbeResult[] {
    const answers: ProbeResult[] = [];
    for (const [member, services] of asked) {
      if (!this.#reaches(member)) continue;
      for (const service of services) {
        const ok = this.#o.ground.cluster(member).pods.has(service);
        const failedAt = ok ? undefined : 'connect';
        const base = { member, service, atMs: nowMs, denied: false, ms: undefined, head: undefined };
        answers.push({ ...base, ok, failedAt, status: ok ? 200 : 404, reached: true });
      }
    }
    return answers;
  }

  #reaches(member: string): boolean {
    const { self, ground, traffic } = this.#o;
    return [...traffic.hosts.of(member)].some((host) => ground.reach(self, member, host.gateway));
  }

  /** By way of our Envoy: a gateway that it holds healthy, else any. */
  #probe(member: string, service: string | undefined, nowMs: number, asked?: Host): ProbeResult {
    const { self, ground, traffic, draw, head } = this.#o;
    const hosts = [...traffic.hosts.of(member)];
    const healthy = hosts.filter((host) => host.usable(ground.nowMs));
    const host = asked ?? (hosts.length === 0 ? undefined : draw.pick(healthy.length > 0 ? healthy : hosts));
    const gateway = asked === undefined ? {} : { gateway: `g${asked.gateway}` };
    const base = { member, service, ...gateway, atMs: nowMs, denied: false, status: undefined, head: undefined };
    const own = ground.cluster(self);
    const ms = ground.network.exchangeMs(self, member, probeFlights);
    if (
      host === undefined ||
      !own.anyGatewayUp ||
      !ground.reach(self, member, host.gateway) ||
      ms > this.#deadline(member)
    ) {
      return { ...base, ok: false, failedAt: 'tcp', ms: undefined };
    }
    this.#measure(member, ms / probeFlights);
    if (service !== undefined && (ground.cluster(member).pods.get(service)?.ready ?? 0) === 0) {
      return { ...base, ok: false, failedAt: 'connect', status: 503, ms };
    }
    return { ...base, ok: true, failedAt: undefined, status: 200, ms, head: head(member) };
  }

  /** Late is judged against the path. */
  #deadline(member: string): number {
    const { rttMs, varMs } = this.class(member);
    return probeDeadlineMs + probeFlights * (rttMs + 4 * varMs);
  }

  #measure(member: string, ms: number): void {
    const estimate = addRoundTrip(this.#estimates.get(member), ms);
    this.#estimates.set(member, estimate);
    this.#classes.set(member, roundTripClass(estimate, this.#classes.get(member)));
  }
}
