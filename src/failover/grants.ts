/**
 * Grants of spill. As a receiver: what we offer each other member of a service, so that all offers together stay within what is
 * declared of our ready endpoints after the reserve. As a sender: what others offer us.
 *
 * Shares are equal: a share by need would have to believe what each says of its need. They are lowered at once, and raised only when
 * the gain is worth a new record; a service whose capacity nobody declared has no grant, and is open.
 */
import type { ServiceKey } from '../core/names.ts';
import { declaredCapacity } from '../federation/capacity.ts';
import type { ServiceView } from '../federation/view.ts';
import type { GrantOffer } from '../health/signals.ts';
import type { Grant } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import type { GrantMemory } from './state.ts';

/** A share is raised only by at least this factor. */
const raiseFactor = 1.25;

export interface GrantScene {
  readonly view: ServiceView;
  readonly ready: number;
  /** Every other member, sorted. */
  readonly readers: readonly string[];
  readonly policy: FailoverPolicy;
  /** We are leaving: what was offered stays. */
  readonly drained: boolean;
}

const sameReaders = (a: readonly string[], b: readonly string[]): boolean =>
  a === b || (a.length === b.length && a.every((name, i) => name === b[i]));

/** What is offered to each; the object before when it stays. Undefined: no grant is in force. */
export const offer = (before: GrantMemory | undefined, scene: GrantScene): GrantMemory | undefined => {
  const { view, ready, readers, policy, drained } = scene;
  const { reservePercent } = policy.capacity;
  if (view.local?.exported === undefined || readers.length === 0) return undefined;
  // What the Service says of its endpoints goes before what a policy says of all.
  const perEndpoint = declaredCapacity(view.local).perEndpoint ?? policy.capacity.perEndpoint;
  if (perEndpoint === undefined) return undefined;
  // Others leave us in their own time; a grant of nothing would refuse those who have nowhere else to go.
  if (drained && before !== undefined) return before;
  const headroom = (ready * perEndpoint * (100 - reservePercent)) / 100;
  const share = Math.floor(headroom / readers.length);
  if (before === undefined) return { perSecond: share, readers };
  const keep = share >= before.perSecond && share < Math.max(before.perSecond * raiseFactor, before.perSecond + 1);
  const perSecond = keep ? before.perSecond : share;
  if (perSecond === before.perSecond && sameReaders(before.readers, readers)) return before;
  return { perSecond, readers };
};

export const grantText = (memory: GrantMemory | undefined): string =>
  memory === undefined ? 'none' : `${memory.perSecond} new connections/s to each of ${memory.readers.length}`;

export const grantList = (grants: ReadonlyMap<ServiceKey, GrantMemory>): readonly Grant[] => {
  const list: Grant[] = [];
  for (const [service, { perSecond, readers }] of grants) {
    for (const reader of readers) list.push({ reader, service, perSecond });
  }
  return list;
};

/** Offers to us, by member, then by service or `*`. */
export type Offers = ReadonlyMap<string, ReadonlyMap<ServiceKey | '*', number>>;

export const offersOf = (grants: readonly GrantOffer[]): Offers => {
  const offers = new Map<string, Map<ServiceKey | '*', number>>();
  for (const { member, service, perSecond } of grants) {
    const of = offers.get(member);
    if (of === undefined) offers.set(member, new Map([[service, perSecond]]));
    else of.set(service, perSecond);
  }
  return offers;
};

/** What a member grants us of a service; undefined: it says nothing, which limits nothing. */
export const granted = (offers: Offers, member: string, service: ServiceKey): number | undefined => {
  const of = offers.get(member);
  return of === undefined ? undefined : (of.get(service) ?? of.get('*'));
};

/** Services whose offers differ; `*`: those of every service of that member. */
export const offersChanged = (before: Offers, after: Offers): ReadonlyMap<string, ReadonlySet<ServiceKey | '*'>> => {
  const changed = new Map<string, Set<ServiceKey | '*'>>();
  const compare = (a: Offers, b: Offers): void => {
    for (const [member, of] of a) {
      const others = b.get(member);
      for (const [service, rate] of of) {
        if (others?.get(service) === rate) continue;
        const set = changed.get(member) ?? new Set();
        changed.set(member, set.add(service));
      }
    }
  };
  compare(before, after);
  compare(after, before);
  return changed;
};
