import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addPenalty, penaltyAt, penaltyBelowAt } from '../../../src/health/penalty.ts';

const halfLifeMs = 60_000;

describe('the flap penalty', () => {
  it('grows with each change and halves with each half-life', () => {
    const one = addPenalty(undefined, 1_000, 0, halfLifeMs);
    expect(penaltyAt(one, 0, halfLifeMs)).toBe(1_000);
    expect(penaltyAt(one, 60_000, halfLifeMs)).toBe(500);
    const two = addPenalty(one, 1_000, 60_000, halfLifeMs);
    expect(penaltyAt(two, 60_000, halfLifeMs)).toBe(1_500);
    expect(penaltyAt(two, 180_000, halfLifeMs)).toBe(375);
  });

  it('is the same however often it is looked at', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 20 }), (waits) => {
        let penalty = addPenalty(undefined, 1e6, 0, halfLifeMs);
        let now = 0;
        for (const wait of waits) {
          now += wait;
          penalty = addPenalty(penalty, 0, now, halfLifeMs);
        }
        const once = penaltyAt(addPenalty(undefined, 1e6, 0, halfLifeMs), now, halfLifeMs);
        expect(Math.abs(penaltyAt(penalty, now, halfLifeMs) - once)).toBeLessThanOrEqual(1 + once * 1e-9);
      }),
    );
  });

  it('says when it is down to a limit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50_000 }), fc.integer({ min: 1, max: 10_000 }), (value, limit) => {
        const at = penaltyBelowAt(value, limit, 1_000, halfLifeMs);
        expect(penaltyAt({ value, atMs: 1_000 }, at, halfLifeMs)).toBeLessThanOrEqual(limit);
        if (at > 1_001) expect(penaltyAt({ value, atMs: 1_000 }, at - 2, halfLifeMs)).toBeGreaterThan(limit);
      }),
    );
  });

  it('does not grow when the clock goes back, and is forgotten in the end', () => {
    expect(penaltyAt({ value: 1_000, atMs: 50_000 }, 0, halfLifeMs)).toBe(1_000);
    expect(penaltyAt({ value: 1_000, atMs: 0 }, 60 * 60_000, halfLifeMs)).toBe(0);
    expect(addPenalty({ value: 1_000, atMs: 0 }, 0, 60 * 60_000, halfLifeMs)).toBeUndefined();
  });
});
