import type { ServicePlan } from '../../../src/failover/plan.ts';
import { policyNamed } from '../world/policies.ts';
import type { Invariant } from './invariant.ts';
import { servicesOf } from './placement.ts';

const minuteMs = 60_000;

const shares = (plan: ServicePlan): Map<string, number> => {
  const found = new Map<string, number>([['local', plan.local.percent]]);
  for (const { member, percent, tier } of plan.standings) if (tier !== undefined) found.set(member, percent);
  return found;
};

/** Somebody lost traffic. */
const away = (before: ServicePlan, after: ServicePlan): boolean => {
  const now = shares(after);
  for (const [member, percent] of shares(before)) if ((now.get(member) ?? 0) < percent) return true;
  return false;
};
/** Somebody has more than before, who was there before. */
const back = (before: ServicePlan, after: ServicePlan): boolean => {
  const was = shares(before);
  const known = new Set(['local', ...before.standings.map(({ member }) => member)]);
  for (const [member, percent] of shares(after)) if (known.has(member) && percent > (was.get(member) ?? 0)) return true;
  return false;
};

export const movesBounded: Invariant = {
  name: 'moves-bounded',
  what: 'What brings traffic back happens at most so many times a minute as the policy says; what takes it away is bounded too.',
  begin: () => {
    const moves = new Map<string, { readonly atMs: number; readonly away: boolean }[]>();
    return {
      step: ({ process, planBefore, plan, atMs }, world) => {
        if (planBefore === undefined) return undefined;
        const self = process.o.cluster.name;
        const { maxMovesPerMinute: max } = policyNamed(world.scenario.policy);
        for (const key of servicesOf(planBefore, plan)) {
          const before = planBefore.services.get(key);
          const after = plan.services.get(key);
          if (before === undefined || after === undefined || before === after) continue;
          const gone = away(before, after);
          if (!gone && !back(before, after)) continue;
          const recent = (moves.get(`${self}|${key}`) ?? []).filter((move) => atMs - move.atMs < minuteMs);
          recent.push({ atMs, away: gone });
          moves.set(`${self}|${key}`, recent);
          const returns = recent.filter((move) => !move.away).length;
          if (returns > max + 1)
            return `${self}: ${key} was moved back ${returns} times in a minute, ${max} are allowed`;
          const limit = 2 * max + 3 * after.standings.length;
          if (recent.length > limit) return `${self}: ${key} moved ${recent.length} times in a minute`;
        }
        return undefined;
      },
    };
  },
};
