/**
 * Requests: from an app through its ztunnel, its gateway, the far gateway, to a pod. A request is done in one instant of simulated
 * time; what matters is who was tried, in which order, and what became of it.
 *
 * The ztunnel does not retry and knows no outliers: it goes to local pods or to the remote workload, as the plan's local share says.
 */
import type { ServicePlan } from '../../../src/failover/plan.ts';
import type { TrafficWindow } from '../../../src/health/signals.ts';
import type { Cluster, Pods } from './cluster.ts';
import type { Draw } from './draw.ts';
import { type Host, Hosts } from './envoy.ts';
import type { Network } from './network.ts';

const retries = 3;

export type Outcome = 'ok' | 'no-gateway' | 'unreachable' | 'no-pods' | 'refused' | 'overloaded' | 'gray' | 'fail-fast';

export interface Request {
  readonly atMs: number;
  readonly from: string;
  readonly service: string;
  /** Members in the order of the tries; the cluster itself when a local pod was asked. */
  readonly tries: readonly string[];
  readonly outcome: Outcome;
  readonly plan: ServicePlan | undefined;
}

type Counts = { -readonly [K in keyof TrafficWindow]: TrafficWindow[K] };

/** The ground that requests cross. */
export interface Ground {
  readonly network: Network;
  cluster(name: string): Cluster;
  reach(from: string, to: string, gateway: number): boolean;
  readonly nowMs: number;
  /** How many more a second the receiver's border lets in; undefined: no limit. */
  border(receiver: string, reader: string, service: string): number | undefined;
  told(request: Request): void;
}

const newCounts = (member: string, service: string | undefined): Counts => ({
  member,
  service,
  atMs: 0,
  windowMs: 0,
  tries: 0,
  established: 0,
  localErrors: 0,
  gatewayErrors: 0,
  otherErrors: 0,
  refused: 0,
  cut: 0,
  connectMsSum: 0,
  ejected: 0,
  gateways: 0,
});

/** The data plane of one cluster. */
export class Traffic {
  readonly hosts: Hosts;
  readonly #cluster: Cluster;
  readonly #ground: Ground;
  readonly #draw: Draw;
  readonly #load: ReadonlyMap<string, number>;
  readonly #owed = new Map<string, number>();
  readonly #windows = new Map<string, Counts>();
  #windowFromMs = 0;

  constructor(cluster: Cluster, load: ReadonlyMap<string, number>, ground: Ground, draw: Draw) {
    this.#cluster = cluster;
    this.#load = load;
    this.#ground = ground;
    this.#draw = draw;
    this.hosts = new Hosts(draw.fork('envoy'));
  }

  /** Health checks, twice a second. @param timeoutMs - by member */
  check(timeoutMs: (member: string) => number): void {
    const { network } = this.#ground;
    for (const host of this.hosts) {
      const reached = this.#ground.reach(this.#cluster.name, host.member, host.gateway);
      host.check(reached && network.exchangeMs(this.#cluster.name, host.member, 1) <= timeoutMs(host.member));
    }
  }

  /** What is asked for in `ms`. */
  flow(ms: number): void {
    if (this.#cluster.down > 0) return;
    for (const [service, perSecond] of this.#load) {
      const factor = this.#cluster.factor.get(service) ?? 1;
      let owed = (this.#owed.get(service) ?? 0) + (perSecond * factor * ms) / 1_000;
      for (; owed >= 1; owed--) this.#request(service);
      this.#owed.set(service, owed);
    }
  }

  /** Load reports since the last call. */
  windows(nowMs: number): TrafficWindow[] {
    const windows: TrafficWindow[] = [];
    for (const counts of this.#windows.values()) {
      const hosts = [...this.hosts.of(counts.member)];
      counts.atMs = nowMs;
      counts.windowMs = nowMs - this.#windowFromMs;
      counts.gateways = hosts.length;
      counts.ejected = hosts.filter((h) => h.ejected(this.#ground.nowMs)).length;
      windows.push(counts);
    }
    this.#windows.clear();
    this.#windowFromMs = nowMs;
    return windows;
  }

  #request(service: string): void {
    const tries: string[] = [];
    const plan = this.#cluster.served?.plan.services.get(service);
    const outcome = this.#go(service, plan, tries);
    this.#ground.told({ atMs: this.#ground.nowMs, from: this.#cluster.name, service, tries, outcome, plan });
  }

  #go(service: string, plan: ServicePlan | undefined, tries: string[]): Outcome {
    const cluster = this.#cluster;
    const pods = cluster.pods.get(service);
    if (this.#goesLocal(plan, pods)) {
      tries.push(cluster.name);
      return answer(pods, this.#draw);
    }
    if (plan === undefined) return 'no-pods';
    if (plan.failFast) return 'fail-fast';
    if (!cluster.anyGatewayUp) return 'no-gateway';
    const tried = new Set<Host>();
    let outcome: Outcome = 'unreachable';
    for (let i = 0; i <= retries; i++) {
      const host = this.hosts.pick(plan.tiers, tried, this.#ground.nowMs);
      if (host === undefined) break;
      tried.add(host);
      tries.push(host.member);
      outcome = this.#try(host, service);
      // After its 200 a tunnel is the application's: nobody tries again.
      if (outcome === 'ok' || outcome === 'gray' || outcome === 'overloaded') break;
    }
    return outcome;
  }

  #goesLocal(plan: ServicePlan | undefined, pods: Pods | undefined): boolean {
    const ready = pods?.ready ?? 0;
    if (plan === undefined) return pods !== undefined;
    const percent = plan.local.percent;
    if (ready === 0 || percent === 0) return false;
    return percent >= 100 || this.#draw.next() * 100 < percent;
  }

  #try(host: Host, service: string): Outcome {
    const { nowMs } = this.#ground;
    const counts = [this.#count(host.member, undefined), this.#count(host.member, service)];
    for (const c of counts) c.tries++;
    if (!this.#ground.reach(this.#cluster.name, host.member, host.gateway)) {
      host.tried(false, nowMs);
      for (const c of counts) c.localErrors++;
      return 'unreachable';
    }
    host.tried(true, nowMs);
    const pods = this.#ground.cluster(host.member).pods.get(service);
    if (pods === undefined || pods.ready === 0) {
      for (const c of counts) c.gatewayErrors++;
      return 'no-pods';
    }
    const limit = this.#ground.border(host.member, this.#cluster.name, service);
    const taken = pods.spill.get(this.#cluster.name) ?? 0;
    if (limit !== undefined && taken >= limit) {
      for (const c of counts) c.refused++;
      return 'refused';
    }
    pods.spill.set(this.#cluster.name, taken + 1);
    pods.spilledAtMs = nowMs;
    const ms = this.#ground.network.rttMs(this.#cluster.name, host.member);
    for (const c of counts) {
      c.established++;
      c.connectMsSum += ms;
    }
    return answer(pods, this.#draw);
  }

  #count(member: string, service: string | undefined): Counts {
    const key = `${service ?? ''}|${member}`;
    let counts = this.#windows.get(key);
    if (counts === undefined) {
      counts = newCounts(member, service);
      this.#windows.set(key, counts);
    }
    return counts;
  }
}

/** What a pod makes of a request. */
const answer = (pods: Pods | undefined, draw: Draw): Outcome => {
  if (pods === undefined || pods.ready === 0) return 'no-pods';
  pods.arrived++;
  if (pods.arrived > pods.capacity) return 'overloaded';
  const gray = Math.max(0, ...pods.gray);
  return gray > 0 && draw.chance(gray / 100) ? 'gray' : 'ok';
};
