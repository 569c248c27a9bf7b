import type { Invariant } from './invariant.ts';

/** Evidence stays for some rounds of probes after its cause. */
const recentMs = 20_000;

export const noFalseEviction: Invariant = {
  name: 'no-false-eviction',
  what: 'A cell is evicted only when its path was truly broken and its control plane truly silent; slow and lossy is neither.',
  begin: () => {
    const evicted = new Set<string>();
    return {
      step: ({ process, plan, atMs }, { truth }) => {
        const self = process.o.cluster.name;
        for (const [key, { standings }] of plan.services) {
          for (const { member, state, reason, detail } of standings) {
            const cell = `${self}|${key}|${member}`;
            if (state !== 'evicted' || member === self) {
              evicted.delete(cell);
              continue;
            }
            if (evicted.has(cell)) continue;
            evicted.add(cell);
            if (reason === 'Withdrawn' && truth.withdrewAt(member) > 0) continue;
            const broken = atMs - truth.brokenAt(self, member) < recentMs;
            const silent = atMs - truth.silentAt(self, member) < recentMs;
            if (broken && silent) continue;
            const why = broken ? 'it was not silent' : 'its path worked';
            return `${self} evicted ${member} for ${key} (${reason}: ${detail}), but ${why}`;
          }
        }
        return undefined;
      },
    };
  },
};
