import { describe, expect, it } from 'vitest';
import {
  addWindow,
  type Counts,
  isEjected,
  type Outlier,
  rulesOf,
  settleOutlier,
} from '../../../src/health/outlier.ts';
import { defaultThresholds } from '../../../src/health/thresholds.ts';

const policy = defaultThresholds.outlier;
const counts = (atMs: number, change: Partial<Counts> = {}): Counts => ({
  atMs,
  windowMs: 1_000,
  successes: 0,
  localErrors: 0,
  gatewayErrors: 0,
  otherErrors: 0,
  ...change,
});
const feed = (windows: readonly Counts[], rules = policy): Outlier | undefined =>
  windows.reduce<Outlier | undefined>((outlier, window) => addWindow(outlier, window, rules), undefined);

describe('errors in a row', () => {
  it('eject at the number that Envoy counts, over several windows', () => {
    const four = feed([counts(1_000, { otherErrors: 3 }), counts(2_000, { otherErrors: 1 })]);
    expect(isEjected(four, 2_000)).toBe(false);
    const five = addWindow(four, counts(3_000, { otherErrors: 1 }), policy);
    expect(isEjected(five, 3_000)).toBe(true);
    expect(five).toMatchObject({ cause: 'ConsecutiveErrors', detail: '5 errors in a row', untilMs: 33_000 });
  });

  it('begin anew after a success', () => {
    const outlier = feed([
      counts(1_000, { gatewayErrors: 4 }),
      counts(2_000, { successes: 1 }),
      counts(3_000, { gatewayErrors: 4 }),
    ]);
    expect(isEjected(outlier, 3_000)).toBe(false);
  });

  it('are found among successes when they must have followed each other', () => {
    expect(isEjected(feed([counts(1_000, { gatewayErrors: 9, successes: 1 })]), 1_000)).toBe(true);
    expect(isEjected(feed([counts(1_000, { gatewayErrors: 8, successes: 1 })]), 1_000)).toBe(false);
  });

  it('are counted apart for gateway errors', () => {
    const rules = { ...policy, consecutiveErrors: 100, consecutiveGatewayErrors: 3 };
    expect(isEjected(feed([counts(1, { otherErrors: 9 })], rules), 1)).toBe(false);
    expect(feed([counts(1, { gatewayErrors: 3 })], rules)).toMatchObject({ detail: '3 gateway errors in a row' });
    expect(
      isEjected(
        feed([counts(1, { gatewayErrors: 2 }), counts(2, { otherErrors: 1 }), counts(3, { gatewayErrors: 2 })], rules),
        3,
      ),
    ).toBe(false);
  });
});

describe('the failure percentage', () => {
  const rules = { ...policy, consecutiveErrors: 1_000, consecutiveGatewayErrors: 1_000 };

  it('is judged at the end of an interval that has enough volume', () => {
    const outlier = feed(
      [counts(1_000, { successes: 10, otherErrors: 6 }), counts(2_000, { successes: 10, otherErrors: 20 })],
      rules,
    );
    expect(isEjected(outlier, 2_000)).toBe(false);
    const ended = settleOutlier(outlier, 5_000, rules);
    expect(isEjected(ended, 5_000)).toBe(true);
    expect(ended).toMatchObject({ cause: 'FailurePercentage' });
    expect(ended?.detail).toContain('26 of 46 calls failed');
  });

  it('counts the successes of the whole interval', () => {
    const outlier = feed([counts(1_000, { successes: 0, otherErrors: 30 }), counts(2_000, { successes: 100 })], rules);
    expect(isEjected(settleOutlier(outlier, 6_000, rules), 6_000)).toBe(false);
  });

  it('says nothing below the minimum volume', () => {
    const outlier = feed([counts(1_000, { otherErrors: 19 })], rules);
    expect(isEjected(settleOutlier(outlier, 10_000, rules), 10_000)).toBe(false);
  });

  it('does not mix two intervals', () => {
    const outlier = feed([counts(1_000, { otherErrors: 12 }), counts(9_000, { otherErrors: 12 })], rules);
    expect(isEjected(settleOutlier(outlier, 20_000, rules), 20_000)).toBe(false);
  });
});

describe('an ejection', () => {
  const trip = (outlier: Outlier | undefined, atMs: number) =>
    addWindow(outlier, counts(atMs, { gatewayErrors: 50 }), policy);

  it('lasts the base time × the number of ejections, up to the maximum', () => {
    let outlier: Outlier | undefined;
    let now = 0;
    const lasted: number[] = [];
    for (let i = 0; i < 12; i++) {
      outlier = trip(settleOutlier(outlier, now, policy), now);
      lasted.push(outlier!.untilMs! - now);
      now = outlier!.untilMs! + 100;
    }
    expect(lasted.slice(0, 3)).toEqual([30_000, 60_000, 90_000]);
    expect(lasted.at(-1)).toBe(policy.maxEjectionMs);
  });

  it('is forgotten, one for each base time of good conduct, and then leaves no trace', () => {
    const first = trip(undefined, 0)!;
    const second = trip(settleOutlier(first, 31_000, policy), 31_000)!;
    expect(second.ejections).toBe(2);
    const end = second.untilMs!;
    expect(settleOutlier(second, end + 29_999, policy)?.ejections).toBe(2);
    expect(settleOutlier(second, end + 30_000, policy)?.ejections).toBe(1);
    expect(settleOutlier(second, end + 60_000, policy)).toBeUndefined();
  });

  it('is the same however often it is settled', () => {
    const first = trip(undefined, 0)!;
    let often: Outlier | undefined = first;
    for (let now = 0; now <= 100_000; now += 700) often = settleOutlier(often, now, policy);
    expect(often).toEqual(settleOutlier(first, 100_000, policy));
  });

  it('is prolonged, not multiplied, by errors while it lasts', () => {
    const outlier = trip(trip(undefined, 0), 20_000)!;
    expect(outlier.ejections).toBe(1);
    expect(outlier.untilMs).toBe(50_000);
  });
});

describe('a window', () => {
  it('is counted once', () => {
    const window = counts(1_000, { gatewayErrors: 3 });
    expect(feed([window, window, window])).toEqual(feed([window]));
  });
  it('without an error leaves no trace', () => {
    expect(feed([counts(1_000, { successes: 1_000 })])).toBeUndefined();
  });
  it('with an error is forgotten after an interval without another', () => {
    const outlier = feed([counts(1_000, { otherErrors: 1 }), counts(2_000, { successes: 5 })]);
    expect(settleOutlier(outlier, 6_500, policy)).not.toBeUndefined();
    expect(settleOutlier(settleOutlier(outlier, 6_500, policy), 8_000, policy)).toBeUndefined();
  });
});

describe('a DestinationRule', () => {
  const user = {
    consecutive5xxErrors: undefined,
    consecutiveGatewayErrors: undefined,
    intervalMs: undefined,
    baseEjectionTimeMs: undefined,
    maxEjectionPercent: undefined,
    maxConnections: undefined,
  };
  it('overrides what it names and nothing else', () => {
    expect(rulesOf(policy, undefined)).toBe(policy);
    expect(rulesOf(policy, user)).toEqual(policy);
    const rules = rulesOf(policy, {
      ...user,
      consecutive5xxErrors: 7,
      consecutiveGatewayErrors: 3,
      intervalMs: 2_000,
      baseEjectionTimeMs: 9_000,
      maxEjectionPercent: 40,
    });
    expect(rules).toEqual({
      ...policy,
      consecutiveErrors: 7,
      consecutiveGatewayErrors: 3,
      intervalMs: 2_000,
      baseEjectionMs: 9_000,
      maxEjectionPercent: 40,
    });
  });
  it('switches a rule off with 0, and has its base time whatever the maximum', () => {
    const rules = rulesOf(policy, {
      ...user,
      consecutive5xxErrors: 0,
      consecutiveGatewayErrors: 0,
      baseEjectionTimeMs: 600_000,
    });
    const outlier = feed([counts(1_000, { gatewayErrors: 19 })], rules);
    expect(isEjected(settleOutlier(outlier, 9_000, rules), 9_000)).toBe(false);
    expect(rules.maxEjectionMs).toBe(600_000);
  });
});
