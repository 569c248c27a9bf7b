import { describe, expect, it } from 'vitest';
import { type DryRunInput, dryRun } from '../../../src/controller/dry_run.ts';
import { defaultPolicies, defaultPolicy } from '../../../src/failover/policy.ts';
import { type FailoverState, initialState, step } from '../../../src/failover/step.ts';
import type { View } from '../../../src/federation/view.ts';
import { type DrainTarget, noSignals, type Signals } from '../../../src/health/signals.ts';
import { cellKey } from '../../../src/health/verdict.ts';
import { nowMs, serviceView, viewOf, wallMs } from './shop.ts';

const remotes = { 'us-west': [4, 4], 'eu-central': [3, 3] } as const;
const view = viewOf([
  serviceView([3, 3], remotes),
  serviceView([2, 2], {}, 'ledger'),
  serviceView(undefined, remotes, 'cart'),
]);
const signals: Signals = {
  ...noSignals,
  readBackMs: 300,
  control: new Map(
    [...view.members.keys()]
      .filter((member) => member !== view.self)
      .map((member) => [member, { ageMs: 300, shuttingDown: false, draining: false }]),
  ),
};
const rng = () => 0.5;
const settled = (of: View = view): FailoverState => {
  const first = step(initialState(), of, signals, defaultPolicies, nowMs - 60_000, rng);
  return step(first.state, of, signals, defaultPolicies, nowMs - 1_000, rng).state;
};

const rehearse = (target: DrainTarget, over: Partial<DryRunInput<FailoverState>> = {}) =>
  dryRun<FailoverState>({
    step,
    state: settled(over.view),
    view,
    signals,
    policies: defaultPolicies,
    nowMs,
    wallMs,
    rng,
    command: { kind: 'drain', target, author: 'alice', reason: '', overMs: undefined, graceMs: undefined },
    opinions: new Map(),
    loads: new Map([[cellKey('shop/checkout', 'us-east'), 120]]),
    pause: async () => {},
    ...over,
  });

describe('the dry run of a drain', () => {
  it('shows what would move, how much, and onto what headroom', async () => {
    const policies = {
      ...defaultPolicies,
      default: { ...defaultPolicy, capacity: { ...defaultPolicy.capacity, perEndpoint: 100 } },
    };
    const report = await rehearse({ scope: 'cluster', member: 'us-east' }, { policies });
    const own = report.moves.find((move) => move.service === 'shop/checkout' && !move.estimated)!;
    expect(own).toMatchObject({ client: 'us-east', movedPercent: 100, perSecond: 120 });
    expect(own.landings.find((l) => l.member === 'us-west')).toMatchObject({
      beforePercent: 0,
      afterPercent: 100,
      ready: 4,
      morePerSecond: 120,
      // Four endpoints of 100 a second, less a fifth in reserve.
      headroomPerSecond: 320,
    });
    expect(report.ramp.map((point) => point.percent)).toEqual([25, 50, 75, 100]);
    expect(report.ramp.at(-1)!.afterSeconds).toBeCloseTo(30, 0);
  });
  it('claims no load where a part of it is not measured', async () => {
    const report = await rehearse(
      { scope: 'cluster', member: 'us-east' },
      { loads: new Map([[cellKey('shop/checkout', 'us-west'), 5]]) },
    );
    const own = report.moves.find((move) => move.service === 'shop/checkout' && !move.estimated)!;
    expect([own.perSecond, own.landings[0]!.morePerSecond]).toEqual([null, null]);
  });
  it('changes nothing: the next decision is as if it had not been', async () => {
    const state = settled();
    const plain = step(settled(), view, signals, defaultPolicies, nowMs + 1_000, rng);
    await rehearse({ scope: 'cluster', member: 'us-east' }, { state });
    const after = step(state, view, signals, defaultPolicies, nowMs + 1_000, rng);
    expect(after.journal).toEqual(plain.journal);
    expect(after.plan).toEqual(plain.plan);
    expect(after.state).toEqual(plain.state);
  });
  it('estimates other clusters’ callers, each by its own order and verdicts', async () => {
    const eastOnly = viewOf([serviceView([3, 3], { 'eu-central': [3, 3], 'eu-north': [3, 3] })]);
    const opinions = new Map([
      [
        'us-west',
        {
          frozen: false,
          more: 0,
          summary: [{ service: '', member: 'eu-central', state: 'quarantined', reason: 'ProbeFailed' }],
        },
      ],
    ]);
    const report = await rehearse({ scope: 'cluster', member: 'us-east' }, { view: eastOnly, opinions });
    const west = report.moves.find((move) => move.client === 'us-west')!;
    expect(west).toMatchObject({ estimated: true, movedPercent: 100, perSecond: null });
    expect(west.landings.map((l) => [l.member, l.beforePercent, l.afterPercent])).toEqual([
      ['us-east', 100, 0],
      ['eu-north', 0, 100],
    ]);
  });
  it('says what stays, for there is nobody else', async () => {
    const report = await rehearse({ scope: 'service', member: 'us-east', service: 'shop/ledger' });
    expect(report.blocked).toBe(true);
    expect(report.moves.map((move) => move.movedPercent)).toEqual(report.moves.map(() => 0));
    expect(report.held[0]).toMatchObject({ guard: 'LastCell', member: 'us-east' });
  });
  it('says that another cluster drained from here is drained for our callers alone', async () => {
    const report = await rehearse({ scope: 'cluster', member: 'us-west' });
    expect(report.moves.map((move) => [move.service, move.client])).toEqual([['shop/cart', 'us-east']]);
    expect(report.notes.join(' ')).toMatch(/Only calls from us-east move away from us-west.*--context of us-west/);
  });
  it('moves nothing between clusters for one gateway of two', async () => {
    const report = await rehearse({ scope: 'gateway', member: 'us-east', gateway: 'us-east-gateway-0' });
    expect(report.moves).toEqual([]);
    expect(report.notes).toEqual(['New connections go to us-east’s other gateways: us-east-gateway-1.']);
  });
  it('takes a bounded number of looks, and lets others run between them', async () => {
    let pauses = 0;
    const command = {
      kind: 'drain',
      target: { scope: 'cluster', member: 'us-east' },
      author: 'alice',
      reason: '',
      overMs: 3_600_000,
      graceMs: undefined,
    } as const;
    await rehearse(command.target, { command, pause: async () => void pauses++ });
    expect(pauses).toBeGreaterThan(2);
    expect(pauses).toBeLessThanOrEqual(100);
  });
});

describe('the dry run of an undrain', () => {
  it('shows what would come back', async () => {
    const drain = {
      kind: 'drain',
      target: { scope: 'cluster', member: 'us-east' },
      author: 'alice',
      reason: '',
      overMs: 0,
      graceMs: 0,
    } as const;
    let run = step(settled(), view, { ...signals, commands: [drain] }, defaultPolicies, nowMs - 500, rng);
    run = step(run.state, view, signals, defaultPolicies, nowMs - 100, rng);
    const command = { ...drain, kind: 'undrain', overMs: undefined, graceMs: undefined } as const;
    const report = await rehearse(command.target, { state: run.state, command });
    const own = report.moves.find((move) => move.service === 'shop/checkout' && !move.estimated)!;
    expect(own.landings.find((l) => l.member === 'us-east')).toMatchObject({ beforePercent: 0, afterPercent: 100 });
    expect(report.ramp.length).toBeGreaterThan(1);
  });
});
