/**
 * What a run is made of, as data: clusters, services, policy and faults. A seed draws it (draw-scenario.ts), shrinking makes it
 * smaller, and a regression is one that is kept.
 */
import type { Fault } from './fault.ts';
import type { PolicyName } from './policies.ts';

export interface ClusterSpec {
  readonly name: string;
  readonly region: string;
  readonly replicas: 1 | 2;
  readonly gateways: number;
  /** Of each replica's clock. */
  readonly ppm: readonly number[];
  readonly wallOffsetMs: readonly number[];
}

export interface ServiceSpec {
  /** `namespace/name` */
  readonly key: string;
  /** Pods, by the cluster that exports it. */
  readonly pods: Readonly<Record<string, number>>;
  /** New connections a second that one pod takes. */
  readonly perPod: number;
  /** New connections a second, by the cluster where they are opened. */
  readonly load: Readonly<Record<string, number>>;
}

export interface Scenario {
  readonly seed: number;
  readonly clusters: readonly ClusterSpec[];
  readonly services: readonly ServiceSpec[];
  readonly policy: PolicyName;
  readonly etcdRegion: string;
  /** Which member turns against the others, when faults say so. */
  readonly hostile: string | undefined;
  /** Undisturbed at first, then with faults until here, then without. */
  readonly calmMs: number;
  readonly safetyMs: number;
  readonly faults: readonly Fault[];
}

/** Above it a run is made lighter: one replica, one service, fewer heartbeats. */
export const manyClusters = 30;

/** The namespace that a hostile member was never granted. */
export const guardedNamespace = 'vault';
