/**
 * How much of the local traffic stays, and how much there is to place: from readiness, declared capacity and what was seen.
 *
 * Capacity that nobody declared is unknown, and what is unknown vetoes nothing: a guess would hold back a failover that could have
 * worked. Seen rates go into classes with a margin below, so that a rate that trembles moves nothing.
 */
import type { TrafficWindow } from '../health/signals.ts';
import type { CapacityPolicy } from './policy.ts';
import type { Rate } from './state.ts';

/**
 * Share of the local traffic that the local endpoints can take, 0–100 in steps of 10: all of it while at least `localPercent` of
 * them are ready, nothing when none is.
 */
export const readyPercent = (ready: number, total: number, { localPercent }: CapacityPolicy): number => {
  if (ready <= 0) return 0;
  const share = (ready / Math.max(ready, total)) * 100;
  if (localPercent <= 0 || share >= localPercent) return 100;
  return Math.min(100, Math.max(10, Math.round((share / localPercent) * 10) * 10));
};

const classFactor = 1.25;
const downMargin = 0.64;

/** Below this a member is not called. */
const rateMin = 0.1;

/** A rate as the next of a few numbers above it, given the one before. */
export const rateClass = (perSecond: number, before: number | undefined): number => {
  if (perSecond < rateMin) return 0;
  if (before !== undefined && perSecond <= before && perSecond >= before * downMargin) return before;
  const exponent = Math.ceil(Math.log(perSecond) / Math.log(classFactor) - 1e-9);
  return Number((classFactor ** exponent).toPrecision(4));
};

/** How much of a rate is remembered after so long: calls of a second are too few to tell a rate by. */
const meanMs = 10_000;

const smooth = (before: Rate | undefined, perSecond: number, windowMs: number): Rate => {
  const weight = before === undefined ? 1 : 1 - Math.exp(-windowMs / meanMs);
  const mean = Math.round(((before?.mean ?? 0) * (1 - weight) + perSecond * weight) * 1_000) / 1_000;
  return { mean, perSecond: rateClass(mean, before?.perSecond) };
};

export interface RateChange {
  readonly rates: ReadonlyMap<string, Rate>;
  /** One of them is in another class than before. */
  readonly moved: boolean;
}

/** Rates of one service by member, with these windows put in. */
export const addRates = (before: ReadonlyMap<string, Rate>, windows: readonly TrafficWindow[]): RateChange => {
  const rates = new Map(before);
  let moved = false;
  for (const { member, tries, windowMs } of windows) {
    if (windowMs <= 0) continue;
    const had = rates.get(member);
    if (had === undefined && tries === 0) continue;
    const now = smooth(had, (tries * 1000) / windowMs, windowMs);
    moved ||= now.perSecond !== (had?.perSecond ?? 0);
    if (now.perSecond === 0) rates.delete(member);
    else rates.set(member, now);
  }
  return { rates, moved };
};

export interface DemandFacts {
  /** What goes to those who are in use. */
  readonly seen: readonly Rate[];
  readonly localTotal: number;
  /** Share of the local traffic that stays, 0–100. */
  readonly localPercent: number;
  readonly capacity: CapacityPolicy;
}

/**
 * New connections a second that have to go to others; undefined: unknown. What is seen counts; beyond it, what the local
 * endpoints are declared to take and do not get.
 */
export const demandOf = ({ seen, localTotal, localPercent, capacity }: DemandFacts): number | undefined => {
  let sum = 0;
  for (const { perSecond } of seen) sum += perSecond;
  const declared =
    capacity.perEndpoint === undefined ? 0 : (localTotal * capacity.perEndpoint * (100 - localPercent)) / 100;
  const demand = Math.max(sum, declared);
  return demand > 0 ? demand : undefined;
};

/** What a cell can take of others' traffic: its grant, and what is declared of its endpoints after the reserve. Undefined: unknown. */
export const headroomOf = (ready: number, grant: number | undefined, capacity: CapacityPolicy): number | undefined => {
  const declared =
    capacity.perEndpoint === undefined
      ? undefined
      : (ready * capacity.perEndpoint * (100 - capacity.reservePercent)) / 100;
  if (grant === undefined) return declared;
  return declared === undefined ? grant : Math.min(grant, declared);
};

/** The same for several; unknown as soon as it is of one of them. */
export const headroomSum = (headrooms: readonly (number | undefined)[]): number | undefined => {
  let sum = 0;
  for (const headroom of headrooms) {
    if (headroom === undefined) return undefined;
    sum += headroom;
  }
  return sum;
};
