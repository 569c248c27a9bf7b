import { describe, expect, it } from 'vitest';
import { ClusterSet, place, shares } from './set.ts';

describe('a step', () => {
  it('plans by order, and says nothing while nothing moves', () => {
    const set = new ClusterSet();
    const first = set.step();
    expect(place(set.plan)).toBe('100 | eu > us-west');
    expect(first.journal).toEqual([]);
    const second = set.step(1_000);
    expect(second.plan).toBe(first.plan);
    expect(second.changed.size).toBe(0);
    expect(second.wakeAt).toBeUndefined();
  });

  it('leaves a cluster that cannot be reached, holds it down, and brings it back in steps', () => {
    const set = new ClusterSet({ local: [0, 2] });
    set.step();
    expect(place(set.plan)).toBe('0 | eu > us-west');
    set.member('eu', 'quarantined');
    const { journal } = set.step(1_000);
    expect(place(set.plan)).toBe('0 | us-west');
    expect(journal.map(({ kind, rule, service }) => [kind, rule, service])).toEqual([
      ['state', 'ProbeFailed', undefined],
      ['shift', 'ProbeFailed', 'shop/checkout'],
    ]);
    set.member('eu', 'fresh');
    set.step(5_000);
    expect(place(set.plan)).toBe('0 | us-west');
    expect(set.plan.held.map(({ guard, member }) => `${guard} ${member}`)).toContain('HoldDown eu');
    set.run(14_900);
    expect(place(set.plan)).toBe('0 | us-west');
    set.run(200);
    expect(place(set.plan)).toBe('0 | eu@10 us-west');
    expect(shares(set.plan)).toEqual({ eu: 10, 'us-west': 90 });
    set.run(10_000);
    expect(shares(set.plan)).toEqual({ eu: 25, 'us-west': 75 });
    set.run(10_000);
    expect(shares(set.plan)).toEqual({ eu: 50, 'us-west': 50 });
    set.run(10_000);
    expect(place(set.plan)).toBe('0 | eu > us-west');
    expect(set.state.services.get('shop/checkout')!.cells.has('eu')).toBe(false);
  });
});
