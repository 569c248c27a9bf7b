/**
 * Cells and their shares → the tiers of a service, and of those ports of it that not all exporters have.
 *
 * The best kind of cell that anybody is decides which cells take part, so that no set is ever empty while somebody exports: cells in
 * use; else those that are good and wait; else those that leave; else those that grant us nothing; else the ones that served
 * last. Each kind is a worse bargain than the one before, and all are better than refusing.
 */
import { carriesTcp } from '../core/transport.ts';
import type { ServiceView } from '../federation/view.ts';
import type { Placement } from './decision.ts';
import { offers } from './order.ts';
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

/** @param lastGood - who served before nobody could */
export const choose = (cells: readonly CellFacts[], lastGood: readonly string[]): Choice => {
  for (const named of [true, false]) {
    let best: Kind = 'last';
    for (const cell of cells) {
      if (cell.member.named !== named) continue;
      const kind = kindOf(cell);
      if (kinds.indexOf(kind) < kinds.indexOf(best)) best = kind;
    }
    if (best !== 'last') {
      return { kind: best, cells: cells.filter((cell) => cell.member.named === named && kindOf(cell) === best) };
    }
  }
  return { kind: 'last', cells: lastResort(cells, lastGood) };
};

const spreadCell = (facts: CellFacts, kind: Kind, suspectWeight: number): SpreadCell => ({
  member: facts.member.name,
  weight: Math.max(1, facts.ready > 0 ? facts.ready : facts.total),
  percent: kind === 'in-use' ? shareOf(facts, suspectWeight) : 100,
  tier: facts.member.tier,
  grant: kind === 'ungranted' || kind === 'last' ? undefined : facts.grant,
});

export interface Placed {
  readonly kind: Kind;
  readonly tiers: Placement['tiers'];
  readonly unmet: number;
}

export interface PlaceOptions {
  readonly lastGood: readonly string[];
  readonly suspectWeight: number;
  /** New connections a second that go to others; undefined: unknown. */
  readonly demand: number | undefined;
}

/** @param cells - in their order */
export const place = (cells: readonly CellFacts[], { lastGood, suspectWeight, demand }: PlaceOptions): Placed => {
  const { kind, cells: chosen } = choose(cells, lastGood);
  const { tiers, unmet } = spread(
    chosen.map((facts) => spreadCell(facts, kind, suspectWeight)),
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
  let ports: Map<number, Placement['tiers']> | undefined;
  for (const { port, protocol } of view.local?.ports ?? view.ports) {
    if (!carriesTcp(protocol)) continue;
    const able = cells.filter(({ member }) => offers(view.remotes.get(member.name)!, port));
    if (able.length === cells.length) continue;
    ports ??= new Map();
    ports.set(port, place(able, options).tiers);
  }
  return ports;
};

/** Whether traffic went elsewhere: who, how much of each, how much here. Weights alone follow readiness and are no move. */
export const samePlaces = (a: Placement, b: Placement): boolean =>
  a === b ||
  (a.localPercent === b.localPercent &&
    a.tiers.length === b.tiers.length &&
    a.tiers.every((cells, t) => {
      const others = b.tiers[t]!;
      return (
        cells === others ||
        (cells.length === others.length &&
          cells.every(({ member, percent }, i) => others[i]!.member === member && others[i]!.percent === percent))
      );
    }));

export const sameTiers = (a: Placement['tiers'], b: Placement['tiers']): boolean =>
  a.length === b.length &&
  a.every((cells, t) => {
    const others = b[t]!;
    return (
      cells.length === others.length &&
      cells.every(
        ({ member, weight, percent }, i) =>
          others[i]!.member === member && others[i]!.weight === weight && others[i]!.percent === percent,
      )
    );
  });

export const membersOf = (tiers: Placement['tiers']): string[] =>
  tiers.flatMap((cells) => cells.map(({ member }) => member));
