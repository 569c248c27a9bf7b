import { describe, expect, it } from 'vitest';
import type { ProbeStage, Signals } from '../../../src/health/signals.ts';
import { badProbe, gray, memberView, probe, Scene, self, talks, thresholds, traffic, viewOf } from './scene.ts';

const west = 'us-west';
const eu = 'eu';
const cart = 'shop/cart';
const pay = 'shop/pay';
const view = viewOf([memberView(west), memberView(eu)], { [cart]: { by: [west, eu] }, [pay]: { by: [west, eu] } });
const scene = (of = thresholds()) => new Scene(view, of);

const healthy = (now: number) => [probe(west, now), probe(eu, now)];
const broken = (now: number, failedAt: ProbeStage, status?: number): Partial<Signals> => ({
  probes: [...healthy(now), badProbe(west, now, { service: cart, failedAt, status })],
});
const calls = (now: number, change: Parameters<typeof traffic>[2], of = cart): Partial<Signals> => ({
  probes: healthy(now),
  traffic: [traffic(west, now, { service: of, ...change })],
});

describe('a probe of a service', () => {
  it.each([503, 404, 502, 500])('that the gateway answered with %d is a bad service at a good peer', (status) => {
    const s = scene();
    s.run(0, 4_000, (now) => broken(now, 'connect', status));
    expect(s.cell(cart, west)).toMatchObject({ state: 'quarantined', reason: 'ProbeFailed' });
    expect(s.cell(cart, west)?.detail).toContain(`CONNECT answered ${status}`);
    expect(s.member(west)).toMatchObject({ state: 'fresh', data: 'reachable' });
    expect(s.last!.verdicts.cells.size).toBe(1);
  });

  it.each(['inner-tls', 'identity'] as const)('that broke at %s, behind the gateway, too', (stage) => {
    const s = scene();
    s.run(0, 4_000, (now) => broken(now, stage));
    expect(s.cell(cart, west)?.state).toBe('quarantined');
    expect(s.member(west).state).toBe('fresh');
  });

  it('that nobody answered is the service, for gateways have probes of their own', () => {
    const s = scene();
    s.run(0, 4_000, (now) => broken(now, 'connect'));
    expect(s.cell(cart, west)?.state).toBe('quarantined');
    expect(s.member(west)).toMatchObject({ state: 'fresh', data: 'reachable' });
  });

  it.each(['tcp', 'tls'] as const)('that broke at %s is the peer, and says nothing of the service', (failedAt) => {
    const s = scene();
    s.run(0, 4_000, (now) => ({ probes: [badProbe(west, now, { service: cart, failedAt })] }));
    expect(s.last!.verdicts.cells.size).toBe(0);
    expect(s.member(west).state).toBe('quarantined');
  });

  it('that was denied is an answer', () => {
    const s = scene();
    s.run(0, 4_000, (now) => broken(now, 'connect', 503));
    s.run(5_000, 7_000, (now) => ({
      probes: [probe(west, now, { service: cart, denied: true, status: 403, failedAt: 'connect' })],
    }));
    expect(s.cell(cart, west)?.state).toBe('fresh');
    expect(s.member(west).data).toBe('reachable');
  });

  it('of the same moment as one that got through says nothing, in whatever order they are told', () => {
    for (const goodFirst of [true, false]) {
      const s = scene();
      s.run(0, 10_000, (now) => {
        const both = [probe(west, now, { service: cart }), badProbe(west, now, { service: cart, failedAt: 'connect' })];
        return { probes: goodFirst ? both : both.reverse() };
      });
      expect(s.last!.verdicts.cells.size).toBe(0);
    }
  });

  it('that met a limit says nothing of the service', () => {
    const s = scene();
    s.run(0, 10_000, (now) => broken(now, 'connect', 429));
    expect(s.last!.verdicts.cells.size).toBe(0);
    expect(s.member(west).data).toBe('reachable');
  });

  it('passes through suspicion, and comes back after several good ones', () => {
    const s = scene();
    s.run(0, 2_000, (now) => broken(now, 'connect', 503));
    expect(s.cell(cart, west)).toMatchObject({ state: 'suspect', sinceMs: 2_000, deadlineMs: 3_000 });
    s.step(3_000, broken(3_000, 'connect', 503));
    expect(s.cell(cart, west)).toMatchObject({ state: 'quarantined', sinceMs: 3_000 });
    const good = (now: number) => ({ probes: [probe(west, now, { service: cart })] });
    s.run(4_000, 5_000, good);
    expect(s.cell(cart, west)?.state).toBe('quarantined');
    s.step(6_000, good(6_000));
    expect(s.cell(cart, west)).toMatchObject({ state: 'fresh', reason: 'Healthy', deadlineMs: undefined });
    expect(s.cell(cart, west)?.penalty).toBeGreaterThan(2_000);
  });

  it('that is not repeated is tried again after the ejection time', () => {
    const s = scene();
    s.run(0, 3_000, (now) => broken(now, 'connect', 503));
    expect(s.cell(cart, west)?.deadlineMs).toBe(33_000);
    s.run(4_000, 32_000, (now) => ({ probes: healthy(now) }));
    expect(s.cell(cart, west)?.state).toBe('quarantined');
    s.step(33_000);
    expect(s.cell(cart, west)?.state).toBe('fresh');
  });
});

describe('calls to a service', () => {
  it('that fail in a row eject it there, and nowhere else', () => {
    const s = scene();
    s.step(1_000, calls(1_000, { gatewayErrors: 5 }));
    expect(s.cell(cart, west)).toMatchObject({ state: 'suspect', reason: 'ConsecutiveErrors' });
    s.step(2_000, { probes: healthy(2_000) });
    expect(s.cell(cart, west)).toMatchObject({ state: 'quarantined', deadlineMs: 31_000 });
    expect(s.last!.verdicts.cells.size).toBe(1);
    expect([s.member(west).state, s.member(eu).state]).toEqual(['fresh', 'fresh']);
    s.run(3_000, 31_000, (now) => ({ probes: healthy(now) }));
    expect(s.cell(cart, west)?.state).toBe('fresh');
  });

  it('that fail by half eject it at the end of the interval', () => {
    const s = scene();
    s.run(1_000, 5_000, (now) => calls(now, { established: 10, otherErrors: 12 }));
    expect(s.cell(cart, west)).toMatchObject({ state: 'suspect', reason: 'FailurePercentage' });
    expect(s.cell(cart, west)?.detail).toContain('60 of 110 calls failed');
  });

  it('stay out longer with each ejection', () => {
    const s = scene();
    s.step(1_000, calls(1_000, { gatewayErrors: 5 }));
    s.run(2_000, 40_000);
    s.step(41_000, calls(41_000, { gatewayErrors: 5 }));
    s.step(42_000);
    expect(s.cell(cart, west)).toMatchObject({ state: 'quarantined', deadlineMs: 101_000 });
  });

  it('that were refused or cut say nothing against it', () => {
    const s = scene();
    s.run(1_000, 30_000, (now) => calls(now, { refused: 500, cut: 100, established: 1 }));
    expect(s.last!.verdicts.cells.size).toBe(0);
  });

  it('cannot eject the last cluster that is left', () => {
    const s = new Scene(viewOf([memberView(west), memberView(eu)], { [cart]: { by: [west, eu], local: false } }));
    s.run(1_000, 3_000, (now) => ({
      traffic: [
        traffic(west, now, { service: cart, gatewayErrors: 9 }),
        traffic(eu, now, { service: cart, gatewayErrors: 9 }),
      ],
    }));
    expect([s.cell(cart, eu)?.state, s.cell(cart, west)?.state]).toEqual(['quarantined', 'suspect']);
    expect(s.cell(cart, west)?.detail).toContain('no other cluster is left');
  });

  it('cannot eject it when the only other exporter is out itself', () => {
    const s = new Scene(viewOf([memberView(west), memberView(eu)], { [cart]: { by: [west, eu], local: false } }));
    const dead = (now: number) => ({ probes: [probe(west, now), badProbe(eu, now)] });
    s.run(0, 5_000, dead);
    s.run(6_000, 10_000, (now) => ({
      ...dead(now),
      traffic: [traffic(west, now, { service: cart, gatewayErrors: 9 })],
    }));
    expect(s.member(eu).state).toBe('quarantined');
    expect(s.cell(cart, west)?.state).toBe('suspect');
  });
});

describe('a DestinationRule', () => {
  const ruled = (policy: object, by = [west, eu]) =>
    new Scene(
      viewOf([memberView(west), memberView(eu), memberView('asia')], { [cart]: { by, policy }, [pay]: { by } }),
    );

  it('sets the number of errors, the interval and the time, for its host alone', () => {
    const s = ruled({ consecutiveGatewayErrors: 2, consecutive5xxErrors: 50, baseEjectionTimeMs: 7_000 });
    const both = (now: number) => ({
      traffic: [
        traffic(west, now, { service: cart, gatewayErrors: 2 }),
        traffic(west, now, { service: pay, gatewayErrors: 2 }),
      ],
    });
    s.step(1_000, both(1_000));
    s.step(2_000);
    expect(s.cell(cart, west)).toMatchObject({ state: 'quarantined', deadlineMs: 8_000 });
    expect(s.cell(pay, west)).toBeUndefined();
  });

  it('bounds the share of clusters that may be out', () => {
    // Three remote clusters and ours: two of four may go.
    const s = ruled({ maxEjectionPercent: 50 }, [west, eu, 'asia']);
    s.run(1_000, 4_000, (now) => ({
      traffic: [west, eu, 'asia'].map((member) => traffic(member, now, { service: cart, gatewayErrors: 9 })),
    }));
    const states = [west, eu, 'asia'].map((member) => s.cell(cart, member)?.state).sort();
    expect(states).toEqual(['quarantined', 'quarantined', 'suspect']);
    const kept = [west, eu, 'asia'].map((member) => s.cell(cart, member)!).find(({ state }) => state === 'suspect');
    expect(kept?.detail).toContain('at most 50 % of 4 clusters');
  });

  it('switches a rule off with 0', () => {
    const s = ruled({ consecutiveGatewayErrors: 0, consecutive5xxErrors: 0 });
    s.run(1_000, 3_000, (now) => ({ traffic: [traffic(west, now, { service: cart, gatewayErrors: 6 })] }));
    expect(s.last!.verdicts.cells.size).toBe(0);
  });
});

describe('a peer that cannot be reached', () => {
  it('takes no verdict on its services with it', () => {
    const s = scene();
    s.run(0, 20_000, (now) => ({
      probes: [badProbe(west, now), badProbe(west, now, { service: cart }), probe(eu, now)],
      traffic: [
        traffic(west, now, { localErrors: 80 }),
        traffic(west, now, { service: cart, localErrors: 40 }),
        traffic(west, now, { service: pay, localErrors: 40 }),
      ],
      control: new Map([[west, talks(now)]]),
    }));
    expect(s.member(west).state).toBe('evicted');
    expect(s.last!.verdicts.cells.size).toBe(0);
    expect(Object.keys(s.state.cells)).toEqual([]);
  });

  it('makes nothing of errors that services have behind it', () => {
    const s = scene();
    s.run(0, 20_000, (now) => ({
      probes:
        now < 5_000
          ? [badProbe(west, now)]
          : [badProbe(west, now), badProbe(west, now, { service: cart, failedAt: 'connect' })],
      traffic: now < 5_000 ? [] : [traffic(west, now, { service: pay, gatewayErrors: 40 })],
    }));
    expect(s.last!.verdicts.cells.size).toBe(0);
  });

  it('is told from a service that cannot be: one service alone is the service', () => {
    const s = scene();
    s.run(0, 10_000, (now) => ({
      traffic: [
        traffic(west, now, { service: cart, localErrors: 40 }),
        traffic(west, now, { service: pay, established: 40 }),
      ],
    }));
    expect(s.cell(cart, west)?.state).toBe('quarantined');
    expect(s.member(west).state).toBe('fresh');
    // Also when it is all the traffic that there is.
    const alone = scene();
    alone.run(0, 10_000, (now) => ({ traffic: [traffic(west, now, { service: cart, localErrors: 40 })] }));
    expect(alone.cell(cart, west)?.state).toBe('quarantined');
    expect(alone.member(west).state).toBe('fresh');
  });

  it('keeps what was known of its services', () => {
    const s = scene();
    s.run(0, 4_000, (now) => broken(now, 'connect', 503));
    s.run(5_000, 12_000, (now) => ({ probes: [badProbe(west, now)] }));
    expect(s.member(west).state).toBe('quarantined');
    expect(s.cell(cart, west)?.state).toBe('quarantined');
  });
});

describe('a gray failure', () => {
  it('is found by a row of failures, at home too, and touches nothing else', () => {
    const s = scene();
    s.run(0, 3_000, (now) => ({
      probes: healthy(now),
      gray: [gray(self, cart, now, false), gray(eu, cart, now, true)],
    }));
    expect(s.cell(cart, self)).toMatchObject({ state: 'quarantined', reason: 'GrayFailure' });
    expect(s.cell(cart, self)?.detail).toContain('status 503');
    expect(s.last!.verdicts.cells.size).toBe(1);
  });

  it('is over after a row of good ones', () => {
    const s = scene();
    s.run(0, 10_000, (now) => ({ gray: [gray(west, cart, now, false)] }));
    s.run(11_000, 14_000, (now) => ({ gray: [gray(west, cart, now, true)] }));
    expect(s.cell(cart, west)?.state).toBe('quarantined');
    s.step(15_000, { gray: [gray(west, cart, 15_000, true)] });
    expect(s.cell(cart, west)?.state).toBe('fresh');
  });

  it('ends for want of evidence when its probe was taken away', () => {
    const s = scene();
    s.run(0, 10_000, (now) => ({ gray: [gray(west, cart, now, false)] }));
    expect(s.cell(cart, west)?.deadlineMs).toBe(70_000);
    s.run(11_000, 70_000);
    expect(s.cell(cart, west)?.state).toBe('fresh');
  });

  it('of a service that nobody has is nothing', () => {
    const s = scene();
    s.run(0, 10_000, (now) => ({ gray: [gray(west, 'shop/nothing', now, false), gray('nowhere', cart, now, false)] }));
    expect(s.last!.verdicts.cells.size).toBe(0);
    expect(Object.keys(s.state.cells)).toEqual([]);
  });
});

describe('a member that goes', () => {
  it('takes what was known of its services along', () => {
    const s = scene();
    s.run(0, 4_000, (now) => broken(now, 'connect', 503));
    s.view = viewOf([memberView(eu)], { [cart]: { by: [eu] } });
    const { changed, state } = s.step(5_000);
    expect([...changed.cells]).toEqual(['shop/cart|us-west']);
    expect(Object.keys(state.cells)).toEqual([]);
  });
});
