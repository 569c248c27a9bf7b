/** Where each exporter of a service stands, in the form that people are shown. */
import type { Placement } from './decision.ts';
import type { Draft, ServiceScene } from './draft.ts';
import type { LocalFacts } from './local_share.ts';
import { SeatWalk } from './placement.ts';
import type { CellStanding } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import { wishDueMs } from './ramp.ts';
import { type CellFacts, standingOf } from './standing.ts';

const dueOf = ({ memory, bad, doubt, drain, calmAtMs }: LocalFacts, policy: FailoverPolicy): number | undefined =>
  memory === undefined
    ? undefined
    : wishDueMs(
        memory,
        { bad, doubt, drain, calmAtMs, known: true, released: false, relieved: true, partial: true },
        policy,
      );

/** Our own endpoints as a cell among the others. */
export const localCell = (local: LocalFacts, { self, selfRegion }: ServiceScene): CellFacts => ({
  ...local,
  member: { name: self, region: selfRegion, gateways: 'serving', tier: -1, named: true, beforeLocal: false },
  grant: undefined,
});

export const standingsOf = (draft: Draft, placement: Placement): readonly CellStanding[] => {
  const { scene, local } = draft;
  const { policy, planned } = scene;
  const walk = new SeatWalk(placement.tiers);
  const standings: CellStanding[] = [];
  if (local !== undefined) {
    const { localPercent } = placement;
    standings.push(standingOf(localCell(local, scene), undefined, localPercent, dueOf(local, policy), undefined));
  }
  for (const cell of draft.cells) {
    const seat = walk.find(cell.member.name);
    const tier = seat === undefined ? undefined : walk.tier;
    const before = planned?.standings[standings.length];
    standings.push(standingOf(cell, tier, seat?.percent ?? 0, dueOf(cell, policy), before));
  }
  return standings;
};
