/**
 * Every field of a FailoverPolicy's spec, once: its path, what it may hold, what it means, and where its value lives in the policy that
 * the decisions read. The parser, the schema of the custom resource and the page of the documentation are made from this table, so
 * they cannot disagree. A schema written by hand beside a parser written by hand was passed over: three places to forget one.
 */
import { limits } from '../core/limits.ts';
import type { FailoverPolicy, OrderStep } from './policy.ts';

export type FieldType =
  | { readonly kind: 'duration'; readonly minMs: number; readonly maxMs: number }
  | { readonly kind: 'integer'; readonly min: number; readonly max: number }
  | { readonly kind: 'rate' }
  | { readonly kind: 'word'; readonly words: readonly string[] }
  | { readonly kind: 'steps'; readonly countMax: number }
  | { readonly kind: 'order'; readonly countMax: number };

/** A value as the decisions have it: durations in ms, percent as a number. */
export type FieldValue = number | string | readonly number[] | readonly OrderStep[] | undefined;

/** Where a value lives, as `thresholds.outlier.intervalMs`. */
type PathIn<T, Before extends string = ''> = {
  [K in keyof T & string]: T[K] extends readonly unknown[]
    ? `${Before}${K}`
    : T[K] extends object
      ? PathIn<T[K], `${Before}${K}.`>
      : `${Before}${K}`;
}[keyof T & string];

export interface PolicyField {
  /** Below `spec`. */
  readonly path: string;
  readonly type: FieldType;
  /** For people: whole sentences. */
  readonly meaning: string;
  readonly at: PathIn<FailoverPolicy>;
  /** What is written is so many times what the decisions have. */
  readonly scale: number;
}

type Tree = { [key: string]: unknown };

export const readField = ({ at, scale }: PolicyField, policy: FailoverPolicy): FieldValue => {
  let value: unknown = policy;
  for (const key of at.split('.')) value = (value as Tree)[key];
  return (scale === 1 || typeof value !== 'number' ? value : Math.round(value * scale)) as FieldValue;
};

/** Into a policy that is the caller's own. */
export const writeField = ({ at, scale }: PolicyField, draft: FailoverPolicy, value: FieldValue): void => {
  const keys = at.split('.');
  const last = keys.pop()!;
  let into = draft as unknown as Tree;
  for (const key of keys) into = into[key] as Tree;
  into[last] = scale === 1 || typeof value !== 'number' ? value : value / scale;
};

const second = 1_000;
const hour = 3_600 * second;

const duration = (minMs: number, maxMs: number): FieldType => ({ kind: 'duration', minMs, maxMs });
const integer = (min: number, max: number): FieldType => ({ kind: 'integer', min, max });
const percent = (min = 0): FieldType => integer(min, 100);
const word = (...words: readonly string[]): FieldType => ({ kind: 'word', words });

const field = (path: string, type: FieldType, meaning: string, at: PolicyField['at'], scale = 1): PolicyField => ({
  path,
  type,
  meaning,
  at,
  scale,
});

export const orderTypes = ['local', 'same-region', 'cluster', 'region', 'any'] as const;

const general: readonly PolicyField[] = [
  field(
    'mode',
    word('act', 'observe'),
    '`observe` writes to the journal what would be done, and changes nothing.',
    'mode',
  ),
  field(
    'order',
    { kind: 'order', countMax: 64 },
    'Where traffic goes, best first: steps with a `type` (local, same-region, cluster, region, any). The clusters that a step takes in share its traffic by ready capacity (those of `any` region by region); each belongs to the first step that names it or its region. One that no step takes in is used only when nobody else is left. `cluster` and `region` need a `name`; nothing can follow `any`.',
    'order',
  ),
  field(
    'whenAllBad',
    word('keep-last', 'fail-fast'),
    'When every cluster is bad: `keep-last` goes on with the last ones that were good, `fail-fast` refuses new connections at once.',
    'whenAllBad',
  ),
  field(
    'maxMovesPerMinute',
    integer(1, 600),
    'Moves of one service in a minute; what exceeds them waits. Leaving a failed data path does not wait.',
    'maxMovesPerMinute',
  ),
];

const outlierDetection: readonly PolicyField[] = [
  field(
    'outlierDetection.consecutive5xxErrors',
    integer(1, 100_000),
    'Errors in a row, of any kind, until a service at a cluster is taken for failing.',
    'thresholds.outlier.consecutiveErrors',
  ),
  field(
    'outlierDetection.consecutiveGatewayErrors',
    integer(1, 100_000),
    'The same for answers 502, 503 and 504 and for connections that could not be made.',
    'thresholds.outlier.consecutiveGatewayErrors',
  ),
  field(
    'outlierDetection.failurePercentageThreshold',
    percent(1),
    'Share of failures in an interval from which a service at a cluster is taken for failing, percent.',
    'thresholds.outlier.failurePercentage',
  ),
  field(
    'outlierDetection.failurePercentageRequestVolume',
    integer(1, 1_000_000),
    'With fewer connections in an interval no share is counted.',
    'thresholds.outlier.failurePercentageMinimumVolume',
  ),
  field(
    'outlierDetection.interval',
    duration(100, hour),
    'Length of the interval over which failures are counted.',
    'thresholds.outlier.intervalMs',
  ),
  field(
    'outlierDetection.baseEjectionTime',
    duration(100, 24 * hour),
    'How long a service at a cluster is left out the first time; it grows with each time in a row.',
    'thresholds.outlier.baseEjectionMs',
  ),
  field(
    'outlierDetection.maxEjectionTime',
    duration(100, 24 * hour),
    'The longest that it grows to; not below `baseEjectionTime`.',
    'thresholds.outlier.maxEjectionMs',
  ),
  field(
    'outlierDetection.maxEjectionPercent',
    percent(),
    'Share of the clusters of a service that may be left out for errors, percent. The last cluster is never left out, whatever this says.',
    'thresholds.outlier.maxEjectionPercent',
  ),
];

const thresholds: readonly PolicyField[] = [
  field(
    'thresholds.probeFailures',
    integer(1, 100),
    'Probes through the data path that must fail in a row.',
    'thresholds.probeFailures',
  ),
  field(
    'thresholds.probeSuccesses',
    integer(1, 100),
    'Probes that must succeed in a row before the path counts as whole again.',
    'thresholds.probeSuccesses',
  ),
  field(
    'thresholds.silentAfter',
    duration(second, hour),
    'A cluster’s control plane counts as silent when nothing new was heard of it for this long, widened by what its path needs.',
    'thresholds.silentMs',
  ),
  field(
    'thresholds.suspectFor',
    duration(0, hour),
    'How long suspicion lasts, when the evidence stays, before the cluster is not used from here.',
    'thresholds.suspectMs',
  ),
  field(
    'thresholds.evictAfter',
    duration(second, 24 * hour),
    'How long a cluster must be silent and unreachable, both, before its records take part in nothing.',
    'thresholds.evictMs',
  ),
  field(
    'thresholds.suspectWeightPercent',
    percent(1),
    'Share of its weight that a suspect with a doubtful data path keeps, percent.',
    'thresholds.suspectWeight',
    100,
  ),
  field(
    'thresholds.withdrawalPercent',
    percent(1),
    'A withdrawal of more than this share of a cluster’s services at once is held back, percent.',
    'thresholds.withdrawalPercent',
  ),
  field(
    'thresholds.withdrawalMinimumServices',
    integer(1, limits.recordsPerMemberMax),
    'A cluster with fewer services than this may withdraw them as it likes.',
    'thresholds.withdrawalMinimum',
  ),
  field(
    'thresholds.withdrawalHold',
    duration(0, 24 * hour),
    'How long a withdrawal is held back, unless the cluster is dead by two signals or a person confirms.',
    'thresholds.withdrawalHoldMs',
  ),
  field(
    'thresholds.flapPenalty',
    integer(1, 1_000_000),
    'Added to a service’s penalty at a cluster with each change of its state.',
    'thresholds.flapPenalty',
  ),
  field(
    'thresholds.flapHalfLife',
    duration(second, 24 * hour),
    'The penalty halves in this time.',
    'thresholds.flapHalfLifeMs',
  ),
  field(
    'thresholds.flapLimit',
    integer(1, 10_000_000),
    'With a penalty above this it stays out until the penalty has decayed; not below `flapPenalty`.',
    'thresholds.flapLimit',
  ),
  field(
    'thresholds.grayFailures',
    integer(1, 100),
    'Opt-in probes of the application that must fail in a row.',
    'thresholds.grayFailures',
  ),
  field(
    'thresholds.graySuccesses',
    integer(1, 100),
    'Opt-in probes of the application that must succeed in a row; up to 40 where such rows broke.',
    'thresholds.graySuccesses',
  ),
];

const capacity: readonly PolicyField[] = [
  field(
    'capacity.perEndpoint',
    { kind: 'rate' },
    'New connections a second that one ready endpoint takes, of clusters that declare none themselves (annotation `isthmus.dev/capacity`). Unset: unknown, and unknown capacity holds nothing back.',
    'capacity.perEndpoint',
  ),
  field(
    'capacity.reservePercent',
    percent(),
    'Share of the declared capacity that is never offered to other clusters, percent.',
    'capacity.reservePercent',
  ),
  field(
    'spill.localReadyPercent',
    percent(1),
    'Local endpoints serve alone while at least this share of them is ready, percent; below it the rest of the traffic goes elsewhere, where the mesh can share it.',
    'capacity.localPercent',
  ),
  field(
    'spill.maxPercent',
    percent(),
    'At most this share of the local traffic goes elsewhere while any local endpoint is ready, percent.',
    'capacity.maxSpillPercent',
  ),
];

const moves: readonly PolicyField[] = [
  field(
    'failback.mode',
    word('ramp', 'latched'),
    '`ramp` moves traffic back by itself, in steps; `latched` waits until a person says so.',
    'failback.mode',
  ),
  field(
    'failback.holdDown',
    duration(0, 24 * hour),
    'Healthy for this long before anything moves back.',
    'failback.holdDownMs',
  ),
  field(
    'failback.steps',
    { kind: 'steps', countMax: 16 },
    'Shares of the full weight, in percent, rising, the last one 100.',
    'failback.steps',
  ),
  field('failback.stepTime', duration(second, 24 * hour), 'Time between two steps.', 'failback.stepMs'),
  field(
    'failback.tunnelMaxAge',
    duration(second, 24 * hour),
    'Tunnels to where traffic was are ended when they are this old, so that a failback ends. Unset: they are left to finish.',
    'failback.tunnelAgeMs',
  ),
  field('drain.over', duration(0, 24 * hour), 'New connections move away over this time, in steps.', 'drain.overMs'),
  field(
    'drain.grace',
    duration(0, 24 * hour),
    'Connections that exist are left to finish for this long.',
    'drain.graceMs',
  ),
];

/** In the order of the documentation. `targetRefs` is not one of them: it says whom a policy is for, not what it says. */
export const policyFields: readonly PolicyField[] = [
  ...general,
  ...outlierDetection,
  ...thresholds,
  ...capacity,
  ...moves,
];

/** Groups of fields, with what they are about. */
export const policyGroups: Readonly<Record<string, string>> = {
  outlierDetection: 'When errors of traffic condemn a service at a cluster. Names as in Envoy and Istio.',
  thresholds: 'When other evidence does: probes, silence, withdrawals, and how much change is too much.',
  capacity: 'What endpoints can take.',
  spill: 'How much of the local traffic goes elsewhere while some of it can be served here.',
  failback: 'How traffic comes back.',
  drain: 'How traffic leaves what a person drains.',
};
