import { describe, expect, it } from 'vitest';
import { explain, explainFrom } from '../../../src/controller/explaining.ts';
import { explainPast } from '../../../src/controller/explaining_past.ts';
import { movedPercent, sharesOf } from '../../../src/controller/shares.ts';
import { because, isReason } from '../../../src/controller/wording.ts';
import type { DecisionReport } from '../../../src/core/failover_report.ts';
import { defaultPolicies, defaultPolicy } from '../../../src/failover/policy.ts';
import { initialState, step } from '../../../src/failover/step.ts';
import { noSignals, type Signals } from '../../../src/health/signals.ts';
import { explainInput, nowMs, planOf, serviceView, standing, viewOf, wallMs } from './shop.ts';

const key = 'shop/checkout';
const remotes = { 'us-west': [4, 4], 'eu-central': [3, 3] } as const;
const tiers = [[{ member: 'us-west', weight: 4 }], [{ member: 'eu-central', weight: 3 }]];
const west = (over = {}) => standing('us-west', { tier: 0, ready: 4, total: 4, ...over });
const eu = (over = {}) => standing('eu-central', { tier: 1, ...over });

describe('shares', () => {
  it('are of the first tier when nothing is ready here, whatever the plan keeps for the local cell', () => {
    const plan = planOf(
      [],
      [
        [
          { member: 'us-west', weight: 1 },
          { member: 'eu-central', weight: 3 },
        ],
      ],
    );
    expect([...sharesOf(plan, 'us-east', 0)]).toEqual([
      ['us-west', 25],
      ['eu-central', 75],
    ]);
    expect([...sharesOf(plan, 'us-east', 1)]).toEqual([['us-east', 100]]);
  });
  it('split what is spilled, and are none when calls are refused', () => {
    expect([...sharesOf(planOf([], tiers, { local: { percent: 70 } }), 'us-east', 2)]).toEqual([
      ['us-east', 70],
      ['us-west', 30],
    ]);
    expect(sharesOf(planOf([], tiers, { usable: false, local: { percent: 0 } }), 'us-east', 0).size).toBe(0);
  });
  it('tell how much moves, also when it moves to nobody', () => {
    expect(
      movedPercent(
        new Map([['a', 100]]),
        new Map([
          ['a', 60],
          ['b', 40],
        ]),
      ),
    ).toBe(40);
    expect(movedPercent(new Map([['a', 100]]), new Map())).toBe(100);
  });
});

describe('explain', () => {
  const headline = (view: Parameters<typeof explainInput>[0], plan: Parameters<typeof explainInput>[1]) =>
    explain(key, explainInput(view, plan)).headline;

  it('says who answers when all is well', () => {
    const view = viewOf([serviceView([3, 3], remotes)]);
    expect(headline(view, [planOf([standing('us-east'), west(), eu()], tiers)])).toBe(
      'Calls of shop/checkout from us-east are answered by us-east itself, with 3 of 3 endpoints ready.',
    );
  });
  it('says why it is not who would come first', () => {
    const view = viewOf([serviceView([0, 3], remotes)]);
    const own = standing('us-east', { reason: 'NotReady', ready: 0 });
    expect(headline(view, [planOf([own, west(), eu()], tiers, { local: { percent: 0 } })])).toBe(
      'Calls of shop/checkout from us-east are answered by us-west, because none of us-east’s 3 endpoints is ready.',
    );
  });
  it('names the evidence against a cluster that is passed over', () => {
    const view = viewOf([serviceView(undefined, remotes)]);
    const bad = west({
      state: 'quarantined',
      reason: 'ProbeFailed',
      detail: '3 of 3 probes ended at tls',
      percent: 0,
      tier: undefined,
    });
    expect(headline(view, [planOf([bad, eu({ tier: 0 })], tiers.slice(1))])).toMatch(
      /answered by eu-central, because us-west is quarantined: probes .* fail \(3 of 3 probes ended at tls\)\.$/,
    );
  });
  it('does not excuse clusters that only stand behind', () => {
    const view = viewOf([serviceView([3, 3], remotes)]);
    const behind = eu({ state: 'quarantined', reason: 'ProbeFailed', percent: 0, tier: undefined });
    expect(headline(view, [planOf([standing('us-east'), west(), behind], tiers.slice(0, 1))])).not.toContain('because');
  });
  it('says that calls are refused, and why', () => {
    const view = viewOf([serviceView([0, 2], { 'us-west': [0, 4] })]);
    const all = [
      standing('us-east', { reason: 'NotReady', ready: 0, total: 2 }),
      west({ reason: 'NotReady', ready: 0 }),
    ];
    const plan = planOf(all, tiers.slice(0, 1), { usable: false, failFast: true, local: { percent: 0 } });
    expect(headline(view, [plan])).toMatch(
      /are refused at once, .* none of us-east’s 2 endpoints is ready; and none of us-west’s 4/,
    );
  });
  it('has rows in the order of the policy, with shares, ages and deadlines', () => {
    const view = viewOf([serviceView([0, 3], remotes)]);
    const plan = planOf(
      [eu(), west({ deadlineMs: nowMs + 8_000 }), standing('us-east', { ready: 0, reason: 'NotReady' })],
      tiers,
    );
    const rows = explain(key, explainInput(view, [plan])).standings;
    expect(rows.map((row) => [row.member, row.tier, row.sharePercent, row.untilSeconds])).toEqual([
      ['us-east', 0, 0, null],
      ['us-west', 1, 100, 8],
      ['eu-central', 2, 0, null],
    ]);
    expect(rows[0]!.ageSeconds).toBe(3 * 3_600);
  });
  it('invents no age for what was never judged', () => {
    const view = viewOf([serviceView([3, 3], remotes)]);
    expect(explain(key, explainInput(view, [planOf([], tiers)])).standings.map((row) => row.ageSeconds)).toEqual([
      null,
      null,
      null,
    ]);
  });
  it('says what would change it: steps, deadlines, evidence and words', () => {
    const view = viewOf([serviceView([3, 3], remotes)]);
    const plan = planOf(
      [
        standing('us-east', { reason: 'Latched', percent: 0 }),
        west({ reason: 'Ramping', percent: 25, deadlineMs: nowMs + 8_000 }),
        eu({ state: 'quarantined', reason: 'GrayFailure', percent: 0 }),
      ],
      tiers,
      { local: { percent: 0 } },
    );
    const { changes, policy } = explain(key, explainInput(view, [plan]));
    expect(changes[0]).toEqual({
      inSeconds: 8,
      what: 'us-west goes from 25 to 50 %, if it stays healthy',
      command: null,
    });
    expect(changes.map((change) => change.command)).toContain('isthmus failback shop/checkout');
    expect(changes.some((change) => change.what.startsWith('5 application probes of eu-central'))).toBe(true);
    expect(policy.lines.map((line) => line.field)).toEqual(
      expect.arrayContaining(['order', 'failback', 'thresholds.gray']),
    );
  });
  it('tells of what was withdrawn and is kept, the policy that keeps it, and what lets it go', () => {
    const view = viewOf([serviceView([3, 3], remotes)]);
    const withheld = (reason: 'Mass' | 'Canary') => {
      const held = { service: key, sinceMs: nowMs - 60_000, deadlineMs: nowMs + 240_000, reason };
      const other = { ...held, service: 'shop/other', deadlineMs: nowMs + 1_000 };
      const withdrawals = new Map([['us-west', [other, held]]]);
      return explain(key, explainInput(view, [planOf([standing('us-east')], tiers)], { withdrawals }));
    };
    const mass = withheld('Mass');
    expect(mass.changes[0]).toEqual({ inSeconds: 240, what: 'what us-west withdrew is believed', command: null });
    expect(mass.changes.map(({ command }) => command)).toContain('isthmus confirm-withdrawal --cluster us-west');
    expect(mass.policy.lines.map(({ field }) => field)).toContain('thresholds.withdrawal');
    const one = withheld('Canary');
    expect(one.changes.map(({ what }) => what)).toContain(
      'or at once, when a gateway of us-west refuses a probe of it',
    );
    expect(one.changes.map(({ command }) => command).join()).not.toContain('confirm-withdrawal');
    expect(one.policy.lines.map(({ field }) => field)).not.toContain('thresholds.withdrawal');
    expect(mass.changes.filter(({ inSeconds }) => inSeconds === 1)).toEqual([]);
  });
  it('shows a freeze, a policy that only observes, and a dark store', () => {
    const view = viewOf([serviceView([3, 3], remotes)]);
    const policies = { ...defaultPolicies, default: { ...defaultPolicy, mode: 'observe' as const } };
    const frozen = { author: 'alice', reason: 'network change', sinceMs: nowMs - 240_000 };
    const report = explain(
      key,
      explainInput(view, [planOf([standing('us-east')], tiers)], { policies, frozen, readBackMs: 60_000 }),
    );
    const notes = report.notes.join('\n');
    expect(notes).toMatch(/frozen since 4m by alice \(“network change”\)/);
    expect(notes).toMatch(/only observes/);
    expect(notes).toMatch(/store does not answer/);
    expect(report.changes[0]!.command).toBe('isthmus thaw');
  });
  it('names services that are like one that is not there', () => {
    const input = explainInput(viewOf([serviceView([3, 3], remotes)]), []);
    expect(() => explain('shopp/checkout', input)).toThrow(
      expect.objectContaining({ code: 'usage/invalid', hint: 'did you mean shop/checkout?' }),
    );
  });
  it('agrees with the decisions that it explains', () => {
    const signals: Signals = {
      ...noSignals,
      readBackMs: 300,
      control: new Map(
        ['us-west', 'eu-central', 'eu-north', 'ap-south'].map((m) => [
          m,
          { ageMs: 300, shuttingDown: false, draining: false },
        ]),
      ),
    };
    const well = viewOf([serviceView([3, 3], remotes)]);
    const first = step(initialState(), well, signals, defaultPolicies, nowMs - 60_000, () => 0.5);
    const ill = viewOf([serviceView([0, 3], remotes)]);
    const second = step(first.state, ill, signals, defaultPolicies, nowMs - 12_000, () => 0.5);
    const report = explain(key, explainInput(ill, [], { plan: second.plan }));
    expect(report.headline).toBe(
      'Calls of shop/checkout from us-east are answered by us-west, because none of us-east’s 3 endpoints is ready.',
    );
    expect(report.standings.map((row) => row.sharePercent)).toEqual([0, 100, 0]);
  });
});

describe('explain --from', () => {
  const view = viewOf([serviceView([3, 3], remotes)]);
  const opinions = new Map([
    [
      'eu-north',
      {
        frozen: true,
        more: 2,
        summary: [{ service: '', member: 'eu-central', state: 'quarantined', reason: 'ProbeFailed' }],
      },
    ],
  ]);
  it('tells another cluster’s view by what that cluster publishes, and that it is an estimate', () => {
    const report = explainFrom(key, 'eu-north', explainInput(view, [], { opinions }));
    expect(report.source).toBe('record');
    expect(report.standings.find((row) => row.member === 'eu-central')).toMatchObject({
      tier: 1,
      state: 'quarantined',
      sharePercent: 0,
    });
    expect(report.standings.reduce((sum, row) => sum + row.sharePercent, 0)).toBeCloseTo(100);
    expect(report.notes.join(' ')).toMatch(/estimated.*--context.*frozen in eu-north.*2 more/);
  });
  it('is the cluster’s own view when it is asked about itself, and no view of a stranger', () => {
    expect(explainFrom(key, 'us-east', explainInput(view, [])).source).toBe('now');
    expect(() => explainFrom(key, 'mars', explainInput(view, []))).toThrow(/"mars" is no member/);
  });
});

describe('explain --at', () => {
  const placed = (localPercent: number, ...members: string[]) => ({
    localPercent,
    tiers: members.map((member) => [{ member, weight: 1, percent: 100 }]),
  });
  const decision = (seconds: number, over: Partial<DecisionReport> = {}): DecisionReport => ({
    at: new Date(wallMs + seconds * 1_000).toISOString(),
    entry: '7',
    replica: 'r',
    kind: 'shift',
    service: key,
    member: 'us-east',
    rule: 'Readiness',
    detail: 'us-east: no endpoint is ready',
    author: 'controller',
    guards: [{ guard: 'Headroom', member: 'eu-central', detail: 'full' }],
    before: placed(100, 'us-west'),
    after: placed(0, 'us-west'),
    observed: false,
    policy: 'default',
    ...over,
  });
  const suspect = decision(-30, {
    kind: 'state',
    service: null,
    member: 'us-west',
    rule: 'ControlSilent',
    detail: 'us-west: silent for 6 s',
    before: 'fresh',
    after: 'suspect',
  });
  const at = (before: DecisionReport[], after: DecisionReport[]) =>
    explainPast({ service: key, self: 'us-east', atWallMs: wallMs, before, after });

  it('goes by the nearest decision before the time', () => {
    const back = decision(20, {
      kind: 'failback',
      rule: 'Ramping',
      before: placed(0, 'us-west'),
      after: placed(10, 'us-west'),
    });
    const report = at([decision(-12), suspect, decision(-90, { after: placed(50, 'us-west') })], [back]);
    expect(report.headline).toMatch(
      /^At 2026-11-21 14:32:10Z .* went to us-west, as the controller had decided 12s before \(Readiness: /,
    );
    expect(report.standings.map((row) => [row.member, row.sharePercent, row.state, row.ageSeconds])).toEqual([
      ['us-east', 0, 'unknown', null],
      ['us-west', 100, 'suspect', 30],
    ]);
    expect(report.standings[1]!.detail).toBe('silent for 6 s');
    expect(report.held).toHaveLength(1);
    expect(report.changes[0]).toMatchObject({ inSeconds: 20 });
  });
  it('goes by what the next decision found, when none was made before', () => {
    expect(at([], [decision(20)]).headline).toMatch(
      /went to us-east itself: nothing had been decided about it until 2026-11-21 14:32:30Z/,
    );
  });
  it('does not take what was only observed for what was done', () => {
    expect(at([decision(-12, { observed: true })], []).headline).toMatch(/the journal has no decision about it/);
  });
});

describe('words', () => {
  it('are there for every reason', () => {
    expect(isReason('ProbeFailed')).toBe(true);
    expect(isReason('toString')).toBe(false);
    expect(because('NotReady', { ready: 1, total: 3 })).toBe('only 1 of its 3 endpoints are ready');
    expect(because('NotReady', { ready: 0, total: 0 })).toBe('it has no endpoint');
  });
});
