/**
 * What a step decided, for the journal: enough to say why traffic moved, and to run the same step again.
 */
import type { ServiceKey } from '../core/names.ts';
import type { Reason } from '../health/verdict.ts';
import type { GuardHold } from './plan.ts';

/** Where a service's traffic goes, in a form that people compare: tier, member, percent. */
export interface Placement {
  readonly localPercent: number;
  readonly tiers: readonly (readonly {
    readonly member: string;
    readonly weight: number;
    readonly percent: number;
  }[])[];
}

export interface Decision {
  readonly atMs: number;
  readonly kind:
    | 'shift'
    | 'failback'
    | 'ramp'
    | 'state'
    | 'hold'
    | 'drain'
    | 'undrain'
    | 'freeze'
    | 'thaw'
    | 'region'
    | 'grant';
  /** Undefined for what concerns a member, a region or the cluster as a whole. */
  readonly service: ServiceKey | undefined;
  readonly member: string | undefined;
  /** The rule that fired. */
  readonly rule: Reason | 'Command' | 'Readiness' | 'Order' | 'Capacity' | 'Policy';
  readonly detail: string;
  readonly author: string;
  readonly guards: readonly GuardHold[];
  readonly before: Placement | string | undefined;
  readonly after: Placement | string | undefined;
  /** True when the policy only observes: this is what would have been done. */
  readonly observed: boolean;
  readonly policy: string;
  /** It reacts to our own failed data path, or to something that is no longer there: not counted against moves a minute. */
  readonly urgent: boolean;
}
