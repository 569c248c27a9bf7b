import { describe, expect, it } from 'vitest';
import { initialHealth } from '../../../src/health/assess.ts';
import type { Signals } from '../../../src/health/signals.ts';
import { isFrozen } from '../../../src/health/verdict.ts';
import { eu, fine, outage, scene, silent, unreachable, west } from './outage.ts';
import { badProbe, memberView, talks, viewOf } from './scene.ts';

describe('our own store', () => {
  it('that is dark makes nobody silent, and evicts nobody', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 120_000, (now) => ({
      ...unreachable(now),
      readBackMs: now - 10_000,
      control: new Map([
        [west, talks(now - 10_000)],
        [eu, talks(now - 10_000)],
      ]),
    }));
    expect(s.member(west)).toMatchObject({ state: 'quarantined', control: 'unknown', data: 'unreachable' });
    expect(s.member(eu)).toMatchObject({ state: 'fresh', reason: 'StoreDark', control: 'unknown' });
  });

  it('that was never read back neither', () => {
    const s = scene();
    s.run(0, 60_000, (now) => ({ readBackMs: undefined, ...silent(now, 0) }));
    expect(s.member(west)).toMatchObject({ control: 'unknown', state: 'fresh' });
  });

  it('that comes back gives the others the time to come back too', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 60_000, (now) => ({ ...fine(now), readBackMs: now - 10_000, ...silent(now, 10_000) }));
    s.run(61_000, 69_000, (now) => ({ ...fine(now), ...silent(now, 10_000) }));
    expect(s.member(west)).toMatchObject({ state: 'fresh', control: 'unknown' });
    s.run(70_000, 72_000, (now) => ({ ...fine(now), ...silent(now, 10_000) }));
    expect(s.member(west)).toMatchObject({ state: 'suspect', control: 'silent' });
  });

  it('that goes dark leaves silent who was silent', () => {
    const s = scene();
    s.run(0, 10_000, (now) => ({ ...fine(now), ...silent(now, 0) }));
    s.run(11_000, 30_000, (now) => ({ ...fine(now), ...silent(now, 0), readBackMs: now - 10_000 }));
    expect(s.member(west)).toMatchObject({ state: 'suspect', reason: 'StoreDark', control: 'unknown' });
    expect(isFrozen(s.member(west))).toBe(true);
  });
});

describe('our own absence', () => {
  const everybody = (ageMs: number): Partial<Signals> => ({
    control: new Map([
      [west, talks(ageMs)],
      [eu, talks(ageMs)],
    ]),
  });

  it('makes nobody silent: a clock that leaps forward', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    for (let now = 310_000; now < 315_000; now += 1_000) {
      s.step(now, everybody(now - 10_000));
      expect(s.member(west)).toMatchObject({ state: 'fresh', control: 'unknown' });
    }
    s.step(316_000, everybody(306_000));
    expect(s.member(west).control).toBe('silent');
  });

  it('nor one that goes back', () => {
    const s = scene();
    s.run(500_000, 510_000, fine);
    s.step(100_000, everybody(300));
    expect(s.member(west)).toMatchObject({ state: 'fresh', control: 'fresh' });
    expect(s.member(west).sinceMs).toBeLessThanOrEqual(100_000);
    s.run(101_000, 103_000, outage(101_000));
    expect(s.member(west).state).toBe('suspect');
  });

  it('makes nobody unreachable: what timed out meanwhile was late through us', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    const late = [0, 1, 2, 3].map((i) => badProbe(west, 309_000 + i));
    s.step(310_000, { probes: [...late, badProbe(eu, 310_000)] });
    s.step(310_950, { probes: [badProbe(west, 310_300), badProbe(west, 310_600), badProbe(west, 310_900)] });
    expect(s.member(west)).toMatchObject({ state: 'fresh', data: 'reachable' });
    s.run(312_000, 314_000, unreachable);
    expect(s.member(west).data).toBe('unreachable');
  });

  it('does not let an eviction fall due', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 20_000, outage(11_000));
    const left = s.member(west).deadlineMs! - 20_000;
    s.step(320_000, silent(320_000, 11_000));
    expect(s.member(west).state).toBe('quarantined');
    s.run(321_000, 326_000, outage(11_000));
    // Silence has to be seen anew, and then both for their whole time.
    expect(s.member(west)).toMatchObject({ state: 'quarantined', control: 'silent' });
    expect(s.member(west).deadlineMs! - 326_000).toBeGreaterThan(left);
  });
});

describe('a restart of ours', () => {
  it('keeps verdicts and ages while nothing is known yet', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 40_000, outage(11_000));
    expect(s.member(west).state).toBe('evicted');
    const since = s.member(west).sinceMs;
    const after = scene();
    after.state = JSON.parse(JSON.stringify(s.state));
    after.run(100_000, 130_000, (now) => ({ readBackMs: undefined, ...silent(now, 11_000) }));
    expect(after.member(west)).toMatchObject({ state: 'evicted', sinceMs: since, data: 'unknown', control: 'unknown' });
    after.run(131_000, 150_000, (now) => silent(now, 11_000));
    expect(after.member(west)).toMatchObject({ state: 'evicted', sinceMs: since });
    after.run(151_000, 153_000, fine);
    expect(after.member(west).state).toBe('fresh');
  });

  it('meets a new member without a word against it', () => {
    const s = scene();
    s.step(0, { control: new Map([[west, { ...talks(), ageMs: undefined }]]) });
    expect(s.member(west)).toMatchObject({ state: 'fresh', control: 'never', data: 'unknown' });
    s.state = initialHealth();
    expect([...s.step(1_000).changed.members].sort()).toEqual([eu, west]);
    expect(s.step(2_000).changed.members.size).toBe(0);
  });

  it('forgets whom the authority closed', () => {
    const s = scene();
    s.run(0, 5_000, fine);
    s.view = viewOf([memberView(eu)]);
    const { changed, verdicts, state } = s.step(6_000);
    expect([...changed.members]).toEqual([west]);
    expect([...verdicts.members.keys()]).toEqual([eu]);
    expect(Object.keys(state.members)).toEqual([eu]);
  });
});
