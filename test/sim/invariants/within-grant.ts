import type { Invariant } from './invariant.ts';

const longMs = 20_000;

/** Over so long, a second's chance does not count. */
interface Flow {
  readonly atMs: number;
  readonly taken: ReadonlyMap<string, number>;
}

export const withinGrant: Invariant = {
  name: 'within-grant',
  what: 'No receiver is asked for more than it granted, for longer than a change needs, while others grant enough.',
  begin: () => {
    const flows = new Map<string, Flow[]>();
    const now = new Map<string, Map<string, number>>();
    return {
      request: ({ from, service, tries }) => {
        const first = tries[0];
        if (first === undefined || first === from) return undefined;
        const key = `${from}|${service}`;
        const counts = now.get(key) ?? new Map<string, number>();
        counts.set(first, (counts.get(first) ?? 0) + 1);
        now.set(key, counts);
        return undefined;
      },
      second: (world) => {
        for (const [key, taken] of now) {
          const list = (flows.get(key) ?? []).filter(({ atMs }) => world.nowMs - atMs < longMs);
          list.push({ atMs: world.nowMs, taken });
          flows.set(key, list);
        }
        now.clear();
        for (const [key, list] of flows) {
          const [from, service] = key.split('|') as [string, string];
          const whole = world.nowMs - (list[0]?.atMs ?? world.nowMs) >= longMs - 2_000;
          const process = world.leader(from);
          if (!whole || process === undefined || world.calmSinceMs > world.nowMs - longMs) continue;
          const plan = world.cluster(from).served?.plan.services.get(service);
          if (plan === undefined) continue;
          const offered = (member: string): number | undefined => world.offered(from, member, service);
          const sums = new Map<string, number>();
          let all = 0;
          for (const { taken } of list) {
            for (const [member, count] of taken) {
              sums.set(member, (sums.get(member) ?? 0) + count);
              all += count;
            }
          }
          const seconds = longMs / 1_000;
          const good = plan.standings.filter(
            (s) => s.member !== from && s.state === 'fresh' && s.ready > 0 && s.percent > 0,
          );
          const room = good.reduce((sum, { member }) => sum + (offered(member) ?? Number.POSITIVE_INFINITY), 0);
          if (room < (1.5 * all) / seconds + 2) continue;
          for (const [member, count] of sums) {
            const grant = offered(member);
            if (grant === undefined || count / seconds <= 1.3 * grant + 1) continue;
            return `${from} asks ${member} for ${count / seconds}/s of ${service}, which grants ${grant}/s`;
          }
        }
        return undefined;
      },
    };
  },
};
