/**
 * What our own endpoints keep of the local traffic.
 *
 * Local endpoints are a cell like any other (they go out, are held down, ramp back), and besides that they may be too few: then a
 * part is spilled, as far as others have room for it and the mesh can give parts at all.
 */

import type { Verdict } from '../health/verdict.ts';
import { readyPercent } from './capacity.ts';
import type { GuardHold } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import { type Badness, percentOf } from './ramp.ts';
import type { CellMemory, Drain } from './state.ts';

export interface LocalFacts {
  readonly ready: number;
  readonly total: number;
  readonly verdict: Verdict;
  readonly bad: Badness | undefined;
  readonly doubt: Badness | undefined;
  readonly drain: Drain | undefined;
  readonly memory: CellMemory | undefined;
  readonly calmAtMs: number | undefined;
}

export interface LocalScene {
  readonly self: string;
  readonly policy: FailoverPolicy;
  readonly partial: boolean;
  /** Some remote cell is good enough to take over. */
  readonly remoteServes: boolean;
  /** Share of the traffic that the policy's order puts before our own endpoints, 0–100. */
  readonly preferredPercent: number;
  readonly receivingSpill: boolean;
  /** What the remote cells can take, new connections a second; undefined: unknown. */
  readonly headroom: number | undefined;
  /** The share before this step; undefined: the first plan. */
  readonly before: number | undefined;
  /** Whether it may move at discretion now. */
  readonly mayMove: boolean;
  /** No cell was shifted in this step, and whoever took part still does. */
  readonly quiet: boolean;
  readonly cutOff: boolean;
}

export interface LocalResult {
  readonly percent: number;
  readonly holds: readonly GuardHold[];
  /** It moved because of numbers alone, at discretion. */
  readonly byCapacity: boolean;
}

/** The least share that what the others can take allows, in steps of 10. */
const roomPercent = (local: LocalFacts, percent: number, { headroom, policy }: LocalScene): number => {
  const { perEndpoint } = policy.capacity;
  if (headroom === undefined || perEndpoint === undefined) return percent;
  const all = local.total * perEndpoint;
  let kept = percent;
  while (kept < 100 && (all * (100 - kept)) / 100 > headroom) kept = Math.min(100, kept + 10);
  return kept;
};

/** The share by capacity: what the endpoints that are ready can take, corrected by what the others can. */
const capacityPercent = (local: LocalFacts, scene: LocalScene, holds: GuardHold[]): number => {
  const { policy, self } = scene;
  const hold = (guard: GuardHold['guard'], detail: string): number => holds.push({ guard, member: self, detail });
  const wished = readyPercent(local.ready, local.total, policy.capacity);
  if (wished >= 100 || local.ready === 0) return wished;
  const shown = `${local.ready} of ${local.total} endpoints are ready, ${100 - wished} % should go elsewhere`;
  if (scene.receivingSpill) {
    hold('SpillOnSpill', `${shown}; none does, for this cluster takes other clusters' spill`);
    return 100;
  }
  const floor = Math.max(wished, 100 - policy.capacity.maxSpillPercent);
  const kept = roomPercent(local, floor, scene);
  if (kept > floor) hold('Headroom', `${shown}; the others have room for ${100 - kept} %`);
  return kept;
};

/** @param local - undefined: there are no endpoints of ours */
export const localShare = (local: LocalFacts | undefined, scene: LocalScene): LocalResult => {
  if (local === undefined) return { percent: 100, holds: [], byCapacity: false };
  const { self, remoteServes, preferredPercent, partial, before, mayMove, quiet, cutOff } = scene;
  const holds: GuardHold[] = [];
  const own = percentOf(local.memory);
  if (!remoteServes) {
    if (own < 100 && local.ready > 0) {
      const detail = `${local.bad?.detail ?? 'on its way back'}; in use all the same, for no other cluster can serve`;
      holds.push({ guard: 'LastCell', member: self, detail });
    }
    return { percent: 100, holds, byCapacity: false };
  }
  const byCapacity = own === 0 ? 0 : capacityPercent(local, scene, holds);
  let percent = Math.min(own, byCapacity, 100 - preferredPercent);
  if (!partial && percent > 0 && percent < 100) {
    const detail = `${percent} % should be served here; the mesh gives all or nothing, so all of it is`;
    holds.push({ guard: 'Headroom', member: self, detail });
    percent = 100;
  }
  // Home again, for enough are ready here: nobody is in need of that, as long as those who took the rest can keep it.
  const home = quiet && holds.length === 0 && before !== undefined && percent > before;
  const discretionary = before !== undefined && percent !== before && percent > 0 && (byCapacity < own || home);
  if (discretionary && !mayMove) {
    holds.push({ guard: 'MoveRate', member: self, detail: `${percent} % should be served here; it moved too often` });
    return { percent: before, holds, byCapacity: false };
  }
  if (cutOff && before !== undefined && percent > before) {
    holds.push({
      guard: 'CutOff',
      member: self,
      detail: `${percent} % could be served here; a replica that is cut off brings nothing back`,
    });
    return { percent: before, holds, byCapacity: false };
  }
  return { percent, holds, byCapacity: discretionary };
};
