/**
 * What an egress gateway's Envoy does by itself: active health checks, ejection after failures to connect in a row, priorities, weights,
 * retries on another host, and everybody again when nobody is left (panic). The numbers are those that the gateways are given.
 */
import type { Tiers } from '../../../src/failover/plan.ts';
import { outlierDefaults } from '../../../src/translate/envoy/outlier.ts';
import type { Served } from './cluster.ts';
import type { Draw } from './draw.ts';

const checksToUnhealthy = 2;
const checksToHealthy = 2;

/** One gateway of another cluster, as ours sees it. */
export class Host {
  readonly member: string;
  readonly gateway: number;
  draining = false;
  #healthy = true;
  #checks = 0;
  #failures = 0;
  #ejections = 0;
  ejectedUntilMs = Number.NEGATIVE_INFINITY;

  constructor(member: string, gateway: number) {
    this.member = member;
    this.gateway = gateway;
  }

  usable(nowMs: number): boolean {
    return this.#healthy && !this.ejected(nowMs);
  }
  ejected(nowMs: number): boolean {
    return nowMs < this.ejectedUntilMs;
  }

  check(ok: boolean): void {
    if (ok === this.#healthy) {
      this.#checks = 0;
      return;
    }
    this.#checks++;
    if (this.#checks < (ok ? checksToHealthy : checksToUnhealthy)) return;
    this.#healthy = ok;
    this.#checks = 0;
  }

  /** Whether it could be reached by a request. */
  tried(reached: boolean, nowMs: number): void {
    if (reached) {
      this.#failures = 0;
      if (this.#ejections > 0 && nowMs - this.ejectedUntilMs > outlierDefaults.maxEjectionMs) this.#ejections = 0;
      return;
    }
    this.#failures++;
    if (this.#failures < outlierDefaults.consecutiveLocalOriginFailures || this.ejected(nowMs)) return;
    this.#failures = 0;
    this.#ejections++;
    const { baseEjectionMs, maxEjectionMs } = outlierDefaults;
    this.ejectedUntilMs = nowMs + Math.min(maxEjectionMs, this.#ejections * baseEjectionMs);
  }
}

export class Hosts {
  readonly #hosts = new Map<string, Host>();
  readonly #draw: Draw;

  constructor(draw: Draw) {
    this.#draw = draw;
  }

  [Symbol.iterator](): IterableIterator<Host> {
    return this.#hosts.values();
  }
  *of(member: string): Generator<Host> {
    for (const host of this.#hosts.values()) if (host.member === member) yield host;
  }

  /** What EDS says now. */
  update({ gateways }: Served): void {
    const named = new Set<string>();
    for (const [member, list] of gateways) {
      for (const { id, draining } of list) {
        const name = `${member}/${id}`;
        named.add(name);
        const host = this.#hosts.get(name) ?? new Host(member, Number(id.slice(1)));
        host.draining = draining;
        this.#hosts.set(name, host);
      }
    }
    for (const name of [...this.#hosts.keys()]) if (!named.has(name)) this.#hosts.delete(name);
  }

  /** The next host for a request that has been at `tried`: the best tier with a healthy one, by weight; else anybody. */
  pick(tiers: Tiers, tried: ReadonlySet<Host>, nowMs: number): Host | undefined {
    for (const usable of [true, false]) {
      for (const tier of tiers) {
        for (const draining of [false, true]) {
          const cells = tier
            .map(({ member, weight }) => ({
              weight,
              hosts: [...this.of(member)].filter(
                (h) => !tried.has(h) && h.draining === draining && (!usable || h.usable(nowMs)),
              ),
            }))
            .filter(({ hosts }) => hosts.length > 0);
          if (cells.length === 0) continue;
          const cell = cells[this.#draw.weighted(cells.map(({ weight }) => weight))]!;
          return this.#draw.pick(cell.hosts);
        }
      }
    }
    return undefined;
  }
}
