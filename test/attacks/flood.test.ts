/** A member that writes as much and as fast as etcd lets it, under its own name. The others are not held up, and nobody dies of it. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../src/core/limits.ts';
import { fetchText } from '../real/controller/replica.ts';
import { keys } from './forger.ts';
import { checkoutKey, eastOf, Stage } from './stage.ts';

let stage: Stage;
beforeAll(async () => {
  // So little that a slow machine exceeds it too.
  stage = await Stage.start(['quota.ticksPerSecond=10']);
});
afterAll(() => stage?.stop());

/** Resident memory of west's controller, MiB. */
const residentMiB = async (): Promise<number> => {
  const status = await readFile(`/proc/${stage.replica.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
};
const pages = async (count: number, size: number): Promise<void> => {
  const perTxn = Math.max(1, Math.min(100, Math.floor(limits.txnBytesMax / (size + 200))));
  for (let at = 0; at < count; at += perTxn) {
    const puts = Array.from({ length: Math.min(perTxn, count - at) }, (_, i) => ({
      key: `${keys.memberPrefix('east')}x/${String(at + i).padStart(6, '0')}`,
      value: new Uint8Array(size).fill(at),
    }));
    const done = await stage.eastStore.commit({ compare: [], puts, deletes: [] });
    expect(done.ok).toBe(true);
  }
};

describe('a flood', () => {
  it('of ticks, one after the other without a pause', async () => {
    const before = stage.workload();
    let flooding = true;
    let ticks = 0;
    const flood = (async () => {
      while (flooding) {
        const change = { [checkoutKey]: stage.service({ exportedMs: BigInt(++ticks) }) };
        for (const [name, bytes] of Object.entries(change)) stage.east.records.set(name, bytes);
        const puts = [
          ...Object.entries(change).map(([name, bytes]) => ({ key: stage.east.prefix + name, value: bytes })),
          { key: keys.manifest('east'), value: stage.east.manifest() },
        ];
        await stage.eastStore.commit({ compare: [], puts, deletes: [] });
      }
    })();
    const times: number[] = [];
    const frozen = stage.replica.until(
      'east is frozen',
      (s) => eastOf(s)?.problems.some(({ code }) => code === 'member/noisy') === true,
    );
    for (let i = 0; i < 8; i++) {
      const startMs = performance.now();
      await stage.northGoesOn();
      times.push(performance.now() - startMs);
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    await frozen;
    await stage.northGoesOn();
    flooding = false;
    await flood;
    const { text } = await fetchText(stage.replica.ports.metrics, '/metrics');
    expect(text).toMatch(/^isthmus_peer_frozen\{[^}]*peer="east"[^}]*\} 1$/m);
    expect(text).toMatch(/^isthmus_peer_frozen\{[^}]*peer="north"[^}]*\} 0$/m);
    console.log(`${ticks} ticks of east; north was followed within ${times.map((ms) => Math.round(ms)).join(', ')} ms`);
    expect(ticks).toBeGreaterThan(100);
    expect(stage.workload()).toBe(before);
    await stage.restore();
    // Calm again, it is followed again, with what it wrote last.
    await stage.replica.until(
      'east is followed again',
      (s) => eastOf(s)?.problems.every(({ code }) => code !== 'member/noisy') === true,
    );
  });

  it('of keys, more than anybody has records', async () => {
    const before = stage.workload();
    await stage.noticed('record/too-large', /more than 20000 records/, () =>
      pages(limits.recordsPerMemberMax + 500, 10),
    );
    expect(stage.workload()).toBe(before);
    await stage.northGoesOn();
  });

  it('of bytes, more than a reader takes: also of one that starts in the middle of it', async () => {
    const idle = await residentMiB();
    await pages(220, 1_000_000);
    await stage.northGoesOn();
    const stored = (await stage.root.list(`${keys.memberPrefix('east')}x/0001`)).entries.length;
    expect(stored).toBeGreaterThan(50);
    await stage.restart();
    const seen = await stage.replica.until(
      'the flood is shown',
      (s) => eastOf(s)?.problems.some((p) => ['record/too-large', 'manifest/root'].includes(p.code)) === true,
    );
    expect(eastOf(seen)?.services).toBe(1);
    await stage.northGoesOn();
    const flooded = await residentMiB();
    console.log(`resident: ${Math.round(idle)} MiB, with 220 MB of one member in the store ${Math.round(flooded)} MiB`);
    expect(flooded - idle).toBeLessThan(400);
  });

  it('of services, as many as a member may have', async () => {
    // Whoever is frozen stays so until the next whole list: minutes, or a restart.
    await stage.putBack();
    await stage.restart();
    const before = stage.workload();
    const idle = await residentMiB();
    const count = limits.recordsPerMemberMax - 10;
    const startMs = performance.now();
    for (let at = 0; at < count; at += 100) {
      const puts = Array.from({ length: Math.min(100, count - at) }, (_, i) => {
        const name = `s${at + i}`;
        const bytes = stage.service({ name, accounts: [`shop/${name}`] });
        stage.east.records.set(`services/shop/${name}`, bytes);
        return { key: keys.service('east', 'shop', name), value: bytes };
      });
      await stage.eastStore.commit({ compare: [], puts, deletes: [] });
    }
    await stage.eastStore.commit({
      compare: [],
      puts: [{ key: keys.manifest('east'), value: stage.east.manifest() }],
      deletes: [],
    });
    const writtenMs = performance.now() - startMs;
    const times: number[] = [];
    for (let i = 0; i < 5; i++) {
      const fromMs = performance.now();
      await stage.northGoesOn();
      times.push(performance.now() - fromMs);
    }
    const seen = await stage.replica.status();
    const known = eastOf(seen)?.services ?? 0;
    console.log(
      `${count} services written in ${Math.round(writtenMs)} ms, ${known} known; north within ${times.map((ms) => Math.round(ms)).join(', ')} ms; resident ${Math.round(idle)} to ${Math.round(await residentMiB())} MiB; ${JSON.stringify(eastOf(seen)?.problems).slice(0, 300)}`,
    );
    expect(stage.workload()).toBe(before);
    expect(await residentMiB()).toBeLessThan(idle + 800);
  });
});
