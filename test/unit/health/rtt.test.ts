import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addReach,
  addRoundTrip,
  median,
  type Reach,
  type RoundTripClass,
  type RoundTripEstimate,
  roundTripClass,
  rttSteps,
  varSteps,
} from '../../../src/health/rtt.ts';

const estimateOf = (samples: readonly number[]): RoundTripEstimate =>
  samples.reduce<RoundTripEstimate | undefined>(addRoundTrip, undefined)!;

describe('the estimate', () => {
  it('starts and goes on as RFC 6298 says', () => {
    expect(estimateOf([80])).toEqual({ srttMs: 80, varMs: 40 });
    expect(estimateOf([80, 160])).toEqual({ srttMs: 90, varMs: 50 });
  });

  it('settles on a constant round trip without deviation', () => {
    const settled = estimateOf(new Array(100).fill(42));
    expect(settled.srttMs).toBeCloseTo(42);
    expect(settled.varMs).toBeLessThan(0.001);
  });
});

describe('the median', () => {
  it('is the middle one, the lower of two, nothing of nothing', () => {
    expect(median([30, 10, 20])).toBe(20);
    expect(median([9, 7])).toBe(7);
    expect(median([])).toBeUndefined();
  });
});

describe('classes', () => {
  it('are upper bounds of what was measured', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            srttMs: fc.float({ min: 0, max: 3_000, noNaN: true }),
            varMs: fc.float({ min: 0, max: 1_600, noNaN: true }),
          }),
          { minLength: 1, maxLength: 30 },
        ),
        (estimates) => {
          let published: RoundTripClass | undefined;
          for (const estimate of estimates) {
            published = roundTripClass(estimate, published);
            expect(published.rttMs).toBeGreaterThanOrEqual(estimate.srttMs);
            expect(published.varMs).toBeGreaterThanOrEqual(estimate.varMs);
            expect(rttSteps).toContain(published.rttMs);
            expect(varSteps).toContain(published.varMs);
          }
        },
      ),
    );
  });

  it('do not change while the value trembles around a bound', () => {
    let published: RoundTripClass | undefined;
    const seen: number[] = [];
    for (let i = 0; i < 100; i++) {
      published = roundTripClass({ srttMs: i % 2 === 0 ? 49 : 51, varMs: 3 }, published);
      seen.push(published.rttMs);
    }
    expect(new Set(seen.slice(1))).toEqual(new Set([75]));
  });

  it('follow a real change both ways', () => {
    const far = roundTripClass({ srttMs: 180, varMs: 120 }, undefined);
    expect(far).toEqual({ rttMs: 200, varMs: 150 });
    expect(roundTripClass({ srttMs: 30, varMs: 2 }, far)).toEqual({ rttMs: 50, varMs: 50 });
    expect(roundTripClass({ srttMs: 9, varMs: 2 }, { rttMs: 50, varMs: 50 })).toEqual({ rttMs: 25, varMs: 50 });
  });

  it('end at the last step', () => {
    expect(roundTripClass({ srttMs: 1e9, varMs: 1e9 }, undefined)).toEqual({ rttMs: 3_000, varMs: 1_600 });
  });
});

describe('reachability', () => {
  const after = (rounds: string): boolean =>
    [...rounds].reduce<Reach | undefined>((reach, c) => addReach(reach, c === '+'), undefined)!.reachable;

  it('is decided by the first round, then lost after three and regained after two in a row', () => {
    const cases: Record<string, boolean> = {
      '+': true,
      '-': false,
      '+--': true,
      '+---': false,
      '+--+--': true,
      '-+': false,
      '-++': true,
      '-+-+': false,
    };
    for (const [rounds, expected] of Object.entries(cases)) expect(after(rounds), rounds).toBe(expected);
  });
});
