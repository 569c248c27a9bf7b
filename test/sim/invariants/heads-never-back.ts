import { compareHeads, shownHead } from '../../../src/federation/head.ts';
import type { ManifestHead } from '../../../src/federation/view.ts';
import type { Process } from '../world/process.ts';
import type { Invariant } from './invariant.ts';

export const headsNeverBack: Invariant = {
  name: 'heads-never-back',
  what: 'Epoch and sequence never go back: not as written by a member, and not as used by a reader.',
  begin: () => {
    const written = new Map<string, ManifestHead>();
    const read = new WeakMap<Process, Map<string, ManifestHead>>();
    return {
      published: (member, head) => {
        const before = written.get(member);
        written.set(member, head);
        return before !== undefined && compareHeads(head, before) <= 0
          ? `${member} wrote ${shownHead(head)} after ${shownHead(before)}`
          : undefined;
      },
      records: (process, change) => {
        let heads = read.get(process);
        if (heads === undefined) {
          heads = new Map();
          read.set(process, heads);
        }
        for (const name of [...change.heads, ...change.members]) {
          const head = process.federation.members.get(name)?.head;
          if (head === undefined) continue;
          const before = heads.get(name);
          heads.set(name, head);
          if (before !== undefined && compareHeads(head, before) < 0) {
            return `${process.o.cluster.name} went from ${shownHead(before)} of ${name} back to ${shownHead(head)}`;
          }
        }
        return undefined;
      },
    };
  },
};
