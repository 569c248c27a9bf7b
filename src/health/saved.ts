/**
 * What the verdicts remember, read back from a saved state.
 *
 * The state is plain data and is written as it is. Reading it checks the shape of every entry, for it may have been written by
 * another version, and leaves out those that do not fit: a verdict that is forgotten is reached again from evidence in seconds,
 * while refusing the whole state would undo the latches and drains that people asked for.
 */
import { type HealthState, initialHealth } from './state.ts';
import { cellStates } from './verdict.ts';

type Check = (value: unknown) => boolean;
type Fields = Readonly<Record<string, Check>>;

const isNumber: Check = (value) => typeof value === 'number' && Number.isFinite(value);
const isText: Check = (value) => typeof value === 'string';
const isFlag: Check = (value) => typeof value === 'boolean';
const isDigits: Check = (value) => typeof value === 'string' && /^\d{1,20}$/.test(value);
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const oneOf = (...known: readonly string[]): Check => {
  const set: ReadonlySet<unknown> = new Set(known);
  return (value) => set.has(value);
};
const maybe = (check: Check): Check => {
  return (value) => value === undefined || check(value);
};
const shape = (fields: Fields): Check => {
  const checks = Object.entries(fields);
  const at = (value: Readonly<Record<string, unknown>>, name: string) =>
    Object.hasOwn(value, name) ? value[name] : undefined;
  return (value) => isObject(value) && checks.every(([name, check]) => check(at(value, name)));
};

const stream = shape({ ok: isNumber, bad: isNumber, atMs: isNumber, okMs: maybe(isNumber) });
const outlierFields: Fields = {
  errors: isNumber,
  gateway: isNumber,
  atMs: isNumber,
  interval: maybe(shape({ startMs: isNumber, volume: isNumber, failures: isNumber })),
  ejections: isNumber,
};
const cause = oneOf('ConsecutiveErrors', 'FailurePercentage');
// An ejection has its reason.
const calm = shape({ ...outlierFields, untilMs: (value) => value === undefined });
const ejected = shape({ ...outlierFields, untilMs: isNumber, cause, detail: isText });
const outlier: Check = (value) => calm(value) || ejected(value);

const standing: Fields = {
  state: oneOf(...cellStates),
  reason: isText,
  detail: isText,
  sinceMs: isNumber,
  penalty: maybe(shape({ value: isNumber, atMs: isNumber })),
};

const peer = shape({
  ...standing,
  control: oneOf('fresh', 'silent', 'unknown', 'never'),
  data: oneOf('reachable', 'degraded', 'unreachable', 'unknown'),
  deadlineMs: maybe(isNumber),
  gateways: (value) => isObject(value) && Object.values(value).every(stream),
  traffic: maybe(stream),
  errors: maybe(outlier),
  ejected: maybe(shape({ all: isFlag, sinceMs: isNumber, atMs: isNumber })),
  ahead: maybe(shape({ epoch: isDigits, sequence: isDigits, roseMs: isNumber })),
  broken: isFlag,
  by: oneOf('ProbeFailed', 'ConsecutiveErrors'),
  silent: isFlag,
  badMs: maybe(isNumber),
  bothMs: maybe(isNumber),
  trafficMs: maybe(isNumber),
  lastFailure: maybe(isText),
  evidenceMs: maybe(isNumber),
});

const cell = shape({
  ...standing,
  probes: maybe(shape({ stream, failed: isFlag, detail: isText })),
  errors: maybe(outlier),
  gray: maybe(
    shape({
      out: isFlag,
      score: isNumber,
      ok: isNumber,
      bad: isNumber,
      broken: isNumber,
      atMs: isNumber,
      detail: isText,
    }),
  ),
  badMs: maybe(isNumber),
  deadlineMs: maybe(isNumber),
});

const region = shape({ ...standing, down: isFlag });

const presence = shape({
  nowMs: maybe(isNumber),
  absentMs: isNumber,
  hereMs: isNumber,
  settledMs: maybe(isNumber),
  lightMs: maybe(isNumber),
  lit: maybe(isFlag),
});

const entries = <T>(value: unknown, check: Check): Readonly<Record<string, T>> =>
  Object.fromEntries(isObject(value) ? Object.entries(value).filter(([, entry]) => check(entry)) : []) as Record<
    string,
    T
  >;

/** Whatever is read, what comes out is a state to go on from; without its presence, as its times mean nothing then, a new one. */
export const readHealth = (saved: unknown): HealthState => {
  if (!isObject(saved) || !presence(saved['presence'])) return initialHealth();
  return {
    presence: saved['presence'] as HealthState['presence'],
    members: entries(saved['members'], peer),
    cells: entries(saved['cells'], cell),
    regions: entries(saved['regions'], region),
  };
};
