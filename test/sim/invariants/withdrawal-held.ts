import { policyNamed } from '../world/policies.ts';
import type { Invariant } from './invariant.ts';

/** For the last answers and the plan to come round. */
const marginMs = 3_000;

export const withdrawalHeld: Invariant = {
  name: 'withdrawal-held',
  what: 'A member that withdraws everything at once keeps its places for the hold, while its data path still answers.',
  begin: () => {
    const broken = new Map<string, number>();
    return {
      second: (world) => {
        const { hostile, services, policy } = world.scenario;
        if (hostile === undefined) return undefined;
        const { withdrawalHoldMs } = policyNamed(policy).thresholds;
        const since = world.truth.withdrewAt(hostile);
        if (!Number.isFinite(since) || world.nowMs - since > withdrawalHoldMs - marginMs) return undefined;
        for (const [name, cluster] of world.clusters) {
          if (name === hostile || cluster.served === undefined) continue;
          // Dead by two signals, or cut off before: nothing is held then.
          if (world.truth.brokenAt(name, hostile) > since - 60_000) broken.set(name, world.nowMs);
          if (broken.has(name)) continue;
          for (const { key, pods } of services) {
            if (!(hostile in pods) || Object.keys(pods).length === 0) continue;
            const plan = cluster.served.plan.services.get(key);
            if (plan?.standings.some(({ member }) => member === hostile) === true) continue;
            return `${name} let ${hostile} withdraw ${key} ${world.nowMs - since} ms after it withdrew everything`;
          }
        }
        return undefined;
      },
    };
  },
};
