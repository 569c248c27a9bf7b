import { describe, expect, it } from 'vitest';
import { withFailover } from '../../../src/controller/failover_status.ts';
import type { StatusReport } from '../../../src/core/report.ts';
import { defaultPolicies } from '../../../src/failover/policy.ts';
import { cellKey } from '../../../src/health/verdict.ts';
import { nowMs, planFor, planOf, serviceView, standing, viewOf } from './shop.ts';

const key = 'shop/checkout';
const view = viewOf([serviceView([3, 3], { 'us-west': [4, 4] })]);
const verdict = (over: object) =>
  ({
    state: 'fresh',
    reason: 'Healthy',
    detail: '',
    sinceMs: nowMs - 41_000,
    deadlineMs: undefined,
    penalty: 0,
    ...over,
  }) as never;
const facts = {
  peers: [{ member: 'us-west', control: { state: 'fresh', ageSeconds: 12 }, data: { state: 'reachable' } }],
  services: [{ service: key, serving: 'local' }],
} as unknown as StatusReport;
const written = { state: 'written', spooled: 0, ageSeconds: 1, reason: '' } as const;
const base = {
  nowMs,
  deciding: true,
  view,
  plan: planFor([]),
  verdicts: { members: new Map(), cells: new Map(), regions: new Map() },
  policies: defaultPolicies,
  frozen: undefined,
  drains: [],
  journal: written,
  withdrawals: new Map(),
  graySignal: () => undefined,
};

describe('status of failover', () => {
  it('has the verdict of a peer, the two planes apart, with age and deadline', () => {
    const members = new Map([
      [
        'us-west',
        verdict({
          state: 'quarantined',
          reason: 'ProbeFailed',
          deadlineMs: nowMs + 9_000,
          control: 'silent',
          data: 'unreachable',
        }),
      ],
    ]);
    const [peer] = withFailover(facts, { ...base, verdicts: { ...base.verdicts, members } }).peers;
    expect(peer!.verdict).toMatchObject({ state: 'quarantined', ageSeconds: 41, untilSeconds: 9 });
    expect([peer!.control.state, peer!.data.state]).toEqual(['silent', 'unreachable']);
  });
  it('shows the cells that are not healthy, once each, this cluster’s own among them', () => {
    const cells = new Map([[cellKey(key, 'us-west'), verdict({ state: 'suspect', reason: 'FailurePercentage' })]]);
    const plan = planFor([
      planOf(
        [
          standing('us-east', { reason: 'Ramping', percent: 25 }),
          standing('us-west', { state: 'suspect', reason: 'FailurePercentage' }),
        ],
        [[{ member: 'us-west', weight: 1 }]],
        { local: { percent: 25 } },
      ),
    ]);
    const [service] = withFailover(facts, { ...base, plan, verdicts: { ...base.verdicts, cells } }).services;
    expect(service!.cells!.map((cell) => [cell.member, cell.reason])).toEqual([
      ['us-west', 'FailurePercentage'],
      ['us-east', 'Ramping'],
    ]);
    expect(service!.shares).toEqual([
      { member: 'us-east', percent: 25 },
      { member: 'us-west', percent: 75 },
    ]);
  });
  it('tells what was withdrawn and is kept, and what would let it go', () => {
    const held = (service: string, reason: 'Mass' | 'Canary', ageMs: number) =>
      ({ service, sinceMs: nowMs - ageMs, deadlineMs: nowMs - ageMs + 300_000, reason }) as const;
    const withdrawals = new Map([
      ['us-west', [held('a/a', 'Mass', 60_000), held('a/b', 'Mass', 20_000)]],
      ['eu-north', [held('a/a', 'Canary', 4_000)]],
    ]);
    const report = withFailover(facts, { ...base, withdrawals }).failover!;
    expect(report.withdrawals).toEqual([
      { member: 'eu-north', services: 1, mass: false, ageSeconds: 4, untilSeconds: 296 },
      { member: 'us-west', services: 2, mass: true, ageSeconds: 60, untilSeconds: 280 },
    ]);
  });
  it('says which services have a signal for gray failures, and which have none', () => {
    const probed = withFailover(facts, { ...base, graySignal: () => 'GET /healthz' });
    expect(probed.services[0]!.gray).toEqual({ probe: 'GET /healthz' });
    expect(withFailover(facts, base).services[0]!.gray).toBeNull();
  });
  it('tells a drain’s progress by what the plan still gives, not by the clock', () => {
    const drain = {
      target: { scope: 'cluster', member: 'us-west' },
      author: 'bob',
      reason: '',
      sinceMs: nowMs - 30_000,
      overMs: undefined,
      graceMs: undefined,
    } as const;
    const held = [{ guard: 'Headroom', member: 'us-west', detail: 'no room elsewhere' }] as const;
    const plan = planFor([planOf([standing('us-west', { reason: 'Draining', percent: 75 })], [], { held })]);
    const report = withFailover(facts, { ...base, plan, drains: [drain] }).failover!;
    expect(report.drains).toMatchObject([
      { target: 'cluster us-west', percent: 25, graceSeconds: 120, held: [{ guard: 'Headroom' }] },
    ]);
    expect(withFailover(facts, { ...base, drains: [drain] }).failover!.drains[0]!.percent).toBe(100);
  });
});
