import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  canariesMax,
  canaryMs,
  forgetMember,
  holdWithdrawals,
  noWithdrawals,
  type WithdrawalContext,
  type WithdrawalStep,
  type Withdrawals,
} from '../../../src/federation/withdrawals.ts';
import { restoreWithdrawals, saveWithdrawals } from '../../../src/federation/withdrawals_saved.ts';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import type { Member } from '../../../src/trust/membership.ts';
import { someService } from '../records/arbitrary.ts';

type Services = ReadonlyMap<string, ServiceRecord>;

const membership = (namespaces: readonly string[] = ['*']): Member => ({
  clusterset: 'demo',
  name: 'us-west',
  sequence: 1n,
  region: 'us-west',
  zone: '',
  network: 'us-west',
  addressRanges: [],
  namespaces,
  serviceAccounts: [],
  federationCa: new Uint8Array(),
  recordKey: new Uint8Array(),
  notBeforeMs: 0,
  notAfterMs: 1,
});

const holdMs = 300_000;
const context = (nowMs: number, change: Partial<WithdrawalContext> = {}): WithdrawalContext => ({
  nowMs,
  membership: membership(),
  thresholds: { withdrawalPercent: 30, withdrawalMinimum: 4, withdrawalHoldMs: holdMs },
  evicted: false,
  confirmed: new Set(),
  answers: new Map(),
  ...change,
});

const record = (namespace: string, name: string, change: Partial<ServiceRecord> = {}): ServiceRecord =>
  someService({ namespace, name, hostname: `${name}.${namespace}.svc.cluster.local`, ...change });
const services = (count: number): Map<string, ServiceRecord> =>
  new Map(Array.from({ length: count }, (_, i) => [`shop/s${i}`, record('shop', `s${i}`)]));
const without = (all: Services, ...names: string[]): Services =>
  new Map([...all].filter(([name]) => !names.includes(name)));

/** One member over time. */
class Story {
  state: Withdrawals = noWithdrawals;
  effective: Services;
  last: WithdrawalStep | undefined;

  constructor(effective: Services) {
    this.effective = effective;
  }
  step(nowMs: number, after: Services, change: Partial<WithdrawalContext> = {}): WithdrawalStep {
    const step = holdWithdrawals(this.state, 'us-west', this.effective, after, context(nowMs, change));
    this.state = step.state;
    this.effective = step.effective;
    this.last = step;
    return step;
  }
}

const said = (service: string, answer: 'gone' | 'answers', atMs: number) => new Map([[service, { answer, atMs }]]);

describe('one service of many withdrawn', () => {
  const all = services(20);
  const after = without(all, 'shop/s3');

  it('is used until its canary was refused, and no longer', () => {
    const story = new Story(all);
    const held = story.step(1_000, after);
    expect(held.effective.get('shop/s3')).toBe(all.get('shop/s3'));
    expect(held.canaries).toEqual(['shop/s3']);
    expect(held.held).toEqual([{ service: 'shop/s3', sinceMs: 1_000, deadlineMs: 1_000 + canaryMs, reason: 'Canary' }]);
    const gone = story.step(1_100, after, { answers: said('shop/s3', 'gone', 1_090) });
    expect([...gone.effective.keys()]).toEqual([...after.keys()]);
    expect(gone.letGo).toEqual([{ service: 'shop/s3', by: 'CanaryRefused' }]);
    expect(gone.state.size).toBe(0);
    expect(gone.wakeAt).toBeUndefined();
  });

  it('goes after a short while when no probes run', () => {
    const story = new Story(all);
    expect(story.step(1_000, after).wakeAt).toBe(1_000 + canaryMs);
    expect(story.step(1_000 + canaryMs - 1, after).effective.has('shop/s3')).toBe(true);
    const gone = story.step(1_000 + canaryMs, after);
    expect(gone.effective.has('shop/s3')).toBe(false);
    expect(gone.letGo).toEqual([{ service: 'shop/s3', by: 'NoCanary' }]);
  });

  it('is held while its canary gets through, is probed again, and goes with the first refusal or at the end', () => {
    const story = new Story(all);
    story.step(1_000, after);
    const answers = story.step(2_000, after, { answers: said('shop/s3', 'answers', 1_900) });
    expect(answers.held[0]).toMatchObject({ reason: 'Answers', deadlineMs: 1_000 + holdMs });
    expect(answers.canaries).toEqual(['shop/s3']);
    expect(story.step(1_000 + canaryMs, after).effective.has('shop/s3')).toBe(true);
    const late = new Story(all);
    late.state = story.state;
    expect(story.step(60_000, after, { answers: said('shop/s3', 'gone', 59_000) }).effective.has('shop/s3')).toBe(
      false,
    );
    expect(late.step(1_000 + holdMs, after).letGo).toEqual([{ service: 'shop/s3', by: 'HoldRanOut' }]);
  });

  it('does not take an answer that is older than the withdrawal', () => {
    const story = new Story(all);
    const old = said('shop/s3', 'gone', 900);
    expect(story.step(1_000, after, { answers: old }).effective.has('shop/s3')).toBe(true);
    expect(story.step(1_100, after, { answers: old }).effective.has('shop/s3')).toBe(true);
  });

  it('comes back as it is published anew', () => {
    const story = new Story(all);
    story.step(1_000, after);
    const anew = new Map([...after, ['shop/s3', record('shop', 's3', { exportedMs: 99n })]]);
    const back = story.step(1_500, anew);
    expect(back.effective.get('shop/s3')).toBe(anew.get('shop/s3'));
    expect(back.state.size).toBe(0);
    expect(back.letGo).toEqual([]);
  });
});

describe('more than a share at once', () => {
  const all = services(10);
  const names = [...all.keys()];
  const after = without(all, ...names.slice(0, 4));

  it('is held, asks for no canaries, and is not ended by them', () => {
    const story = new Story(all);
    const held = story.step(0, after);
    expect([...held.effective.keys()].sort()).toEqual([...names].sort());
    expect(held.held.map(({ reason }) => reason)).toEqual(['Mass', 'Mass', 'Mass', 'Mass']);
    expect(held.canaries).toEqual([]);
    expect(story.step(60_000, after, { answers: said(names[0]!, 'gone', 50_000) }).effective.size).toBe(10);
  });

  it('is what exceeds the share, not what reaches it', () => {
    const story = new Story(all);
    expect(story.step(0, without(all, ...names.slice(0, 3))).held.map(({ reason }) => reason)).not.toContain('Mass');
  });

  it('counts what waits for its canary already: three and then one are four', () => {
    const story = new Story(all);
    story.step(0, without(all, ...names.slice(0, 3)));
    const held = story.step(500, after);
    expect(held.held.map(({ reason }) => reason)).toEqual(['Mass', 'Mass', 'Mass', 'Mass']);
    expect(story.step(60_000, after).effective.size).toBe(10);
  });

  it('goes when the member is dead by two signals, when a person confirms, or when the hold runs out', () => {
    for (const [change, nowMs, by] of [
      [{ evicted: true }, 1_000, 'Evicted'],
      [{ confirmed: 'all' }, 1_000, 'Confirmed'],
      [{}, holdMs, 'HoldRanOut'],
    ] as const) {
      const story = new Story(all);
      story.step(0, after);
      const gone = story.step(nowMs, after, change);
      expect(gone.effective.size).toBe(6);
      expect(new Set(gone.letGo.map((one) => one.by))).toEqual(new Set([by]));
    }
  });

  it('can be confirmed for one service', () => {
    const story = new Story(all);
    story.step(0, after);
    const step = story.step(1, after, { confirmed: new Set([names[1]!]) });
    expect(step.letGo).toEqual([{ service: names[1], by: 'Confirmed' }]);
    expect(step.effective.size).toBe(9);
  });

  it('is nothing but a moment when the peer restarts and lists again', () => {
    const story = new Story(all);
    story.step(0, new Map());
    expect(story.effective.size).toBe(10);
    const half = new Map([...all].slice(0, 5));
    story.step(500, half);
    expect(story.effective.size).toBe(10);
    const back = story.step(2_000, new Map(all));
    expect(back.effective.size).toBe(10);
    expect(back.state.size).toBe(0);
    expect(back.letGo).toEqual([]);
  });

  it('is not counted for a member of few services: each waits for its canary', () => {
    const few = services(3);
    const story = new Story(few);
    expect(story.step(0, new Map()).held.map(({ reason }) => reason)).toEqual(['Canary', 'Canary', 'Canary']);
  });

  it('asks for a bounded number of canaries, the oldest first', () => {
    const many = services(200);
    const story = new Story(many);
    const first = [...many.keys()].slice(100, 130);
    story.step(0, without(many, ...first));
    const step = story.step(1, without(many, ...first, ...[...many.keys()].slice(0, 20)));
    expect(step.canaries).toHaveLength(canariesMax);
    for (const name of first) expect(step.canaries).toContain(name);
  });
});

describe('what the authority takes away', () => {
  it('is never held, and is no part of a withdrawal', () => {
    const all = new Map([...services(4), ['bank/ledger', record('bank', 'ledger')]]);
    const story = new Story(all);
    const step = story.step(0, without(all, 'bank/ledger'), { membership: membership(['shop']) });
    expect(step.effective.has('bank/ledger')).toBe(false);
    expect(step.held).toEqual([]);
    expect(step.letGo).toEqual([{ service: 'bank/ledger', by: 'NotGranted' }]);
  });

  it('ends a hold', () => {
    const all = services(10);
    const story = new Story(all);
    story.step(0, new Map());
    const step = story.step(1, new Map(), { membership: membership(['bank']) });
    expect(step.effective.size).toBe(0);
    expect(forgetMember(story.state, 'us-west')).toBe(story.state);
  });

  it('forgets a closed member', () => {
    const story = new Story(services(10));
    story.step(0, new Map());
    expect(story.state.size).toBe(1);
    expect(forgetMember(story.state, 'us-west').size).toBe(0);
  });
});

describe('the saved state', () => {
  it('holds over a restart, records and ages', () => {
    const all = services(10);
    const story = new Story(all);
    const after = without(all, 'shop/s1', 'shop/s2', 'shop/s3', 'shop/s4');
    story.step(5_000, after);
    const saved = JSON.parse(JSON.stringify(saveWithdrawals(story.state)));
    const restored = restoreWithdrawals(saved);
    if (!restored.ok) throw restored.error;
    // What was covered comes from the saved federation: without what is held.
    const again = new Story(new Map(after));
    again.state = restored.value;
    const step = again.step(6_000, after);
    expect([...step.effective.keys()].sort()).toEqual([...all.keys()].sort());
    expect(step.held.map(({ sinceMs }) => sinceMs)).toEqual([5_000, 5_000, 5_000, 5_000]);
    expect(step.effective.get('shop/s2')).toEqual(all.get('shop/s2'));
  });

  it('refuses what it did not write', () => {
    for (const bad of [
      {},
      [null],
      [{ member: 'a' }],
      [{ member: 'a', service: 'b/c', record: 'AA==', sinceMs: 1, deadlineMs: 2, reason: 'Because' }],
    ]) {
      const restored = restoreWithdrawals(bad);
      expect(restored.ok).toBe(false);
      expect(!restored.ok && restored.error.code).toBe('state/corrupt');
    }
    const garbage = [{ member: 'a', service: 'b/c', record: '/////w==', sinceMs: 1, deadlineMs: 2, reason: 'Mass' }];
    expect(restoreWithdrawals(garbage).ok).toBe(false);
  });
});

describe('always', () => {
  const names = Array.from({ length: 12 }, (_, i) => `shop/s${i}`);
  const records = services(names.length);
  const subset = fc.subarray(names);
  const moment = fc.record({
    after: subset,
    waitMs: fc.integer({ min: 0, max: 20_000 }),
    gone: subset,
    answers: subset,
    confirmed: fc.oneof({ weight: 9, arbitrary: fc.constant([] as string[]) }, subset),
    evicted: fc.boolean(),
  });

  it('uses all that is covered, and beyond that just what is held and not yet due', () => {
    fc.assert(
      fc.property(fc.array(moment, { maxLength: 20 }), (moments) => {
        const story = new Story(new Map(records));
        let nowMs = 0;
        for (const { after, waitMs, gone, answers, confirmed, evicted } of moments) {
          nowMs += waitMs;
          const covered = new Map(after.map((name) => [name, records.get(name)!]));
          const told = new Map<string, { answer: 'gone' | 'answers'; atMs: number }>([
            ...gone.map((name) => [name, { answer: 'gone', atMs: nowMs }] as const),
            ...answers.map((name) => [name, { answer: 'answers', atMs: nowMs }] as const),
          ]);
          const before = story.effective;
          const step = story.step(nowMs, covered, { answers: told, confirmed: new Set(confirmed), evicted });
          const held = step.held.map(({ service }) => service);
          expect([...step.effective.keys()].sort()).toEqual([...new Set([...after, ...held])].sort());
          expect(held.filter((name) => after.includes(name))).toEqual([]);
          for (const { deadlineMs } of step.held) expect(deadlineMs).toBeGreaterThan(nowMs);
          if (evicted) expect(held).toEqual([]);
          // What went was said to have gone.
          const lost = [...before.keys()].filter((name) => !step.effective.has(name));
          expect(step.letGo.map(({ service }) => service)).toEqual(expect.arrayContaining(lost));
        }
      }),
    );
  });

  it('changes nothing when it is asked the same twice', () => {
    fc.assert(
      fc.property(subset, (after) => {
        const story = new Story(new Map(records));
        const covered = new Map(after.map((name) => [name, records.get(name)!]));
        const first = story.step(1_000, covered);
        const second = story.step(1_000, covered);
        expect(second.effective).toBe(first.effective);
        expect(second.state).toBe(first.state);
      }),
    );
  });
});
