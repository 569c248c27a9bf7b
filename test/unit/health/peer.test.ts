import { describe, expect, it } from 'vitest';
import type { Signals } from '../../../src/health/signals.ts';
import { isFrozen } from '../../../src/health/verdict.ts';
import { eu, fine, outage, scene, silent, unreachable, west } from './outage.ts';
import { badProbe, memberView, probe, Scene, talks, thresholds, traffic, viewOf } from './scene.ts';

describe('a peer that fails wholly', () => {
  it('is suspected, quarantined and evicted, one after the other, each in its time', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    const seen: string[] = [];
    for (let now = 11_000; now <= 40_000; now += 1_000) {
      s.step(now, outage(11_000)(now));
      const { state, reason, sinceMs } = s.member(west);
      const line = `${state} ${reason} ${sinceMs}`;
      if (seen.at(-1) !== line) seen.push(line);
    }
    expect(seen).toEqual([
      'fresh Healthy 0',
      'suspect ProbeFailed 13000',
      'quarantined ProbeFailed 14000',
      'evicted SilentAndUnreachable 27000',
    ]);
    expect(s.member(eu)).toMatchObject({ state: 'fresh', data: 'reachable', control: 'fresh' });
  });

  it('shows when each state ends', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 13_000, outage(11_000));
    expect(s.member(west)).toMatchObject({ state: 'suspect', deadlineMs: 14_000 });
    s.run(14_000, 16_000, outage(11_000));
    expect(s.member(west)).toMatchObject({ state: 'quarantined', deadlineMs: undefined, control: 'fresh' });
    s.run(17_000, 18_000, outage(11_000));
    expect(s.member(west)).toMatchObject({ control: 'silent', data: 'unreachable', deadlineMs: 27_000 });
  });

  it('asks to be woken when silence, suspicion and eviction fall due', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    expect(s.step(10_400, { control: new Map([[west, talks(4_700)]]) }).wakeAt).toBe(10_400 + 301);
    s.run(11_000, 13_000, outage(11_000));
    expect(s.step(13_500, outage(11_000)(13_500)).wakeAt).toBe(14_000);
  });

  it('returns only after several answers in a row, and every change of state costs', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 30_000, outage(11_000));
    const before = s.member(west).penalty;
    s.run(31_000, 32_000, fine);
    expect(s.member(west)).toMatchObject({ state: 'quarantined', data: 'degraded', control: 'fresh' });
    s.step(33_000, fine(33_000));
    expect(s.member(west)).toMatchObject({ state: 'fresh', data: 'reachable', reason: 'Healthy' });
    expect(s.member(west).penalty).toBeGreaterThan(before + 1_500);
  });

  it('once, and back, is no flapping; twice within a minute is', () => {
    const limit = thresholds().flapLimit;
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 34_000, outage(11_000, 31_000));
    expect(s.member(west).state).toBe('fresh');
    expect(s.member(west).penalty).toBeLessThanOrEqual(limit);
    s.run(35_000, 45_000, outage(35_000, 41_000));
    expect(s.member(west).state).toBe('fresh');
    expect(s.member(west).penalty).toBeGreaterThan(limit);
    s.run(46_000, 200_000, fine);
    expect(s.member(west).penalty).toBeLessThan(limit);
  });
});

describe('a peer whose records stand in a store of its own', () => {
  it('is not evicted while that store is dark: its silence says nothing; and is when it is heard again', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    const gone = (dark: boolean) => (now: number) => ({
      ...unreachable(now),
      control: new Map([[west, { ...talks(now - 10_000), ...(dark && { dark }) }]]),
    });
    s.run(11_000, 300_000, gone(true));
    expect(s.member(west)).toMatchObject({ state: 'quarantined', control: 'unknown', data: 'unreachable' });
    s.run(301_000, 320_000, gone(false));
    expect(s.member(west)).toMatchObject({ state: 'evicted', control: 'silent' });
  });
});

describe('a peer that is silent but reachable', () => {
  it('is frozen and kept, however long', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 600_000, (now) => ({ ...fine(now), ...silent(now, 10_000) }));
    expect(s.member(west)).toMatchObject({
      state: 'suspect',
      reason: 'ControlSilent',
      control: 'silent',
      data: 'reachable',
    });
    expect(isFrozen(s.member(west))).toBe(true);
    expect(s.member(west).deadlineMs).toBeUndefined();
  });

  it('is not silent while probes bring heads that rise', () => {
    const s = scene();
    const withHead = (now: number, sequence: bigint): Partial<Signals> => ({
      probes: [probe(west, now, { head: { epoch: 10n, sequence } })],
      ...silent(now, 0),
    });
    s.run(0, 30_000, (now) => withHead(now, 100n + BigInt(now)));
    expect(s.member(west)).toMatchObject({ state: 'fresh', control: 'fresh' });
    // A head that stands still is an echo.
    s.run(31_000, 60_000, (now) => withHead(now, 30_100n));
    expect(s.member(west)).toMatchObject({ state: 'suspect', control: 'silent' });
  });

  it('counts a restarted controller, whose epoch rises and whose sequence begins anew, as alive', () => {
    const s = scene();
    const head = { epoch: 11n, sequence: 1n };
    s.run(0, 20_000, (now) => ({ probes: [probe(west, now)], ...silent(now, 0) }));
    expect(s.member(west).control).toBe('silent');
    s.step(21_000, { probes: [probe(west, 21_000, { head })], ...silent(21_000, 0) });
    expect(s.member(west)).toMatchObject({ control: 'fresh', state: 'fresh' });
  });

  it('is judged by the path to it', () => {
    const s = scene();
    const far = new Map([[west, { rttMs: 800, varMs: 500 }]]);
    s.run(0, 10_000, fine);
    s.run(11_000, 17_000, (now) => ({ ...fine(now), ...silent(now, 10_000), paths: far }));
    expect(s.member(west).control).toBe('fresh');
    s.step(18_000, { ...fine(18_000), ...silent(18_000, 10_000), paths: far });
    expect(s.member(west).control).toBe('silent');
  });

  it('says so itself: the reason is its own word', () => {
    const s = scene();
    s.run(0, 10_000, (now) => ({ control: new Map([[west, talks(now, { shuttingDown: true })]]) }));
    expect(s.member(west)).toMatchObject({ state: 'suspect', reason: 'ShuttingDown' });
    s.step(11_000, { control: new Map([[west, talks(10, { draining: true })]]) });
    expect(s.member(west)).toMatchObject({ state: 'fresh', reason: 'Draining' });
  });
});

describe('a peer that talks but cannot be reached', () => {
  it('is quarantined, never evicted', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 600_000, unreachable);
    expect(s.member(west)).toMatchObject({ state: 'quarantined', control: 'fresh', data: 'unreachable' });
  });

  it('is not evicted by a lossy path, silent or not: one answer starts the time anew', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 300_000, (now) => ({
      probes: [now % 8_000 === 0 ? probe(west, now) : badProbe(west, now)],
      ...silent(now, 10_000),
    }));
    expect(s.member(west).state).toBe('quarantined');
  });

  it('is not condemned by two failures of three', () => {
    const s = scene();
    s.run(0, 100_000, (now) => ({ probes: [now % 3_000 === 0 ? probe(west, now) : badProbe(west, now)] }));
    expect(s.member(west).state).toBe('fresh');
  });

  it('has suspicion last longer on a slow path', () => {
    const s = scene();
    const far = new Map([[west, { rttMs: 600, varMs: 300 }]]);
    s.run(0, 10_000, fine);
    s.run(11_000, 15_000, (now) => ({ ...unreachable(now), paths: far }));
    expect(s.member(west)).toMatchObject({ state: 'suspect', deadlineMs: 13_000 + 1_000 + 600 + 1_200 });
  });

  it('stays out while nothing more is heard, for a while, and is then tried again with less weight', () => {
    const s = scene();
    s.run(0, 10_000, fine);
    s.run(11_000, 20_000, unreachable);
    s.run(21_000, 49_000);
    expect(s.member(west)).toMatchObject({ state: 'quarantined', data: 'unknown', deadlineMs: 50_000 });
    s.step(50_000);
    expect(s.member(west)).toMatchObject({ state: 'suspect', reason: 'ProbeFailed' });
    expect(isFrozen(s.member(west))).toBe(false);
  });
});

describe('a CONNECT that nobody answered', () => {
  it('is nothing against the peer, whose gateways have probes of their own', () => {
    const s = scene();
    s.run(0, 20_000, (now) => ({ probes: [badProbe(west, now, { service: 'shop/cart', failedAt: 'connect' })] }));
    expect(s.member(west)).toMatchObject({ state: 'fresh', data: 'unknown' });
  });
});

describe('several gateways of one peer', () => {
  const two = new Scene(viewOf([memberView(west, west, ['g0', 'g1'])]));
  it('are one peer: while one answers, it is reachable', () => {
    two.run(0, 10_000, (now) => ({
      probes: [badProbe(west, now, { gateway: 'g0' }), probe(west, now, { gateway: 'g1' })],
    }));
    expect(two.member(west)).toMatchObject({ state: 'fresh', data: 'degraded' });
    two.run(11_000, 20_000, (now) => ({
      probes: [badProbe(west, now, { gateway: 'g0' }), badProbe(west, now, { gateway: 'g1' })],
    }));
    expect(two.member(west).state).toBe('quarantined');
    two.run(21_000, 24_000, (now) => ({
      probes: [badProbe(west, now, { gateway: 'g0' }), probe(west, now, { gateway: 'g1' })],
    }));
    expect(two.member(west).state).toBe('fresh');
  });

  it('that are gone from its records say nothing', () => {
    const s = new Scene(viewOf([memberView(west, west, ['g1'])]));
    s.run(0, 5_000, (now) => ({
      probes: [probe(west, now, { gateway: 'g0' }), badProbe(west, now, { gateway: 'g1' })],
    }));
    expect(s.member(west).data).toBe('unreachable');
  });
});

describe('traffic', () => {
  const down = (now: number): Partial<Signals> => ({ traffic: [traffic(west, now, { localErrors: 40 })] });

  it('that reaches nothing in several windows quarantines, where there is no probe', () => {
    const s = scene();
    s.run(0, 5_000, (now) => ({ traffic: [traffic(west, now, { established: 40 })] }));
    expect(s.member(west).data).toBe('reachable');
    s.step(6_000, down(6_000));
    expect(s.member(west)).toMatchObject({ state: 'suspect', reason: 'ConsecutiveErrors', data: 'degraded' });
    s.run(7_000, 9_000, down);
    expect(s.member(west)).toMatchObject({ state: 'quarantined', data: 'unreachable' });
  });

  it('does not condemn whom probes reach', () => {
    const s = scene();
    s.run(0, 60_000, (now) => ({ ...fine(now), ...down(now) }));
    expect(s.member(west).state).toBe('suspect');
  });

  it('that gets through outweighs probes that do not', () => {
    const s = scene();
    s.run(0, 60_000, (now) => ({ ...unreachable(now), traffic: [traffic(west, now, { established: 40 })] }));
    expect(s.member(west).state).toBe('fresh');
  });

  it('of which a share fails is doubted for the ejection time, and then used again', () => {
    const s = scene();
    const lossy = (now: number) => ({ traffic: [traffic(west, now, { established: 30, localErrors: 45 })] });
    s.run(0, 5_000, lossy);
    expect(s.member(west)).toMatchObject({ state: 'suspect', reason: 'FailurePercentage', data: 'degraded' });
    expect(s.member(west).deadlineMs).toBeGreaterThan(30_000);
    expect(isFrozen(s.member(west))).toBe(false);
    s.run(6_000, 8_000, (now) => ({ traffic: [traffic(west, now, { established: 75 })] }));
    expect(s.member(west).state).toBe('fresh');
  });

  it('that a limit refused proves the peer; an error is nobody knows whose', () => {
    const limited = scene();
    limited.run(0, 60_000, (now) => ({ traffic: [traffic(west, now, { refused: 100 })] }));
    expect(limited.member(west)).toMatchObject({ state: 'fresh', data: 'reachable' });
    for (const errors of [{ gatewayErrors: 100 }, { otherErrors: 100 }]) {
      const s = scene();
      s.run(0, 60_000, (now) => ({ traffic: [traffic(west, now, errors)] }));
      expect(s.member(west)).toMatchObject({ state: 'fresh', data: 'unknown' });
      s.run(61_000, 70_000, (now) => ({ ...unreachable(now), traffic: [traffic(west, now, errors)] }));
      expect(s.member(west)).toMatchObject({ state: 'quarantined', data: 'unreachable' });
    }
  });

  it('with tunnels cut after their 200 is traffic that succeeded', () => {
    const s = scene();
    s.run(0, 60_000, (now) => ({ traffic: [traffic(west, now, { established: 10, cut: 500 })] }));
    expect(s.member(west)).toMatchObject({ state: 'fresh', data: 'reachable' });
  });

  it('of ejected gateways is evidence only after Envoy had one ejection period', () => {
    const s = scene();
    const ejected = (now: number) => ({ traffic: [traffic(west, now, { ejected: 2, gateways: 2 })] });
    s.run(0, 5_000, ejected);
    // Three seconds are Envoy's; then it takes three windows as with any other evidence.
    expect(s.member(west)).toMatchObject({ state: 'suspect', data: 'unreachable', sinceMs: 5_000 });
    s.step(6_000, ejected(6_000));
    expect(s.member(west).state).toBe('quarantined');
  });

  it('of one ejected gateway among several changes no state', () => {
    const s = scene();
    s.run(0, 60_000, (now) => ({ traffic: [traffic(west, now, { established: 9, ejected: 1, gateways: 2 })] }));
    expect(s.member(west)).toMatchObject({ state: 'fresh', data: 'degraded' });
  });
});
