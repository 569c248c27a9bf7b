/**
 * The rig for the Store port: what a reader may rely on, run against every implementation. The implementation supplies an
 * etcd (real or simulated), ways to break it, and time; the cases say only what must hold.
 *
 * The store under test reaches etcd over a path that can be broken on its own. `write` and the other helpers take another
 * path, so that the world moves on while the store under test cannot see it.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { IsthmusError } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import type { Store, StoreEntry } from '../../src/core/store.ts';
import { own, prefix, Recorder, text } from './recorder.ts';

/** A world with one store under test in it. That store's user may read `prefix` and write `own` only. */
export interface StoreRig {
  readonly store: Store;
  /** Writes as root by another path, one revision per element, in order; an undefined value deletes. */
  write(revisions: readonly (readonly (readonly [key: string, value: string | undefined])[])[]): Promise<void>;
  /** Everything under the prefix, by another path. */
  truth(): Promise<readonly StoreEntry[]>;
  /** Lets time pass until `done`, at most `withinMs`; throws with `what` then. */
  until(done: () => boolean, withinMs: number, what: string): Promise<void>;
  pass(ms: number): Promise<void>;
  /** Settles `promise` while time passes. */
  settle<T>(promise: Promise<T>): Promise<T>;
  nowMs(): number;

  /** The path of the store under test: refused (and open connections reset), or allowed. */
  cutPath(on: boolean): Promise<void>;
  /** Connections are accepted and kept, and nothing passes. */
  halfOpen(on: boolean): Promise<void>;
  /** The next two connections break in the middle of the backlog that they bring. */
  breakTwiceDuringCatchUp(): Promise<void>;
  /** How many of the two breaks have happened. */
  breaks(): number;

  /** SIGSTOP and SIGCONT, or the like. */
  freezeEtcd(on: boolean): Promise<void>;
  stopEtcd(): Promise<void>;
  startEtcd(): Promise<void>;
  compact(): Promise<void>;
  /** Takes a copy of etcd's data as it is now. */
  backUp(): Promise<void>;
  /** Stops etcd, puts the copy back, starts it. The path of the store under test is cut meanwhile and stays cut. */
  restore(): Promise<void>;
  /** As `restore`, with empty data: the same cluster id, or a new one. */
  replace(newClusterId: boolean): Promise<void>;
  /** From now on etcd has no room for writes. */
  fill(): Promise<void>;
  close(): Promise<void>;
}

const backlogRevisions = 2_400;

/** @param only - the cases whose names match; all by default */
export const storeConformance = (name: string, makeRig: () => Promise<StoreRig>, only = /(?:)/): void => {
  const it = (what: string, run: () => Promise<void>): void => {
    if (only.test(what)) test(what, run);
  };
  describe(`store conformance: ${name}`, () => {
    let rig: StoreRig;
    let seen: Recorder;

    beforeEach(async () => {
      rig = await makeRig();
      seen = new Recorder();
    });
    afterEach(async () => {
      await rig.close();
    });

    const watching = async (): Promise<void> => {
      rig.store.watch(prefix, seen);
      await rig.until(() => seen.up, 10_000, 'the watch is live');
    };
    /** The reader's picture becomes etcd's. */
    const converges = async (withinMs = 20_000): Promise<void> => {
      const truth = await rig.truth();
      await rig.until(() => seen.equals(truth), withinMs, `the reader sees what etcd holds (${seen.summary(truth)})`);
    };
    const rejects = async (promise: Promise<unknown>): Promise<IsthmusError> => {
      const outcome = rig.settle(promise).then(
        () => expect.unreachable('it was accepted'),
        (error: IsthmusError) => error,
      );
      return (await outcome) as IsthmusError;
    };
    const put = (key: string, value: string) => ({ compare: [], puts: [{ key, value: text(value) }], deletes: [] });

    it('gives a snapshot first, then every change, in order, a transaction in one piece', async () => {
      await rig.write([[[`${prefix}old`, '1']]]);
      await watching();
      expect(seen.reasons).toEqual(['initial']);
      expect(seen.value(`${prefix}old`)).toBe('1');
      const pieces = Array.from({ length: 100 }, (_, i) => [`${prefix}t/${i}`, 'x'] as const);
      await rig.write([pieces, [[`${prefix}t/0`, undefined]]]);
      await converges();
      expect(seen.batches.find((b) => b.some((e) => e.key === `${prefix}t/0`))?.length).toBeGreaterThanOrEqual(100);
      expect(seen.reasons).toEqual(['initial']);
    });

    it('lists at one revision, more than fits a page', async () => {
      const count = limits.storePageKeysMax * 2 + 1;
      const keys = Array.from({ length: count }, (_, i) => `${prefix}p/${String(i).padStart(5, '0')}`);
      for (let i = 0; i < count; i += 100) {
        await rig.write([keys.slice(i, i + 100).map((key) => [key, 'x'] as const)]);
      }
      const listed = await rig.settle(rig.store.list(prefix));
      expect(listed.entries.map((e) => e.key).sort()).toEqual(keys);
      expect(listed.revision).toBeGreaterThan(0n);
      expect(listed.clusterId).not.toBe(0n);
    });

    it('loses nothing when its connection breaks twice while it catches up', async () => {
      await rig.write([[[`${prefix}start`, '1']]]);
      await watching();
      await rig.cutPath(true);
      await rig.until(() => !seen.up, 10_000, 'the watch is down');
      // Each key is written once, so each lost event shows; some are deleted again, which shows too.
      const filler = 'x'.repeat(2_000);
      await rig.write(
        Array.from({ length: backlogRevisions }, (_, i) =>
          i % 10 === 9
            ? [[`${prefix}b/${i - 4}`, undefined] as const]
            : [[`${prefix}b/${i}`, `${i} ${filler}`] as const],
        ),
      );
      await rig.breakTwiceDuringCatchUp();
      await rig.cutPath(false);
      await converges(60_000);
      expect(rig.breaks()).toBe(2);
      // It resumed: lists would hide lost events.
      expect(seen.reasons).toEqual(['initial']);
      expect(seen.eventCount).toBe(backlogRevisions);
    });

    it('starts over with a snapshot when its revision was compacted away', async () => {
      await rig.write([
        [
          [`${prefix}gone`, '1'],
          [`${prefix}kept`, '1'],
        ],
      ]);
      await watching();
      await rig.cutPath(true);
      await rig.until(() => !seen.up, 10_000, 'the watch is down');
      await rig.write([[[`${prefix}gone`, undefined]], [[`${prefix}new`, '1']], [[`${prefix}kept`, '2']]]);
      await rig.compact();
      await rig.cutPath(false);
      await converges();
      expect(seen.reasons).toEqual(['initial', 'compacted']);
      await rig.write([[[`${prefix}after`, '1']]]);
      await converges();
      expect(seen.reasons).toEqual(['initial', 'compacted']);
    });

    it('notices a half-open connection within 15 s, by its silence alone, and comes back', async () => {
      await watching();
      const start = rig.nowMs();
      await rig.halfOpen(true);
      await rig.write([[[`${prefix}unseen`, '1']]]);
      await rig.until(() => !seen.up, 15_000 - (rig.nowMs() - start), 'the half-open connection is noticed');
      expect(seen.reason).not.toBe('');
      await rig.halfOpen(false);
      await converges();
      expect(seen.reasons).toEqual(['initial']);
    });

    it('answers calls with an error while etcd is frozen, and comes back', async () => {
      await watching();
      const start = rig.nowMs();
      await rig.freezeEtcd(true);
      const error = await rejects(rig.store.list(prefix));
      expect(error.code).toBe('store/unavailable');
      await rig.until(() => !seen.up, 15_000 - (rig.nowMs() - start), 'the frozen etcd is noticed');
      await rig.freezeEtcd(false);
      await rig.write([[[`${prefix}after`, '1']]]);
      await converges();
      expect(seen.reasons).toEqual(['initial']);
    });

    it('stays quiet on an idle store', async () => {
      await watching();
      await rig.pass(limits.watchSilenceMaxMs + 3 * limits.watchCheckIntervalMs);
      expect(seen.downs).toBe(0);
      expect(seen.reasons).toEqual(['initial']);
    });

    it('outlives a stopped etcd', async () => {
      await watching();
      await rig.stopEtcd();
      await rig.until(() => !seen.up, 10_000, 'the watch is down');
      const error = await rejects(rig.store.commit(put(`${own}x`, '1')));
      expect(error.code).toBe('store/unavailable');
      expect(error.hint).toBeTruthy();
      await rig.startEtcd();
      await rig.write([[[`${prefix}after`, '1']]]);
      await converges();
      expect(seen.reasons).toEqual(['initial']);
    });

    it('connects when etcd appears after it', async () => {
      await rig.stopEtcd();
      rig.store.watch(prefix, seen);
      await rig.pass(1_000);
      expect(seen.reasons).toEqual([]);
      await rig.startEtcd();
      await rig.write([[[`${prefix}x`, '1']]]);
      await converges();
    });

    it('tells the loser of a race what is there now', async () => {
      const key = `${own}claimed`;
      const first = await rig.settle(rig.store.commit({ ...put(key, 'a'), compare: [{ key, modRevision: 0n }] }));
      if (!first.ok) expect.unreachable('nobody else writes it');
      const second = await rig.settle(
        rig.store.commit({ ...put(key, 'b'), compare: [{ key, modRevision: first.revision }] }),
      );
      expect(second.ok).toBe(true);
      const lost = await rig.settle(
        rig.store.commit({ ...put(key, 'c'), compare: [{ key, modRevision: first.revision }] }),
      );
      if (lost.ok) expect.unreachable('its comparison is stale');
      expect(lost.current.map((e) => [e.key, Buffer.from(e.value).toString()])).toEqual([[key, 'b']]);
      expect(lost.current[0]?.modRevision).toBe(second.revision);
      const absent = await rig.settle(
        rig.store.commit({ ...put(key, 'd'), compare: [{ key: `${own}none`, modRevision: 1n }] }),
      );
      expect(absent).toMatchObject({ ok: false, current: [] });
    });

    it('commits all or nothing', async () => {
      await watching();
      const txn = {
        compare: [],
        puts: [
          { key: `${own}a`, value: text('1') },
          { key: `${own}b`, value: text('1') },
        ],
        deletes: [],
      };
      const done = await rig.settle(rig.store.commit(txn));
      expect(done.ok).toBe(true);
      await converges();
      const error = await rejects(
        rig.store.commit({
          ...txn,
          puts: [...txn.puts.map((p) => ({ ...p, value: text('2') })), { key: `${prefix}other/x`, value: text('2') }],
        }),
      );
      expect(error.code).toBe('store/denied');
      expect((await rig.truth()).map((e) => Buffer.from(e.value).toString())).toEqual(['1', '1']);
    });

    it('refuses a transaction beyond its bounds before it is sent', async () => {
      const puts = Array.from({ length: limits.txnOpsMax + 1 }, (_, i) => ({ key: `${own}${i}`, value: text('') }));
      expect((await rejects(rig.store.commit({ compare: [], puts, deletes: [] }))).code).toBe('store/too-large');
      const full = await rig.settle(rig.store.commit({ compare: [], puts: puts.slice(1), deletes: [] }));
      expect(full.ok).toBe(true);
      const twice = { compare: [], puts: [{ key: `${own}1`, value: text('') }], deletes: [`${own}1`] };
      await expect(rig.settle(rig.store.commit(twice))).rejects.toThrow('twice');
    });

    it('is told so when etcd went back to an older state', async () => {
      await rig.write([[[`${prefix}a`, '1']], [[`${prefix}b`, '1']]]);
      await rig.backUp();
      await rig.write([[[`${prefix}a`, '2']], [[`${prefix}c`, '1']], [[`${prefix}d`, '1']]]);
      await watching();
      await rig.restore();
      await rig.cutPath(false);
      await converges();
      expect(seen.reasons).toEqual(['initial', 'restored']);
      await rig.write([[[`${prefix}e`, '1']]]);
      await converges();
      expect(seen.reasons).toEqual(['initial', 'restored']);
    });

    it('is told so also when the older state has been written beyond its revision meanwhile', async () => {
      await rig.write([[[`${prefix}a`, '1']], [[`${prefix}b`, '1']]]);
      await rig.backUp();
      await rig.write([[[`${prefix}a`, '2']], [[`${prefix}c`, '1']]]);
      await watching();
      await rig.restore();
      await rig.write(Array.from({ length: 20 }, (_, i) => [[`${prefix}n/${i}`, '1'] as const]));
      await rig.cutPath(false);
      await converges();
      expect(seen.reasons).toEqual(['initial', 'restored']);
    });

    for (const newClusterId of [true, false]) {
      it(`is told so when etcd was replaced, ${newClusterId ? 'with a new' : 'with the same'} cluster id`, async () => {
        await rig.write([[[`${prefix}a`, '1']], [[`${prefix}b`, '1']]]);
        await watching();
        const before = seen.clusterId;
        await rig.replace(newClusterId);
        await rig.write(Array.from({ length: 30 }, (_, i) => [[`${prefix}n/${i}`, '1'] as const]));
        await rig.cutPath(false);
        await converges();
        expect(seen.reasons).toEqual(['initial', 'restored']);
        if (newClusterId) expect(seen.clusterId).not.toBe(before);
      });
    }

    it('says when it may not', async () => {
      const foreign = `${prefix}other/x`;
      const write = await rejects(rig.store.commit(put(foreign, '1')));
      expect(write.code).toBe('store/denied');
      expect(write.hint).toBeTruthy();
      const read = await rejects(rig.store.list('/elsewhere/'));
      expect(read.code).toBe('store/denied');
      const elsewhere = new Recorder();
      rig.store.watch('/elsewhere/', elsewhere);
      await rig.until(() => elsewhere.downs > 0, 10_000, 'the watch is refused');
      expect(elsewhere.reasons).toEqual([]);
      expect(elsewhere.reason).toMatch(/refused|denied/);
      // The refusal of one is no harm to another.
      await watching();
      await rig.write([[[foreign, '2']]]);
      await converges();
    });

    it('says so when etcd is full, and goes on reading', async () => {
      await watching();
      await rig.fill();
      const error = await rejects(rig.store.commit(put(`${own}x`, '1')));
      expect(error.code).toBe('store/no-space');
      expect(error.retryable).toBe(true);
      const listed = await rig.settle(rig.store.list(prefix));
      expect(listed.entries.every((e) => e.key.startsWith(prefix))).toBe(true);
      expect(seen.up).toBe(true);
    });

    it('is silent after it was closed, and refuses calls', async () => {
      const closed = new Recorder();
      const watch = rig.store.watch(prefix, closed);
      await rig.until(() => closed.up, 10_000, 'the watch is live');
      watch.close();
      await watching();
      await rig.write([[[`${prefix}x`, '1']]]);
      await converges();
      expect(closed.eventCount).toBe(0);
      await rig.store.close();
      const batches = seen.batches.length;
      await rig.write([[[`${prefix}y`, '1']]]);
      await rig.pass(1_000);
      expect(seen.batches.length).toBe(batches);
      expect((await rejects(rig.store.list(prefix))).code).toBe('store/unavailable');
    });
  });
};
