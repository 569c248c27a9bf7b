import type { Invariant } from './invariant.ts';
import { placeText, servicesOf } from './placement.ts';

export const everyShiftJournalled: Invariant = {
  name: 'every-shift-journalled',
  what: 'Where a plan sends traffic changes only in a step that journals it, with what was before and after.',
  begin: () => ({
    step: ({ process, planBefore, plan, journal }) => {
      if (planBefore === undefined) return undefined;
      for (const key of servicesOf(planBefore, plan)) {
        const before = planBefore.services.get(key);
        const after = plan.services.get(key);
        // A service that appears or goes is no shift.
        if (before === undefined || after === undefined || before === after) continue;
        if (placeText(before) === placeText(after)) continue;
        const entry = journal.find((d) => d.service === key && !d.observed && typeof d.after === 'object');
        if (entry === undefined) {
          const self = process.o.cluster.name;
          return `${self}: ${key} went from "${placeText(before)}" to "${placeText(after)}" without a word`;
        }
      }
      return undefined;
    },
  }),
};
