import { policyNamed } from '../world/policies.ts';
import type { Invariant } from './invariant.ts';

export const grantsWithinHeadroom: Invariant = {
  name: 'grants-within-headroom',
  what: 'What a cluster grants to all others together is never more than the capacity it declares, less its reserve.',
  begin: () => ({
    step: ({ process, plan, view }, world) => {
      const { perEndpoint, reservePercent } = policyNamed(world.scenario.policy).capacity;
      if (perEndpoint === undefined) return plan.grants.length === 0 ? undefined : 'grants without declared capacity';
      const sums = new Map<string, number>();
      for (const { service, perSecond } of plan.grants) sums.set(service, (sums.get(service) ?? 0) + perSecond);
      for (const [service, sum] of sums) {
        const ready = view.services.get(service)?.local?.endpoints.filter((endpoint) => endpoint.ready).length ?? 0;
        const headroom = ready * perEndpoint * (1 - reservePercent / 100);
        if (sum > headroom + 1e-6) {
          return `${process.o.cluster.name} grants ${sum}/s of ${service}, with ${ready} endpoints ready: ${headroom}/s`;
        }
      }
      return undefined;
    },
  }),
};
