/**
 * Outlier detection with Envoy's names and meanings, for a service at a cluster, and for a cluster as a whole: so many errors in a
 * row, or a share of them in an interval of enough volume; ejected for the base time × the number of ejections.
 *
 * Envoy's own detection sees gateway addresses, which all services share, so it is kept from judging by what one service answers.
 * Here the errors are told apart. What comes in is counts of a window, not single calls: errors in a row are those that
 * must have followed each other however they were mixed (errors / (successes + 1)), and a row goes on over windows without success.
 *
 * Nothing is stored of what only succeeds: an interval begins with the first window that has an error in it.
 */
import type { TrafficPolicy } from '../federation/local.ts';
import type { OutlierThresholds } from './thresholds.ts';

export interface Outlier {
  /** Errors in a row; gateway errors (502, 503, 504, could not connect) in a row. */
  readonly errors: number;
  readonly gateway: number;
  /** End of the newest window that was counted. All times here are presence time. */
  readonly atMs: number;
  readonly interval?: { readonly startMs: number; readonly volume: number; readonly failures: number } | undefined;
  /** Ejected so many times, not counting those that are forgotten. */
  readonly ejections: number;
  /** End of the ejection, also when it is over. */
  readonly untilMs?: number | undefined;
  readonly cause?: 'ConsecutiveErrors' | 'FailurePercentage' | undefined;
  readonly detail?: string | undefined;
}

/** One window, with the errors that are to be counted here. */
export interface Counts {
  readonly atMs: number;
  readonly windowMs: number;
  readonly successes: number;
  readonly localErrors: number;
  readonly gatewayErrors: number;
  readonly otherErrors: number;
}

/** A 0 of the user's switches a rule off, as it does in Istio; what he leaves out stays the policy's. */
export const rulesOf = (policy: OutlierThresholds, user: TrafficPolicy | undefined): OutlierThresholds => {
  if (user === undefined) return policy;
  const off = (value: number | undefined, otherwise: number): number =>
    value === undefined ? otherwise : value === 0 ? Number.POSITIVE_INFINITY : value;
  const baseEjectionMs = user.baseEjectionTimeMs ?? policy.baseEjectionMs;
  return {
    ...policy,
    consecutiveErrors: off(user.consecutive5xxErrors, policy.consecutiveErrors),
    consecutiveGatewayErrors: off(user.consecutiveGatewayErrors, policy.consecutiveGatewayErrors),
    intervalMs: user.intervalMs ?? policy.intervalMs,
    baseEjectionMs,
    maxEjectionMs: Math.max(baseEjectionMs, policy.maxEjectionMs),
    maxEjectionPercent: user.maxEjectionPercent ?? policy.maxEjectionPercent,
  };
};

export const isEjected = (outlier: Outlier | undefined, timeMs: number): boolean =>
  outlier?.untilMs !== undefined && timeMs < outlier.untilMs;

/** How long a good conduct wipes out one ejection. Longer than Envoy's interval, for traffic comes back in steps only. */
const forgiveMs = ({ intervalMs, baseEjectionMs }: OutlierThresholds): number => Math.max(intervalMs, baseEjectionMs);

export const ejectionMs = (ejections: number, { baseEjectionMs, maxEjectionMs }: OutlierThresholds): number =>
  Math.min(baseEjectionMs * Math.max(1, ejections), Math.max(baseEjectionMs, maxEjectionMs));

/** The longest row of errors that a window must contain. */
const rowOf = (errors: number, successes: number): number => (errors === 0 ? 0 : Math.ceil(errors / (successes + 1)));

const eject = (
  outlier: Outlier,
  cause: Outlier['cause'],
  detail: string,
  timeMs: number,
  rules: OutlierThresholds,
): Outlier => {
  const { baseEjectionMs } = rules;
  const cleared = { ...outlier, errors: 0, gateway: 0, interval: undefined };
  if (isEjected(outlier, timeMs)) {
    // It was kept in use, or this was under way still. Prolonged in long steps, so that a deadline on display stands for a while.
    const renew = outlier.untilMs! - timeMs < baseEjectionMs / 2;
    return { ...cleared, untilMs: renew ? timeMs + baseEjectionMs : outlier.untilMs };
  }
  const ejections = outlier.ejections + 1;
  return { ...cleared, ejections, untilMs: timeMs + ejectionMs(ejections, rules), cause, detail };
};

const percentOf = (part: number, whole: number): number => Math.round((100 * part) / whole);

const evaluateInterval = (outlier: Outlier, timeMs: number, rules: OutlierThresholds): Outlier => {
  const { interval } = outlier;
  if (interval === undefined || timeMs < interval.startMs + rules.intervalMs) return outlier;
  const { volume, failures } = interval;
  const over = volume >= rules.failurePercentageMinimumVolume && failures * 100 >= rules.failurePercentage * volume;
  if (!over) return { ...outlier, interval: undefined };
  const detail = `${failures} of ${volume} calls failed in ${rules.intervalMs} ms (${percentOf(failures, volume)} %, the limit is ${rules.failurePercentage} %)`;
  return eject(outlier, 'FailurePercentage', detail, timeMs, rules);
};

const fresh = (atMs: number): Outlier => ({ errors: 0, gateway: 0, atMs, ejections: 0 });

/** Adds a window. Undefined stays undefined while nothing fails. */
export const addWindow = (
  before: Outlier | undefined,
  counts: Counts,
  rules: OutlierThresholds,
): Outlier | undefined => {
  const { atMs, windowMs, successes, localErrors, gatewayErrors, otherErrors } = counts;
  const failures = localErrors + gatewayErrors + otherErrors;
  if (failures === 0 && before === undefined) return undefined;
  if (before !== undefined && atMs <= before.atMs) return before;
  if (failures + successes === 0) return before;
  const known = evaluateInterval(before ?? fresh(atMs), atMs - windowMs, rules);
  const gatewayLike = localErrors + gatewayErrors;
  const row = rowOf(failures, successes);
  const gatewayRow = rowOf(gatewayLike, successes + otherErrors);
  const errors = successes === 0 ? known.errors + failures : row;
  const gateway = successes + otherErrors === 0 ? known.gateway + gatewayLike : gatewayRow;
  const startMs = known.interval?.startMs ?? atMs - windowMs;
  const interval =
    failures === 0 && known.interval === undefined
      ? undefined
      : {
          startMs,
          volume: (known.interval?.volume ?? 0) + failures + successes,
          failures: (known.interval?.failures ?? 0) + failures,
        };
  const counted: Outlier = { ...known, errors, gateway, atMs, interval };
  if (gateway >= rules.consecutiveGatewayErrors) {
    return eject(counted, 'ConsecutiveErrors', `${gateway} gateway errors in a row`, atMs, rules);
  }
  if (errors >= rules.consecutiveErrors) {
    return eject(counted, 'ConsecutiveErrors', `${errors} errors in a row`, atMs, rules);
  }
  return evaluateInterval(counted, atMs, rules);
};

/** What time alone does: an interval ends, an ejection ends and is forgotten. Undefined when there is nothing left to know. */
export const settleOutlier = (
  before: Outlier | undefined,
  timeMs: number,
  rules: OutlierThresholds,
): Outlier | undefined => {
  if (before === undefined) return undefined;
  let outlier = evaluateInterval(before, timeMs, rules);
  if (outlier.untilMs !== undefined && timeMs >= outlier.untilMs) {
    const forgiven = Math.floor((timeMs - outlier.untilMs) / forgiveMs(rules));
    if (forgiven > 0) {
      const ejections = Math.max(0, outlier.ejections - forgiven);
      const untilMs = ejections === 0 ? undefined : outlier.untilMs + forgiven * forgiveMs(rules);
      outlier = { ...outlier, ejections, untilMs };
    }
  }
  const quietMs = timeMs - outlier.atMs;
  // A row that nobody continues for this long is none any more.
  if (outlier.errors + outlier.gateway > 0 && quietMs >= rules.maxEjectionMs)
    outlier = { ...outlier, errors: 0, gateway: 0 };
  const nothing = outlier.errors + outlier.gateway + outlier.ejections === 0 && outlier.interval === undefined;
  // For an interval longer, so that what is told twice is known again.
  return nothing && quietMs >= rules.intervalMs ? undefined : outlier;
};

/** In presence time: when time alone changes something next. */
export const outlierWakeMs = (
  outlier: Outlier | undefined,
  timeMs: number,
  rules: OutlierThresholds,
): number | undefined => {
  if (outlier === undefined) return undefined;
  const ends = [
    outlier.interval === undefined ? undefined : outlier.interval.startMs + rules.intervalMs,
    outlier.untilMs,
  ];
  const future = ends.filter((end) => end !== undefined && end > timeMs) as number[];
  return future.length === 0 ? undefined : Math.min(...future);
};
