import { describe, expect, it } from 'vitest';
import { defaultPolicy } from '../../../src/failover/policy.ts';
import { noSignals, type TrafficWindow } from '../../../src/health/signals.ts';
import { ClusterSet, checkout, memberView, place, shares, told } from './set.ts';

const guards = (set: ClusterSet): string[] =>
  set.plan.held.map(({ guard, member }) => `${guard} ${member ?? ''}`.trim());
const standing = (set: ClusterSet, name: string) => set.plan.standings.find(({ member }) => member === name)!;

describe('a cell that goes out', () => {
  it('has less weight while its path is in doubt, all of it while it is only silent', () => {
    const set = new ClusterSet({ members: { a: 'west', b: 'west' } });
    set.step();
    set.member('a', 'suspect', 'ControlSilent', { data: 'reachable' });
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | a b');
    set.member('a', 'suspect', 'ProbeFailed');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | a@50 b');
    expect(shares(set.plan)).toEqual({ a: 33, b: 67 });
  });

  it('shares with the next tier when it stands alone in its own', () => {
    const set = new ClusterSet();
    set.step();
    set.member('eu', 'suspect', 'ProbeFailed');
    set.step(1_000);
    expect(shares(set.plan)).toEqual({ eu: 50, 'us-west': 50 });
  });

  it('is told as a state and as a shift, with what was before', () => {
    const set = new ClusterSet();
    set.step();
    set.member('eu', 'quarantined');
    set.step(1_000);
    const shift = set.journal.find(({ kind }) => kind === 'shift')!;
    expect(shift).toMatchObject({
      rule: 'ProbeFailed',
      member: 'eu',
      author: 'controller',
      urgent: true,
      observed: false,
    });
    expect(shift.before).toEqual({
      localPercent: 100,
      tiers: [[{ member: 'eu', weight: 2, percent: 100 }], [{ member: 'us-west', weight: 2, percent: 100 }]],
    });
    expect(shift.after).toEqual({ localPercent: 100, tiers: [[{ member: 'us-west', weight: 2, percent: 100 }]] });
  });

  it('moves nothing when only its numbers change', () => {
    const set = new ClusterSet();
    set.step();
    set.export({ eu: 3, 'us-west': 2 }, [2, 2]);
    const { journal, changed } = set.step(1_000);
    expect(journal).toEqual([]);
    expect([...changed]).toEqual([checkout]);
    expect(set.plan.tiers[0]).toEqual([{ member: 'eu', weight: 3, percent: 100 }]);
  });

  it('with nobody ready any more leaves its place, and comes back like any other', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.export({ eu: 0, 'us-west': 2 }, undefined);
    expect(told(set.step(1_000).journal)).toEqual(['shift Readiness service eu']);
    expect(place(set.plan)).toBe('100 | us-west');
    expect(standing(set, 'eu')).toMatchObject({ reason: 'NotReady', tier: undefined, percent: 0 });
    set.export({ eu: 2, 'us-west': 2 }, undefined);
    set.run(14_000);
    expect(place(set.plan)).toBe('100 | us-west');
    set.run(2_000);
    expect(place(set.plan)).toBe('100 | eu@10 us-west');
  });

  it('that withdrew and comes back soon is held down', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.export({ 'us-west': 2 }, undefined);
    expect(told(set.step(1_000).journal)).toEqual(['shift Withdrawn service eu']);
    set.export({ eu: 2, 'us-west': 2 }, undefined);
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
    expect(guards(set)).toEqual(['HoldDown eu']);
  });

  it('is in full use at once when it is new', () => {
    const set = new ClusterSet({ members: { 'us-west': 'us-west' } });
    set.step();
    set.members.set('eu', memberView('eu', 'eu'));
    set.export({ eu: 2, 'us-west': 2 }, [2, 2]);
    expect(told(set.step(1_000).journal)).toEqual(['shift Order service eu']);
    expect(place(set.plan)).toBe('100 | eu > us-west');
  });
});

describe('the last cell', () => {
  it('is kept, with those that served last, when everything is bad', () => {
    const set = new ClusterSet({ members: { a: 'west', b: 'west', c: 'east' }, local: undefined });
    set.step();
    set.member('c', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | a b');
    set.member('a', 'quarantined');
    set.member('b', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | a b');
    expect(guards(set)).toContain('LastCell');
    expect(set.plan.failFast).toBe(false);
    set.member('c', 'fresh');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | c');
  });

  it('gives way to any other when it is evicted', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.member('us-west', 'quarantined');
    set.step(1_000);
    set.member('eu', 'evicted', 'SilentAndUnreachable');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
  });

  it('is refused at once by a policy that fails fast, and told so', () => {
    const set = new ClusterSet({ local: [0, 2], policy: { whenAllBad: 'fail-fast' } });
    set.step();
    set.member('eu', 'quarantined');
    set.member('us-west', 'quarantined');
    const { journal } = set.step(1_000);
    expect(set.plan.failFast).toBe(true);
    expect(set.plan.tiers.flat().length).toBeGreaterThan(0);
    expect(told(journal)).toContain('shift ProbeFailed service');
    set.member('eu', 'fresh');
    set.step(1_000);
    expect(set.plan.failFast).toBe(false);
    expect(place(set.plan)).toBe('0 | eu');
  });

  it('ends a hold-down: what is good is used when nothing else is', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.member('eu', 'quarantined');
    set.step(1_000);
    set.member('eu', 'fresh');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
    set.member('us-west', 'quarantined');
    const { journal } = set.step(1_000);
    expect(place(set.plan)).toBe('100 | eu');
    expect(
      journal.find(({ kind, service }) => kind !== 'state' && service !== undefined)!.guards.map(({ guard }) => guard),
    ).toContain('LastCell');
    // It stays back when the other returns.
    set.member('us-west', 'fresh');
    set.run(60_000);
    expect(place(set.plan)).toBe('100 | eu > us-west');
  });
});

describe('coming back', () => {
  const gone = (policy = {}) => {
    const set = new ClusterSet({ local: undefined, policy });
    set.step();
    set.member('eu', 'quarantined');
    set.step(1_000);
    set.member('eu', 'fresh');
    set.step(1_000);
    return set;
  };

  it('begins its hold-down anew after a relapse', () => {
    const set = gone();
    set.run(10_000);
    set.member('eu', 'suspect', 'ProbeFailed');
    set.step(1_000);
    set.member('eu', 'fresh');
    set.step(1_000);
    set.run(14_000);
    expect(place(set.plan)).toBe('100 | us-west');
    set.run(2_000);
    expect(place(set.plan)).toBe('100 | eu@10 us-west');
  });

  it('stops its ramp while in doubt, and drops out when it fails', () => {
    const set = gone();
    set.run(26_000);
    expect(place(set.plan)).toBe('100 | eu@25 us-west');
    set.member('eu', 'suspect', 'ProbeFailed');
    set.run(30_000);
    expect(standing(set, 'eu').percent).toBe(25);
    set.member('eu', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
  });

  it('waits for a person when latched, for that service alone', () => {
    const set = gone({ failback: { ...defaultPolicy.failback, mode: 'latched' } });
    set.run(600_000);
    expect(place(set.plan)).toBe('100 | us-west');
    expect(guards(set)).toEqual(['Latched eu']);
    expect(standing(set, 'eu')).toMatchObject({ reason: 'Latched', percent: 0 });
    const failback = { kind: 'failback', member: 'eu', author: 'kim', reason: 'looked at it' } as const;
    set.command({ ...failback, service: 'shop/other' });
    expect(place(set.plan)).toBe('100 | us-west');
    const { journal } = set.command({ ...failback, service: undefined });
    expect(place(set.plan)).toBe('100 | eu@10 us-west');
    expect(journal.map(({ kind, author }) => `${kind} ${author}`)).toEqual(['failback kim', 'failback kim']);
    set.run(31_000);
    expect(place(set.plan)).toBe('100 | eu > us-west');
  });

  it('stays out while its flap penalty is above the limit', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.member('eu', 'quarantined', 'ProbeFailed');
    set.step(1_000);
    const limit = defaultPolicy.thresholds.flapLimit;
    set.member('eu', 'fresh', 'Healthy', { penalty: 2 * limit });
    set.step(1_000);
    set.run(30_000);
    expect(place(set.plan)).toBe('100 | us-west');
    expect(guards(set)).toEqual(['Flapping eu']);
    expect(standing(set, 'eu').reason).toBe('Flapping');
    set.member('eu', 'fresh', 'Healthy', { penalty: limit - 1 });
    set.run(1_000);
    expect(place(set.plan)).toBe('100 | eu@10 us-west');
  });

  it('is whole at once where it carries nothing', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.member('us-west', 'quarantined');
    set.step(1_000);
    set.member('us-west', 'fresh');
    set.run(14_000);
    expect(place(set.plan)).toBe('100 | eu');
    set.run(2_000);
    expect(place(set.plan)).toBe('100 | eu > us-west');
  });
});

describe('guards of what is left to discretion', () => {
  const ejected = (set: ClusterSet, member: string): TrafficWindow => ({
    member,
    service: undefined,
    atMs: set.now,
    windowMs: 1_000,
    tries: 10,
    established: 0,
    localErrors: 10,
    gatewayErrors: 0,
    otherErrors: 0,
    refused: 0,
    cut: 0,
    connectMsSum: 0,
    ejected: 1,
    gateways: 1,
  });

  it('LastCell keeps a cell that is only gray', () => {
    const set = new ClusterSet({ members: { eu: 'eu' }, local: undefined });
    set.step();
    set.cell('eu', 'quarantined', 'GrayFailure');
    expect(told(set.step(1_000).journal)).toEqual(['state GrayFailure service eu', 'hold GrayFailure service eu']);
    expect(place(set.plan)).toBe('100 | eu');
    expect(guards(set)).toEqual(['LastCell eu']);
    expect(set.step(1_000).journal).toEqual([]);
  });

  it('Region keeps a region when the others are not in full health', () => {
    const set = new ClusterSet({ members: { eu: 'eu', west: 'west' }, local: undefined });
    set.step();
    set.member('west', 'suspect', 'ProbeFailed');
    set.step(1_000);
    set.cell('eu', 'quarantined', 'FailurePercentage');
    set.step(1_000);
    expect(guards(set)).toEqual(['Region eu']);
    set.member('west', 'fresh');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | west');
  });

  it('a region voted down is left as a whole, and only where the rest stands', () => {
    const set = new ClusterSet({ members: { e1: 'eu', e2: 'eu', west: 'west', ap: 'ap' }, local: undefined });
    set.step();
    expect(place(set.plan)).toBe('100 | ap > e1 e2 > west');
    set.region('eu', true);
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | ap > west');
    expect(set.journal.map(({ kind }) => kind)).toEqual(['region', 'shift']);
    const alone = new ClusterSet({ members: { e1: 'eu', west: 'west' }, local: undefined });
    alone.step();
    alone.member('west', 'quarantined');
    alone.step(1_000);
    alone.region('eu', true);
    alone.step(1_000);
    expect(place(alone.plan)).toBe('100 | e1');
    expect(guards(alone)).toContain('LastCell e1');
  });

  it('DoubleReaction waits an ejection period when the gateways have acted on the same evidence', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.step(1_000, { traffic: [ejected(set, 'eu')] });
    set.cell('eu', 'quarantined', 'ConsecutiveErrors');
    set.step(1_000);
    expect(guards(set)).toEqual(['DoubleReaction eu']);
    expect(place(set.plan)).toBe('100 | eu > us-west');
    expect(set.last!.wakeAt).toBe(set.now + 1_000);
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
  });

  it('and is not asked when probes show it', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.step(1_000, { traffic: [ejected(set, 'eu')] });
    set.member('eu', 'quarantined', 'ProbeFailed');
    set.step(100);
    expect(place(set.plan)).toBe('100 | us-west');
  });

  it('MoveRate lets so many moves a minute happen, and the rest wait', () => {
    const set = new ClusterSet({
      members: { a: 'x', b: 'x', c: 'x', d: 'x' },
      local: undefined,
      policy: { maxMovesPerMinute: 2 },
    });
    set.step();
    for (const member of ['a', 'b', 'c']) {
      set.cell(member, 'quarantined', 'GrayFailure');
      set.step(1_000);
    }
    expect(place(set.plan)).toBe('100 | c d');
    expect(guards(set)).toEqual(['MoveRate c']);
    expect(set.last!.wakeAt).toBe(set.now - 2_000 + 60_000);
    set.run(58_001);
    expect(place(set.plan)).toBe('100 | d');
  });

  it('MoveRate does not hold back what our own path shows', () => {
    const set = new ClusterSet({
      members: { a: 'x', b: 'x', c: 'x' },
      local: undefined,
      policy: { maxMovesPerMinute: 1 },
    });
    set.step();
    set.member('a', 'quarantined');
    set.step(1_000);
    set.member('b', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | c');
  });
});

describe('what a step looks at', () => {
  it('is only what may have changed', () => {
    const services = ['shop/a', 'shop/b', 'shop/c'];
    const set = new ClusterSet({ services });
    set.step();
    const [a, b] = [set.planOf('shop/a'), set.planOf('shop/b')];
    set.cell('eu', 'quarantined', 'ProbeFailed', {}, 'shop/a');
    expect([...set.step(1_000).changed]).toEqual(['shop/a']);
    expect(set.planOf('shop/a')).not.toBe(a);
    expect(set.planOf('shop/b')).toBe(b);
    expect(place(set.planOf('shop/a'))).toBe('100 | us-west');
    expect(place(set.planOf('shop/b'))).toBe('100 | eu > us-west');
  });

  it('forgets a service that nobody else has, and says so', () => {
    const set = new ClusterSet();
    set.step();
    set.export({}, [2, 2]);
    const { journal, changed, plan } = set.step(1_000);
    expect(told(journal)).toEqual(['shift Withdrawn service']);
    expect([...changed]).toEqual([checkout]);
    expect(plan.services.size).toBe(0);
    expect(set.state.services.size).toBe(0);
  });

  it('is told of members that vote for a region', () => {
    const set = new ClusterSet({ members: { e1: 'eu', e2: 'eu', west: 'west' } });
    set.step();
    set.member('e1', 'quarantined');
    expect(set.step(1_000).plan.votes).toEqual([]);
    set.member('e2', 'evicted', 'SilentAndUnreachable');
    expect(set.step(1_000).plan.votes).toEqual(['eu']);
    expect(set.step(1_000, noSignals).plan).toBe(set.last!.plan);
  });
});
