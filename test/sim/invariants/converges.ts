import { expectedPlaces } from '../world/expected.ts';
import type { Invariant } from './invariant.ts';

export const converges: Invariant = {
  name: 'converges',
  what: 'Within the time that the policy implies after the last fault, every cluster is where a simple model says, and every call succeeds.',
  begin: () => {
    let failed = '';
    let failedAtMs = Number.NEGATIVE_INFINITY;
    return {
      request: ({ outcome, from, service, tries }, world) => {
        if (outcome === 'ok') return undefined;
        const asked = world.scenario.services.find(({ key }) => key === service)?.load[from] ?? 0;
        // Where the others grant less than there is, some calls are refused: that is what grants are for.
        if (outcome === 'refused' && world.offeredInAll(from, service) < 1.5 * asked + 2) return undefined;
        failed = `${from} called ${service} by way of ${tries.join(', ') || 'nobody'}: ${outcome}`;
        failedAtMs = world.nowMs;
        return undefined;
      },
      end: (world, waitedMs) => {
        const wrong = expectedPlaces(world);
        if (wrong !== undefined) return `${Math.round(waitedMs / 1_000)} s after the last fault ${wrong}`;
        return world.nowMs - failedAtMs < 5_000 ? failed : undefined;
      },
    };
  },
};
