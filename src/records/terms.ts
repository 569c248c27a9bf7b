/** What a member may be and do: the fields that a membership, and the terms of who joins, have in common. */
import { limits } from '../core/limits.ts';
import { want, wantAccount, wantCount, wantDistinct, wantLabel } from './fields.ts';
import type { WireReader } from './wire.ts';

/** The longest CIDR: of IPv6. */
const cidrLengthMax = 49;

const lists = {
  addressRanges: { field: 'address_ranges', lengthMax: cidrLengthMax, max: limits.addressRangesMax },
  namespaces: { field: 'namespaces', lengthMax: limits.nameLengthMax, max: limits.namespacesMax },
  serviceAccounts: {
    field: 'service_accounts',
    lengthMax: limits.hostnameLengthMax + 64,
    max: limits.serviceAccountsMax,
  },
} as const;

type Lists = Record<keyof typeof lists, string[]>;

/** One entry of a list. @param what - the record, for errors */
export const readListed = (reader: WireReader, what: string, list: keyof Lists, into: Lists): void => {
  const { field, lengthMax, max } = lists[list];
  into[list].push(reader.text(field, lengthMax));
  wantCount(`${what}.${field}`, into[list].length, max);
};

export const checkLists = (what: string, { addressRanges, namespaces, serviceAccounts }: Lists): void => {
  for (const namespace of namespaces) {
    if (namespace !== '*') wantLabel(`${what}.namespaces`, namespace);
    else want(namespaces.length === 1, `${what}.namespaces`, '*', 'alone');
  }
  for (const account of serviceAccounts) wantAccount(`${what}.service_accounts`, account);
  wantDistinct(`${what}.namespaces`, namespaces);
  wantDistinct(`${what}.service_accounts`, serviceAccounts);
  wantDistinct(`${what}.address_ranges`, addressRanges);
};
