/**
 * Tiers of cells with their shares → tiers as the gateways get them.
 *
 * Envoy's priorities are all or nothing, so a tier that may only have a part of the traffic (every cell of it is on its way back, or
 * in doubt, or near its grant) is poured together with the next one into one tier, whose weights carry the shares. While a tier has
 * one cell in full use, that cell takes what its neighbours do not: traffic stays as near as it can.
 *
 * Weights that spread over all tiers at once were passed over: they would send a part of everything far away at all times.
 */
import type { Placement } from './decision.ts';

export interface SpreadCell {
  readonly member: string;
  /** Of its capacity, > 0. */
  readonly weight: number;
  /** Share of it that it may have, 1–100. */
  readonly percent: number;
  readonly tier: number;
  /** New connections a second that it grants us; undefined: no limit is known. */
  readonly grant: number | undefined;
}

export interface Spread {
  readonly tiers: Placement['tiers'];
  /** New connections a second that no grant covers; they are sent all the same, for there is nowhere else. */
  readonly unmet: number;
}

type PlacedCell = Placement['tiers'][number][number];

/** A share below this is not worth a place. */
const negligible = 0.004;
const scale = 1_000;

const grouped = (cells: readonly SpreadCell[]): SpreadCell[][] => {
  const tiers: SpreadCell[][] = [];
  for (const cell of cells) {
    const last = tiers[tiers.length - 1];
    if (last !== undefined && last[0]!.tier === cell.tier) last.push(cell);
    else tiers.push([cell]);
  }
  return tiers;
};

const plainTier = (cells: readonly SpreadCell[]): PlacedCell[] => {
  const equal = cells.every(({ percent }) => percent === cells[0]!.percent);
  return cells.map(({ member, weight, percent }) => ({
    member,
    weight: equal ? weight : weight * percent,
    percent,
  }));
};

const isFull = ({ percent, grant }: SpreadCell): boolean => percent >= 100 && grant === undefined;

interface Shares {
  /** Of all traffic, by member. */
  readonly given: Map<string, number>;
  /** What it would have been given without grants. */
  readonly wished: Map<string, number>;
}

/** Shares out `flow` by weight, nobody above its grant; what nobody takes is left. */
const pour = (cells: readonly SpreadCell[], flow: number, demand: number | undefined, shares: Shares): number => {
  const { given: taken, wished } = shares;
  const all = cells.reduce((total, { weight, percent }) => total + weight * percent, 0);
  for (const { member, weight, percent } of cells) wished.set(member, (flow * weight * percent) / all);
  let left = flow;
  let open = cells.filter(({ grant }) => demand === undefined || grant === undefined || grant > 0);
  while (left > negligible / 10 && open.length > 0) {
    const sum = open.reduce((total, { weight, percent }) => total + weight * percent, 0);
    const round = left;
    const still: SpreadCell[] = [];
    for (const cell of open) {
      const had = taken.get(cell.member) ?? 0;
      const wanted = (round * cell.weight * cell.percent) / sum;
      const cap = demand === undefined || cell.grant === undefined ? Number.POSITIVE_INFINITY : cell.grant / demand;
      const given = Math.min(wanted, cap - had);
      taken.set(cell.member, had + given);
      left -= given;
      if (given === wanted) still.push(cell);
    }
    if (still.length === open.length) break;
    open = still;
  }
  return left;
};

/** What a grant leaves of a share shows as percent, in steps that do not tremble. */
const shownPercent = (percent: number, given: number, wished: number): number =>
  given >= wished * 0.95 ? percent : Math.min(percent, Math.max(1, Math.floor((given / wished) * 10) * 10));

const placed = (cells: readonly SpreadCell[], { given, wished }: Shares): PlacedCell[] => {
  const found: PlacedCell[] = [];
  const total = [...given.values()].reduce((sum, share) => sum + share, 0);
  for (const { member, percent } of cells) {
    const own = given.get(member) ?? 0;
    const share = own / total;
    if (share < negligible) continue;
    const weight = Math.max(1, Math.round(share * scale));
    found.push({ member, weight, percent: shownPercent(percent, own, wished.get(member) ?? 0) });
  }
  return found;
};

const byMember = (a: PlacedCell, b: PlacedCell): number => (a.member < b.member ? -1 : 1);

/**
 * @param cells - in their order, of rising tiers
 * @param demand - new connections a second that have to go somewhere; undefined: unknown, and no grant but that of nothing counts
 */
export const spread = (cells: readonly SpreadCell[], demand: number | undefined): Spread => {
  const tiers = grouped(cells);
  if (tiers.length === 0) return { tiers: [], unmet: 0 };
  if (demand === undefined ? tiers[0]!.some(({ percent }) => percent >= 100) : tiers[0]!.every(isFull)) {
    return { tiers: tiers.map(plainTier), unmet: 0 };
  }
  const shares: Shares = { given: new Map(), wished: new Map() };
  let flow = 1;
  let used = 0;
  for (const tier of tiers) {
    used++;
    const part = used === tiers.length ? flow : flow * (Math.max(...tier.map(({ percent }) => percent)) / 100);
    flow -= part - pour(tier, part, demand, shares);
    if (flow <= negligible) break;
  }
  const unmet = demand === undefined || flow <= negligible ? 0 : flow * demand;
  if (unmet > 0) {
    // Every grant is used up: the rest goes by the same proportions, and the receivers' borders refuse what they must.
    if ([...shares.given.values()].every((share) => share === 0)) {
      return { tiers: tiers.map(plainTier), unmet };
    }
  }
  const mixed = placed(tiers.slice(0, used).flat(), shares);
  const first = used === 1 ? mixed : mixed.sort(byMember);
  return { tiers: [first, ...tiers.slice(used).map(plainTier)], unmet };
};
