/**
 * How much of the local traffic stays, and how much there is to place: from readiness, declared capacity and what was seen.
 *
 * Capacity that nobody declared is unknown, and what is unknown vetoes nothing: a guess would hold back a failover that could have
 * worked. Seen rates go into classes with a margin below, so that a rate that trembles moves nothing.
 */
import type { TrafficWindow } from '../health/signals.ts';
import type { CapacityPolicy } from './policy.ts';

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

/** A rate as the next of a few numbers above it, given the one before. */
export const rateClass = (perSecond: number, before: number | undefined): number => {
  if (perSecond <= 0) return before === undefined || before <= 1 ? 0 : rateClass(1, before);
  if (before !== undefined && before > 0 && perSecond <= before && perSecond >= before * downMargin) return before;
  const exponent = Math.ceil(Math.log(perSecond) / Math.log(classFactor) - 1e-9);
  return Math.max(1, Math.round(classFactor ** Math.max(0, exponent)));
};

/** Rates of one service by member, with these windows put in. The same map when nothing changed. */
export const addRates = (
  before: ReadonlyMap<string, number>,
  windows: readonly TrafficWindow[],
): ReadonlyMap<string, number> => {
  let rates: Map<string, number> | undefined;
  for (const { member, tries, windowMs } of windows) {
    if (windowMs <= 0) continue;
    const had = before.get(member);
    const now = rateClass((tries * 1000) / windowMs, had);
    if (now === (had ?? 0)) continue;
    rates ??= new Map(before);
    if (now === 0) rates.delete(member);
    else rates.set(member, now);
  }
  return rates ?? before;
};

export interface DemandFacts {
  /** New connections a second that go to others now, in classes. */
  readonly seen: ReadonlyMap<string, number>;
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
  for (const rate of seen.values()) sum += rate;
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
