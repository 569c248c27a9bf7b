/**
 * Why the npm client etcd3 is not used: what it does in the cases that decide. These tests pass as long as etcd3 fails; one
 * that no longer passes is a reason to look at docs/adr/0003-etcd-client.md again. Two of them need more than a minute, and for another
 * program to fail in time: they run where ISTHMUS_EVIDENCE is set.
 */
import { afterEach, describe, expect, it } from 'vitest';
import type { Store } from '../../../src/core/store.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { connectStore } from '../../../src/store/etcd.ts';
import { prefix, Recorder } from '../../conformance/recorder.ts';
import type { StoreRig } from '../../conformance/store.ts';
import { newTestCa } from '../pki.ts';
import { startBacklog } from './backlog.ts';
import { etcd3Store } from './etcd3-client.ts';
import { pause, realRig } from './rig.ts';

const whole = process.env['ISTHMUS_EVIDENCE'] !== undefined;
const undo: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const fn of undo.splice(0).reverse()) await fn();
});

const rigOf = async (makeRig: Promise<StoreRig>): Promise<StoreRig> => {
  const rig = await makeRig;
  undo.push(() => rig.close());
  return rig;
};

const catchUpThroughTwoDrops = async (makeStore: (o: Parameters<typeof connectStore>[0]) => Store) => {
  const ca = await newTestCa();
  const backlog = await startBacklog(ca);
  undo.push(() => backlog.etcd.close());
  const tls = { ca: ca.cert, ...(await ca.issue({ commonName: 'alpha' })) };
  const store = makeStore({ ...tls, endpoints: [backlog.etcd.url], clock: realClock, log: () => {} });
  undo.push(() => store.close());
  const seen = new Recorder();
  store.watch(prefix, seen);
  const end = performance.now() + 10_000;
  while (backlog.starts.length < 3 && performance.now() < end) await pause(20);
  await pause(1_000);
  return { starts: backlog.starts, lost: backlog.keys.filter((key) => seen.value(key) === undefined), seen };
};

describe('a backlog whose stream drops twice', () => {
  it('etcd3 resumes after the header, and silently loses what was not sent yet', async () => {
    const { starts, lost, seen } = await catchUpThroughTwoDrops(etcd3Store);
    // 2..11 were delivered; 12..40 never come, and the watch says that all is well.
    expect(starts.slice(0, 2)).toEqual([2n, 41n]);
    expect(lost).toHaveLength(29);
    expect(seen.up).toBe(true);
  });

  it('the thin client resumes after the last event, and loses nothing', async () => {
    const { starts, lost, seen } = await catchUpThroughTwoDrops(connectStore);
    expect(starts).toEqual([1n, 11n, 20n]);
    expect(lost).toEqual([]);
    expect(seen.reasons).toEqual(['initial']);
  });

  it.runIf(whole)('etcd3 loses events so on a real etcd too', async () => {
    const rig = await rigOf(realRig(etcd3Store));
    const seen = new Recorder();
    rig.store.watch(prefix, seen);
    await rig.until(() => seen.up, 10_000, 'the watch is live');
    await rig.cutPath(true);
    await rig.until(() => !seen.up, 10_000, 'the watch is down');
    const filler = 'x'.repeat(2_000);
    const count = 2_400;
    await rig.write(Array.from({ length: count }, (_, i) => [[`${prefix}b/${i}`, filler] as const]));
    await rig.breakTwiceDuringCatchUp();
    await rig.cutPath(false);
    await rig.until(() => rig.breaks() > 0, 30_000, 'the connection broke during the backlog');
    await rig.until(() => seen.up, 30_000, 'the watch is live again');
    // It is connected and follows what is new, and yet has a gap.
    await rig.write([[[`${prefix}new`, '1']]]);
    await rig.until(() => seen.value(`${prefix}new`) === '1', 30_000, 'new changes arrive');
    expect(seen.eventCount).toBeLessThan(count);
    expect(seen.reasons).toEqual(['initial']);
  });
});

describe.runIf(whole)('a half-open connection', () => {
  it('is not noticed by etcd3 while it swallows everything for 30 s', async () => {
    const rig = await rigOf(realRig(etcd3Store));
    const seen = new Recorder();
    rig.store.watch(prefix, seen);
    await rig.until(() => seen.up, 10_000, 'the watch is live');
    await rig.halfOpen(true);
    await rig.write([[[`${prefix}unseen`, '1']]]);
    await pause(30_000);
    expect(seen.up).toBe(true);
    expect(seen.downs).toBe(0);
    expect(seen.value(`${prefix}unseen`)).toBeUndefined();
  });
});
