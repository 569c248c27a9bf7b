/**
 * Which identities a service may answer with. A record names accounts only; the trust domain is ours, so a member cannot
 * make us accept an identity outside it, nor one of an account that it was not granted.
 */
import type { LocalCluster, LocalService } from '../../federation/local.ts';
import type { ServiceView, View } from '../../federation/view.ts';
import type { Member } from '../../trust/membership.ts';
import { byName } from './resource.ts';

export interface Account {
  readonly namespace: string;
  readonly name: string;
}

/** `namespace/name`, or undefined when the text is not one. */
export const parseAccount = (text: string): Account | undefined => {
  const [namespace, name, rest] = text.split('/');
  if (namespace === undefined || name === undefined || rest !== undefined || namespace === '' || name === '') {
    return undefined;
  }
  return { namespace, name };
};

export const spiffeId = (trustDomain: string, account: Account): string =>
  `spiffe://${trustDomain}/ns/${account.namespace}/sa/${account.name}`;

/** The accounts of a record that its member was granted, in order. */
export const grantedAccounts = (member: Member, accounts: readonly string[]): string[] =>
  [...new Set(accounts)]
    .filter((text) => {
      const account = parseAccount(text);
      if (account === undefined) return false;
      const namespace = member.namespaces.includes('*') || member.namespaces.includes(account.namespace);
      return namespace && (member.serviceAccounts.length === 0 || member.serviceAccounts.includes(text));
    })
    .sort(byName);

/** Accounts of the pods behind a local service, ready or not: a pod that turns ready must not change the service. */
export const localAccounts = (service: LocalService, local: LocalCluster): string[] => {
  const accounts = new Set<string>();
  for (const endpoint of service.endpoints) {
    const pod = endpoint.pod === undefined ? undefined : local.pods.get(endpoint.pod);
    if (pod !== undefined) accounts.add(`${pod.namespace}/${pod.serviceAccount}`);
  }
  return [...accounts].sort(byName);
};

export const remoteAccounts = (service: ServiceView, view: View): string[] => {
  const accounts = new Set<string>();
  for (const [name, record] of service.remotes) {
    const member = view.members.get(name)?.member;
    if (member !== undefined) for (const account of grantedAccounts(member, record.accounts)) accounts.add(account);
  }
  return [...accounts].sort(byName);
};

/** The SPIFFE ids that a client may meet at the far end of the inner tunnel, in order. ztunnel refuses any when it is empty. */
export const serviceSans = (
  service: ServiceView,
  localService: LocalService,
  local: LocalCluster,
  view: View,
  trustDomain: string,
): string[] => {
  const accounts = new Set([...localAccounts(localService, local), ...remoteAccounts(service, view)]);
  return [...accounts].sort(byName).map((text) => spiffeId(trustDomain, parseAccount(text)!));
};
