import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Assessment, assess, type HealthState, initialHealth } from '../../../src/health/assess.ts';
import {
  type GraySignal,
  noSignals,
  type ProbeResult,
  probeStages,
  type Signals,
  type TrafficWindow,
} from '../../../src/health/signals.ts';
import { defaultThresholds } from '../../../src/health/thresholds.ts';
import { cellKey, type MemberVerdict } from '../../../src/health/verdict.ts';
import { gray, memberView, probe, self, talks, traffic, viewOf } from './scene.ts';

const names = ['us-west', 'eu', 'asia'] as const;
const services = ['shop/cart', 'shop/pay'] as const;
const view = viewOf(
  names.map((name) => memberView(name)),
  { 'shop/cart': { by: names }, 'shop/pay': { by: names, local: false } },
);

interface Moment {
  readonly now: number;
  readonly signals: Signals;
}
const policy = { member: defaultThresholds, of: () => defaultThresholds };
const step = (state: HealthState, { now, signals }: Moment): Assessment => assess(state, view, signals, policy, now);

/** Evidence of members and services, at any time up to the step. */
const member = fc.constantFrom(...names);
const service = fc.constantFrom(...services);
const ago = fc.integer({ min: 0, max: 1_500 });
const probes = fc.record({
  member,
  service: fc.option(service, { nil: undefined }),
  ago,
  ok: fc.boolean(),
  denied: fc.boolean(),
  failedAt: fc.constantFrom(...probeStages),
  status: fc.option(fc.constantFrom(200, 403, 404, 429, 503), { nil: undefined }),
});
const count = fc.oneof(fc.constant(0), fc.nat(60));
const windows = fc.record({
  member,
  service: fc.option(service, { nil: undefined }),
  ago,
  established: count,
  localErrors: count,
  gatewayErrors: count,
  otherErrors: count,
  refused: count,
  ejected: fc.nat(2),
});
const grays = fc.record({ member: fc.constantFrom(self, ...names), service, ago, ok: fc.boolean() });
const moment = fc.record({
  waitMs: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: 1, max: 2_500 }) },
    fc.integer({ min: -60_000, max: 600_000 }),
  ),
  probes: fc.array(probes, { maxLength: 6 }),
  windows: fc.array(windows, { maxLength: 4 }),
  grays: fc.array(grays, { maxLength: 3 }),
  ages: fc.record({
    'us-west': fc.nat(30_000),
    eu: fc.nat(30_000),
    asia: fc.option(fc.nat(30_000), { nil: undefined }),
  }),
  readBackMs: fc.option(fc.nat(4_000), { nil: undefined }),
});

const story = fc.array(moment, { minLength: 1, maxLength: 40 }).map((moments): Moment[] => {
  let now = 100_000;
  return moments.map(({ waitMs, probes: some, windows: calls, grays: seen, ages, readBackMs }) => {
    now = Math.max(1_000, now + waitMs);
    const at = now;
    const told: Signals = {
      ...noSignals,
      readBackMs,
      control: new Map(Object.entries(ages).map(([name, ageMs]) => [name, { ...talks(), ageMs }])),
      probes: some
        .map(({ ago: a, ...rest }): ProbeResult => probe(rest.member, Math.max(0, at - a), rest))
        .sort((a, b) => a.atMs - b.atMs),
      traffic: calls
        .map(({ ago: a, ...rest }): TrafficWindow => traffic(rest.member, Math.max(0, at - a), rest))
        .sort((a, b) => a.atMs - b.atMs),
      gray: seen
        .map(({ ago: a, ...rest }): GraySignal => gray(rest.member, rest.service, Math.max(0, at - a), rest.ok))
        .sort((a, b) => a.atMs - b.atMs),
    };
    return { now, signals: told };
  });
});

/** Only what changes nothing about others: all evidence of one member, or of one service there. */
const only = (moments: readonly Moment[], of: string): Moment[] =>
  moments.map(({ now, signals }) => ({
    now,
    signals: {
      ...signals,
      probes: signals.probes.filter((one) => one.member === of),
      traffic: signals.traffic.filter((one) => one.member === of),
      gray: signals.gray.filter((one) => one.member === of),
      control: new Map([...signals.control].map(([name, signal]) => [name, name === of ? signal : talks()])),
    },
  }));

const runs = { numRuns: 200 };

describe('a bad service', () => {
  it('never condemns its member, nor any other service', () => {
    const bad = fc.record({
      status: fc.option(fc.constantFrom(404, 502, 503), { nil: undefined }),
      stage: fc.constantFrom('connect', 'inner-tls', 'identity'),
      local: fc.nat(100),
      gateway: fc.nat(100),
      gateways: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(bad, { minLength: 1, maxLength: 40 }), (moments) => {
        let state = initialHealth();
        for (const [i, { status, stage, local, gateway, gateways }] of moments.entries()) {
          const now = 1_000 * (i + 1);
          const failing = { service: 'shop/cart', ok: false, failedAt: stage, status } as const;
          const errors = { service: 'shop/cart', localErrors: local, gatewayErrors: gateway } as const;
          const signals: Signals = {
            ...noSignals,
            readBackMs: 100,
            control: new Map(names.map((name) => [name, talks()])),
            probes: [probe('eu', now, failing), ...(gateways ? [probe('eu', now)] : [])],
            traffic: [traffic('eu', now, errors)],
            gray: [gray('eu', 'shop/cart', now, false)],
          };
          const { state: next, verdicts } = step(state, { now, signals });
          state = next;
          expect([...verdicts.members.values()].map((verdict) => verdict.state)).toEqual(['fresh', 'fresh', 'fresh']);
          expect([...verdicts.cells.keys()].every((key) => key === cellKey('shop/cart', 'eu'))).toBe(true);
        }
      }),
      runs,
    );
  });
});

describe('a bad member', () => {
  it('never changes the verdict on another, or on its services', () => {
    fc.assert(
      fc.property(story, member, (moments, of) => {
        let all = initialHealth();
        let alone = initialHealth();
        const quiet = only(moments, of).map(({ now, signals }) => ({
          now,
          signals: {
            ...signals,
            probes: [],
            traffic: [],
            gray: [],
            control: new Map(names.map((name) => [name, talks()])),
          },
        }));
        for (const [i, moment_] of only(moments, of).entries()) {
          const seen = step(all, moment_);
          const unseen = step(alone, quiet[i]!);
          all = seen.state;
          alone = unseen.state;
          for (const name of names) {
            if (name !== of) expect(seen.verdicts.members.get(name)).toEqual(unseen.verdicts.members.get(name));
          }
          expect([...seen.verdicts.cells.keys()].every((key) => key.endsWith(`|${of}`))).toBe(true);
        }
      }),
      runs,
    );
  });
});

describe('whatever is told', () => {
  const order = ['fresh', 'suspect', 'quarantined', 'evicted'];

  it('no state is skipped on the way down, and nobody is evicted but from quarantine', () => {
    fc.assert(
      fc.property(story, (moments) => {
        let state = initialHealth();
        let before: ReadonlyMap<string, MemberVerdict> = new Map();
        for (const one of moments) {
          const { state: next, verdicts } = step(state, one);
          for (const [name, { state: now, control, data }] of verdicts.members) {
            const was = before.get(name)?.state ?? 'fresh';
            expect(order.indexOf(now) - order.indexOf(was)).toBeLessThanOrEqual(1);
            if (now === 'evicted' && was !== 'evicted') expect([control, data]).toEqual(['silent', 'unreachable']);
          }
          before = verdicts.members;
          state = next;
        }
      }),
      runs,
    );
  });

  it('a deadline is in the future, a beginning is not, and so is the next step', () => {
    fc.assert(
      fc.property(story, (moments) => {
        let state = initialHealth();
        for (const one of moments) {
          const { state: next, verdicts, wakeAt } = step(state, one);
          state = next;
          expect(wakeAt).toBeGreaterThan(one.now);
          for (const verdict of [...verdicts.members.values(), ...verdicts.cells.values()]) {
            expect(verdict.sinceMs).toBeLessThanOrEqual(one.now);
            if (verdict.deadlineMs !== undefined) expect(verdict.deadlineMs).toBeGreaterThan(one.now);
            expect(verdict.penalty).toBeGreaterThanOrEqual(0);
          }
        }
      }),
      runs,
    );
  });

  it('the state is plain data: through JSON and back it goes on alike', () => {
    fc.assert(
      fc.property(story, (moments) => {
        let kept = initialHealth();
        let saved = initialHealth();
        for (const one of moments) {
          const a = step(kept, one);
          const b = step(saved, one);
          expect(b.verdicts).toEqual(a.verdicts);
          expect(b.changed).toEqual(a.changed);
          expect(b.wakeAt).toEqual(a.wakeAt);
          kept = a.state;
          saved = JSON.parse(JSON.stringify(b.state));
        }
      }),
      runs,
    );
  });

  it('is counted once, within a step and in the next one', () => {
    fc.assert(
      fc.property(story, (moments) => {
        let once = initialHealth();
        let twice = initialHealth();
        for (const one of moments) {
          const { signals } = one;
          const doubled = {
            ...signals,
            probes: signals.probes.flatMap((p) => [p, p]),
            traffic: signals.traffic.flatMap((t) => [t, t]),
            gray: signals.gray.flatMap((g) => [g, g]),
          };
          // A second step of the same moment, for one service's ejection may bear on another's.
          const still = { now: one.now, signals: { ...signals, probes: [], traffic: [], gray: [] } };
          const a = step(step(once, one).state, still);
          const b = step(step(twice, { now: one.now, signals: doubled }).state, one);
          expect(b.verdicts).toEqual(a.verdicts);
          once = a.state;
          twice = b.state;
        }
      }),
      runs,
    );
  });

  it('nothing is changed in place, and `changed` names what a reader would see', () => {
    fc.assert(
      fc.property(story, (moments) => {
        let state = initialHealth();
        let last: Assessment | undefined;
        const shown = (verdict: object | undefined) => ({ ...verdict, penalty: 0 });
        for (const one of moments) {
          const text = JSON.stringify(state);
          const now = step(state, one);
          expect(JSON.stringify(state)).toBe(text);
          for (const name of names) {
            if (now.changed.members.has(name) || last === undefined) continue;
            const { sinceMs: a, ...before } = shown(last.verdicts.members.get(name)) as { sinceMs?: number };
            const { sinceMs: b, ...after } = shown(now.verdicts.members.get(name)) as { sinceMs?: number };
            expect(after).toEqual(before);
            expect(b).toBeLessThanOrEqual(a!);
          }
          state = now.state;
          last = now;
        }
      }),
      runs,
    );
  });

  it('ends in health when all is well for long enough', () => {
    fc.assert(
      fc.property(story, (moments) => {
        let state = initialHealth();
        for (const one of moments) state = step(state, one).state;
        let last: Assessment | undefined;
        const from = Math.max(...moments.map(({ now }) => now)) + 1_000;
        for (let now = from; now < from + 1_400_000; now += 2_000) {
          const signals: Signals = {
            ...noSignals,
            readBackMs: 100,
            control: new Map(names.map((name) => [name, talks()])),
            probes: names.map((name) => probe(name, now)),
          };
          last = step(state, { now, signals });
          state = last.state;
        }
        expect([...last!.verdicts.members.values()].map((verdict) => verdict.state)).toEqual([
          'fresh',
          'fresh',
          'fresh',
        ]);
        expect(state.cells).toEqual({});
      }),
      { numRuns: 10 },
    );
  });
});

describe('a quiet step', () => {
  it('keeps cells and regions as they are, and asks for the next one in a second', () => {
    const signals: Signals = { ...noSignals, readBackMs: 100, control: new Map(names.map((name) => [name, talks()])) };
    const first = step(initialHealth(), { now: 1_000, signals });
    const second = step(first.state, { now: 2_000, signals });
    expect(second.state.cells).toBe(first.state.cells);
    expect(second.state.regions).toBe(first.state.regions);
    expect(second.changed.members.size + second.changed.cells.size).toBe(0);
    expect(second.wakeAt).toBe(3_000);
  });

  it('is not asked for where there is nobody', () => {
    const nobody = { ...view, members: new Map([[self, memberView(self)]]) };
    expect(assess(initialHealth(), nobody, noSignals, policy, 5).wakeAt).toBeUndefined();
  });
});
