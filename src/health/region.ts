/**
 * Whether a whole region is down: the one verdict that a cluster does not reach alone.
 *
 * Each region has one vote, however many clusters it has, and the accused region none: a region that is cut off would outvote
 * the rest of the world about itself. It takes three regions, and a strict majority of the others, those that keep silent counted
 * among them. A vote by clusters was passed over: the region with the most clusters would decide for all.
 */
import type { View } from '../federation/view.ts';
import { addPenalty } from './penalty.ts';
import type { Vote } from './signals.ts';
import { own, type RegionHealth } from './state.ts';
import type { Thresholds } from './thresholds.ts';
import type { MemberVerdict } from './verdict.ts';

/** Votes live as long as this many silences: their voter has to go on saying them. */
const voteSilences = 3;
const regionsMin = 3;

type Members = ReadonlyMap<string, MemberVerdict>;

const membersByRegion = (view: View): Map<string, string[]> => {
  const regions = new Map<string, string[]>();
  for (const [name, { member }] of view.members) {
    const names = regions.get(member.region);
    if (names === undefined) regions.set(member.region, [name]);
    else names.push(name);
  }
  return regions;
};

/** The regions of which we hold that they are down: all their members are out, as seen from here. Never our own, for we are in it. Sorted. */
export const ownVotes = (view: View, members: Members): readonly string[] => {
  const out = (name: string) => {
    const state = members.get(name)?.state;
    return state === 'quarantined' || state === 'evicted';
  };
  return [...membersByRegion(view)]
    .filter(([, names]) => names.every(out))
    .map(([region]) => region)
    .sort();
};

interface Quorum {
  readonly down: readonly string[];
  readonly others: number;
}

/**
 * One region's word: down when most of its members that speak say so. A member that is heard and accuses nobody speaks for `up`:
 * else one hostile cluster would be the voice of its region.
 */
const regionSaysDown = (
  accused: string,
  names: readonly string[],
  view: View,
  votes: ReadonlyMap<string, ReadonlyMap<string, boolean>>,
  members: Members,
): boolean => {
  let down = 0;
  let up = 0;
  for (const name of names) {
    const vote = votes.get(name)?.get(accused);
    if (vote === true) down++;
    else if (vote === false || name === view.self || members.get(name)?.control === 'fresh') up++;
  }
  return down > up;
};

const readVotes = (view: View, votes: readonly Vote[], members: Members, ttlMs: number) => {
  const read = new Map<string, Map<string, boolean>>();
  for (const { voter, accused, down, ageMs } of votes) {
    // Our own word is what we hold now. A region is what the authority says, not what the voter says.
    if (voter === view.self || ageMs > ttlMs || !view.members.has(voter)) continue;
    const of = read.get(voter) ?? new Map<string, boolean>();
    of.set(accused, down);
    read.set(voter, of);
  }
  read.set(view.self, new Map(ownVotes(view, members).map((region) => [region, true])));
  return read;
};

const quorums = (view: View, votes: readonly Vote[], members: Members, ttlMs: number): Map<string, Quorum> => {
  const regions = membersByRegion(view);
  const found = new Map<string, Quorum>();
  if (regions.size < regionsMin) return found;
  const read = readVotes(view, votes, members, ttlMs);
  const accused = new Set([...read.values()].flatMap((of) => [...of.keys()]));
  for (const region of accused) {
    if (!regions.has(region)) continue;
    const others = [...regions].filter(([name]) => name !== region);
    const down = others.filter(([, names]) => regionSaysDown(region, names, view, read, members)).map(([name]) => name);
    if (down.length * 2 > others.length) found.set(region, { down: down.sort(), others: others.length });
  }
  return found;
};

/** The regions that a quorum holds for down, with their ages; those that were, while their penalty lasts. */
export const assessRegions = (
  before: Readonly<Record<string, RegionHealth>>,
  view: View,
  votes: readonly Vote[],
  members: Members,
  { thresholds, nowMs }: { readonly thresholds: Thresholds; readonly nowMs: number },
): Readonly<Record<string, RegionHealth>> => {
  const found = quorums(view, votes, members, voteSilences * thresholds.silentMs);
  const names = new Set([...Object.keys(before), ...found.keys()]);
  if (names.size === 0) return before;
  const entries: [string, RegionHealth][] = [];
  for (const name of [...names].sort()) {
    const known = own(before, name);
    const quorum = found.get(name);
    const down = quorum !== undefined;
    const turned = down !== (known?.down ?? false);
    const penalty = turned
      ? addPenalty(known?.penalty, thresholds.flapPenalty, nowMs, thresholds.flapHalfLifeMs)
      : addPenalty(known?.penalty, 0, nowMs, thresholds.flapHalfLifeMs);
    if (!down && penalty === undefined) continue;
    entries.push([
      name,
      {
        down,
        state: down ? 'quarantined' : 'fresh',
        reason: down ? 'RegionCondemned' : 'Healthy',
        detail:
          quorum === undefined
            ? ''
            : `${quorum.down.length} of ${quorum.others} other regions hold it for down: ${quorum.down.join(', ')}`,
        sinceMs: turned || known === undefined ? nowMs : Math.min(known.sinceMs, nowMs),
        penalty: turned ? penalty : known?.penalty,
      },
    ]);
  }
  return Object.fromEntries(entries);
};
