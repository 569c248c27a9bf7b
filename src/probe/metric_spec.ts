/**
 * The metric query of a service, as its annotations ask for it: the other kind of gray signal, for applications that are measured
 * already. Where it is asked is the controller's configuration, never an annotation: whoever may edit a Service must not choose whom
 * the controller calls.
 */
import { parseDuration } from '../core/duration.ts';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import { grayAnnotations } from './gray_spec.ts';

export const metricAnnotations = {
  query: 'isthmus.dev/metric-query',
  above: 'isthmus.dev/metric-above',
  below: 'isthmus.dev/metric-below',
  interval: 'isthmus.dev/metric-interval',
  member: 'isthmus.dev/metric-member-label',
} as const;

export interface MetricSpec {
  /** PromQL, for an instant vector. */
  readonly query: string;
  /** A value above this is bad, or below it. */
  readonly bad: 'above' | 'below';
  readonly threshold: number;
  readonly intervalMs: number;
  /** The label that names the member; a sample without it speaks of this cluster. */
  readonly memberLabel: string;
}

/** A service that asks for a query, and who has it. */
export interface MetricTarget {
  readonly service: ServiceKey;
  readonly spec: MetricSpec;
  readonly members: ReadonlySet<string>;
}

export const metricDefaults = { interval: '10s', memberLabel: 'cluster' } as const;
const intervalMinMs = 1_000;
/** Signals that are further apart are forgotten before the next one. */
const intervalMaxMs = 30_000;
const labelForm = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const numberForm = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

const problem = (annotation: string, value: string, hint: string): Result<never> =>
  fail('service/probe', `${annotation}: ${JSON.stringify(value.slice(0, 200))} cannot be used`, {
    hint,
    subject: { annotation },
  });

/** Undefined without the annotation of the query. Errors (`service/probe`) name the annotation, the value and what would do. */
export const parseMetricSpec = (annotations: Readonly<Record<string, string>>): Result<MetricSpec | undefined> => {
  const keys = metricAnnotations;
  const query = annotations[keys.query];
  const { [keys.above]: above, [keys.below]: below } = annotations;
  if (query === undefined) {
    const other = [keys.above, keys.below, keys.interval, keys.member].find((key) => annotations[key] !== undefined);
    if (other === undefined) return ok(undefined);
    return problem(other, annotations[other]!, `it needs ${keys.query} beside it`);
  }
  if (annotations[grayAnnotations.path] !== undefined) {
    return problem(keys.query, query, `a service has one gray signal: remove ${grayAnnotations.path}, or the query`);
  }
  if (query.trim() === '' || query.length > limits.metricQueryLengthMax) {
    return problem(keys.query, query, `write a PromQL query of at most ${limits.metricQueryLengthMax} characters`);
  }
  if ((above === undefined) === (below === undefined)) {
    return problem(keys.query, query, `say when it is bad: either ${keys.above} or ${keys.below}, a number`);
  }
  const bad = above === undefined ? 'below' : 'above';
  const text = (above ?? below)!.trim();
  const threshold = Number(text);
  if (!numberForm.test(text) || !Number.isFinite(threshold)) {
    return problem(keys[bad], text, 'write a number: "0.05"');
  }
  const interval = annotations[keys.interval] ?? metricDefaults.interval;
  const intervalMs = parseDuration(interval);
  if (intervalMs === undefined || intervalMs < intervalMinMs || intervalMs > intervalMaxMs) {
    return problem(keys.interval, interval, 'write a duration from 1s to 30s: "10s"');
  }
  const memberLabel = annotations[keys.member] ?? metricDefaults.memberLabel;
  if (!labelForm.test(memberLabel)) return problem(keys.member, memberLabel, 'write the name of a label: "cluster"');
  return ok({ query, bad, threshold, intervalMs, memberLabel });
};

/** As `isthmus status` names the signal. */
export const metricText = ({ query, bad, threshold }: MetricSpec): string => {
  const line = query.replace(/\s+/g, ' ').trim();
  return `metric ${line.length > 80 ? `${line.slice(0, 77)}...` : line} ${bad} ${threshold}`;
};

export const isBad = ({ bad, threshold }: MetricSpec, value: number): boolean =>
  bad === 'above' ? value > threshold : value < threshold;
