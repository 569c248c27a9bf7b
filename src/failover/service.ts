/**
 * One service's step: from what is known of its cells and what is remembered, to its plan, its memory, and what the journal says.
 *
 * The order matters: first what becomes of each cell, then where cells are placed and how much stays here, and last whether
 * anything moved: weights that follow readiness are no move.
 */
import { headroomOf, headroomSum } from './capacity.ts';
import type { Decision, Placement } from './decision.ts';
import { Draft, preferredPercent, type ServiceScene } from './draft.ts';
import { phaseHold } from './guards.ts';
import { type LocalResult, localShare } from './local_share.ts';
import { addMove, roomAtMs } from './moves.ts';
import { narrate } from './narrate.ts';
import {
  kindOf,
  membersOf,
  type Placed,
  type PlaceOptions,
  place,
  placePorts,
  samePlaces,
  sameSeats,
  sameTiers,
} from './placement.ts';
import type { GuardHold, ServicePlan } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import { rememberCells } from './remember.ts';
import type { CellFacts } from './standing.ts';
import { localCell, standingsOf } from './standings.ts';
import type { ServiceMemory } from './state.ts';

export interface ServiceResult {
  readonly plan: ServicePlan;
  readonly memory: ServiceMemory;
  readonly decisions: readonly Decision[];
  readonly wakeAt: number | undefined;
}

const noMembers: readonly string[] = [];
const noTiers: Placement['tiers'] = [];

/** Every cell of these tiers is as good as it was: what changed is rates and grants. */
const stillInUse = (tiers: Placement['tiers'], cells: readonly CellFacts[]): boolean => {
  const usable = new Set(cells.filter((cell) => kindOf(cell) === 'in-use').map(({ member }) => member.name));
  return membersOf(tiers).every((member) => usable.has(member));
};

const remoteHeadroom = (draft: Draft): number | undefined =>
  draft.scene.policy.capacity.perEndpoint === undefined
    ? undefined
    : headroomSum(
        draft.cells
          .filter((cell) => kindOf(cell) === 'in-use')
          .map(({ ready, grant }) => headroomOf(ready, grant, draft.scene.policy.capacity)),
      );

const tunnelAge = (cells: readonly CellFacts[], policy: FailoverPolicy): number | undefined => {
  let age = policy.failback.tunnelAgeMs;
  for (const { drain } of cells) {
    if (drain === undefined) continue;
    const grace = drain.graceMs ?? policy.drain.graceMs;
    age = age === undefined ? grace : Math.min(age, grace);
  }
  return age;
};

const heldKey = ({ guard, member }: GuardHold): string => `${guard}|${member ?? ''}`;

const sameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((value, i) => value === b[i]);

/** Who gets what, before it is known whether that is a move. */
interface Seated {
  readonly options: PlaceOptions;
  readonly placed: Placed;
  readonly share: LocalResult;
  /** It can only move by rates and grants. */
  readonly byGrants: boolean;
  /** It would move by them, and has moved too often. */
  readonly waits: boolean;
  readonly placement: Placement;
  readonly failFast: boolean;
}

const seat = (draft: Draft, previous: Placement | undefined): Seated => {
  const { scene, cells, local } = draft;
  const { before, policy } = scene;
  const lastGood = () => (before === undefined ? noMembers : (before.lastGood ?? membersOf(previous!.tiers)));
  const granted = cells.some(({ grant }) => grant !== undefined);
  const demand = granted ? draft.demand : undefined;
  const options: PlaceOptions = { lastGood, demand, before: previous?.tiers ?? noTiers };
  const mayMove = draft.moves.length < policy.maxMovesPerMinute;
  const wished = place(cells, options);
  const quiet = previous !== undefined && draft.changes.length === 0 && stillInUse(previous.tiers, cells);
  const byGrants = granted && quiet;
  const waits = byGrants && !mayMove && wished.kind === 'in-use' && !sameSeats(previous.tiers, wished.tiers);
  const placed = waits ? { ...wished, tiers: previous.tiers } : wished;
  const share = localShare(local, {
    self: scene.self,
    policy,
    partial: scene.partial,
    remoteServes: draft.remoteServes,
    preferredPercent: preferredPercent(cells),
    receivingSpill: scene.receivingSpill,
    headroom: remoteHeadroom(draft),
    before: previous?.localPercent,
    mayMove,
    quiet,
    cutOff: scene.role === 'cut-off',
  });
  const tiers = previous !== undefined && sameTiers(previous.tiers, placed.tiers) ? previous.tiers : placed.tiers;
  const same = previous !== undefined && previous.tiers === tiers && previous.localPercent === share.percent;
  const placement = same ? previous : { localPercent: share.percent, tiers };
  const readyHere = local !== undefined && local.ready > 0;
  const failFast = placed.kind === 'last' && policy.whenAllBad === 'fail-fast' && !readyHere;
  return { options, placed, share, byGrants, waits, placement, failFast };
};

/** Everything that guards have to say, of single shifts, of the phases of cells, and of the whole. */
const holdsOf = (draft: Draft, { placed, share, waits, placement }: Seated): GuardHold[] => {
  const { scene, cells, local } = draft;
  const holds = [...draft.holds, ...share.holds];
  const hold = (guard: GuardHold['guard'], detail: string) => holds.push({ guard, member: undefined, detail });
  if (waits) {
    hold('MoveRate', 'what the others grant, or what there is to place, changed; it moved too often to follow now');
  }
  const waiting = local?.memory === undefined ? cells : [...cells, localCell(local, scene)];
  for (const cell of waiting) {
    const held = phaseHold(cell, scene.policy);
    if (held !== undefined) holds.push(held);
  }
  if (placed.kind === 'last' && cells.length > 0) {
    hold('LastCell', `no cluster can be trusted to serve; ${membersOf(placement.tiers).join(', ')} stay in use`);
  }
  if (placed.unmet > 0) {
    const rate = Math.round(placed.unmet);
    hold('Grant', `${rate} new connections/s go out beyond what the others grant, for there is nowhere else`);
  }
  return holds;
};

const planOf = (draft: Draft, { options, placed, placement, failFast }: Seated, held: GuardHold[]): ServicePlan => {
  const { scene, cells } = draft;
  const ports = placePorts(scene.view, cells, options);
  const last = new Set(placed.kind === 'last' ? membersOf(placed.tiers) : noMembers);
  const answers = ({ member, ready }: CellFacts) => last.has(member.name) && ready > 0 && member.gateways !== 'none';
  return {
    key: scene.key,
    tiers: placement.tiers,
    ...(ports === undefined ? {} : { ports }),
    usable: placed.kind === 'last' ? cells.some(answers) : placed.tiers.length > 0,
    local: { percent: placement.localPercent },
    failFast,
    tunnelAgeMs: tunnelAge(cells, scene.policy),
    standings: standingsOf(draft, placement),
    held,
    policy: scene.policy.name,
  };
};

export const decideService = (scene: ServiceScene): ServiceResult => {
  const { policy, before, now } = scene;
  const draft = new Draft(scene);
  draft.shift();
  const previous = before?.wished ?? before?.placement;
  const seated = seat(draft, previous);
  const { placement, placed, failFast, share, byGrants, options } = seated;
  const holds = holdsOf(draft, seated);
  const moved =
    previous !== undefined && (!samePlaces(previous, placement) || (before?.failFast ?? false) !== failFast);
  const heldBefore = before?.held ?? noMembers;
  const { changes } = draft;
  const { byCapacity } = share;
  const { kind } = placed;
  const decisions = narrate({
    scene,
    previous,
    placement,
    moved,
    changes,
    byCapacity,
    byGrants,
    kind,
    holds,
    failFast,
    heldBefore,
  });
  const held = [...new Set(holds.map(heldKey))].sort();
  const moves = moved ? addMove(draft.moves, now, policy.maxMovesPerMinute) : draft.moves;
  const memory: ServiceMemory = {
    placement,
    wished: undefined,
    cells: rememberCells(draft),
    lastGood: kind === 'last' ? options.lastGood() : undefined,
    failFast,
    // Old ones are left out with the next move, so that it does not matter whether a step looked here meanwhile.
    moves: before !== undefined && !moved ? before.moves : moves,
    held: before !== undefined && sameList(heldBefore, held) ? heldBefore : held,
    demand: scene.demand,
    policy: policy.name,
  };
  const roomAt = roomAtMs(draft.moves, policy.maxMovesPerMinute);
  if (roomAt !== undefined && holds.some(({ guard }) => guard === 'MoveRate')) draft.dues.push(roomAt);
  // Somebody came back in this very step: whoever stayed because nobody else could serve is looked at again.
  if (changes.length > 0 && holds.some(({ guard }) => guard === 'LastCell')) draft.dues.push(now + 1);
  const wakeAt = draft.dues.length === 0 ? undefined : Math.min(...draft.dues);
  return { plan: planOf(draft, seated, holds), memory, decisions, wakeAt };
};
