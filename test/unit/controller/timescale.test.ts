import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Timescale } from '../../../src/controller/timescale.ts';
import { defaultPolicies } from '../../../src/failover/policy.ts';
import { decodeState, encodeState } from '../../../src/failover/saved.ts';
import { shiftState } from '../../../src/failover/shift.ts';
import { step } from '../../../src/failover/step.ts';
import { SimClock } from '../../sim/clock.ts';
import { ClusterSet, checkout } from '../failover/set.ts';

describe('the scale of decisions', () => {
  it('never goes back, whatever marks it goes on from', async () => {
    const mark = fc.record({ atMs: fc.integer({ min: 0, max: 4e12 }), wallMs: fc.integer({ min: 0, max: 4e12 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(mark, fc.nat(5_000)), { maxLength: 20 }), async (marks) => {
        const clock = new SimClock();
        const scale = new Timescale(clock);
        let before = scale.now();
        for (const [each, ms] of marks) {
          const aheadMs = scale.resume(each);
          expect(aheadMs).toBeGreaterThanOrEqual(0);
          expect(scale.now()).toBeGreaterThanOrEqual(before);
          // What was told at the mark is, moved on, not in the future.
          expect(each.atMs + aheadMs).toBeLessThanOrEqual(scale.now());
          before = scale.now();
          await clock.advance(ms);
        }
      }),
    );
  });

  it('goes on from a mark behind it when it has told no time yet', () => {
    const clock = new SimClock();
    const scale = new Timescale(clock);
    expect(scale.resume({ atMs: 5_000, wallMs: clock.wallMs() })).toBe(0);
    expect(scale.now()).toBe(5_000);
  });

  it('says by how much it is ahead of a writer that is behind', async () => {
    const clock = new SimClock();
    const scale = new Timescale(clock);
    const now = scale.now();
    const mark = { atMs: now - 3_600_000, wallMs: clock.wallMs() };
    await clock.advance(2_000);
    expect(scale.resume(mark)).toBe(3_600_000);
    expect(scale.now()).toBe(now + 2_000);
  });
});

describe('a state that is moved on', () => {
  const story = (): ClusterSet => {
    const set = new ClusterSet({ members: { a: 'x', b: 'y', c: 'y' }, local: undefined });
    set.step();
    set.member('a', 'quarantined');
    set.step(1_000);
    set.member('a', 'fresh');
    set.drain({ scope: 'cluster', member: 'b' });
    set.step(1_000);
    return set;
  };

  it('decides the same, as much later', () => {
    const byMs = 3_600_000;
    for (const laterMs of [1_000, 16_000, 40_000]) {
      const set = story();
      const through = decodeState(encodeState(set.state));
      if (!through.ok) throw through.error;
      const at = set.now + laterMs;
      const early = step(through.value, set.view, set.signals, defaultPolicies, at, Math.random);
      const moved = shiftState(through.value, byMs);
      const late = step(moved, set.view, set.signals, defaultPolicies, at + byMs, Math.random);
      const untimed = (list: typeof early.journal) => list.map(({ atMs: _atMs, ...rest }) => rest);
      expect(untimed(late.journal)).toEqual(untimed(early.journal));
      expect(late.plan.services.get(checkout)?.tiers).toEqual(early.plan.services.get(checkout)?.tiers);
      expect(late.wakeAt).toBe(early.wakeAt === undefined ? undefined : early.wakeAt + byMs);
      expect(late.state).toEqual(shiftState(early.state, byMs));
    }
  });
});
