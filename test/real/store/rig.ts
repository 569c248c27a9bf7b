/** The conformance rig's world made of a real etcd behind a relay, with authentication on. */
import { join } from 'node:path';
import type { IsthmusError } from '../../../src/core/errors.ts';
import type { Store } from '../../../src/core/store.ts';
import { KV } from '../../../src/gen/etcdserverpb/rpc_pb.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { connectAdmin } from '../../../src/store/admin.ts';
import { connectStore } from '../../../src/store/etcd.ts';
import { type EtcdOptions, openSession } from '../../../src/store/session.ts';
import { clusterset, member, prefix, text } from '../../conformance/recorder.ts';
import type { StoreRig } from '../../conformance/store.ts';
import { startEtcd } from '../etcd.ts';
import { startRelay } from '../relay.ts';
import { rigMember, startTestGateway } from './gateway.ts';

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const quotaBytes = 32 * 1024 * 1024;
/** Beyond what one batch of the backlog takes, short of what two take. */
const cutBytes = 2_200_000;

/**
 * `makeStore` gets the options of a member whose endpoint is the relay.
 * @param throughGateway - the member writes through a store gateway alone, on a path that breaks with the other
 */
export const realRig = async (
  makeStore: (o: EtcdOptions) => Store = connectStore,
  throughGateway = false,
): Promise<StoreRig> => {
  const etcd = await startEtcd({ args: ['--quota-backend-bytes', String(quotaBytes)] });
  const process = etcd.members[0]!;
  const relay = await startRelay(process.port);
  const base = { clock: realClock, log: () => {}, endpoints: etcd.endpoints };
  const root: EtcdOptions = { ...base, ...(await etcd.client('root')) };

  const setUp = async (): Promise<void> => {
    const admin = connectAdmin(root);
    await patiently(() => admin.ensureMembers(clusterset, [member], [], throughGateway ? 'gateways' : 'etcd'));
    if (throughGateway) await patiently(() => admin.ensureGateway(clusterset));
    await patiently(() => admin.enableAuth());
    admin.close();
  };
  await setUp();
  const aside = connectStore(root);
  const membership = async (): Promise<void> => {
    if (throughGateway) await patiently(() => aside.commit({ compare: [], puts: [rigMember.membership], deletes: [] }));
  };
  await membership();
  const gateway = throughGateway ? await startTestGateway(etcd, clusterset) : undefined;
  const writeRelay = gateway === undefined ? undefined : await startRelay(gateway.port);
  const writes = writeRelay && { endpoints: [writeRelay.url], recordKey: () => rigMember.recordKey };
  const store = makeStore({ ...base, ...(await etcd.client(member)), endpoints: [relay.url], writes });

  const backup = join(etcd.dir, 'backup');
  const cutPath = (on: boolean): void => {
    for (const one of [relay, writeRelay]) {
      one?.refuse(on);
      if (on) one?.drop();
    }
  };
  const restart = async (between: () => Promise<void>, args?: readonly string[]): Promise<void> => {
    await process.stop();
    await between();
    await process.start(args);
  };
  return {
    store,
    write: async (revisions) => {
      for (const revision of revisions) {
        const puts = revision.flatMap(([key, value]) => (value === undefined ? [] : [{ key, value: text(value) }]));
        const deletes = revision.flatMap(([key, value]) => (value === undefined ? [key] : []));
        await patiently(() => aside.commit({ compare: [], puts, deletes }));
      }
    },
    truth: async () => (await patiently(() => aside.list(prefix))).entries,
    until: async (done, withinMs, what) => {
      const end = performance.now() + withinMs;
      while (!done()) {
        if (performance.now() >= end) throw new Error(`not within ${Math.round(withinMs)} ms: ${what}`);
        await pause(10);
      }
    },
    pass: pause,
    settle: (promise) => promise,
    nowMs: () => performance.now(),
    cutPath: async (on) => cutPath(on),
    halfOpen: async (on) => {
      relay.swallow(on);
      writeRelay?.swallow(on);
    },
    breakTwiceDuringCatchUp: async () => relay.cutNext([cutBytes, cutBytes]),
    breaks: () => relay.cuts,
    freezeEtcd: async (on) => {
      if (on) process.pause();
      else process.resume();
    },
    stopEtcd: () => process.stop(),
    startEtcd: () => process.start(),
    compact: async () => {
      const revision = (await patiently(() => aside.list(prefix))).revision;
      const session = await openSession(process.url, root, 5_000);
      await session.call(KV.method.compact, { revision, physical: true });
      session.end('done');
    },
    backUp: () => restart(() => etcd.saveData(backup)),
    restore: async () => {
      cutPath(true);
      await restart(() => etcd.restoreData(backup));
    },
    replace: async (newClusterId) => {
      cutPath(true);
      // etcd derives the id from its peer URLs and this token.
      await restart(() => etcd.clearData(), newClusterId ? ['--initial-cluster-token', 'another'] : []);
      await setUp();
      await membership();
    },
    fill: async () => {
      const value = new Uint8Array(1_400_000);
      for (;;) {
        try {
          await aside.commit({ compare: [], puts: [{ key: '/filler', value }], deletes: [] });
        } catch (error) {
          if ((error as IsthmusError).code === 'store/no-space') return;
          throw error;
        }
      }
    },
    close: async () => {
      await store.close();
      await aside.close();
      await gateway?.close();
      await writeRelay?.close();
      await relay.close();
      await etcd.stop();
    },
  };
};

/** Tries again while etcd is not there yet. */
const patiently = async <T>(fn: () => Promise<T>): Promise<T> => {
  const end = performance.now() + 20_000;
  for (;;) {
    try {
      return await fn();
    } catch (error) {
      if ((error as IsthmusError).code !== 'store/unavailable' || performance.now() > end) throw error;
      await pause(50);
    }
  }
};
