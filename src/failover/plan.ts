/**
 * Where each service's traffic should go, as data. Translations turn a plan into gateway and ztunnel resources; they never
 * decide.
 */
import type { ServiceKey } from '../core/names.ts';
import type { CellState, Reason } from '../health/verdict.ts';

/** One remote cluster that may serve a service. */
export interface Cell {
  readonly member: string;
  /** Relative share among the cells of its tier, > 0. */
  readonly weight: number;
}

export type Tiers = readonly (readonly Cell[])[];

/** What the local endpoints of a service get of the local traffic. */
export interface LocalShare {
  /**
   * - 100: they serve while any is ready (ztunnel's FAILOVER ranking).
   * - 0: they are left out, as unhealthy.
   * - between: ranking is dropped and weights share; only where the mesh can do so, else the plan has 0 or 100.
   */
  readonly percent: number;
}

/** Why a cell has the place that it has, for people: every exporter of the service, ourselves included. */
export interface CellStanding {
  readonly member: string;
  readonly state: CellState;
  readonly reason: Reason;
  readonly detail: string;
  readonly sinceMs: number;
  readonly deadlineMs: number | undefined;
  /** Undefined: in no tier. */
  readonly tier: number | undefined;
  /** Share of its full weight that it gets: 0–100. */
  readonly percent: number;
  readonly ready: number;
  readonly total: number;
}

/** A guard that held a shift back, or let it through although it would have been wished otherwise. */
export interface GuardHold {
  readonly guard: GuardName;
  readonly member: string | undefined;
  /** One line: what was wished, what was done instead. */
  readonly detail: string;
}

/** In the order in which they are asked. */
export const guardNames = [
  'Frozen',
  'CutOff',
  'LastCell',
  'Region',
  'Grant',
  'Headroom',
  'SpillOnSpill',
  'HoldDown',
  'Latched',
  'Flapping',
  'DoubleReaction',
  'MoveRate',
] as const;
export type GuardName = (typeof guardNames)[number];

/**
 * The service's remote cells, best tier first. Members without ready capacity are left out, unless nobody has any: then
 * all exporters stay, so that a gateway never gets an empty set for a service that may still have an endpoint somewhere.
 */
export interface RemotePlan {
  readonly key: ServiceKey;
  readonly tiers: Tiers;
  /** Ports that some exporter lacks, with the tiers of those that have them; no tier when nobody has. All others go by `tiers`. */
  readonly ports?: ReadonlyMap<number, Tiers>;
  /** False when no exporter reports ready capacity: the CONNECT will be refused, at once. */
  readonly usable: boolean;
}

/** All of it. */
export interface ServicePlan extends RemotePlan {
  readonly local: LocalShare;
  /** Remote workload UNHEALTHY at the local ztunnels: nothing is left, and the policy says fail fast. */
  readonly failFast: boolean;
  /** Tunnels to cells without a share are ended once they are this old, ms; undefined: never. */
  readonly tunnelAgeMs: number | undefined;
  readonly standings: readonly CellStanding[];
  readonly held: readonly GuardHold[];
  /** Name of the policy that it was made by. */
  readonly policy: string;
}

/** What this cluster offers to others as a receiver, new connections a second. Enforced at its federation listener. */
export interface Grant {
  readonly reader: string;
  readonly service: ServiceKey;
  readonly perSecond: number;
}

export interface Plan {
  readonly services: ReadonlyMap<ServiceKey, ServicePlan>;
  /** Gateways of ours that are draining, and whether the whole cluster is: told to the others in our records. */
  readonly draining: {
    readonly cluster: boolean;
    readonly gateways: ReadonlySet<string>;
    readonly services: ReadonlySet<ServiceKey>;
  };
  readonly grants: readonly Grant[];
  /** Regions of which we hold that they are down: our votes. */
  readonly votes: readonly string[];
}

/** Before anything is decided. */
export const noPlan: Plan = {
  services: new Map(),
  draining: { cluster: false, gateways: new Set(), services: new Set() },
  grants: [],
  votes: [],
};
