/** Three real etcd members: the store moves on when the one it uses dies, goes dark, or loses its leader. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/ops/clock.ts';
import { connectStore, type EtcdOptions, type EtcdStore } from '../../../src/store/etcd.ts';
import { prefix, Recorder, text } from '../../conformance/recorder.ts';
import { type EtcdProcess, startEtcd, type TestEtcd } from '../etcd.ts';
import { type Relay, startRelay } from '../relay.ts';
import { pause } from './rig.ts';

let etcd: TestEtcd;
let relays: Relay[];
let options: EtcdOptions;
const open: EtcdStore[] = [];

beforeAll(async () => {
  etcd = await startEtcd({ members: 3 });
  relays = await Promise.all(etcd.members.map((m) => startRelay(m.port)));
  const tls = await etcd.client('root');
  options = { ...tls, endpoints: relays.map((r) => r.url), clock: realClock, log: () => {} };
});
afterAll(async () => {
  for (const store of open) await store.close();
  for (const relay of relays ?? []) await relay.close();
  await etcd?.stop();
});

const newStore = (more: Partial<EtcdOptions> = {}, resyncIntervalMs?: number): EtcdStore => {
  const store = connectStore({ ...options, ...more }, resyncIntervalMs === undefined ? {} : { resyncIntervalMs });
  open.push(store);
  return store;
};
const until = async (done: () => boolean, withinMs: number, what: string): Promise<void> => {
  const end = performance.now() + withinMs;
  while (!done()) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await pause(20);
  }
};
const watched = async (store: EtcdStore): Promise<Recorder> => {
  const seen = new Recorder();
  store.watch(prefix, seen);
  await until(() => seen.up, 20_000, 'the watch is live');
  return seen;
};
/** Writes by members' own ports, whatever the relays do; tries again while a new leader is chosen. */
const write = async (key: string, value: string, to: readonly EtcdProcess[] = etcd.members): Promise<void> => {
  const store = newStore({ endpoints: to.map((m) => m.url) });
  const end = performance.now() + 20_000;
  for (;;) {
    try {
      await store.commit({ compare: [], puts: [{ key, value: text(value) }], deletes: [] });
      break;
    } catch (error) {
      if (performance.now() > end) throw error;
      await pause(100);
    }
  }
  await store.close();
};
const usedBy = (store: EtcdStore): number => relays.findIndex((r) => r.url === store.status().endpoint);

describe('three members', () => {
  it('the watch moves when its member dies, and loses nothing', async () => {
    const store = newStore();
    const seen = await watched(store);
    const used = usedBy(store);
    await etcd.members[used]!.stop('SIGKILL');
    await write(
      `${prefix}during`,
      '1',
      etcd.members.filter((_, i) => i !== used),
    );
    await until(() => seen.value(`${prefix}during`) === '1', 15_000, 'the change arrives by another member');
    expect(usedBy(store)).not.toBe(used);
    expect(seen.reasons).toEqual(['initial']);
    await etcd.members[used]!.start();
    await store.close();
  });

  it('a first endpoint that swallows everything costs about a second, once', async () => {
    relays[0]!.swallow(true);
    const store = newStore();
    await store.check();
    expect(usedBy(store)).not.toBe(0);
    // Its connection breaks: the dark one is not tried first again.
    const accepted = relays[0]!.accepted;
    const used = usedBy(store);
    relays[used]!.drop();
    await until(() => store.status().endpoint === undefined, 5_000, 'the break is noticed');
    await store.check();
    expect(usedBy(store)).toBe(relays.findIndex((_, i) => i !== 0 && i !== used));
    expect(relays[0]!.accepted).toBe(accepted);
    relays[0]!.swallow(false);
    await store.close();
  });

  it('the watch leaves a member that has lost its leader', async () => {
    const store = newStore();
    const seen = await watched(store);
    const used = usedBy(store);
    const others = etcd.members.filter((_, i) => i !== used);
    // Without the others it has no leader, and still answers its clients.
    for (const other of others) other.pause();
    await until(() => !seen.up, 15_000, 'the member without a leader is left');
    expect(seen.reason).not.toBe('');
    for (const other of others) other.resume();
    await write(`${prefix}after`, '1');
    await until(() => seen.value(`${prefix}after`) === '1', 20_000, 'the watch is back');
    expect(seen.reasons).toEqual(['initial']);
    await store.close();
  });

  it('is unavailable, in bounded time, when all members are dark, and comes back by itself', async () => {
    const store = newStore();
    const seen = await watched(store);
    for (const relay of relays) relay.swallow(true);
    const start = performance.now();
    await expect(store.list(prefix)).rejects.toMatchObject({ code: 'store/unavailable' });
    expect(performance.now() - start).toBeLessThan(20_000);
    await until(() => !seen.up, 15_000, 'the watch is down');
    expect(store.status()).toMatchObject({ connected: false, endpoint: undefined });
    expect(store.status().reason).not.toBe('');
    for (const relay of relays) relay.swallow(false);
    await write(`${prefix}light`, '1');
    await until(() => seen.value(`${prefix}light`) === '1', 20_000, 'the watch is back');
    await store.close();
  });

  it('lists again from time to time, without going back and without a gap', async () => {
    const store = newStore({}, 300);
    const seen = await watched(store);
    for (let i = 0; i < 60; i++) {
      await store.commit({ compare: [], puts: [{ key: `${prefix}r/${i % 7}`, value: text(`${i}`) }], deletes: [] });
      await pause(20);
    }
    await until(() => seen.value(`${prefix}r/3`) === '59', 10_000, 'the last change arrives');
    expect(seen.reasons.filter((r) => r === 'resync').length).toBeGreaterThan(1);
    expect(seen.reasons.filter((r) => r !== 'resync')).toEqual(['initial']);
    expect(seen.equals((await store.list(prefix)).entries)).toBe(true);
    await store.close();
  });

  it('reads on where a value is larger than a whole page may be', async () => {
    const store = newStore();
    for (let i = 0; i < 54; i++) {
      const puts = [{ key: `${prefix}large/${i}`, value: new Uint8Array(1_300_000) }];
      await store.commit({ compare: [], puts, deletes: [] });
    }
    // 70 MB in one answer would be over what the client takes.
    const listed = await store.list(`${prefix}large/`);
    expect(listed.entries).toHaveLength(54);
    await store.close();
  });
});
