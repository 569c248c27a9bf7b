/**
 * What a member may export: namespaces, and service accounts in them.
 *
 * The accounts matter as much as the names: readers accept at the far end of a tunnel whoever the record says runs there, so a
 * member must not name an identity that the authority has not given to it.
 */
import type { Member } from './membership.ts';
import { accountId } from './spiffe.ts';

export interface Grants {
  namespace(namespace: string): boolean;
  /** `namespace/account` */
  account(account: string): boolean;
}

/** Lookups by set, made once for each membership. */
const known = new WeakMap<Member, Grants>();

export const grantsOf = (member: Member): Grants => {
  const before = known.get(member);
  if (before !== undefined) return before;
  const namespaces = new Set(member.namespaces);
  const accounts = new Set(member.serviceAccounts);
  const namespace = (name: string): boolean => namespaces.has('*') || namespaces.has(name);
  const grants: Grants = {
    namespace,
    account: (account) =>
      namespace(account.slice(0, account.indexOf('/'))) && (accounts.size === 0 || accounts.has(account)),
  };
  known.set(member, grants);
  return grants;
};

/** The ids to accept at the far end, from the reader's own trust domain: granted accounts only, sorted, none twice. */
export const acceptedIds = (
  trustDomain: string,
  exporters: Iterable<{ readonly member: Member; readonly accounts: readonly string[] }>,
): string[] => {
  const ids = new Set<string>();
  for (const { member, accounts } of exporters) {
    const grants = grantsOf(member);
    for (const account of accounts) if (grants.account(account)) ids.add(accountId(trustDomain, account));
  }
  return [...ids].sort();
};
