/**
 * Cells and their shares → the tiers of a service, and of those ports of it that not all exporters have.
 *
 * The best kind of cell that anybody is decides which cells take part, so that no set is ever empty while somebody exports: cells in
 * use; else those that are good and wait; else those that leave; else those that grant us nothing; else the ones that served
 * last. Each kind is a worse bargain than the one before, and all are better than refusing.
 */
import { exportersOf, offersPort } from '../federation/exporters.ts';
import type { ServiceView } from '../federation/view.ts';
import type { Placement } from './decision.ts';
import { type SpreadCell, spread } from './spread.ts';
import { type CellFacts, shareOf } from './standing.ts';

export const kinds = ['in-use', 'waiting', 'leaving', 'ungranted', 'last'] as const;
export type Kind = (typeof kinds)[number];

/** Undefined: only as a last resort. */
export const kindOf = ({ bad, drain, memory, grant, member }: CellFacts): Kind => {
  if (bad !== undefined) return 'last';
  const idle = memory !== undefined && memory.percent === 0;
  if (member.gateways === 'draining' || (drain !== undefined && idle) || (memory?.phase === 'drain' && idle))
    return 'leaving';
  if (grant !== undefined && grant <= 0) return 'ungranted';
  return idle ? 'waiting' : 'in-use';
};

export interface Choice {
  readonly kind: Kind;
  readonly cells: readonly CellFacts[];
}

/** Those that served last, as long as one of them is not evicted; then whoever is not evicted; then anybody. */
const lastResort = (cells: readonly CellFacts[], lastGood: readonly string[]): readonly CellFacts[] => {
  const present = cells.filter(({ verdict }) => verdict.state !== 'evicted');
  const served = (among: readonly CellFacts[]) => among.filter(({ member }) => lastGood.includes(member.name));
  for (const chosen of [served(present), present, served(cells)]) if (chosen.length > 0) return chosen;
  return cells;
};

/** The best kind that any of these is; those that the order names apart from those that it does not. */
const bestKind = (cells: readonly CellFacts[], named: boolean): Kind => {
  let best: Kind = 'last';
  for (const cell of cells) {
    if (cell.member.named !== named) continue;
    const kind = kindOf(cell);
    if (kind === 'in-use') return kind;
    if (kinds.indexOf(kind) < kinds.indexOf(best)) best = kind;
  }
  return best;
};

export const choose = (cells: readonly CellFacts[], lastGood: () => readonly string[]): Choice => {
  // As it is nearly always.
  if (cells.length > 0 && cells.every((cell) => cell.member.named && kindOf(cell) === 'in-use')) {
    return { kind: 'in-use', cells };
  }
  for (const named of [true, false]) {
    const best = bestKind(cells, named);
    if (best !== 'last') {
      return { kind: best, cells: cells.filter((cell) => cell.member.named === named && kindOf(cell) === best) };
    }
  }
  return { kind: 'last', cells: lastResort(cells, lastGood()) };
};

/** Never 0: a cell that is kept for want of a better one has a place, whatever its record says. */
const weightOf = ({ ready, total }: CellFacts): number => Math.max(1, ready > 0 ? ready : total);

const spreadCell = (facts: CellFacts, kind: Kind): SpreadCell => ({
  member: facts.member.name,
  weight: weightOf(facts),
  percent: kind === 'in-use' ? shareOf(facts) : 100,
  tier: facts.member.tier,
  grant: kind === 'ungranted' || kind === 'last' ? undefined : facts.grant,
});

const isWhole = ({ memory, grant }: CellFacts): boolean => memory === undefined && grant === undefined;

type Seats = Placement['tiers'];
type PlacedCell = Seats[number][number];

/** A walk over the cells of a placement in their order. */
export class SeatWalk {
  readonly #tiers: Seats;
  /** Whoever is not the next has no seat. */
  readonly #strict: boolean;
  #tier = 0;
  #at = 0;
  /** @param asked - all who will be asked for, in their order: most placements are in it, and then nobody has to be looked for */
  constructor(tiers: Seats, asked: readonly CellFacts[] = []) {
    this.#tiers = tiers;
    this.#strict = asked.length > 0 && inOrder(tiers, asked);
  }
  /** The number of the tier of the cell that was found last. */
  tier = 0;

  /** Quick when members are asked for in the order in which they sit. */
  find(member: string): PlacedCell | undefined {
    const next = this.#tiers[this.#tier]?.[this.#at];
    if (next?.member === member) return this.#found(this.#tier, this.#at, next);
    if (this.#strict) return undefined;
    for (let tier = 0; tier < this.#tiers.length; tier++) {
      const cells = this.#tiers[tier]!;
      for (let at = 0; at < cells.length; at++) {
        if (cells[at]!.member === member) return this.#found(tier, at, cells[at]!);
      }
    }
    return undefined;
  }

  #found(tier: number, at: number, cell: PlacedCell): PlacedCell {
    this.tier = tier;
    const more = at + 1 < this.#tiers[tier]!.length;
    this.#tier = more ? tier : tier + 1;
    this.#at = more ? at + 1 : 0;
    return cell;
  }
}

/** Whether everybody who sits is met in the order in which they sit. */
const inOrder = (tiers: Seats, cells: readonly CellFacts[]): boolean => {
  let i = 0;
  for (const seats of tiers) {
    if (seats.length === 0) return false;
    for (const { member } of seats) {
      while (i < cells.length && cells[i]!.member.name !== member) i++;
      if (i === cells.length) return false;
      i++;
    }
  }
  return true;
};

/** Cells of one tier, all in full use, as they sat before: nothing is made for what did not change. */
const sitAsBefore = (cells: readonly CellFacts[], from: number, to: number, before: Seats[number]): boolean => {
  if (before.length !== to - from) return false;
  for (let i = from; i < to; i++) {
    const seat = before[i - from]!;
    const facts = cells[i]!;
    if (seat.member !== facts.member.name || seat.percent !== 100 || seat.weight !== weightOf(facts)) return false;
  }
  return true;
};

/** What `spread` would make of cells that are all in full use. @param before - whose tiers and cells are taken where they are the same */
const wholeTiers = (cells: readonly CellFacts[], before: Seats): Seats => {
  const tiers: Seats[number][] = [];
  const walk = new SeatWalk(before);
  let same = true;
  for (let from = 0, to = 0; from < cells.length; from = to) {
    const { tier, name } = cells[from]!.member;
    while (to < cells.length && cells[to]!.member.tier === tier) to++;
    const at = tiers.length;
    const known = before[at]?.[0]?.member === name ? before[at] : before.find((seats) => seats[0]?.member === name);
    same &&= known !== undefined && known === before[at];
    if (known !== undefined && sitAsBefore(cells, from, to, known)) {
      tiers.push(known);
      continue;
    }
    same = false;
    const seats: PlacedCell[] = [];
    for (let i = from; i < to; i++) {
      const { member } = cells[i]!;
      const weight = weightOf(cells[i]!);
      const seat = walk.find(member.name);
      const kept = seat !== undefined && seat.weight === weight && seat.percent === 100;
      seats.push(kept ? seat : { member: member.name, weight, percent: 100 });
    }
    tiers.push(seats);
  }
  return same && tiers.length === before.length ? before : tiers;
};

export interface Placed {
  readonly kind: Kind;
  readonly tiers: Placement['tiers'];
  readonly unmet: number;
}

export interface PlaceOptions {
  /** Who served before nobody could. */
  readonly lastGood: () => readonly string[];
  /** New connections a second that go to others; undefined: unknown. */
  readonly demand: number | undefined;
  /** Where they were. */
  readonly before: Placement['tiers'];
}

/** @param cells - in their order */
export const place = (cells: readonly CellFacts[], options: PlaceOptions): Placed => {
  const { lastGood, demand, before } = options;
  const { kind, cells: chosen } = choose(cells, lastGood);
  if (kind === 'in-use' && chosen.every(isWhole)) return { kind, tiers: wholeTiers(chosen, before), unmet: 0 };
  const { tiers, unmet } = spread(
    chosen.map((facts) => spreadCell(facts, kind)),
    demand,
  );
  return { kind, tiers, unmet };
};

/** Tiers of the ports that some exporter lacks; undefined when there are none. */
export const placePorts = (
  view: ServiceView,
  cells: readonly CellFacts[],
  options: PlaceOptions,
): ReadonlyMap<number, Placement['tiers']> | undefined => {
  const lacking = exportersOf(view).unshared;
  if (lacking.length === 0) return undefined;
  const has = (port: number) => cells.filter(({ member }) => offersPort(view.remotes.get(member.name)!, port));
  return new Map(lacking.map((port) => [port, place(has(port), options).tiers]));
};

/** The same cells at the same places of the same tiers, as far as `same` looks at a cell. */
export const sameRows = <C>(
  a: readonly (readonly C[])[],
  b: readonly (readonly C[])[],
  same: (a: C, b: C) => boolean,
): boolean =>
  a === b ||
  (a.length === b.length &&
    a.every((cells, t) => {
      const others = b[t]!;
      return cells === others || (cells.length === others.length && cells.every((cell, i) => same(cell, others[i]!)));
    }));

/** Who has how much of each tier; weights alone follow readiness. */
export const sameSeats = (a: Placement['tiers'], b: Placement['tiers']): boolean =>
  sameRows(a, b, (x, y) => x.member === y.member && x.percent === y.percent);

/** Whether traffic went nowhere else: who, how much of each, how much here. */
export const samePlaces = (a: Placement, b: Placement): boolean =>
  a === b || (a.localPercent === b.localPercent && sameSeats(a.tiers, b.tiers));

export const sameTiers = (a: Placement['tiers'], b: Placement['tiers']): boolean =>
  sameRows(a, b, (x, y) => x.member === y.member && x.weight === y.weight && x.percent === y.percent);

export const membersOf = (tiers: Placement['tiers']): string[] =>
  tiers.flatMap((cells) => cells.map(({ member }) => member));
