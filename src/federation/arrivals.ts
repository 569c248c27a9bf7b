/** What a watch of the store brought, sorted by whom it is of. Nothing is judged here. */
import type { StoreEvent, StoreSnapshot } from '../core/store.ts';
import { manifestKey } from './member.ts';
import type { SeenChange } from './noise.ts';
import type { Place } from './places.ts';

export type PlaceOf = (key: string) => Place;
/** Of members, by name, by keys relative to each one's prefix. */
export type Entries = Map<string, Map<string, Uint8Array>>;

/** All that a snapshot says. */
export interface Listed {
  readonly memberships: ReadonlyMap<string, Uint8Array>;
  readonly revocations: readonly (readonly [string, Uint8Array])[];
  readonly policy: Uint8Array | undefined;
  readonly records: Entries;
  readonly forUs: Entries;
}

/**
 * @param known - of members that are known already: those of whom there is nothing stay empty
 * @param apart - members whose records stand in another store
 */
export const sortListed = (
  { entries }: StoreSnapshot,
  placeOf: PlaceOf,
  prefix: string,
  known: Pick<Listed, 'records' | 'forUs'>,
  apart: ReadonlySet<string>,
): Listed => {
  const memberships = new Map<string, Uint8Array>();
  const revocations: [string, Uint8Array][] = [];
  let policy: Uint8Array | undefined;
  for (const { key, value } of entries) {
    const place = placeOf(key);
    if (place === undefined || !key.startsWith(prefix)) continue;
    if ('policy' in place) policy = value;
    else if ('revocation' in place) revocations.push([place.revocation, value]);
    else if ('membership' in place) memberships.set(place.membership, value);
    else if (!apart.has(place.member)) {
      const all = place.forUs ? known.forUs : known.records;
      const of = all.get(place.member) ?? new Map<string, Uint8Array>();
      of.set(place.rest, value);
      all.set(place.member, of);
    }
  }
  return { memberships, revocations, policy, ...known };
};

/** What a member changed for everybody, and the revision of its newest manifest among that. */
export interface Batch {
  readonly changes: SeenChange[];
  manifestAt: bigint | undefined;
}

/** All that some events say. */
export interface Changed {
  readonly memberships: ReadonlyMap<string, Uint8Array | undefined>;
  readonly revocations: readonly (readonly [string, Uint8Array | undefined])[];
  /** The newest last. */
  readonly policies: readonly (Uint8Array | undefined)[];
  readonly batches: ReadonlyMap<string, Batch>;
  readonly forUs: ReadonlyMap<string, readonly SeenChange[]>;
}

/** @param apart - members whose records stand in another store */
export const sortEvents = (events: readonly StoreEvent[], placeOf: PlaceOf, apart: ReadonlySet<string>): Changed => {
  const memberships = new Map<string, Uint8Array | undefined>();
  const revocations: [string, Uint8Array | undefined][] = [];
  const policies: (Uint8Array | undefined)[] = [];
  const batches = new Map<string, Batch>();
  const forUs = new Map<string, SeenChange[]>();
  for (const event of events) {
    const place = placeOf(event.key);
    if (place === undefined) continue;
    const value = event.type === 'put' ? event.value : undefined;
    if ('policy' in place) policies.push(value);
    if ('membership' in place) memberships.set(place.membership, value);
    if ('revocation' in place) revocations.push([place.revocation, value]);
    if (!('member' in place) || apart.has(place.member)) continue;
    const change = { key: place.rest, value, revision: event.modRevision };
    if (place.forUs) {
      const changes = forUs.get(place.member) ?? [];
      forUs.set(place.member, changes);
      changes.push(change);
      continue;
    }
    const batch = batches.get(place.member) ?? { changes: [], manifestAt: undefined };
    batches.set(place.member, batch);
    batch.changes.push(change);
    if (place.rest === manifestKey) batch.manifestAt = event.modRevision;
  }
  return { memberships, revocations, policies, batches, forUs };
};

/** Entries of one member by keys relative to its prefix. */
export const relativeEntries = ({ entries }: StoreSnapshot, placeOf: PlaceOf): Map<string, Uint8Array> => {
  const all = new Map<string, Uint8Array>();
  for (const { key, value } of entries) {
    const place = placeOf(key);
    if (place !== undefined && 'member' in place) all.set(place.rest, value);
  }
  return all;
};
