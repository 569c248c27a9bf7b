import type { ServicePlan } from '../../../src/failover/plan.ts';
import { policyNamed } from '../world/policies.ts';
import type { Invariant } from './invariant.ts';
import { servicesOf } from './placement.ts';

/** A minute on the fastest of the clocks. */
const minuteMs = 59_900;

/** Of each member in a tier, and of ourselves, percent. */
const shares = (plan: ServicePlan, self: string): Map<string, number> => {
  const found = new Map<string, number>([[self, plan.local.percent]]);
  for (const { member, percent, tier } of plan.standings) if (tier !== undefined) found.set(member, percent);
  return found;
};

/** Somebody got more than before while another one, in full health, kept what it had: nobody was in need. */
const freely = (before: ServicePlan, after: ServicePlan, self: string): boolean => {
  const was = shares(before, self);
  const is = shares(after, self);
  const known = new Set([self, ...before.standings.map(({ member }) => member)]);
  // They stand by, before and after: nothing goes there.
  const own = after.standings.find(({ member }) => member === self);
  if (was.get(self) === 100 && is.get(self) === 100 && own !== undefined && own.ready > 0) return false;
  const gainers = [...is].filter(([member, percent]) => known.has(member) && percent > (was.get(member) ?? 0));
  if (gainers.length === 0) return false;
  const fine = new Set(before.standings.filter((s) => s.state === 'fresh' && s.ready > 0).map((s) => s.member));
  return after.standings.some(
    ({ member, state, ready }) =>
      state === 'fresh' &&
      ready > 0 &&
      fine.has(member) &&
      (was.get(member) ?? 0) > 0 &&
      (is.get(member) ?? 0) > 0 &&
      !gainers.some(([gainer]) => gainer === member),
  );
};

export const movesBounded: Invariant = {
  name: 'moves-bounded',
  what: 'What brings traffic back where nobody is in need of it happens at most so many times a minute as the policy says.',
  begin: () => {
    const moves = new Map<string, number[]>();
    return {
      step: ({ process, planBefore, plan, journal, atMs }, world) => {
        if (planBefore === undefined) return undefined;
        const self = process.o.cluster.name;
        const { maxMovesPerMinute: max, capacity, mode } = policyNamed(world.scenario.policy);
        // A policy that only observes leaves it all to readiness, as if there were none.
        if (mode === 'observe') return undefined;
        // With grants, what one leaves is poured over all the others: there only its own word tells.
        const pours = capacity.perEndpoint !== undefined;
        for (const key of servicesOf(planBefore, plan)) {
          const before = planBefore.services.get(key);
          const after = plan.services.get(key);
          if (before === undefined || after === undefined || before === after) continue;
          const chosen = journal.some(
            (d) => d.service === key && !d.observed && !d.urgent && typeof d.after === 'object',
          );
          if (!chosen && (pours || !freely(before, after, self))) continue;
          const name = `${self}|${key}`;
          const recent = [...(moves.get(name) ?? []).filter((at) => atMs - at < minuteMs), atMs];
          moves.set(name, recent);
          if (recent.length <= max) continue;
          return `${self}: ${key} was moved at leisure ${recent.length} times in a minute, ${max} are allowed`;
        }
        return undefined;
      },
    };
  },
};
