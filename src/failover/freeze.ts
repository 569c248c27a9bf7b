/**
 * A frozen service: its plan stays the same object, whatever happens to health, readiness or wishes, until the thaw.
 *
 * One thing is done all the same: a cluster that has vanished from the view is taken out, for no gateway could be told how to reach
 * it; and when nothing is left of the plan, what is there is used by order and readiness. Freezing must never be what leaves a service
 * without anybody.
 */
import type { ServiceView } from '../federation/view.ts';
import type { Decision } from './decision.ts';
import type { RankedMember } from './order.ts';
import { membersOf, samePlaces } from './placement.ts';
import type { ServicePlan } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import { rememberedPlan, type Self } from './saved_plan.ts';
import type { ServiceResult } from './service.ts';
import type { FailoverState, ServiceMemory } from './state.ts';

export interface FrozenInput {
  readonly view: ServiceView;
  readonly ranked: readonly RankedMember[];
  readonly before: ServiceMemory | undefined;
  readonly policy: FailoverPolicy;
  readonly state: FailoverState;
  readonly now: number;
  readonly self: Self;
  /** As it is served now; undefined after a restart. */
  readonly plan: ServicePlan | undefined;
}

export const frozenService = (input: FrozenInput): ServiceResult => {
  const { view, ranked, before, policy, state, now, plan, self } = input;
  const present = new Set(ranked.map(({ name }) => name).filter((name) => view.remotes.has(name)));
  const whole =
    before !== undefined &&
    before.placement.tiers.length > 0 &&
    membersOf(before.placement.tiers).every((member) => present.has(member));
  if (whole && plan !== undefined) return { plan, memory: before, decisions: [], wakeAt: undefined };
  const remembered = rememberedPlan(view, ranked, before, policy, state, self);
  const { placement } = remembered;
  const memory: ServiceMemory =
    before !== undefined && placement === before.placement
      ? before
      : {
          placement,
          wished: undefined,
          cells: before?.cells ?? new Map(),
          lastGood: undefined,
          failFast: false,
          moves: before?.moves ?? [],
          held: before?.held ?? [],
          demand: before?.demand ?? new Map(),
          policy: policy.name,
        };
  const moved = before !== undefined && !samePlaces(before.placement, placement);
  const decision: Decision = {
    atMs: now,
    kind: 'shift',
    service: view.key,
    member: undefined,
    rule: 'Withdrawn',
    detail: 'decisions are frozen, but a cluster of this plan no longer has the service',
    author: 'controller',
    guards: [{ guard: 'Frozen', member: undefined, detail: 'all else stays as it is' }],
    before: before?.placement,
    after: placement,
    observed: false,
    policy: policy.name,
    urgent: true,
  };
  return { plan: remembered.plan, memory, decisions: moved ? [decision] : [], wakeAt: undefined };
};
