/**
 * One service's step: from what is known of its cells and what is remembered, to its plan, its memory, and what the journal says.
 *
 * The order matters. What may not be held back is done first, so that the guards judge what is left to discretion against the world
 * as it will be. Then cells are placed, and last it is asked whether anything moved: weights that follow readiness are no move.
 */
import type { ServiceKey } from '../core/names.ts';
import type { ServiceView } from '../federation/view.ts';
import type { Verdict } from '../health/verdict.ts';
import { demandOf, headroomOf, headroomSum, readyPercent } from './capacity.ts';
import type { Decision, Placement } from './decision.ts';
import { type GuardScene, type HeldShift, heldBack, phaseHold, type Role } from './guards.ts';
import { type LocalFacts, localShare } from './local_share.ts';
import { addMove, recentMoves, roomAtMs } from './moves.ts';
import { type Change, narrate } from './narrate.ts';
import {
  kindOf,
  membersOf,
  type PlaceOptions,
  place,
  placePorts,
  SeatWalk,
  samePlaces,
  sameSeats,
  sameTiers,
} from './placement.ts';
import type { CellStanding, GuardHold, ServicePlan } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import { type CellSituation, percentOf, type Wish, wishDueMs, wishOf } from './ramp.ts';
import { type CellFacts, shareOf, standingOf } from './standing.ts';
import type { CellMemory, Drain, Rate, ServiceMemory } from './state.ts';

export interface ServiceScene {
  readonly key: ServiceKey;
  readonly view: ServiceView;
  readonly now: number;
  readonly role: Role;
  readonly self: string;
  readonly selfRegion: string;
  readonly policy: FailoverPolicy;
  readonly partial: boolean;
  /** Remote exporters in their order, with the memory that they had. */
  readonly cells: readonly CellFacts[];
  /** Undefined: there is no Service of ours. */
  readonly local: LocalFacts | undefined;
  readonly before: ServiceMemory | undefined;
  /** As it was planned last; undefined after a restart. Changes what is made anew, never what it says. */
  readonly planned: ServicePlan | undefined;
  readonly demand: ReadonlyMap<string, Rate>;
  readonly receivingSpill: boolean;
  readonly ejectedMs: (member: string) => number | undefined;
  /** Members that a person lets come back in this step, with who. */
  readonly released: ReadonlyMap<string, string>;
}

export interface ServiceResult {
  readonly plan: ServicePlan;
  readonly memory: ServiceMemory;
  readonly decisions: readonly Decision[];
  readonly wakeAt: number | undefined;
}

/** A withdrawn cell is remembered so long: one that comes back sooner is held down. */
const goneMs = 60_000;

const noMembers: readonly string[] = [];
const noTiers: Placement['tiers'] = [];
const noCells: ReadonlyMap<string, CellMemory> = new Map();

type Put = (change: { readonly memory: CellMemory | undefined } | { readonly bad: undefined }) => void;

interface Pending {
  readonly member: string;
  readonly wish: Wish;
  readonly put: Put;
  readonly drain: Drain | undefined;
}

/** The step of one service while it is being made. */
class Draft {
  readonly scene: ServiceScene;
  readonly cells: CellFacts[];
  local: LocalFacts | undefined;
  readonly moves: readonly number[];
  readonly holds: GuardHold[] = [];
  readonly changes: Change[] = [];
  /** When to look again. */
  readonly dues: number[] = [];

  constructor(scene: ServiceScene) {
    this.scene = scene;
    this.cells = [...scene.cells];
    this.local = scene.local;
    this.moves = recentMoves(scene.before?.moves ?? [], scene.now);
  }

  get remoteServes(): boolean {
    return this.cells.some((cell) => {
      const kind = kindOf(cell);
      return kind === 'in-use' || kind === 'waiting' || kind === 'leaving';
    });
  }
  get localFit(): boolean {
    return this.local !== undefined && this.local.bad === undefined && this.local.ready > 0;
  }
  /** Share of the local traffic that our own endpoints can keep, 0–100. */
  get localStays(): number {
    if (this.local === undefined) return 100;
    if (!this.localFit) return 0;
    const { ready, total, memory } = this.local;
    const able = readyPercent(ready, total, this.scene.policy.capacity);
    return Math.min(able, percentOf(memory), 100 - preferredPercent(this.cells));
  }
  /** Remote cells stand by: nothing would move with them. */
  get localServes(): boolean {
    return this.localFit && this.localStays === 100;
  }
  /** What goes to others; while nothing does: what would, if our own endpoints went out. */
  get demand(): number | undefined {
    const { policy, demand } = this.scene;
    const localPercent = this.localServes ? 0 : this.localStays;
    const seen = this.cells
      .filter((cell) => kindOf(cell) === 'in-use')
      .flatMap(({ member }) => demand.get(member.name) ?? []);
    return demandOf({ seen, localTotal: this.local?.total ?? 0, localPercent, capacity: policy.capacity });
  }

  /** Nobody else has its traffic: it comes back whole. */
  #relieved(index: number): boolean {
    const cell = this.scene.cells[index]!;
    if (this.localServes && !cell.member.beforeLocal) return false;
    let other = false;
    for (const [i, rival] of this.scene.cells.entries()) {
      if (i === index || kindOf(rival) !== 'in-use') continue;
      const full = shareOf(rival) >= 100;
      if (full && rival.member.tier < cell.member.tier && rival.member.named) return false;
      other = true;
    }
    return other || (cell.member.beforeLocal && this.localFit);
  }

  #situation(index: number): CellSituation {
    const { bad, doubt, drain, member, calmAtMs } = this.cells[index]!;
    const released = this.scene.released.has(member.name);
    return { bad, doubt, drain, calmAtMs, released, relieved: this.#relieved(index), partial: true };
  }

  #localSituation(local: LocalFacts): CellSituation {
    const { released, self, partial } = this.scene;
    const relieved = this.scene.cells.some((cell) => kindOf(cell) === 'in-use');
    const { bad, doubt, drain, calmAtMs } = local;
    return { bad, doubt, drain, calmAtMs, released: released.has(self), relieved, partial };
  }

  #guardScene(): GuardScene {
    const { now, role, self, selfRegion, policy, receivingSpill, ejectedMs } = this.scene;
    const { cells, localFit, localServes, demand, moves } = this;
    return {
      now,
      role,
      self,
      selfRegion,
      policy,
      receivingSpill,
      ejectedMs,
      cells,
      localFit,
      localServes,
      demand,
      moves,
    };
  }

  #apply(member: string, wish: Wish, put: Put, drain: Drain | undefined): void {
    put({ memory: wish.to });
    if (wish.kind === 'note') return;
    const author = drain?.author ?? this.scene.released.get(member);
    this.changes.push({ member, kind: wish.kind, rule: wish.rule, detail: wish.detail, urgent: wish.urgent, author });
  }

  /** Everything that is wished of every cell: notes and what is urgent at once, then the rest past the guards. */
  shift(): void {
    const { policy, now, self } = this.scene;
    const pending: Pending[] = [];
    const consider = (member: string, memory: CellMemory | undefined, situation: CellSituation, put: Put): void => {
      const wish = wishOf(memory, situation, policy, now);
      if (wish === undefined) {
        const due = wishDueMs(memory, situation, policy);
        if (due !== undefined) this.dues.push(due);
        return;
      }
      if (wish.urgent) this.#apply(member, wish, put, situation.drain);
      else pending.push({ member, wish, put, drain: situation.drain });
      const due = wishDueMs(wish.to, situation, policy);
      if (due !== undefined) this.dues.push(due);
    };
    for (let i = 0; i < this.cells.length; i++) {
      const cell = this.cells[i]!;
      const { memory, bad, doubt, drain } = cell;
      if (memory === undefined && bad === undefined && doubt === undefined && drain === undefined) continue;
      consider(cell.member.name, cell.memory, this.#situation(i), (change) => {
        this.cells[i] = { ...this.cells[i]!, ...change };
      });
    }
    const { local } = this;
    if (local !== undefined) {
      consider(self, local.memory, this.#localSituation(local), (change) => {
        this.local = { ...this.local!, ...change };
      });
    }
    this.#pastGuards(pending.sort((a, b) => order(a.wish) - order(b.wish)));
    this.#lastChance();
  }

  /** What one shift brings back can make room for another: the guards are asked until nothing more happens. */
  #pastGuards(pending: readonly Pending[]): void {
    let waiting = pending;
    let held: HeldShift[] = [];
    for (let before = -1; before !== waiting.length; ) {
      before = waiting.length;
      held = [];
      waiting = waiting.filter(({ member, wish, put, drain }) => {
        const objection = heldBack(this.#guardScene(), { member, wish });
        if (objection === undefined) this.#apply(member, wish, put, drain);
        else {
          // Kept for all its badness: it goes on as it was.
          if (wish.kind === 'withdraw') put({ bad: undefined });
          held.push(objection);
        }
        return objection !== undefined;
      });
    }
    for (const { hold, dueMs } of held) {
      this.holds.push(hold);
      if (dueMs !== undefined) this.dues.push(dueMs);
    }
  }

  /** Cells that are good and wait are used in full while there is nobody else: then they are back. */
  #lastChance(): void {
    const back = (memory: CellMemory): boolean => memory.phase !== 'drain' && memory.phase !== 'out';
    if (!this.cells.some((cell) => kindOf(cell) === 'in-use')) {
      for (const [i, cell] of this.cells.entries()) {
        if (kindOf(cell) !== 'waiting' || cell.memory === undefined || !back(cell.memory)) continue;
        this.cells[i] = { ...cell, memory: undefined };
        this.#broughtBack(cell.member.name);
      }
    }
    const { local } = this;
    if (local?.memory === undefined || local.bad !== undefined || !back(local.memory) || this.remoteServes) return;
    this.local = { ...local, memory: undefined };
    this.#broughtBack(this.scene.self);
  }

  #broughtBack(member: string): void {
    const detail = 'back at once, for no other cluster can serve';
    this.changes.push({ member, kind: 'failback', rule: 'Healthy', detail, urgent: true, author: undefined });
    this.holds.push({ guard: 'LastCell', member, detail });
  }
}

/** What takes away is judged before what brings back. */
const order = ({ kind }: Wish): number => (kind === 'withdraw' ? 0 : kind === 'drain' ? 1 : 2);

/** Memory by member: of those present, and for a while of those that are gone. */
const rememberCells = (draft: Draft): ReadonlyMap<string, CellMemory> => {
  const { before, now, self, view } = draft.scene;
  let cells: Map<string, CellMemory> | undefined;
  const put = (member: string, memory: CellMemory | undefined): void => {
    if (memory === undefined) return;
    cells ??= new Map();
    cells.set(member, memory);
  };
  for (const cell of draft.cells) put(cell.member.name, cell.memory);
  put(self, draft.local?.memory);
  if (before !== undefined) {
    const gone = (member: string) => (member === self ? draft.local === undefined : !view.remotes.has(member));
    let next = 0;
    /** Members sit in the order of the cells, most of them. */
    const seated = (member: string): boolean => {
      for (let i = next; i < draft.cells.length && i < next + 4; i++) {
        if (draft.cells[i]!.member.name !== member) continue;
        next = i + 1;
        return true;
      }
      return !gone(member);
    };
    for (const [member, memory] of before.cells) {
      if (gone(member) && memory.sinceMs > now - goneMs) put(member, { ...memory, phase: 'out', percent: 0 });
    }
    for (const tier of (before.wished ?? before.placement).tiers) {
      for (const { member } of tier) {
        if (seated(member) || before.cells.has(member)) continue;
        put(member, { phase: 'out', percent: 0, sinceMs: now, cause: 'Withdrawn' });
      }
    }
  }
  const kept = cells ?? noCells;
  return before !== undefined && sameCells(kept, before.cells) ? before.cells : kept;
};

const sameCells = (a: ReadonlyMap<string, CellMemory>, b: ReadonlyMap<string, CellMemory>): boolean => {
  if (a.size !== b.size) return false;
  for (const [member, memory] of a) {
    const other = b.get(member);
    if (other === memory) continue;
    if (other === undefined || other.phase !== memory.phase || other.percent !== memory.percent) return false;
    if (other.sinceMs !== memory.sinceMs || other.cause !== memory.cause) return false;
  }
  return true;
};

/** Share of the traffic that the cells before our own endpoints take, 0–100. */
const preferredPercent = (cells: readonly CellFacts[]): number => {
  let percent = 0;
  for (const cell of cells) {
    if (!cell.member.beforeLocal) break;
    if (kindOf(cell) === 'in-use') percent = Math.max(percent, shareOf(cell));
  }
  return percent;
};

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

const dueOf = ({ memory, bad, doubt, drain, calmAtMs }: LocalFacts, policy: FailoverPolicy): number | undefined =>
  memory === undefined
    ? undefined
    : wishDueMs(memory, { bad, doubt, drain, calmAtMs, released: false, relieved: true, partial: true }, policy);

/** Our own endpoints as a cell among the others. */
const localCell = (local: LocalFacts, { self, selfRegion }: ServiceScene): CellFacts => ({
  ...local,
  member: { name: self, region: selfRegion, gateways: 'serving', tier: -1, named: true, beforeLocal: false },
  grant: undefined,
});

const standingsOf = (draft: Draft, placement: Placement): readonly CellStanding[] => {
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

const heldKey = ({ guard, member }: GuardHold): string => `${guard}|${member ?? ''}`;

const sameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((value, i) => value === b[i]);

export const decideService = (scene: ServiceScene): ServiceResult => {
  const { key, view, policy, before, now, self } = scene;
  const draft = new Draft(scene);
  draft.shift();
  const previous = before?.wished ?? before?.placement;
  const lastGood = () => (before === undefined ? noMembers : (before.lastGood ?? membersOf(previous!.tiers)));
  const grantsCount = draft.cells.some(({ grant }) => grant !== undefined);
  const options: PlaceOptions = {
    lastGood,
    demand: grantsCount ? draft.demand : undefined,
    before: previous?.tiers ?? noTiers,
  };
  const mayMove = draft.moves.length < policy.maxMovesPerMinute;
  const wished = place(draft.cells, options);
  const byGrants =
    grantsCount && previous !== undefined && draft.changes.length === 0 && stillInUse(previous.tiers, draft.cells);
  const waits = byGrants && !mayMove && wished.kind === 'in-use' && !sameSeats(previous.tiers, wished.tiers);
  const placed = waits ? { ...wished, tiers: previous.tiers } : wished;
  const share = localShare(draft.local, {
    self,
    policy,
    partial: scene.partial,
    remoteServes: draft.remoteServes,
    preferredPercent: preferredPercent(draft.cells),
    receivingSpill: scene.receivingSpill,
    headroom: remoteHeadroom(draft),
    before: previous?.localPercent,
    mayMove,
    cutOff: scene.role === 'cut-off',
  });
  const tiers = previous !== undefined && sameTiers(previous.tiers, placed.tiers) ? previous.tiers : placed.tiers;
  const placement: Placement =
    previous !== undefined && previous.tiers === tiers && previous.localPercent === share.percent
      ? previous
      : { localPercent: share.percent, tiers };
  const holds = [...draft.holds, ...share.holds];
  if (waits) {
    const detail = 'what the others grant, or what there is to place, changed; it moved too often to follow now';
    holds.push({ guard: 'MoveRate', member: undefined, detail });
  }
  for (const cell of draft.cells) {
    const hold = phaseHold(cell, policy);
    if (hold !== undefined) holds.push(hold);
  }
  if (draft.local?.memory !== undefined) {
    const hold = phaseHold(localCell(draft.local, scene), policy);
    if (hold !== undefined) holds.push(hold);
  }
  if (placed.kind === 'last' && draft.cells.length > 0) {
    const names = membersOf(tiers).join(', ');
    holds.push({
      guard: 'LastCell',
      member: undefined,
      detail: `no cluster can be trusted to serve; ${names} stay in use`,
    });
  }
  if (placed.unmet > 0) {
    const detail = `${Math.round(placed.unmet)} new connections/s go out beyond what the others grant, for there is nowhere else`;
    holds.push({ guard: 'Grant', member: undefined, detail });
  }
  const failFast =
    placed.kind === 'last' &&
    policy.whenAllBad === 'fail-fast' &&
    !(draft.local !== undefined && draft.local.ready > 0);
  const moved =
    previous !== undefined && (!samePlaces(previous, placement) || (before?.failFast ?? false) !== failFast);
  const heldKeys = [...new Set(holds.map(heldKey))].sort();
  const decisions = narrate({
    scene,
    previous,
    placement,
    moved,
    changes: draft.changes,
    byCapacity: share.byCapacity,
    byGrants,
    kind: placed.kind,
    holds,
    failFast,
    heldBefore: before?.held ?? noMembers,
  });
  const heldSame = before !== undefined && sameList(before.held, heldKeys);
  const moves = moved ? addMove(draft.moves, now, policy.maxMovesPerMinute) : draft.moves;
  const memory: ServiceMemory = {
    placement,
    wished: undefined,
    cells: rememberCells(draft),
    lastGood: placed.kind === 'last' ? lastGood() : undefined,
    failFast,
    moves: before !== undefined && moves.length === before.moves.length && !moved ? before.moves : moves,
    held: heldSame ? before.held : heldKeys,
    demand: scene.demand,
    policy: policy.name,
  };
  const roomAt = roomAtMs(draft.moves, policy.maxMovesPerMinute);
  if (roomAt !== undefined && holds.some(({ guard }) => guard === 'MoveRate')) draft.dues.push(roomAt);
  const ports = placePorts(view, draft.cells, options);
  const first = placed.tiers.length > 0 && placed.kind !== 'last';
  const inLast = new Set(placed.kind === 'last' ? membersOf(placed.tiers) : []);
  const usable =
    first ||
    draft.cells.some(({ member, ready }) => inLast.has(member.name) && ready > 0 && member.gateways !== 'none');
  const plan: ServicePlan = {
    key,
    tiers,
    ...(ports === undefined ? {} : { ports }),
    usable,
    local: { percent: placement.localPercent },
    failFast,
    tunnelAgeMs: tunnelAge(draft.cells, policy),
    standings: standingsOf(draft, placement),
    held: holds,
    policy: policy.name,
  };
  const wakeAt = draft.dues.length === 0 ? undefined : Math.min(...draft.dues);
  return { plan, memory, decisions, wakeAt };
};

export const verdictsOfNobody: ReadonlyMap<string, Verdict> = new Map();
