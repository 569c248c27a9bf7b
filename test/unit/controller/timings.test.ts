import { describe, expect, it } from 'vitest';
import { Detecting } from '../../../src/controller/detecting.ts';
import { Programming } from '../../../src/controller/programming.ts';
import type { Decision } from '../../../src/failover/decision.ts';
import type { ProbeResult } from '../../../src/health/signals.ts';
import { openMetrics } from '../../../src/ops/metrics.ts';
import type { ProxyStatus } from '../../../src/server/api.ts';
import { SimClock } from '../../sim/clock.ts';

const probe = (atMs: number, ok: boolean, over: Partial<ProbeResult> = {}): ProbeResult => ({
  ...{ member: 'us-west', service: undefined, atMs, ok, denied: false, failedAt: ok ? undefined : 'tcp' },
  ...{ status: undefined, ms: undefined, head: undefined },
  ...over,
});
const verdict = (before: string, after: string, service?: string): Decision =>
  ({ kind: 'state', service, member: 'us-west', before, after }) as Decision;

describe('the time to detect', () => {
  it('runs from the first signal against a peer since it was last well', () => {
    const detecting = new Detecting();
    for (const [atMs, ok] of [
      [100, false],
      [200, true],
      [1_000, false],
      [1_500, false],
    ] as const)
      detecting.probe(probe(atMs, ok));
    expect(detecting.detected([verdict('fresh', 'suspect')], 2_000)).toEqual([1]);
    expect(detecting.detected([verdict('suspect', 'quarantined')], 4_000)).toEqual([3]);
    expect(detecting.detected([verdict('quarantined', 'fresh')], 9_000)).toEqual([]);
  });

  it('is of each service for itself, by probes, traffic and gray signals', () => {
    const detecting = new Detecting();
    const window = {
      ...{ member: 'us-west', windowMs: 1_000, tries: 9, refused: 0, cut: 0, connectMsSum: 0, ejected: 0 },
      gateways: 2,
    };
    const errors = { localErrors: 0, gatewayErrors: 5, otherErrors: 0, established: 4 };
    detecting.probe(probe(500, false, { service: 'shop/cart', failedAt: 'inner-tls' }));
    detecting.traffic({ ...window, ...errors, service: 'shop/checkout', atMs: 3_000 });
    detecting.gray({ service: 'shop/search', member: 'us-west', atMs: 2_500, ok: false, detail: 'status 503' });
    const at = (service?: string) => detecting.detected([verdict('fresh', 'quarantined', service)], 4_000);
    expect([at('shop/cart'), at('shop/checkout'), at('shop/search')]).toEqual([[3.5], [2], [1.5]]);
    expect(at()).toEqual([]);
    detecting.traffic({ ...window, ...errors, gatewayErrors: 0, service: 'shop/checkout', atMs: 4_000 });
    expect(at('shop/checkout')).toEqual([]);
  });
});

describe('the time to program', () => {
  const rig = () => {
    const clock = new SimClock();
    const metrics = openMetrics('test');
    const programming = new Programming(clock, metrics);
    const seen = async () => {
      const text = await metrics.text();
      const count = (name: string) =>
        Number(new RegExp(`^isthmus_failover_${name}_seconds_count (\\d+)`, 'm').exec(text)?.[1] ?? 0);
      const sum = (name: string) =>
        Number(new RegExp(`^isthmus_failover_${name}_seconds_sum (\\S+)`, 'm').exec(text)?.[1] ?? 0);
      return { push: [count('push'), sum('push')], ack: [count('ack'), sum('ack')] };
    };
    return { clock, programming, seen };
  };
  const gateway = (synced: Record<string, boolean>): ProxyStatus =>
    ({
      role: 'gateway',
      types: Object.entries(synced).map(([typeUrl, is]) => ({ typeUrl, synced: is })),
    }) as unknown as ProxyStatus;
  const endpoints = { gateway: new Set(['eds']), ztunnel: new Set<string>() };

  it('is of the resources that a decision changed, and of no others', async () => {
    const { clock, programming, seen } = rig();
    programming.pushed('gateway', 'eds');
    programming.acked(() => [gateway({ eds: true })]);
    expect(await seen()).toEqual({ push: [0, 0], ack: [0, 0] });
    programming.programmed(endpoints, clock.monotonicMs());
    await clock.advance(10);
    programming.pushed('gateway', 'cds');
    programming.pushed('ztunnel', 'eds');
    expect((await seen()).push).toEqual([0, 0]);
    await clock.advance(10);
    programming.pushed('gateway', 'eds');
    programming.pushed('gateway', 'eds');
    expect((await seen()).push).toEqual([1, 0.02]);
    await clock.advance(5);
    programming.acked(() => [gateway({ eds: true, cds: false }), gateway({ eds: false })]);
    expect((await seen()).ack).toEqual([0, 0]);
    await clock.advance(5);
    programming.acked(() => [gateway({ eds: true, cds: false }), gateway({ eds: true })]);
    expect((await seen()).ack).toEqual([1, 0.01]);
  });

  it('counts what ztunnels get as sent, and waits for none of them', async () => {
    const { clock, programming, seen } = rig();
    programming.programmed({ gateway: new Set(), ztunnel: new Set(['wds']) }, 0);
    await clock.advance(30);
    programming.pushed('ztunnel', 'wds');
    programming.acked(() => []);
    expect(await seen()).toEqual({ push: [1, 0.03], ack: [0, 0] });
  });
});
