/** Random stories: whatever happens in whatever order, what must hold holds. `ClusterSet` checks the invariants at each step. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Decision } from '../../../src/failover/decision.ts';
import { defaultPolicy, type FailoverPolicy } from '../../../src/failover/policy.ts';
import { ClusterSet, checkout, home, placement, recent } from './set.ts';

const names = ['a', 'b', 'c', 'd'];
const member = fc.constantFrom(...names);

const event = fc.oneof(
  fc.record({
    kind: fc.constant('member' as const),
    member,
    state: fc.constantFrom('fresh', 'suspect', 'quarantined', 'evicted'),
    penalty: fc.constantFrom(0, 0, 9_000),
  }),
  fc.record({
    kind: fc.constant('cell' as const),
    member: fc.constantFrom(...names, home),
    state: fc.constantFrom('fresh', 'suspect', 'quarantined'),
    reason: fc.constantFrom('GrayFailure', 'FailurePercentage', 'ProbeFailed'),
  }),
  fc.record({ kind: fc.constant('region' as const), region: fc.constantFrom('x', 'y'), down: fc.boolean() }),
  fc.record({ kind: fc.constant('ready' as const), member: fc.constantFrom(...names, home), ready: fc.nat(4) }),
  fc.record({ kind: fc.constant('gone' as const), member }),
  fc.record({
    kind: fc.constant('drain' as const),
    member: fc.constantFrom(...names, home),
    overMs: fc.constantFrom(0, 9_000),
  }),
  fc.record({ kind: fc.constant('undrain' as const), member: fc.constantFrom(...names, home) }),
  fc.record({ kind: fc.constant('failback' as const), member: fc.constantFrom(...names, home) }),
  fc.record({ kind: fc.constant('freeze' as const), on: fc.boolean() }),
  fc.record({ kind: fc.constant('grants' as const), rates: fc.dictionary(member, fc.nat(60)) }),
  fc.record({ kind: fc.constant('receiving' as const), on: fc.boolean() }),
  fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(100, 1_000, 10_000, 40_000) }),
);
type Event = typeof event extends fc.Arbitrary<infer T> ? T : never;

const policies: fc.Arbitrary<Partial<FailoverPolicy>> = fc.record({
  whenAllBad: fc.constantFrom('keep-last', 'fail-fast'),
  mode: fc.constantFrom('act', 'act', 'act', 'observe'),
  maxMovesPerMinute: fc.constantFrom(1, 3, 6),
  failback: fc.record({
    mode: fc.constantFrom('ramp', 'latched'),
    holdDownMs: fc.constantFrom(0, 5_000, 15_000),
    steps: fc.constant(defaultPolicy.failback.steps),
    stepMs: fc.constantFrom(1_000, 10_000),
    tunnelAgeMs: fc.constant(undefined),
  }),
  capacity: fc.record({
    perEndpoint: fc.constantFrom(undefined, 10),
    reservePercent: fc.constant(20),
    localPercent: fc.constantFrom(0, 70),
    maxSpillPercent: fc.constantFrom(30, 100),
  }),
});

const tell = (set: ClusterSet, ready: Map<string, number>, e: Event): void => {
  const author = { author: 'kim', reason: '' };
  switch (e.kind) {
    case 'member':
      set.member(e.member, e.state, e.state === 'evicted' ? 'SilentAndUnreachable' : 'ProbeFailed', {
        penalty: e.penalty,
      });
      break;
    case 'cell':
      set.cell(e.member, e.state, e.reason);
      break;
    case 'region':
      set.region(e.region, e.down);
      break;
    case 'ready':
    case 'gone': {
      if (e.kind === 'gone') ready.delete(e.member);
      else ready.set(e.member, e.ready);
      const remotes = [...ready].filter(([name]) => name !== home).map(([name, count]) => [name, count] as const);
      set.export(Object.fromEntries(remotes), [ready.get(home) ?? 0, 4]);
      break;
    }
    case 'drain':
      set.drain({ scope: 'cluster', member: e.member }, { overMs: e.overMs });
      break;
    case 'undrain':
      set.undrain({ scope: 'cluster', member: e.member });
      break;
    case 'failback':
      set.command({ kind: 'failback', member: e.member, service: undefined, ...author });
      break;
    case 'freeze':
      set.command({ kind: e.on ? 'freeze' : 'thaw', ...author });
      break;
    case 'grants': {
      const grants = Object.entries(e.rates).map(([name, perSecond]) => ({
        member: name,
        service: '*' as const,
        perSecond,
      }));
      set.signals = { ...set.signals, grants };
      break;
    }
    case 'receiving':
      set.signals = { ...set.signals, receivingSpill: new Set(e.on ? [checkout] : []) };
      break;
    case 'wait':
      set.run(e.ms);
  }
};

const play = (
  events: readonly Event[],
  policy: Partial<FailoverPolicy>,
  partialSpill: boolean,
  how: Partial<Pick<ClusterSet, 'restarting' | 'thorough'>> = {},
): ClusterSet => {
  const set = new ClusterSet({ members: { a: 'x', b: 'x', c: 'y', d: 'z' }, policy, partialSpill, local: [4, 4] });
  Object.assign(set, how);
  const ready = new Map<string, number>([...names.map((name) => [name, 2] as const), [home, 4]]);
  set.step();
  for (const e of events) {
    tell(set, ready, e);
    set.step(50);
  }
  return set;
};

/**
 * Whether a decision moved traffic at its own discretion: of these there are never more than the policy's number in a minute for one
 * service. All other moves follow what our own data path, or a record, showed.
 */
const isDiscretionary = ({ kind, observed, service, urgent }: Decision): boolean =>
  service !== undefined &&
  !observed &&
  !urgent &&
  (kind === 'shift' || kind === 'failback' || kind === 'ramp' || kind === 'drain' || kind === 'undrain');

const stories = fc.tuple(fc.array(event, { minLength: 5, maxLength: 40 }), policies, fc.boolean());

describe('any story', () => {
  it('keeps the invariants at each step', () => {
    fc.assert(
      fc.property(stories, ([events, policy, partial]) => void play(events, policy, partial)),
      { numRuns: 150 },
    );
  }, 60_000);

  it('is the same with a restart between any two steps', () => {
    fc.assert(
      fc.property(stories, ([events, policy, partial]) => {
        // Who starts again looks at everything, and so may find today what the other finds at its next look: both look at all.
        const [through, again] = [false, true].map((restarting) =>
          play(events, policy, partial, { restarting, thorough: true }),
        ) as [ClusterSet, ClusterSet];
        expect(again.journal).toEqual(through.journal);
        expect(recent(again.state, again.now)).toEqual(recent(through.state, through.now));
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  it('moves a service at discretion no more often than its policy allows', () => {
    fc.assert(
      fc.property(stories, ([events, policy, partial]) => {
        const set = play(events, { ...policy, mode: 'act' }, partial);
        const moves = set.journal.filter((d) => isDiscretionary(d) && d.before !== undefined).map(({ atMs }) => atMs);
        const max = set.policy.maxMovesPerMinute;
        for (const [i, at] of moves.entries()) {
          const after = moves[i + max];
          if (after !== undefined) expect(after - at).toBeGreaterThanOrEqual(60_000);
        }
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  it('tells a journal in which each before is the last after', () => {
    fc.assert(
      fc.property(stories, ([events, policy, partial]) => {
        // A service that nobody exports any more is forgotten, and its story begins anew.
        const gone = new Set(events.flatMap((event) => (event.kind === 'gone' ? [event.member] : [])));
        fc.pre(gone.size < 4);
        const set = play(events, { ...policy, mode: 'act' }, partial);
        const shifts = set.journal.filter((d) => d.service === checkout && typeof d.after === 'object');
        for (const [i, shift] of shifts.entries()) {
          const before = shifts[i - 1];
          if (before === undefined || shift.before === undefined) continue;
          const seats = (d: unknown) =>
            placement(d as never).tiers.map((t) => t.map(({ member: m, percent }) => `${m}@${percent}`));
          expect(seats(shift.before)).toEqual(seats(before.after));
          expect(placement(shift.before).localPercent).toBe(placement(before.after).localPercent);
        }
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  it('comes to rest where a healthy set would be', () => {
    fc.assert(
      fc.property(stories, ([events, policy, partial]) => {
        const failback = { ...policy.failback!, mode: 'ramp' as const };
        const set = play(events, { ...policy, failback, mode: 'act' }, partial);
        set.command({ kind: 'thaw', author: 'kim', reason: '' });
        for (const name of [...names, home]) set.undrain({ scope: 'cluster', member: name });
        set.signals = { ...set.signals, grants: [], receivingSpill: new Set() };
        for (const name of names) {
          set.member(name, 'fresh');
          set.cell(name, 'fresh');
        }
        set.cell(home, 'fresh');
        for (const region of ['x', 'y']) set.region(region, false);
        set.export(Object.fromEntries(names.map((name) => [name, 2])), [4, 4]);
        set.step(1);
        set.run(900_000);
        expect(set.plan.local.percent).toBe(100);
        expect(set.plan.tiers.map((cells) => cells.map(({ member: m }) => m))).toEqual([['a', 'b'], ['c'], ['d']]);
        expect(set.state.services.get(checkout)!.cells.size).toBe(0);
        expect(set.last!.wakeAt).toBeUndefined();
      }),
      { numRuns: 25 },
    );
  }, 120_000);
});
