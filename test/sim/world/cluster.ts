/** One cluster as it truly is: pods, gateways, API server, the lease, and what its proxies were last told. */

import { parseServiceKey, serviceHostname } from '../../../src/core/names.ts';
import type { Plan } from '../../../src/failover/plan.ts';
import type { LocalService } from '../../../src/federation/local.ts';
import type { ClusterSpec, ServiceSpec } from './scenario.ts';

export const clusterDomain = 'cluster.local';

/** A gateway as a record names it. */
export interface KnownGateway {
  readonly id: string;
  readonly draining: boolean;
}

/** What a controller gave its proxies: the plan, and where the others' gateways are. */
export interface Served {
  readonly plan: Plan;
  readonly gateways: ReadonlyMap<string, readonly KnownGateway[]>;
  readonly atMs: number;
  readonly replica: number;
}

/** Pods of one service in one cluster. */
export class Pods {
  readonly key: string;
  readonly total: number;
  readonly perPod: number;
  /** Percent that each fault has made unready. */
  readonly unready: number[] = [];
  /** Percent of requests that each fault fails after they connected. */
  readonly gray: number[] = [];
  /** Fell over under load. */
  toppled = 0;
  /** In this second, by whom. */
  arrived = 0;
  arrivedBefore = 0;
  overSeconds = 0;
  underSeconds = 0;
  readonly spill = new Map<string, number>();
  /** Of the last whole second. */
  spillBefore: ReadonlyMap<string, number> = new Map();
  spilledAtMs = Number.NEGATIVE_INFINITY;

  constructor({ key, perPod }: ServiceSpec, total: number) {
    this.key = key;
    this.total = total;
    this.perPod = perPod;
  }

  get ready(): number {
    const percent = Math.max(0, ...this.unready);
    return Math.max(0, Math.floor(this.total * (1 - percent / 100)) - this.toppled);
  }
  get capacity(): number {
    return this.ready * this.perPod;
  }

  /**
   * A second has passed: who is far above what it can take for three of them loses a pod; one comes back when load is gone.
   * @param fragile - false: nobody falls over, and everybody who did is back
   */
  second(fragile: boolean): void {
    if (!fragile) this.toppled = 0;
    const over = this.arrived > 1.5 * this.capacity;
    this.overSeconds = over ? this.overSeconds + 1 : 0;
    this.underSeconds = this.arrived < 0.8 * this.capacity || this.arrived === 0 ? this.underSeconds + 1 : 0;
    if (fragile && this.overSeconds >= 3 && this.ready > 0) {
      this.toppled++;
      this.overSeconds = 0;
    }
    if (this.underSeconds >= 5 && this.toppled > 0) {
      this.toppled--;
      this.underSeconds = 0;
    }
    this.arrivedBefore = this.arrived;
    this.arrived = 0;
    this.spillBefore = new Map(this.spill);
    this.spill.clear();
  }
}

export class Cluster {
  readonly spec: ClusterSpec;
  readonly pods = new Map<string, Pods>();
  /** Faults that hold each gateway down. */
  readonly gatewaysDown: number[];
  /** Faults that hold all of it down. */
  down = 0;
  apiDark = 0;
  /** The writer's Lease, as the API server has it. */
  lease: { holder: number; untilMs: number } | undefined;
  served: Served | undefined;
  /** Which replica its proxies are connected to. */
  connected: number | undefined;
  /** By service: how much more is asked for than usually. */
  readonly factor = new Map<string, number>();

  constructor(spec: ClusterSpec, services: readonly ServiceSpec[]) {
    this.spec = spec;
    this.gatewaysDown = Array.from({ length: spec.gateways }, () => 0);
    for (const service of services) {
      const pods = service.pods[spec.name];
      if (pods !== undefined) this.pods.set(service.key, new Pods(service, pods));
    }
  }

  get name(): string {
    return this.spec.name;
  }
  gatewayUp(gateway: number): boolean {
    return this.down === 0 && this.gatewaysDown[gateway] === 0;
  }
  get anyGatewayUp(): boolean {
    return this.gatewaysDown.some((_, i) => this.gatewayUp(i));
  }

  /** As the API server tells it. */
  localServices(): Map<string, LocalService> {
    const services = new Map<string, LocalService>();
    for (const [key, pods] of this.pods) services.set(key, localService(key, pods.ready, pods.total));
    return services;
  }
}

export const localService = (key: string, ready: number, total: number): LocalService => {
  const name = parseServiceKey(key);
  if (!name.ok) throw name.error;
  return {
    key,
    ...name.value,
    type: 'ClusterIP',
    clusterIPs: ['10.96.0.10'],
    headless: false,
    sessionAffinity: false,
    ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
    labels: {},
    annotations: {},
    endpoints: Array.from({ length: total }, (_, i) => ({
      address: `10.250.0.${i + 1}`,
      pod: undefined,
      ready: i < ready,
      serving: i < ready,
      terminating: false,
      ports: new Map([[80, 8080]]),
    })),
    exported: { by: 'label', sinceMs: 1_000 },
    mode: 'gateway',
    trafficPolicy: undefined,
  };
};

export const hostnameOf = (key: string): string => {
  const name = parseServiceKey(key);
  if (!name.ok) throw name.error;
  return serviceHostname(name.value.namespace, name.value.name, clusterDomain);
};
