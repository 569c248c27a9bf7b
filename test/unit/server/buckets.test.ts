import { describe, expect, it } from 'vitest';
import { Buckets } from '../../../src/server/buckets.ts';
import { SimClock } from '../../sim/clock.ts';

describe('a bucket for each', () => {
  it('lets so many at once, then as many as the rate, and takes nothing from others', async () => {
    const clock = new SimClock();
    const buckets = new Buckets(10, 3, clock);
    expect([1, 2, 3, 4].map(() => buckets.take('a'))).toEqual([true, true, true, false]);
    expect(buckets.take('b')).toBe(true);
    await clock.advance(100);
    expect([buckets.take('a'), buckets.take('a')]).toEqual([true, false]);
  });
  it('keeps a debt until it is worked off', async () => {
    const clock = new SimClock();
    const buckets = new Buckets(10, 100, clock);
    buckets.charge('a', 120);
    expect([buckets.left('a'), buckets.left('b')]).toEqual([false, true]);
    await clock.advance(1_900);
    expect(buckets.left('a')).toBe(false);
    await clock.advance(200);
    expect(buckets.left('a')).toBe(true);
  });
  it('remembers no more than it must, and those who are in debt before those who are not', async () => {
    const clock = new SimClock();
    const buckets = new Buckets(10, 100, clock);
    buckets.charge('debtor', 1_000);
    for (let i = 0; i < 20_000; i++) buckets.left(`someone ${i}`);
    expect(buckets.left('debtor')).toBe(false);
  });
});
