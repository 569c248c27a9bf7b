/**
 * Where each service's traffic should go, as data. Translations turn a plan into gateway and ztunnel resources; they never
 * decide.
 */
import type { ServiceKey } from '../core/names.ts';

/** One remote cluster that may serve a service. */
export interface Cell {
  readonly member: string;
  /** Relative share among the cells of its tier, > 0. */
  readonly weight: number;
}

export type Tiers = readonly (readonly Cell[])[];

/**
 * The service's remote cells, best tier first. Members without ready capacity are left out, unless nobody has any: then
 * all exporters stay, so that a gateway never gets an empty set for a service that may still have an endpoint somewhere.
 */
export interface ServicePlan {
  readonly key: ServiceKey;
  readonly tiers: Tiers;
  /** Ports that some exporter lacks, with the tiers of those that have them; no tier when nobody has. All others go by `tiers`. */
  readonly ports?: ReadonlyMap<number, Tiers>;
  /** False when no exporter reports ready capacity: the CONNECT will be refused, at once. */
  readonly usable: boolean;
}

export interface Plan {
  readonly services: ReadonlyMap<ServiceKey, ServicePlan>;
}
