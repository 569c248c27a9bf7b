import { policyNamed } from '../world/policies.ts';
import type { Invariant } from './invariant.ts';

/** Probes in a row, Envoy's ejection period, suspicion, and rounds that fell badly. */
const reactMs = 20_000;

export const leavesTheDead: Invariant = {
  name: 'leaves-the-dead',
  what: 'A member whose path has been dead for a while has no share while another one is fresh.',
  begin: () => {
    const leading = new Map<string, number>();
    return {
      second: (world) => {
        const { policy } = world.scenario;
        if (policyNamed(policy).mode === 'observe') return undefined;
        for (const [from, cluster] of world.clusters) {
          const process = world.leader(from);
          if (process === undefined || world.frozen(from) || !cluster.anyGatewayUp) {
            leading.delete(from);
            continue;
          }
          const since = leading.get(from) ?? world.nowMs;
          leading.set(from, since);
          if (world.nowMs - since < reactMs) continue;
          for (const [key, { tiers, standings }] of process.plan?.services ?? []) {
            for (const { member } of tiers[0] ?? []) {
              const dead = world.truth.brokenSince(from, member);
              if (dead === undefined || world.nowMs - dead < reactMs) continue;
              const other = standings.find(
                (s) =>
                  s.member !== member &&
                  s.member !== from &&
                  s.state === 'fresh' &&
                  s.ready > 0 &&
                  s.reason === 'Healthy' &&
                  world.truth.brokenSince(from, s.member) === undefined,
              );
              if (other === undefined) continue;
              return `${from} still sends ${key} to ${member}, dead for ${world.nowMs - dead} ms, while ${other.member} is fresh`;
            }
          }
        }
        return undefined;
      },
    };
  },
};
