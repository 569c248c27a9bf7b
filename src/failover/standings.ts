/** Where each exporter of a service stands, in the form that people are shown. */
import type { Placement } from './decision.ts';
import type { Draft, ServiceScene } from './draft.ts';
import type { LocalFacts } from './local_share.ts';
import { PlainCell } from './meeting.ts';
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
  const walk = new SeatWalk(placement.tiers, draft.cells);
  const first = local === undefined ? 0 : 1;
  const standings = new Array<CellStanding>(first + draft.cells.length);
  if (local !== undefined) {
    const { localPercent } = placement;
    standings[0] = standingOf(localCell(local, scene), undefined, localPercent, dueOf(local, policy), undefined);
  }
  for (let i = 0; i < draft.cells.length; i++) {
    const cell = draft.cells[i]!;
    const seat = walk.find(cell.member.name);
    const tier = seat === undefined ? undefined : walk.tier;
    const before = planned?.standings[first + i];
    const percent = seat?.percent ?? 0;
    standings[first + i] =
      cell instanceof PlainCell
        ? cell.standing(tier, percent, before)
        : standingOf(cell, tier, percent, dueOf(cell, policy), before);
  }
  return standings;
};
