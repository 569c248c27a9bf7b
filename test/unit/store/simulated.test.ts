import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { prefix, Recorder } from '../../conformance/recorder.ts';
import { storeConformance } from '../../conformance/store.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import type { SimData } from '../../sim/etcd.ts';
import { simRig } from '../../sim/rig.ts';
import { SimEtcd, simStore } from '../../sim/store.ts';

storeConformance('simulated', () => simRig());

describe('the simulated store', () => {
  it('brings every reader to what etcd holds, whatever happens on the way, and the same seed twice to the same run', async () => {
    const run = async (seed: number): Promise<string> => {
      const rng = seededRng(seed);
      const clock = new SimClock();
      const etcd = new SimEtcd();
      const store = simStore(etcd, { clock, rng, resyncIntervalMs: 20_000 });
      const readers = [new Recorder(), new Recorder()];
      for (const reader of readers) store.watch(prefix, reader);
      let backup: SimData = etcd.saveData();
      const faults: (() => void)[] = [
        () => etcd.stop(),
        () => etcd.hang(),
        () => etcd.start(),
        () => etcd.dropConnections(),
        () => etcd.compact(),
        () => {
          backup = etcd.saveData();
        },
        () => etcd.restoreData(backup),
        () => etcd.replace(),
        () => {
          etcd.dropAfterRevisions = Math.floor(rng() * 4);
        },
      ];
      for (let step = 0; step < 120; step++) {
        if (rng() < 0.25) faults[Math.floor(rng() * faults.length)]!();
        const key = `${prefix}${Math.floor(rng() * 20)}`;
        const puts = rng() < 0.7 ? [{ key, value: Buffer.from(`${step}`) }] : [];
        etcd.commit('root', { compare: [], puts, deletes: puts.length === 0 ? [key] : [] });
        await clock.advance(rng() * 2_000);
      }
      etcd.dropAfterRevisions = 0;
      etcd.start();
      await clock.advance(30_000);
      const truth = etcd.snapshot('root', prefix).entries;
      for (const reader of readers) expect(reader.equals(truth), `seed ${seed}: ${reader.summary(truth)}`).toBe(true);
      await store.close();
      return readers.map((r) => `${r.reasons.join()} ${r.eventCount} ${r.downs}`).join('; ');
    };
    for (let seed = 1; seed <= 12; seed++) {
      const first = await run(seed);
      if (seed % 6 === 0) expect(await run(seed)).toBe(first);
    }
  });

  it('tells time in order', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(1_000), { maxLength: 20 }), async (delays) => {
        const clock = new SimClock();
        const fired: number[] = [];
        for (const ms of delays) clock.after(ms, () => fired.push(clock.monotonicMs()));
        await clock.advance(1_000);
        expect(fired).toEqual([...delays].sort((a, b) => a - b));
        expect(clock.monotonicMs()).toBe(1_000);
      }),
      { numRuns: 20 },
    );
  });
});
