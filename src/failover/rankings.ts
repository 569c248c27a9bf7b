/**
 * The order of members by policy, kept while nobody came, went, or changed its membership or its gateways.
 *
 * Kept beside the map of members, not beside the state: a replica that takes over what another shipped has a new state each time, and
 * whatever else is kept by the order (the numbers of every service) would have to be gathered anew.
 */
import type { View } from '../federation/view.ts';
import type { GatewaysRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { Member } from '../trust/membership.ts';
import { type RankedMember, rankMembers } from './order.ts';
import type { FailoverPolicy } from './policy.ts';

/** Where a member stands, as far as it matters to the order. */
export interface Place {
  readonly member: Member;
  readonly gateways: GatewaysRecord | undefined;
}

export const placesOf = ({ members }: View): ReadonlyMap<string, Place> => {
  const places = new Map<string, Place>();
  for (const [name, { member, gateways }] of members) places.set(name, { member, gateways });
  return places;
};

export const samePlaces = (places: ReadonlyMap<string, Place>, { members }: View): boolean => {
  if (places.size !== members.size) return false;
  for (const [name, { member, gateways }] of members) {
    const place = places.get(name);
    if (place?.member !== member || place.gateways !== gateways) return false;
  }
  return true;
};

interface Kept {
  readonly self: Member;
  readonly places: ReadonlyMap<string, Place>;
  readonly orders: WeakMap<FailoverPolicy['order'], readonly RankedMember[]>;
}

const kept = new WeakMap<View['members'], Kept>();

/** Best first, for each order that is asked for. @param self - our own membership */
export const rankings = (view: View, self: Member): ((order: FailoverPolicy['order']) => readonly RankedMember[]) => {
  let known = kept.get(view.members);
  if (known === undefined || known.self !== self || !samePlaces(known.places, view)) {
    known = { self, places: placesOf(view), orders: new WeakMap() };
    kept.set(view.members, known);
  }
  const { orders } = known;
  return (order) => {
    const before = orders.get(order);
    if (before !== undefined) return before;
    const ranked = rankMembers(self, view.members, order);
    orders.set(order, ranked);
    return ranked;
  };
};
