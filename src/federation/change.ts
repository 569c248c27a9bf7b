/** What changed in what may be used of the members: who is told of it looks at that alone. */
import type { ServiceKey } from '../core/names.ts';

/** What changed in what may be used. */
export interface FederationChange {
  /** Keys of services that another member added, changed or withdrew. */
  readonly services: ReadonlySet<ServiceKey>;
  /** Keys of our own: what we wrote has been read back. Nothing that is served follows from it. */
  readonly own: ReadonlySet<ServiceKey>;
  /** Members whose membership, gateways, trust, vantage or shutdown changed, or who came or went: what is translated. */
  readonly members: ReadonlySet<string>;
  /** Those of them whose membership or gateways changed: what the order of cells depends on. */
  readonly topology: ReadonlySet<string>;
  /** Members whose grants to us, votes or verdicts changed. */
  readonly signals: ReadonlySet<string>;
  /** Members whose manifest rose. */
  readonly heads: ReadonlySet<string>;
  /** The cluster set's policy changed. */
  readonly policy: boolean;
}

export interface Changes extends FederationChange {
  readonly services: Set<ServiceKey>;
  readonly own: Set<ServiceKey>;
  readonly members: Set<string>;
  readonly topology: Set<string>;
  readonly signals: Set<string>;
  readonly heads: Set<string>;
}

export const noChanges = (policy: boolean): Changes => ({
  services: new Set(),
  own: new Set(),
  members: new Set(),
  topology: new Set(),
  signals: new Set(),
  heads: new Set(),
  policy,
});
