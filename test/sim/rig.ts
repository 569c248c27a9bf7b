/** The conformance rig's world made of the simulated etcd. */

import { member, own, prefix, text } from '../conformance/recorder.ts';
import type { StoreRig } from '../conformance/store.ts';
import { SimClock, seededRng } from './clock.ts';
import type { SimData } from './etcd.ts';
import { SimEtcd, simStore } from './store.ts';

const stepMs = 5;

export const simRig = async (seed = 1): Promise<StoreRig> => {
  const clock = new SimClock();
  const etcd = new SimEtcd();
  etcd.allow(member, { read: [prefix], write: [own] });
  const store = simStore(etcd, { clock, rng: seededRng(seed), user: member });
  let copy: SimData | undefined;
  let breaks = 0;

  const replaceData = (data: SimData): void => {
    etcd.stop();
    etcd.restoreData(data);
  };
  return {
    store,
    write: async (revisions) => {
      for (const revision of revisions) {
        const puts = revision.flatMap(([key, value]) => (value === undefined ? [] : [{ key, value: text(value) }]));
        const deletes = revision.flatMap(([key, value]) => (value === undefined ? [key] : []));
        etcd.commit('root', { compare: [], puts, deletes });
      }
    },
    truth: async () => etcd.snapshot('root', prefix).entries,
    until: async (done, withinMs, what) => {
      const end = clock.monotonicMs() + withinMs;
      while (!done()) {
        if (clock.monotonicMs() >= end) throw new Error(`not within ${withinMs} ms: ${what}`);
        await clock.advance(stepMs);
      }
    },
    pass: (ms) => clock.advance(ms),
    settle: async (promise) => {
      let settled = false;
      const watched = promise.finally(() => {
        settled = true;
      });
      watched.catch(() => {});
      for (let i = 0; !settled && i < 10_000; i++) await clock.advance(stepMs);
      return watched;
    },
    nowMs: () => clock.monotonicMs(),
    cutPath: async (on) => {
      if (on) etcd.stop();
      else etcd.start();
    },
    halfOpen: async (on) => {
      if (on) etcd.hang();
      else etcd.start();
    },
    breakTwiceDuringCatchUp: async () => {
      etcd.dropAfterRevisions = 700;
      etcd.onDrop = () => {
        breaks += 1;
        if (breaks === 2) etcd.dropAfterRevisions = 0;
      };
    },
    breaks: () => breaks,
    freezeEtcd: async (on) => {
      if (on) etcd.hang();
      else etcd.start();
    },
    stopEtcd: async () => etcd.stop(),
    startEtcd: async () => etcd.start(),
    compact: async () => etcd.compact(),
    backUp: async () => {
      copy = etcd.saveData();
    },
    restore: async () => replaceData(copy!),
    replace: async (newClusterId) => {
      const clusterId = newClusterId ? etcd.clusterId + 1n : etcd.clusterId;
      replaceData({ clusterId, history: [{ revision: 1n, events: [] }], compactedTo: 0n });
    },
    fill: async () => {
      etcd.noSpace = true;
    },
    close: () => store.close(),
  };
};
