/**
 * From what people wrote (an object of the cluster, or the cluster set's default) to the policy that decisions read.
 *
 * What is not set keeps the value of the base: the cluster set's default, and below it the built-in one. Nothing is guessed: an
 * unknown field, a value out of bounds or of another type refuses the whole spec, with every problem named, because half a
 * policy may be worse than the last good one. The API server checks most of this already; a cluster with an older definition of
 * the kind does not, and the cluster set's default meets no API server at all.
 */
import { formatDuration, parseDuration } from '../core/duration.ts';
import { IsthmusError, ok, type Result } from '../core/errors.ts';
import { isDnsLabel } from '../core/names.ts';
import { formatRate, parseRate } from '../core/rate.ts';
import { isLabelValue } from '../records/fields.ts';
import type { FailoverPolicy, OrderStep } from './policy.ts';
import {
  type FieldType,
  type FieldValue,
  orderTypes,
  policyFields,
  policyGroups,
  writeField,
} from './policy_fields.ts';

export const targetsMax = 64;

export interface ParsedPolicy {
  readonly policy: FailoverPolicy;
  /** Names of Services in the object's namespace; empty: all of them. */
  readonly targets: readonly string[];
  /** Paths that the spec sets itself; all others are the base's. */
  readonly given: ReadonlySet<string>;
}

interface Problem {
  readonly message: string;
  readonly hint: string;
}

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** What a type takes, in words; also for the documentation. */
export const typeText = (type: FieldType): string => {
  switch (type.kind) {
    case 'duration':
      return `a duration from ${formatDuration(type.minMs)} to ${formatDuration(type.maxMs)}`;
    case 'integer':
      return `a whole number from ${type.min} to ${type.max}`;
    case 'rate':
      return 'a rate such as 50/s';
    case 'word':
      return `one of ${type.words.join(', ')}`;
    case 'steps':
      return `a list of 1 to ${type.countMax} rising percentages, the last one 100`;
    case 'order':
      return `a list of 1 to ${type.countMax} steps, each once`;
  }
};

/** A value as it is written in a spec. */
export const specText = (type: FieldType, value: FieldValue): string => {
  if (value === undefined) return '';
  if (type.kind === 'duration') return formatDuration(value as number);
  if (type.kind === 'rate') return formatRate(value as number);
  if (type.kind === 'order') {
    return (value as readonly OrderStep[]).map((s) => ('name' in s ? `${s.kind} ${s.name}` : s.kind)).join(', ');
  }
  return Array.isArray(value) ? value.join(', ') : String(value);
};

const readSteps = (value: unknown, countMax: number): readonly number[] | undefined => {
  if (!Array.isArray(value) || value.length === 0 || value.length > countMax) return undefined;
  const rising = value.every(
    (step, i) => Number.isInteger(step) && step >= 1 && step <= 100 && (i === 0 || step > value[i - 1]),
  );
  return rising && value.at(-1) === 100 ? (value as number[]) : undefined;
};

/** The value of one field, or undefined when it is none. Lists of steps have a function of their own, for they have parts to name. */
const readValue = (type: FieldType, value: unknown): FieldValue => {
  switch (type.kind) {
    case 'duration': {
      const ms = typeof value === 'string' ? parseDuration(value) : undefined;
      return ms !== undefined && ms >= type.minMs && ms <= type.maxMs ? ms : undefined;
    }
    case 'integer':
      return typeof value === 'number' && Number.isInteger(value) && value >= type.min && value <= type.max
        ? value
        : undefined;
    case 'rate':
      return typeof value === 'string' ? parseRate(value) : undefined;
    case 'word':
      return typeof value === 'string' && type.words.includes(value) ? value : undefined;
    case 'steps':
      return readSteps(value, type.countMax);
    case 'order':
      return undefined;
  }
};

const readStep = (value: unknown, at: string, problems: Problem[]): OrderStep | undefined => {
  const refuse = (message: string, hint: string): undefined => {
    problems.push({ message: `${at}${message}`, hint });
  };
  if (!isObject(value)) return refuse(`: ${shown(value)} is not a step`, 'write it as {type: region, name: eu-west}');
  const extra = Object.keys(value).find((key) => key !== 'type' && key !== 'name');
  if (extra !== undefined) return refuse(`.${extra}: unknown field`, 'a step has type and name');
  const { type, name } = value;
  if (typeof type !== 'string' || !(orderTypes as readonly string[]).includes(type)) {
    return refuse(`.type: ${shown(type)} is not a step`, `write one of ${orderTypes.join(', ')}`);
  }
  if (type !== 'cluster' && type !== 'region') {
    if (name !== undefined)
      return refuse(`.name: ${shown(name)} with type ${type}`, `leave it out: ${type} has no name`);
    return { kind: type as 'local' | 'same-region' | 'any' };
  }
  const valid = typeof name === 'string' && (type === 'cluster' ? isDnsLabel(name) : isLabelValue(name));
  if (!valid)
    return refuse(`.name: ${shown(name)} is not the name of a ${type}`, `name the ${type} as its membership does`);
  return { kind: type, name };
};

const readOrder = (value: unknown, countMax: number, problems: Problem[]): readonly OrderStep[] | undefined => {
  if (!Array.isArray(value) || value.length === 0 || value.length > countMax) {
    problems.push({
      message: `spec.order: ${shown(value)} is not a list of 1 to ${countMax} steps`,
      hint: 'leave it out to keep the default, or write at least one step',
    });
    return undefined;
  }
  const steps: OrderStep[] = [];
  const seen = new Set<string>();
  for (const [i, entry] of value.entries()) {
    const at = `spec.order[${i}]`;
    const step = readStep(entry, at, problems);
    if (step === undefined) continue;
    const text = JSON.stringify(step);
    if (seen.has(text))
      problems.push({ message: `${at}: ${shown(entry)} is there already`, hint: 'list each step once' });
    if (seen.has('{"kind":"any"}') && step.kind !== 'any') {
      problems.push({
        message: `${at}: ${shown(entry)} comes after any`,
        hint: 'put any last: it takes in every cluster',
      });
    }
    seen.add(text);
    steps.push(step);
  }
  return steps;
};

const readTargets = (value: unknown, problems: Problem[]): readonly string[] => {
  const refuse = (message: string, hint: string): readonly string[] => {
    problems.push({ message, hint });
    return [];
  };
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > targetsMax) {
    return refuse(
      `spec.targetRefs: not a list of at most ${targetsMax}`,
      'name a few Services, or none for the whole namespace',
    );
  }
  const names: string[] = [];
  for (const [i, entry] of value.entries()) {
    const at = `spec.targetRefs[${i}]`;
    const name = isObject(entry) ? entry['name'] : undefined;
    const extra = isObject(entry) ? Object.keys(entry).find((key) => key !== 'name') : undefined;
    if (extra !== undefined)
      refuse(`${at}.${extra}: unknown field`, 'a target has a name: a Service of this namespace');
    else if (typeof name !== 'string' || !isDnsLabel(name)) {
      refuse(`${at}.name: ${shown(name)} is not the name of a Service`, 'name a Service of this namespace');
    } else if (names.includes(name)) refuse(`${at}.name: ${shown(name)} is there already`, 'list each Service once');
    else names.push(name);
  }
  return names;
};

/** Fields that are in nobody's table. An old controller meets the fields of a newer one here: better refused than half understood. */
const unknownFields = (spec: Readonly<Record<string, unknown>>, top: readonly string[], problems: Problem[]): void => {
  const check = (object: Readonly<Record<string, unknown>>, at: string, known: readonly string[]): void => {
    for (const key of Object.keys(object)) {
      if (known.includes(key)) continue;
      problems.push({ message: `${at}.${key.slice(0, 60)}: unknown field`, hint: `known here: ${known.join(', ')}` });
    }
  };
  check(spec, 'spec', top);
  for (const group of Object.keys(policyGroups)) {
    const value = spec[group];
    if (value === undefined) continue;
    const known = policyFields
      .filter(({ path }) => path.startsWith(`${group}.`))
      .map(({ path }) => path.slice(group.length + 1));
    if (isObject(value)) check(value, `spec.${group}`, known);
    else
      problems.push({
        message: `spec.${group}: ${shown(value)} is not an object`,
        hint: `it holds ${known.join(', ')}`,
      });
  }
};

const topFields = [...new Set(policyFields.map(({ path }) => path.split('.')[0]!))];

const valueAt = (spec: Readonly<Record<string, unknown>>, path: string): unknown => {
  const [first = '', second] = path.split('.');
  const value = spec[first];
  return second === undefined ? value : isObject(value) ? value[second] : undefined;
};

/** What no field says alone. */
const relations = (policy: FailoverPolicy, problems: Problem[]): void => {
  const { outlier, flapPenalty, flapLimit } = policy.thresholds;
  if (outlier.maxEjectionMs < outlier.baseEjectionMs) {
    problems.push({
      message: `spec.outlierDetection.maxEjectionTime: ${formatDuration(outlier.maxEjectionMs)} is below baseEjectionTime, ${formatDuration(outlier.baseEjectionMs)}`,
      hint: 'raise maxEjectionTime',
    });
  }
  if (flapLimit < flapPenalty) {
    problems.push({
      message: `spec.thresholds.flapLimit: ${flapLimit} is below flapPenalty, ${flapPenalty}: one change would lock a cluster out`,
      hint: 'raise flapLimit',
    });
  }
};

const refusal = (name: string, problems: readonly Problem[]): Result<never> => {
  const told = problems.slice(0, 8).map(({ message, hint }) => `${message} (${hint})`);
  const more = problems.length > told.length ? `; and ${problems.length - told.length} more` : '';
  return {
    ok: false,
    error: new IsthmusError('policy/invalid', `policy ${name}: ${told.join('; ')}${more}`, {
      hint: problems[0]!.hint,
      subject: { policy: name, problems: problems.length },
    }),
  };
};

/**
 * @param spec - of the object, as parsed JSON
 * @param base - for what the spec does not set
 * @param name - `namespace/name` of the object, `default` for the cluster set's, which has no targets
 * Errors: `policy/invalid`, naming every field that is wrong, its value, and what to write instead.
 */
export const parsePolicySpec = (spec: unknown, base: FailoverPolicy, name: string): Result<ParsedPolicy> => {
  const given = new Set<string>();
  const read = spec ?? {};
  if (!isObject(read))
    return refusal(name, [{ message: `spec: ${shown(spec)} is not an object`, hint: 'write fields' }]);
  const problems: Problem[] = [];
  const named = name !== 'default';
  unknownFields(read, named ? ['targetRefs', ...topFields] : topFields, problems);
  const draft: FailoverPolicy = { ...structuredClone(base), name };
  for (const field of policyFields) {
    const { path, type } = field;
    const value = valueAt(read, path);
    // Null is what a merge patch leaves behind in some clients: as if it were not there.
    if (value === undefined || value === null) continue;
    const wanted = type.kind === 'order' ? readOrder(value, type.countMax, problems) : readValue(type, value);
    if (wanted !== undefined) {
      writeField(field, draft, wanted);
      given.add(path);
    } else if (type.kind !== 'order') {
      const hint = type.kind === 'duration' ? 'write it as "30s" or "1m30s"' : `write ${typeText(type)}`;
      problems.push({ message: `spec.${path}: ${shown(value)} is not ${typeText(type)}`, hint });
    }
  }
  const targets = named ? readTargets(read['targetRefs'], problems) : [];
  if (problems.length === 0) relations(draft, problems);
  return problems.length > 0 ? refusal(name, problems) : ok({ policy: draft, targets, given });
};
