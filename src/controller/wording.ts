/**
 * The words for states, reasons and rules, for people who were not there. One table, so that `explain`, `status` and a dry run
 * call the same thing the same; the CamelCase reason stays beside it, for it is what logs, metrics and conditions have.
 */

import type { OrderStep } from '../failover/policy.ts';
import type { Reason } from '../health/verdict.ts';

/** Completes "<cluster> is not used, because …". */
const reasons: Record<Reason, string> = {
  Healthy: 'it is healthy',
  ControlSilent: 'its control plane is silent',
  StoreDark: 'the store does not answer, so that nobody’s silence can be told',
  ProbeFailed: 'probes through the data path fail',
  ConsecutiveErrors: 'calls to it failed one after another',
  FailurePercentage: 'too many of the calls to it fail',
  GrayFailure: 'it accepts calls but answers them badly',
  NotReady: 'too few of its endpoints are ready',
  Withdrawn: 'it withdrew the service',
  WithdrawalHeld: 'it withdrew so much at once that this is not believed yet',
  ShuttingDown: 'its controller says that it shuts down',
  Draining: 'it is being drained',
  SilentAndUnreachable: 'it is silent and cannot be reached',
  RegionCondemned: 'a quorum holds its region to be down',
  HoldDown: 'it is healthy again, but not for long enough yet',
  Ramping: 'it gets its traffic back in steps',
  Latched: 'it is healthy again and waits for a person’s word',
  Flapping: 'it changed its state too often',
};

/** With the number of endpoints, where that is the reason. */
export const because = (
  reason: Reason,
  standing?: { readonly ready: number | null; readonly total: number | null },
): string => {
  if (reason !== 'NotReady' || standing?.ready == null || standing.total === null) return reasons[reason];
  if (standing.total === 0) return 'it has no endpoint';
  return standing.ready === 0
    ? `none of its ${standing.total} endpoints is ready`
    : `only ${standing.ready} of its ${standing.total} endpoints are ready`;
};

/** Whether a string from a journal is a reason of this version. */
export const isReason = (value: string): value is Reason => Object.hasOwn(reasons, value);

export const stepText = (step: OrderStep): string =>
  step.kind === 'cluster' ? step.name : step.kind === 'region' ? `region ${step.name}` : step.kind;

/** `us-west`, `us-west and eu-central`, `a, b and c`. */
export const listed = (names: readonly string[]): string =>
  names.length < 2 ? (names[0] ?? 'nobody') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;

/** 0–100, without decimals unless it is neither nothing nor all. */
export const percentText = (percent: number): string => {
  if (percent > 0 && percent < 1) return '<1 %';
  return percent > 99 && percent < 100 ? '>99 %' : `${Math.round(percent)} %`;
};
