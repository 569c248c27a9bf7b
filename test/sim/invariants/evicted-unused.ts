import type { Invariant } from './invariant.ts';

export const evictedUnused: Invariant = {
  name: 'evicted-unused',
  what: 'No request is sent to an evicted cell while a fresh one exists.',
  begin: () => ({
    request: ({ plan, tries, from, service }) => {
      if (plan === undefined) return undefined;
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
