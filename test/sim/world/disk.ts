/** What a replica keeps over its runs. */
import type { ServiceKey } from '../../../src/core/names.ts';
import type { Decision } from '../../../src/failover/decision.ts';
import type { Plan } from '../../../src/failover/plan.ts';
import type { LocalService } from '../../../src/federation/local.ts';

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
