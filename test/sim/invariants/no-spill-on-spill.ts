import type { Invariant } from './invariant.ts';
import { servicesOf } from './placement.ts';

export const noSpillOnSpill: Invariant = {
  name: 'no-spill-on-spill',
  what: 'A cluster that takes the spill of others for a service does not begin to spill it on while its own endpoints are ready.',
  begin: () => ({
    step: ({ process, planBefore, plan, signals, view }) => {
      if (planBefore === undefined) return undefined;
      const self = process.o.cluster.name;
      for (const key of servicesOf(plan)) {
        if (!signals.receivingSpill.has(key)) continue;
        const before = planBefore.services.get(key);
        const after = plan.services.get(key)!;
        if (before === undefined || after.local.percent >= before.local.percent) continue;
        const ready = view.services.get(key)?.local?.endpoints.some((endpoint) => endpoint.ready) ?? false;
        if (!ready) continue;
        const own = after.standings.find(({ member }) => member === self);
        // Bad itself, or leaving by somebody's wish.
        if (own === undefined || own.state === 'quarantined' || own.state === 'evicted') continue;
        if (own.reason === 'Draining') continue;
        return `${self} takes others' spill of ${key}, and now keeps ${after.local.percent} % instead of ${before.local.percent} %`;
      }
      return undefined;
    },
  }),
};
