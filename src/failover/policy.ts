/**
 * A FailoverPolicy as the decisions read it: every threshold in one place, each with a default that suits a service of which nothing
 * is known. The custom resource `isthmus.dev/v1alpha1` FailoverPolicy and the cluster set's default are parsed into this shape
 * elsewhere (`kube/`, `records/`); times are ms here, durations there.
 */
import type { ServiceKey } from '../core/names.ts';
import { defaultThresholds, type Thresholds } from '../health/thresholds.ts';

/**
 * A step of the order. The clusters that a step takes in form one tier; those of `any` a tier for each region, by its name. A cluster
 * belongs to the first step that names it or is `same-region`, else to the first that names its region, else to `any`. One that no
 * step takes in is used only when nobody else is left. Without a `local` step our own endpoints come first.
 */
export type OrderStep =
  | { readonly kind: 'local' }
  | { readonly kind: 'same-region' }
  | { readonly kind: 'cluster'; readonly name: string }
  | { readonly kind: 'region'; readonly name: string }
  | { readonly kind: 'any' };

export interface CapacityPolicy {
  /** New connections a second that one ready endpoint takes; undefined: unknown, and vetoes nothing. */
  readonly perEndpoint: number | undefined;
  /** Share of declared capacity that is never offered to others, 0–100. */
  readonly reservePercent: number;
  /** Local endpoints serve alone while at least this share of them is ready; below it the rest is spilled, where the mesh can do so. */
  readonly localPercent: number;
  /** At most this share of the local traffic is spilled while any local endpoint is ready, 0–100. */
  readonly maxSpillPercent: number;
}

export interface FailbackPolicy {
  readonly mode: 'ramp' | 'latched';
  /** Healthy for this long before anything moves back. */
  readonly holdDownMs: number;
  /** Shares of the weight, rising, the last one 100. */
  readonly steps: readonly number[];
  readonly stepMs: number;
  /** Tunnels to where traffic was are ended after this, so that a failback ends; undefined: never. */
  readonly tunnelAgeMs: number | undefined;
}

export interface DrainPolicy {
  readonly overMs: number;
  readonly graceMs: number;
}

export interface FailoverPolicy {
  /** `namespace/name` of the object, `default` for the cluster set's. */
  readonly name: string;
  readonly order: readonly OrderStep[];
  readonly thresholds: Thresholds;
  readonly capacity: CapacityPolicy;
  readonly failback: FailbackPolicy;
  readonly drain: DrainPolicy;
  /** When every cell is bad: go on with the last one that was good, or refuse at once. */
  readonly whenAllBad: 'keep-last' | 'fail-fast';
  readonly mode: 'act' | 'observe';
  /** Moves of one service a minute; what exceeds them waits. */
  readonly maxMovesPerMinute: number;
}

/** The policies of this cluster. */
export interface Policies {
  /** The cluster set's, or the built-in one. */
  readonly default: FailoverPolicy;
  /** For the services that an object targets. */
  readonly services: ReadonlyMap<ServiceKey, FailoverPolicy>;
  /** For all other services of a namespace, when an object targets the namespace as a whole. */
  readonly namespaces?: ReadonlyMap<string, FailoverPolicy>;
  /** What the mesh adapter can carry out. */
  readonly capabilities: { readonly partialSpill: boolean };
}

export const policyOf = (policies: Policies, service: ServiceKey): FailoverPolicy =>
  policies.services.get(service) ??
  policies.namespaces?.get(service.slice(0, service.indexOf('/'))) ??
  policies.default;

export const defaultPolicy: FailoverPolicy = {
  name: 'default',
  order: [{ kind: 'local' }, { kind: 'same-region' }, { kind: 'any' }],
  thresholds: defaultThresholds,
  capacity: { perEndpoint: undefined, reservePercent: 20, localPercent: 70, maxSpillPercent: 100 },
  failback: { mode: 'ramp', holdDownMs: 15_000, steps: [10, 25, 50, 100], stepMs: 10_000, tunnelAgeMs: undefined },
  drain: { overMs: 30_000, graceMs: 120_000 },
  whenAllBad: 'keep-last',
  mode: 'act',
  maxMovesPerMinute: 12,
};

export const defaultPolicies: Policies = {
  default: defaultPolicy,
  services: new Map(),
  capabilities: { partialSpill: true },
};
