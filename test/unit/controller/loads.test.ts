import { describe, expect, it } from 'vitest';
import { Loads } from '../../../src/controller/loads.ts';
import type { TrafficWindow } from '../../../src/health/signals.ts';

const window = (atMs: number, tries: number, over: Partial<TrafficWindow> = {}): TrafficWindow => ({
  member: 'us-west',
  service: 'shop/checkout',
  atMs,
  windowMs: 1_000,
  tries,
  established: tries,
  localErrors: 0,
  gatewayErrors: 0,
  otherErrors: 0,
  refused: 0,
  cut: 0,
  connectMsSum: 0,
  ejected: 0,
  gateways: 2,
  ...over,
});
const rate = (loads: Loads, nowMs: number) => loads.rates(nowMs).get('shop/checkout|us-west');

describe('loads', () => {
  it('are what was measured, without what was refused and without what is of no service', () => {
    const loads = new Loads();
    loads.add(window(1_000, 100, { refused: 20 }));
    loads.add(window(1_000, 500, { service: undefined }));
    expect(rate(loads, 1_000)).toBe(80);
    expect(loads.rates(1_000).size).toBe(1);
  });
  it('follow a new level within minutes, and no single burst', () => {
    const loads = new Loads();
    for (let s = 1; s <= 60; s++) loads.add(window(s * 1_000, 10));
    loads.add(window(61_000, 1_000));
    expect(rate(loads, 61_000)!).toBeLessThan(40);
    for (let s = 62; s <= 400; s++) loads.add(window(s * 1_000, 50));
    expect(rate(loads, 400_000)!).toBeCloseTo(50, 0);
  });
  it('fall to nothing when nothing is told any more, and are forgotten', () => {
    const loads = new Loads();
    loads.add(window(1_000, 10));
    expect(rate(loads, 61_000)!).toBeCloseTo(10 / Math.E, 1);
    expect(loads.rates(3_600_000).size).toBe(0);
    expect(loads.rates(1_000).size).toBe(0);
  });
});
