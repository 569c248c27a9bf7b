/**
 * `mode: observe`: everything is decided and journalled, marked as observed, and nothing of it is done.
 *
 * The service is planned by order and readiness alone, while its memory goes on as if the policy acted: so that the journal tells a
 * story that holds together, and the day it is switched to `act` begins where the story is.
 */
import type { Decision } from './decision.ts';
import type { ServiceScene } from './draft.ts';
import { samePlaces, sameTiers } from './placement.ts';
import type { ServicePlan } from './plan.ts';
import { plainPlan } from './saved_plan.ts';
import type { ServiceResult } from './service.ts';
import type { ServiceMemory } from './state.ts';

export const observed = (
  scene: ServiceScene,
  before: ServiceMemory | undefined,
  result: ServiceResult,
): ServiceResult => {
  const cells = scene.cells.map((cell) => ({
    ...cell,
    bad: cell.bad?.reason === 'NotReady' || cell.ready === 0 || cell.member.gateways === 'none' ? notReady : undefined,
    doubt: undefined,
    drain: undefined,
    grant: undefined,
    memory: undefined,
  }));
  const plain = plainPlan(scene.view, cells);
  const previous = before?.placement;
  const keep =
    previous !== undefined && previous.localPercent === 100 && sameTiers(previous.tiers, plain.placement.tiers);
  const placement = keep ? previous : plain.placement;
  const seats = new Map(
    placement.tiers.flatMap((tier, i) => tier.map(({ member, percent }) => [member, { tier: i, percent }])),
  );
  const plan: ServicePlan = {
    key: scene.key,
    tiers: placement.tiers,
    ...(plain.ports === undefined ? {} : { ports: plain.ports }),
    usable: plain.usable,
    local: { percent: 100 },
    failFast: false,
    tunnelAgeMs: undefined,
    standings: result.plan.standings.map((standing) =>
      standing.member === scene.self
        ? { ...standing, percent: 100 }
        : { ...standing, ...(seats.get(standing.member) ?? { tier: undefined, percent: 0 }) },
    ),
    held: result.plan.held,
    policy: scene.policy.name,
  };
  const decisions: Decision[] = [...result.decisions];
  if (previous !== undefined && !samePlaces(previous, placement)) {
    const switched = before!.wished === undefined;
    decisions.push({
      atMs: scene.now,
      kind: 'shift',
      service: scene.key,
      member: undefined,
      rule: switched ? 'Policy' : 'Readiness',
      detail: switched
        ? `policy ${scene.policy.name} only observes now: order and readiness decide`
        : 'clusters became ready or not, came or went; the policy only observes',
      author: 'controller',
      guards: [],
      before: previous,
      after: placement,
      observed: false,
      policy: scene.policy.name,
      urgent: true,
    });
  }
  const memory: ServiceMemory = { ...result.memory, placement, wished: result.memory.placement };
  return { plan, memory, decisions, wakeAt: result.wakeAt };
};

const notReady = { reason: 'NotReady', detail: 'no endpoint is ready', urgent: true } as const;
