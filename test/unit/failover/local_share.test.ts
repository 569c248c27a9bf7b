import { describe, expect, it } from 'vitest';
import { readyPercent } from '../../../src/failover/capacity.ts';
import { defaultPolicy } from '../../../src/failover/policy.ts';
import { ClusterSet, checkout, home, place, told } from './set.ts';

const guards = (set: ClusterSet): string[] =>
  set.plan.held.map(({ guard, member }) => `${guard} ${member ?? ''}`.trim());
const capacity = defaultPolicy.capacity;

describe('what our own endpoints keep', () => {
  it('is all while enough are ready, then a part in steps of ten, then nothing', () => {
    const of = (ready: number, total: number, localPercent = 70) =>
      readyPercent(ready, total, { ...capacity, localPercent });
    expect([of(10, 10), of(7, 10), of(6, 10), of(3, 10), of(1, 100), of(0, 10)]).toEqual([100, 100, 90, 40, 10, 0]);
    expect([of(1, 10, 0), of(0, 0)]).toEqual([100, 0]);
  });

  it('goes down with readiness, and is told as a move', () => {
    const set = new ClusterSet({ local: [10, 10] });
    set.step();
    set.export({ eu: 2, 'us-west': 2 }, [4, 10]);
    expect(told(set.step(1_000).journal)).toEqual(['shift Capacity service us-east-1']);
    expect(place(set.plan)).toBe('60 | eu > us-west');
    set.export({ eu: 2, 'us-west': 2 }, [10, 10]);
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | eu > us-west');
  });

  it('comes home at discretion, and at once when those who took the rest cannot keep it', () => {
    const flapped = (): ClusterSet => {
      const set = new ClusterSet({ local: [10, 10], policy: { maxMovesPerMinute: 3 } });
      set.step();
      for (const ready of [4, 10, 4]) {
        set.export({ eu: 2, 'us-west': 2 }, [ready, 10]);
        set.step(1_000);
      }
      set.export({ eu: 2, 'us-west': 2 }, [10, 10]);
      set.step(1_000);
      expect([place(set.plan), guards(set)]).toEqual(['60 | eu > us-west', [`MoveRate ${home}`]]);
      expect(set.last!.wakeAt).toBe(set.now - 3_000 + 60_000);
      return set;
    };
    const calm = flapped();
    calm.run(57_001);
    expect(place(calm.plan)).toBe('100 | eu > us-west');
    const needed = flapped();
    needed.member('eu', 'quarantined');
    needed.step(1_000);
    expect(place(needed.plan)).toBe('100 | us-west');
    const vanished = flapped();
    vanished.export({ 'us-west': 2 }, [10, 10]);
    vanished.step(1_000);
    expect(place(vanished.plan)).toBe('100 | us-west');
  });

  it('comes back after the hold-down, in steps, when it was out', () => {
    const set = new ClusterSet({ local: [2, 2] });
    set.step();
    set.export({ eu: 2, 'us-west': 2 }, [0, 2]);
    expect(told(set.step(1_000).journal)).toEqual([`shift Readiness service ${home}`]);
    expect(set.plan.local.percent).toBe(0);
    set.export({ eu: 2, 'us-west': 2 }, [2, 2]);
    set.run(15_000);
    expect(set.plan.local.percent).toBe(0);
    const seen = new Set<number>();
    for (let i = 0; i < 35; i++) {
      set.run(1_000);
      seen.add(set.plan.local.percent);
    }
    expect([...seen]).toEqual([10, 25, 50, 100]);
  });

  it('is all or nothing where the mesh cannot give parts, and says so', () => {
    const set = new ClusterSet({ local: [10, 10], partialSpill: false });
    set.step();
    set.export({ eu: 2, 'us-west': 2 }, [4, 10]);
    set.step(1_000);
    expect(set.plan.local.percent).toBe(100);
    expect(set.plan.held[0]).toMatchObject({ guard: 'Headroom', member: home });
    expect(set.plan.held[0]!.detail).toContain('all or nothing');
    set.export({ eu: 2, 'us-west': 2 }, [0, 10]);
    set.step(1_000);
    expect(set.plan.local.percent).toBe(0);
    set.export({ eu: 2, 'us-west': 2 }, [10, 10]);
    set.run(15_000);
    expect(set.plan.local.percent).toBe(0);
    set.run(2_000);
    expect(set.plan.local.percent).toBe(100);
  });

  it('is all when no other cluster can serve', () => {
    const set = new ClusterSet({ local: [1, 10] });
    set.member('eu', 'quarantined');
    set.member('us-west', 'quarantined');
    set.step();
    expect(set.plan.local.percent).toBe(100);
    set.cell(home, 'quarantined', 'GrayFailure');
    set.step(1_000);
    expect(set.plan.local.percent).toBe(100);
    expect(guards(set)).toContain(`LastCell ${home}`);
  });

  it('is nothing for a gray failure, while others serve', () => {
    const set = new ClusterSet();
    set.step();
    set.cell(home, 'suspect', 'GrayFailure');
    set.step(1_000);
    expect(set.plan.local.percent).toBe(50);
    set.cell(home, 'quarantined', 'GrayFailure');
    set.step(1_000);
    expect(place(set.plan)).toBe('0 | eu > us-west');
    expect(set.journal.at(-1)).toMatchObject({ kind: 'shift', rule: 'GrayFailure', member: home, urgent: false });
  });

  it('spills no more than the policy allows, nor than the others have room for', () => {
    const least = new ClusterSet({ local: [10, 10], policy: { capacity: { ...capacity, maxSpillPercent: 20 } } });
    least.step();
    least.export({ eu: 2, 'us-west': 2 }, [1, 10]);
    least.step(1_000);
    expect(least.plan.local.percent).toBe(80);

    // 100/s here; 4 endpoints elsewhere take 40/s, less the reserve: 32/s.
    const room = new ClusterSet({ local: [10, 10], policy: { capacity: { ...capacity, perEndpoint: 10 } } });
    room.step();
    room.export({ eu: 2, 'us-west': 2 }, [1, 10]);
    room.step(1_000);
    expect(room.plan.local.percent).toBe(70);
    expect(guards(room)).toEqual([`Headroom ${home}`]);
  });

  it('does not spill on what it takes from others', () => {
    const set = new ClusterSet({ local: [10, 10] });
    set.signals = { ...set.signals, receivingSpill: new Set([checkout]) };
    set.step();
    set.export({ eu: 2, 'us-west': 2 }, [3, 10]);
    set.step(1_000);
    expect(set.plan.local.percent).toBe(100);
    expect(guards(set)).toEqual([`SpillOnSpill ${home}`]);
    set.cell(home, 'quarantined', 'GrayFailure');
    set.step(1_000);
    expect(set.plan.local.percent).toBe(100);
    set.signals = { ...set.signals, receivingSpill: new Set() };
    set.step(1_000);
    expect(set.plan.local.percent).toBe(0);
  });

  it('stands behind the clusters that the order puts first', () => {
    const order = [{ kind: 'cluster', name: 'eu' }, { kind: 'local' }, { kind: 'any' }] as const;
    const set = new ClusterSet({ policy: { order } });
    set.step();
    expect(place(set.plan)).toBe('0 | eu > us-west');
    set.member('eu', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
    set.member('eu', 'fresh');
    set.run(17_000);
    expect(place(set.plan)).toBe('90 | eu@10 us-west');
    set.run(31_000);
    expect(place(set.plan)).toBe('0 | eu > us-west');
  });

  it('leaves out who no step names, until nobody else is left', () => {
    const order = [{ kind: 'local' }, { kind: 'region', name: 'eu' }] as const;
    const set = new ClusterSet({ policy: { order }, local: undefined });
    set.step();
    expect(place(set.plan)).toBe('100 | eu');
    set.member('eu', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
  });
});
