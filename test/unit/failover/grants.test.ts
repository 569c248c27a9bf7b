import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addRates, rateClass } from '../../../src/failover/capacity.ts';
import { defaultPolicy } from '../../../src/failover/policy.ts';
import { type SpreadCell, spread } from '../../../src/failover/spread.ts';
import type { TrafficWindow } from '../../../src/health/signals.ts';
import { ClusterSet, checkout, place, shares } from './set.ts';

const declared = { ...defaultPolicy.capacity, perEndpoint: 10, reservePercent: 20 };
const guards = (set: ClusterSet): string[] =>
  set.plan.held.map(({ guard, member }) => `${guard} ${member ?? ''}`.trim());
const given = (set: ClusterSet) => set.last!.plan.grants.map(({ reader, perSecond }) => `${reader} ${perSecond}`);

const window = (set: ClusterSet, member: string, perSecond: number): TrafficWindow => ({
  member,
  service: checkout,
  atMs: set.now,
  windowMs: 1_000,
  tries: perSecond,
  established: perSecond,
  localErrors: 0,
  gatewayErrors: 0,
  otherErrors: 0,
  refused: 0,
  cut: 0,
  connectMsSum: 0,
  ejected: 0,
  gateways: 1,
});

describe('what we grant to others', () => {
  it('is the declared capacity less its reserve, in equal shares', () => {
    const set = new ClusterSet({ local: [10, 10], policy: { capacity: declared } });
    set.step();
    expect(given(set)).toEqual(['eu 40', 'us-west 40']);
    expect(set.journal.map(({ kind, after }) => [kind, after])).toEqual([
      ['grant', '40 new connections/s to each of 2'],
    ]);
  });

  it('is nothing at all where nobody declared a capacity', () => {
    const set = new ClusterSet({ local: [10, 10] });
    set.step();
    expect(given(set)).toEqual([]);
  });

  it('is lowered at once, and raised when it is worth it', () => {
    const set = new ClusterSet({ local: [10, 10], policy: { capacity: declared } });
    set.step();
    const grants = set.last!.plan.grants;
    set.export({ eu: 2, 'us-west': 2 }, [11, 11]);
    set.step(1_000);
    expect(set.last!.plan.grants).toBe(grants);
    set.export({ eu: 2, 'us-west': 2 }, [8, 11]);
    set.step(1_000);
    expect(given(set)).toEqual(['eu 32', 'us-west 32']);
    set.export({ eu: 2, 'us-west': 2 }, [10, 11]);
    set.step(1_000);
    expect(given(set)).toEqual(['eu 40', 'us-west 40']);
  });

  it('never is more, together, than what is there', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(30), fc.nat(30)), { minLength: 1, maxLength: 12 }), (steps) => {
        const set = new ClusterSet({ local: [10, 10], policy: { capacity: declared } });
        for (const [ready, more] of steps) {
          set.export({ eu: 2, 'us-west': 2 }, [ready, ready + more]);
          set.step(1_000);
          const sum = set.last!.plan.grants.reduce((total, { perSecond }) => total + perSecond, 0);
          expect(sum).toBeLessThanOrEqual(ready * 10 * 0.8 + 1e-9);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('what others grant us', () => {
  it('bounds what they get, and the rest goes on to the next', () => {
    const set = new ClusterSet({ local: undefined });
    set.signals = {
      ...set.signals,
      grants: [
        { member: 'eu', service: '*', perSecond: 20 },
        { member: 'us-west', service: checkout, perSecond: 500 },
      ],
    };
    set.step();
    expect(place(set.plan)).toBe('100 | eu > us-west');
    const { journal } = set.step(1_000, { traffic: [window(set, 'eu', 100)] });
    const [eu] = [shares(set.plan)['eu']!];
    expect(eu).toBeLessThanOrEqual(20);
    expect(eu).toBeGreaterThan(10);
    expect(journal).toMatchObject([{ kind: 'shift', rule: 'Capacity' }]);
  });

  it('of nothing leaves a member out, while others grant something', () => {
    const set = new ClusterSet({ local: undefined });
    set.signals = { ...set.signals, grants: [{ member: 'eu', service: '*', perSecond: 0 }] };
    set.step();
    expect(place(set.plan)).toBe('100 | us-west');
    set.member('us-west', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | eu');
  });

  it('that is too little is gone beyond, and said, for there is nowhere else', () => {
    const set = new ClusterSet({ local: undefined });
    set.signals = {
      ...set.signals,
      grants: ['eu', 'us-west'].map((member) => ({ member, service: '*', perSecond: 10 })),
    };
    set.step();
    set.step(1_000, { traffic: [window(set, 'eu', 100)] });
    expect(shares(set.plan)).toEqual({ eu: 50, 'us-west': 50 });
    expect(guards(set)).toEqual(['Grant']);
  });

  it('holds back a drain that the others have no room for', () => {
    const set = new ClusterSet({ local: undefined });
    set.signals = {
      ...set.signals,
      grants: [
        { member: 'eu', service: '*', perSecond: 200 },
        { member: 'us-west', service: '*', perSecond: 50 },
      ],
    };
    set.step();
    set.step(1_000, { traffic: [window(set, 'eu', 100)] });
    set.drain({ scope: 'cluster', member: 'eu' }, { overMs: 0 });
    expect(guards(set)).toEqual(['Grant eu']);
    expect(place(set.plan)).toBe('100 | eu > us-west');
  });

  it('and so does declared capacity', () => {
    const set = new ClusterSet({ local: [20, 20], policy: { capacity: declared } });
    set.step();
    set.drain({ scope: 'cluster', member: 'us-east-1' }, { overMs: 0 });
    expect(guards(set)).toEqual(['Headroom us-east-1']);
    expect(set.plan.local.percent).toBe(100);
  });

  it('never gives anybody more than its grant, as long as all grants together suffice', () => {
    const cell = fc.record({
      weight: fc.integer({ min: 1, max: 50 }),
      percent: fc.constantFrom(10, 25, 50, 100),
      tier: fc.nat(3),
      grant: fc.option(fc.nat(200), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(cell, { minLength: 1, maxLength: 8 }), fc.integer({ min: 1, max: 500 }), (drawn, demand) => {
        const cells: SpreadCell[] = drawn
          .sort((a, b) => a.tier - b.tier)
          .map((value, i) => ({ ...value, member: `m${i}` }));
        const { tiers, unmet } = spread(cells, demand);
        expect(tiers.flat().length).toBeGreaterThan(0);
        expect(tiers.flat().every(({ weight }) => Number.isInteger(weight) && weight > 0)).toBe(true);
        if (unmet > 0) return;
        const sum = tiers[0]!.reduce((total, { weight }) => total + weight, 0);
        for (const { member, weight } of tiers[0]!) {
          const { grant } = cells.find((c) => c.member === member)!;
          if (grant !== undefined) expect((weight / sum) * demand).toBeLessThanOrEqual(grant + demand * 0.01);
        }
      }),
    );
  });
});

describe('rates', () => {
  it('are classes that do not tremble', () => {
    const first = rateClass(100, undefined);
    expect(first).toBeGreaterThanOrEqual(100);
    expect(first).toBeLessThan(126);
    expect([90, 80, 75].map((rate) => rateClass(rate, first))).toEqual([first, first, first]);
    expect(rateClass(50, first)).toBeLessThan(first);
    expect(rateClass(0, first)).toBe(0);
    expect(rateClass(1.1, undefined)).toBe(1.25);
  });

  it('are means over some seconds, and move when their class does', () => {
    const set = new ClusterSet();
    let { rates, moved } = addRates(new Map(), [window(set, 'eu', 100)]);
    expect([rates.get('eu')!.mean, moved]).toEqual([100, true]);
    for (const perSecond of [60, 130, 80, 110, 70]) {
      ({ rates, moved } = addRates(rates, [window(set, 'eu', perSecond)]));
      expect(moved).toBe(false);
    }
    for (let i = 0; i < 40; i++) ({ rates } = addRates(rates, [window(set, 'eu', 0)]));
    expect(rates.get('eu')!.perSecond).toBeLessThan(5);
    for (let i = 0; i < 40; i++) ({ rates } = addRates(rates, [window(set, 'eu', 0)]));
    expect(rates.size).toBe(0);
  });
});
