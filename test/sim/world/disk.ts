/** What a replica keeps over its runs. */
import type { ShippedHolds } from '../../../src/controller/shipping.ts';
import type { ServiceKey } from '../../../src/core/names.ts';
import type { Decision } from '../../../src/failover/decision.ts';
import type { Plan } from '../../../src/failover/plan.ts';
import type { LocalService } from '../../../src/federation/local.ts';

/** What the replica that decides tells the others of its cluster, by way of the store. */
export interface Word {
  readonly state: Uint8Array;
  readonly plan: Plan;
  readonly holds: ShippedHolds;
  /** On the scale of the states. */
  readonly nowMs: number;
}

export interface Disk {
  records: Uint8Array | undefined;
  state: Uint8Array | undefined;
  local: ReadonlyMap<ServiceKey, LocalService> | undefined;
  plan: Plan | undefined;
  /** What withdrawals are held. */
  held: unknown;
  /** From this machine's monotonic clock to the scale of the states. */
  offsetMs: number;
  journal: Decision[];
}
export const emptyDisk = (): Disk => ({
  records: undefined,
  state: undefined,
  local: undefined,
  plan: undefined,
  held: [],
  offsetMs: 0,
  journal: [],
});
