/** What is remembered of denials, and how much. */
import { describe, expect, it } from 'vitest';
import type { Connection } from '../../../src/audit/connection.ts';
import { Denials, denialsMs } from '../../../src/telemetry/denials.ts';

const denied = (over: Partial<Connection> = {}): Connection => ({
  side: 'egress',
  result: 'denied',
  reason: 'policy',
  rule: 'pay/0',
  source: 'spiffe://cluster.local/ns/shop/sa/web',
  from: '10.0.0.1:4000',
  authority: 'ledger.pay.svc.cluster.local:80',
  service: 'pay/ledger',
  status: 403,
  startMs: 0,
  durationMs: 1,
  sent: 0,
  received: 0,
  gateway: 'gw-1',
  ...over,
});

describe('denials', () => {
  it('are counted by who, to what, and why; what was not denied is none', () => {
    const denials = new Denials();
    denials.add(denied(), 1_000);
    denials.add(denied({ from: '10.0.0.1:4001' }), 2_000);
    denials.add(denied({ rule: 'none', count: 5 }), 3_000);
    denials.add(denied({ result: 'closed' }), 4_000);
    denials.add(denied({ result: 'failed' }), 4_000);
    expect(denials.recent(4_000)).toMatchObject([
      { rule: 'none', count: 5, lastMs: 3_000 },
      { rule: 'pay/0', count: 2, lastMs: 2_000 },
    ]);
  });

  it('are forgotten after a while, the oldest first', () => {
    const denials = new Denials();
    denials.add(denied(), 0);
    denials.add(denied({ service: 'pay/other' }), 10);
    denials.add(denied(), 20);
    expect(denials.recent(denialsMs + 15)).toMatchObject([{ service: 'pay/ledger', count: 2 }]);
    expect(denials.recent(denialsMs + 20)).toEqual([]);
  });

  it('are bounded whatever callers ask for, and those of others are not pushed out', () => {
    const denials = new Denials(100);
    denials.add(denied(), 0);
    for (let i = 0; i < 10_000; i++) denials.add(denied({ source: `s-${i}`, service: `pay/s-${i}` }), i);
    const told = denials.recent(10_000);
    expect(told.length).toBeLessThan(110);
    expect(told.reduce((sum, { count }) => sum + count, 0)).toBe(10_001);
    expect(told.find(({ service }) => service === 'pay/ledger')).toMatchObject({ count: 1 });
    expect(told.find(({ source }) => source === '*')).toMatchObject({ service: '', count: 9_901 });
  });
});
