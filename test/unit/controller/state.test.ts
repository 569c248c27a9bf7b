import { describe, expect, it } from 'vitest';
import { packRevocations, StateKeeper, unpackRevocations } from '../../../src/controller/state.ts';
import type { SavedState } from '../../../src/store/saved.ts';
import { SimClock } from '../../sim/clock.ts';

const rig = (tookMs = 0, fails = () => false) => {
  const clock = new SimClock();
  const saves: { part: string; atMs: number }[] = [];
  const logged: string[] = [];
  const disk = {
    save: async (part: string) => {
      saves.push({ part, atMs: clock.monotonicMs() });
      if (fails()) throw new Error('the disk is full');
      if (tookMs > 0) await new Promise<void>((resolve) => void clock.after(tookMs, resolve));
    },
  } as unknown as SavedState;
  const source = () => new Uint8Array(1);
  const state = new StateKeeper({
    disk,
    clock,
    log: (_level, message) => logged.push(message),
    intervalMs: 1_000,
    sources: { revocations: source, records: source, cluster: source, tokens: source, gateways: () => undefined },
  });
  return { clock, saves, logged, state };
};

describe('the saved state', () => {
  it('is written once for many changes', async () => {
    const { clock, saves, state } = rig();
    for (let i = 0; i < 5; i++) state.touch('records');
    state.touch('cluster');
    await clock.advance(999);
    expect(saves).toEqual([]);
    await clock.advance(1);
    expect(saves.map((s) => s.part)).toEqual(['records', 'cluster']);
    await clock.advance(60_000);
    expect(saves).toHaveLength(2);
  });

  it('waits longer when only ages changed, but not for what really did', async () => {
    const { clock, saves, state } = rig();
    state.touch('records', true);
    await clock.advance(5_000);
    expect(saves).toEqual([]);
    state.touch('cluster');
    await clock.advance(1_000);
    expect(saves.map((s) => s.part)).toEqual(['records', 'cluster']);
    state.touch('records', true);
    await clock.advance(10_000);
    expect(saves).toHaveLength(3);
  });

  it('takes a small part of the time, however long a save takes', async () => {
    const { clock, saves, state } = rig(500);
    for (let i = 0; i < 600; i++) {
      state.touch('records');
      await clock.advance(100);
    }
    expect(saves.length).toBeGreaterThan(3);
    expect(saves.length).toBeLessThan(9);
  });

  it('is tried again when the disk did not take it', async () => {
    let full = true;
    const { clock, saves, logged, state } = rig(0, () => full);
    state.touch('records');
    await clock.advance(1_000);
    expect(logged).toEqual(['state not saved']);
    expect(state.ageSeconds()).toBeNull();
    full = false;
    state.touch('cluster');
    await clock.advance(1_000);
    expect(saves.map((s) => s.part)).toEqual(['records', 'records', 'cluster']);
    expect(state.ageSeconds()).toBe(0);
  });

  it('is written at the end, whatever the time', async () => {
    const { clock, saves, state } = rig();
    state.touch('tokens', true);
    await state.close();
    expect(saves.map((s) => s.part)).toEqual(['tokens']);
    state.touch('records');
    await clock.advance(60_000);
    expect(saves).toHaveLength(1);
  });

  it('is written at once when it must survive whatever comes next', async () => {
    const { saves, state } = rig();
    state.now('revocations');
    await state.flush();
    expect(saves.map((s) => s.part)).toEqual(['revocations']);
    const marks = [['us-west', Uint8Array.of(1, 2, 255)]] as const;
    expect(unpackRevocations(packRevocations(marks))).toEqual(marks);
  });
});
