import { policyNamed } from '../world/policies.ts';
import type { Invariant } from './invariant.ts';

export const evictedUnused: Invariant = {
  name: 'evicted-unused',
  what: 'No request is sent to an evicted cell while a fresh one exists, unless the policy only observes.',
  begin: () => ({
    request: ({ plan, tries, from, service }, world) => {
      // A policy that only observes leaves it to Envoy's ejections, which know nothing of a path that broke a moment ago.
      if (plan === undefined || policyNamed(world.scenario.policy).mode === 'observe') return undefined;
      const evicted = plan.standings.filter(({ state }) => state === 'evicted').map(({ member }) => member);
      const asked = tries.find((member) => member !== from && evicted.includes(member));
      if (asked === undefined) return undefined;
      const fresh = plan.standings.find((s) => s.state === 'fresh' && s.ready > 0 && s.member !== from);
      return fresh === undefined
        ? undefined
        : `${from} sent a request for ${service} to ${asked}, which is evicted, while ${fresh.member} is fresh`;
    },
  }),
};
