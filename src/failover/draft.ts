/**
 * One service's step while it is being made: its cells and our own endpoints, as each wish that is let through leaves them.
 *
 * Wishes that are urgent are done first, so that the guards judge what is left to discretion against the world as it will be.
 */
import type { ServiceKey } from '../core/names.ts';
import type { ServiceView } from '../federation/view.ts';
import { demandOf, readyPercent } from './capacity.ts';
import { type GuardScene, type HeldShift, heldBack, type Role } from './guards.ts';
import type { LocalFacts } from './local_share.ts';
import { recentMoves } from './moves.ts';
import type { Change } from './narrate.ts';
import { kindOf } from './placement.ts';
import type { GuardHold, ServicePlan } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import { type CellSituation, percentOf, type Wish, wishDueMs, wishOf } from './ramp.ts';
import { type CellFacts, shareOf } from './standing.ts';
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

type Put = (change: { readonly memory: CellMemory | undefined } | { readonly bad: undefined }) => void;

interface Pending {
  readonly member: string;
  readonly wish: Wish;
  readonly put: Put;
  readonly drain: Drain | undefined;
}

/** The step of one service while it is being made. */
export class Draft {
  readonly scene: ServiceScene;
  #changed: CellFacts[] | undefined;
  local: LocalFacts | undefined;
  readonly moves: readonly number[];
  readonly holds: GuardHold[] = [];
  readonly changes: Change[] = [];
  /** When to look again. */
  readonly dues: number[] = [];

  constructor(scene: ServiceScene) {
    this.scene = scene;
    this.local = scene.local;
    this.moves = recentMoves(scene.before?.moves ?? [], scene.now);
  }

  /** The scene's own list while nothing is wished of any. */
  get cells(): readonly CellFacts[] {
    return this.#changed ?? this.scene.cells;
  }
  #setCell(index: number, cell: CellFacts): void {
    this.#changed ??= [...this.scene.cells];
    this.#changed[index] = cell;
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
    const known = this.#known(member.name);
    return { bad, doubt, drain, calmAtMs, known, released, relieved: this.#relieved(index), partial: true };
  }

  #localSituation(local: LocalFacts): CellSituation {
    const { released, self, partial } = this.scene;
    const relieved = this.scene.cells.some((cell) => kindOf(cell) === 'in-use');
    const { bad, doubt, drain, calmAtMs } = local;
    // Of our own endpoints nothing is placed, so only a service that is new as a whole has new ones.
    const known = this.scene.before !== undefined;
    return { bad, doubt, drain, calmAtMs, known, released: released.has(self), relieved, partial };
  }

  /** An exporter that an earlier step has placed, or kept out. */
  #known(member: string): boolean {
    const { before } = this.scene;
    if (before === undefined) return false;
    return (
      before.cells.has(member) || before.placement.tiers.some((tier) => tier.some((seat) => seat.member === member))
    );
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
    const { cells } = this.scene;
    for (let i = 0; i < cells.length; i++) {
      const cell = cells[i]!;
      const { memory, bad, doubt, drain } = cell;
      if (memory === undefined && bad === undefined && doubt === undefined && drain === undefined) continue;
      consider(cell.member.name, cell.memory, this.#situation(i), (change) => {
        this.#setCell(i, { ...this.cells[i]!, ...change });
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

  /**
   * Cells that are good and wait are used in full while there is nobody else: then they are back. A replica that is cut off uses them as
   * well, for there is nothing else to place, but whether they are back is not its word.
   */
  #lastChance(): void {
    if (this.scene.role === 'cut-off') return;
    const back = (memory: CellMemory): boolean => memory.phase !== 'drain' && memory.phase !== 'out';
    if (!this.cells.some((cell) => kindOf(cell) === 'in-use')) {
      for (const [i, cell] of this.cells.entries()) {
        if (kindOf(cell) !== 'waiting' || cell.memory === undefined || !back(cell.memory)) continue;
        this.#setCell(i, { ...cell, memory: undefined });
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

/** Share of the traffic that the cells before our own endpoints take, 0–100. */
export const preferredPercent = (cells: readonly CellFacts[]): number => {
  let percent = 0;
  for (const cell of cells) {
    if (!cell.member.beforeLocal) break;
    if (kindOf(cell) === 'in-use') percent = Math.max(percent, shareOf(cell));
  }
  return percent;
};
