import { describe, expect, it } from 'vitest';
import { HangDetector, hangTimes } from '../../../src/gateway/hang.ts';

const { tickMs } = hangTimes;

/** Two Envoys and a runner whose ticks take as long as told. */
class Rig {
  nowMs = 0;
  readonly detector: HangDetector;
  readonly hung = new Set<number>();
  latencyMs = 1;
  readonly killed: { index: number; atMs: number }[] = [];
  readonly #count: number;

  constructor(count = 2) {
    this.#count = count;
    this.detector = new HangDetector(count);
    for (let i = 0; i < count; i++) this.detector.serving(i, true);
  }

  /** One tick that comes `tookMs` after the last one. A killed Envoy is away until `revive`. */
  tick(tookMs = tickMs): void {
    this.nowMs += tookMs;
    const verdict = this.detector.tick(this.nowMs);
    if (verdict !== undefined) {
      this.killed.push({ index: verdict.index, atMs: this.nowMs });
      this.detector.serving(verdict.index, false);
    }
    for (let i = 0; i < this.#count; i++) {
      if (this.detector.due(i)) this.detector.sent(i, this.nowMs);
      if (!this.hung.has(i)) this.detector.answered(i, this.nowMs + this.latencyMs);
    }
  }

  run(ms: number, tookMs = tickMs): void {
    for (const end = this.nowMs + ms; this.nowMs < end; ) this.tick(tookMs);
  }
}

describe('a hung Envoy', () => {
  it('is ended within some 300 ms while its sibling answers', () => {
    const rig = new Rig();
    rig.run(1_000);
    rig.hung.add(1);
    const since = rig.nowMs;
    rig.run(1_000);
    expect(rig.killed.map((k) => k.index)).toEqual([1]);
    expect(rig.killed[0]!.atMs - since).toBeLessThanOrEqual(400);
    expect(rig.detector.alive(0)).toBe(true);
  });

  it('is not ended when its sibling hangs too, however long', () => {
    const rig = new Rig();
    rig.run(1_000);
    rig.hung.add(0).add(1);
    rig.run(60_000);
    expect(rig.killed).toEqual([]);
    expect([0, 1].map((i) => rig.detector.alive(i))).toEqual([false, false]);
  });

  it('is ended once its sibling has come back', () => {
    const rig = new Rig();
    rig.run(500);
    rig.hung.add(0).add(1);
    rig.run(3_000);
    rig.hung.delete(0);
    rig.run(6_000);
    expect(rig.killed.map((k) => k.index)).toEqual([1]);
  });

  it('is not ended while another is being restarted, and is when that one serves', () => {
    const rig = new Rig(3);
    rig.run(500);
    rig.detector.serving(2, false);
    rig.hung.add(1);
    rig.run(5_000);
    expect(rig.killed).toEqual([]);
    rig.detector.serving(2, true);
    rig.run(1_000);
    expect(rig.killed.map((k) => k.index)).toEqual([1]);
  });

  it('alone is never ended', () => {
    const rig = new Rig(1);
    rig.run(500);
    rig.hung.add(0);
    rig.run(60_000);
    expect(rig.killed).toEqual([]);
  });
});

describe('a machine in trouble', () => {
  it('that is paused makes nobody hang', () => {
    const rig = new Rig();
    rig.run(500);
    for (let i = 0; i < 20; i++) {
      rig.hung.add(0).add(1);
      rig.tick(10_000);
      rig.hung.clear();
      rig.run(100);
    }
    expect(rig.killed).toEqual([]);
  });

  it('whose ticks come late gives more time, and still ends what hangs', () => {
    const rig = new Rig();
    rig.latencyMs = 30;
    rig.run(2_000, 150);
    rig.hung.add(1);
    const since = rig.nowMs;
    rig.run(20_000, 150);
    expect(rig.killed.map((k) => k.index)).toEqual([1]);
    expect(rig.killed[0]!.atMs - since).toBeGreaterThan(500);
  });

  it('where the sibling is slow gives the other as much time', () => {
    const detector = new HangDetector(2);
    detector.serving(0, true);
    detector.serving(1, true);
    const before = detector.deadlineMs(0);
    detector.sent(1, 0);
    detector.answered(1, 120);
    expect(before).toBe(hangTimes.deadlineMs);
    expect(detector.deadlineMs(0)).toBe(960);
    expect(detector.deadlineMs(1)).toBe(hangTimes.deadlineMs);
  });

  it('never stretches the deadline without end', () => {
    const detector = new HangDetector(2);
    detector.serving(0, true);
    detector.serving(1, true);
    detector.sent(1, 0);
    detector.answered(1, 100_000);
    expect(detector.deadlineMs(0)).toBe(hangTimes.deadlineMaxMs);
  });
});

describe('an Envoy that starts', () => {
  it('is neither judged nor called alive before it answered once', () => {
    const detector = new HangDetector(2);
    expect(detector.due(0)).toBe(false);
    detector.serving(0, true);
    expect(detector.alive(0)).toBe(false);
    detector.sent(0, 0);
    detector.answered(0, 3);
    expect(detector.alive(0)).toBe(true);
  });

  it('begins anew after a restart: an old silence does not count against it', () => {
    const detector = new HangDetector(2);
    detector.serving(0, true);
    detector.serving(1, true);
    detector.sent(0, 0);
    for (let t = tickMs; t < 200; t += tickMs) detector.tick(t);
    detector.serving(0, false);
    detector.serving(0, true);
    detector.answered(0, 210);
    expect(detector.alive(0)).toBe(false);
    detector.sent(0, 220);
    detector.answered(0, 221);
    expect(detector.alive(0)).toBe(true);
  });
});
