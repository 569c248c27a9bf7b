import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatDuration, parseDuration } from '../../../src/core/duration.ts';
import { formatRate, parseRate } from '../../../src/core/rate.ts';
import { defaultPolicy, type FailoverPolicy } from '../../../src/failover/policy.ts';
import { policyFields, readField, writeField } from '../../../src/failover/policy_fields.ts';
import { parsePolicySpec, specText } from '../../../src/failover/policy_object.ts';

const parsed = (spec: unknown, base = defaultPolicy, name = 'shop/pay') => {
  const result = parsePolicySpec(spec, base, name);
  if (!result.ok) throw result.error;
  return result.value;
};
const refused = (spec: unknown, name = 'shop/pay'): string => {
  const result = parsePolicySpec(spec, defaultPolicy, name);
  if (result.ok) throw new Error('accepted');
  expect(result.error.code).toBe('policy/invalid');
  return result.error.message;
};
/** A spec with one field set. */
const only = (path: string, value: unknown): Record<string, unknown> => {
  const [first = '', second] = path.split('.');
  return second === undefined ? { [first]: value } : { [first]: { [second]: value } };
};

describe('durations and rates', () => {
  it('are read as the Gateway API writes them', () => {
    expect(['30s', '1m30s', '500ms', '2h', '0s', '1h0m1s'].map(parseDuration)).toEqual([
      30_000, 90_000, 500, 7_200_000, 0, 3_601_000,
    ]);
    for (const bad of ['', '30', 's', '1.5s', '-1s', '1d', '100000s', '1s2s3s4s5s', ' 1s', '1S', '1us']) {
      expect(parseDuration(bad)).toBeUndefined();
    }
    fc.assert(fc.property(fc.nat(99_999 * 3_600_000), (ms) => parseDuration(formatDuration(ms)) === ms));
  });
  it('a rate has its unit, and an end', () => {
    expect(['50/s', '1/s', '1000000/s'].map(parseRate)).toEqual([50, 1, 1_000_000]);
    for (const bad of ['50', '0/s', '1000001/s', '05/s', '1.5/s', '50/m', '/s']) expect(parseRate(bad)).toBeUndefined();
    expect(formatRate(50)).toBe('50/s');
  });
});

describe('a spec', () => {
  it('that is empty, or none, is the base under its own name', () => {
    for (const spec of [{}, undefined, null]) {
      expect(parsed(spec)).toEqual({ policy: { ...defaultPolicy, name: 'shop/pay' }, targets: [], given: new Set() });
    }
  });

  it('sets what it says, and leaves all else to the base', () => {
    const base: FailoverPolicy = { ...defaultPolicy, mode: 'observe', drain: { overMs: 1_000, graceMs: 2_000 } };
    const { policy, targets, given } = parsed(
      {
        targetRefs: [{ name: 'pay' }, { name: 'cart' }],
        order: [
          { type: 'local' },
          { type: 'cluster', name: 'us-west' },
          { type: 'region', name: 'eu' },
          { type: 'any' },
        ],
        outlierDetection: { consecutive5xxErrors: 7, maxEjectionTime: '10m' },
        thresholds: { silentAfter: '1m30s', suspectWeightPercent: 25 },
        capacity: { perEndpoint: '50/s' },
        failback: { steps: [50, 100], tunnelMaxAge: '1h' },
        drain: { grace: '5m' },
      },
      base,
    );
    expect(targets).toEqual(['pay', 'cart']);
    expect(policy.order).toEqual([
      { kind: 'local' },
      { kind: 'cluster', name: 'us-west' },
      { kind: 'region', name: 'eu' },
      { kind: 'any' },
    ]);
    expect(policy.thresholds).toEqual({
      ...defaultPolicy.thresholds,
      silentMs: 90_000,
      suspectWeight: 0.25,
      outlier: { ...defaultPolicy.thresholds.outlier, consecutiveErrors: 7, maxEjectionMs: 600_000 },
    });
    expect(policy.capacity.perEndpoint).toBe(50);
    expect(policy.failback).toEqual({ ...defaultPolicy.failback, steps: [50, 100], tunnelAgeMs: 3_600_000 });
    expect(policy.drain).toEqual({ overMs: 1_000, graceMs: 300_000 });
    expect(policy.mode).toBe('observe');
    expect([...given].sort()).toEqual([
      'capacity.perEndpoint',
      'drain.grace',
      'failback.steps',
      'failback.tunnelMaxAge',
      'order',
      'outlierDetection.consecutive5xxErrors',
      'outlierDetection.maxEjectionTime',
      'thresholds.silentAfter',
      'thresholds.suspectWeightPercent',
    ]);
    // The base is not touched.
    expect(base.thresholds.silentMs).toBe(5_000);
  });

  it('reaches every number that the decisions read, and each field one of its own', () => {
    const leaves = (value: unknown, at: string): string[] =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? Object.entries(value).flatMap(([key, inner]) => leaves(inner, at === '' ? key : `${at}.${key}`))
        : [at];
    const all = leaves(defaultPolicy, '').filter((path) => path !== 'name');
    expect(policyFields.map(({ at }) => at).sort()).toEqual(all.sort());
    expect(new Set(policyFields.map(({ path }) => path)).size).toBe(policyFields.length);
  });

  it.each(policyFields.map((field) => [field.path, field] as const))(
    '%s: its default is valid, and written as read',
    (_, field) => {
      const value = readField(field, defaultPolicy);
      if (value === undefined || field.type.kind === 'order') return;
      const text = specText(field.type, value);
      const written = field.type.kind === 'integer' ? Number(text) : field.type.kind === 'steps' ? value : text;
      const { policy, given } = parsed(only(field.path, written));
      expect(policy).toEqual({ ...defaultPolicy, name: 'shop/pay' });
      expect(given).toEqual(new Set([field.path]));
    },
  );

  const bounds = policyFields.flatMap(({ path, type }): [string, unknown, boolean][] => {
    if (type.kind === 'integer') {
      return [type.min, type.max, type.min - 1, type.max + 1, 1.5, '1', true].map((v, i) => [path, v, i < 2]);
    }
    if (type.kind !== 'duration')
      return [
        [path, 17, false],
        [path, 'nonsense', false],
        [path, {}, false],
      ];
    const good = [type.minMs, type.maxMs].map(formatDuration);
    const bad = [formatDuration(type.maxMs + 1_000), ...(type.minMs > 0 ? [formatDuration(type.minMs - 1)] : [])];
    return [
      ...good.map((v): [string, unknown, boolean] => [path, v, true]),
      ...[...bad, 5, '5'].map((v): [string, unknown, boolean] => [path, v, false]),
    ];
  });
  it.each(bounds)('%s: %j is %s', (path, value, good) => {
    const result = parsePolicySpec(only(path, value), defaultPolicy, 'shop/pay');
    // A bound of one field may break a relation to another: that is told of the field that has it.
    if (good && !result.ok) expect(result.error.message).toMatch(/is below/);
    if (good) return;
    const message = refused(only(path, value));
    expect(message).toContain(`spec.${path}`);
    expect(message).toContain(JSON.stringify(value));
  });

  it.each([
    [{ thresholds: { silentafter: '5s' } }, 'spec.thresholds.silentafter: unknown field (known here: probeFailures, '],
    [{ tresholds: {} }, 'spec.tresholds: unknown field (known here: targetRefs, mode, '],
    [{ thresholds: [] }, 'spec.thresholds: [] is not an object'],
    [{ order: [] }, 'spec.order: [] is not a list of 1 to 64 steps'],
    [{ order: [{ type: 'any' }, { type: 'local' }] }, 'spec.order[1]: {"type":"local"} comes after any'],
    [{ order: [{ type: 'local' }, { type: 'local' }] }, 'is there already'],
    [{ order: [{ type: 'cluster' }] }, 'spec.order[0].name: undefined is not the name of a cluster'],
    [{ order: [{ type: 'any', name: 'x' }] }, 'spec.order[0].name: "x" with type any (leave it out'],
    [{ order: [{ type: 'here' }] }, 'spec.order[0].type: "here" is not a step (write one of local, '],
    [{ order: ['local'] }, 'spec.order[0]: "local" is not a step'],
    [{ order: [{ type: 'local', weight: 3 }] }, 'spec.order[0].weight: unknown field'],
    [{ failback: { steps: [50, 25, 100] } }, 'spec.failback.steps: [50,25,100] is not'],
    [{ failback: { steps: [10, 50] } }, 'the last one 100'],
    [{ targetRefs: [{ name: 'a' }, { name: 'a' }] }, 'spec.targetRefs[1].name: "a" is there already'],
    [{ targetRefs: [{ name: 'A' }] }, 'spec.targetRefs[0].name: "A" is not the name of a Service'],
    [{ targetRefs: [{ name: 'a', namespace: 'b' }] }, 'spec.targetRefs[0].namespace: unknown field'],
    [
      { outlierDetection: { baseEjectionTime: '10m' } },
      'spec.outlierDetection.maxEjectionTime: 5m is below baseEjectionTime, 10m',
    ],
    [
      { thresholds: { flapPenalty: 9_000 } },
      'is below flapPenalty, 9000: one change would lock a cluster out (raise flapLimit)',
    ],
    [[], 'spec: [] is not an object'],
    ['x', 'spec: "x" is not an object'],
  ])('is refused with field, value and next step: %j', (spec, message) => {
    expect(refused(spec)).toContain(message);
  });

  it('tells of all its problems at once, and of few when there are many', () => {
    const message = refused({ mode: 'try', whenAllBad: 1, drain: { over: 5 } });
    for (const path of ['spec.mode', 'spec.whenAllBad', 'spec.drain.over']) expect(message).toContain(path);
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`field${i}`, 1]));
    expect(refused(many)).toContain('and 492 more');
    expect(refused({ mode: 'x'.repeat(10_000) }).length).toBeLessThan(300);
  });

  it('of the cluster set has no targets', () => {
    expect(refused({ targetRefs: [{ name: 'pay' }] }, 'default')).toContain('spec.targetRefs: unknown field');
    expect(parsed({ mode: 'observe' }, defaultPolicy, 'default').policy.name).toBe('default');
  });

  it('never throws, and what it accepts stays within bounds', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom(...policyFields), fc.jsonValue(), (noise, field, value) => {
        parsePolicySpec(noise, defaultPolicy, 'shop/pay');
        const result = parsePolicySpec(only(field.path, value), defaultPolicy, 'shop/pay');
        if (!result.ok) return;
        const read = readField(field, result.value.policy);
        const draft = structuredClone(result.value.policy);
        writeField(field, draft, read);
        expect(draft).toEqual(result.value.policy);
      }),
      { numRuns: 300 },
    );
  });
});
