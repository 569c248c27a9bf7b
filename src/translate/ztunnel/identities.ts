/**
 * Which identities may answer for a service at the far end of the inner tunnel: the accounts of its pods here, and those that
 * other members say run it, as far as they were granted them. The trust domain is always ours.
 */
import type { LocalCluster, LocalService } from '../../federation/local.ts';
import type { ServiceView, View } from '../../federation/view.ts';
import { acceptedIds, grantsOf } from '../../trust/grants.ts';
import { accountId } from '../../trust/spiffe.ts';
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

/** What each named member says runs the service. */
const exporters = (service: ServiceView, members: Iterable<string>, view: View) =>
  [...members].flatMap((name) => {
    const member = view.members.get(name)?.member;
    const accounts = service.remotes.get(name)?.accounts ?? [];
    return member === undefined ? [] : [{ member, accounts: accounts.filter((a) => parseAccount(a) !== undefined) }];
  });

/** The accounts, granted ones only, that serve at the members named; in order. */
export const remoteAccounts = (service: ServiceView, members: Iterable<string>, view: View): string[] =>
  exporters(service, members, view)
    .flatMap(({ member, accounts }) => accounts.filter((account) => grantsOf(member).account(account)))
    .sort(byName);

/** Accounts of the pods behind a local service, ready or not: a pod that turns ready must not change the service. */
const localAccounts = (service: LocalService, local: LocalCluster): string[] =>
  service.endpoints.flatMap((endpoint) => {
    const pod = endpoint.pod === undefined ? undefined : local.pods.get(endpoint.pod);
    return pod === undefined ? [] : [`${pod.namespace}/${pod.serviceAccount}`];
  });

/** The SPIFFE ids that a client may meet, in order, none twice. ztunnel refuses everybody when there is none. */
export const serviceSans = (
  service: ServiceView,
  localService: LocalService,
  local: LocalCluster,
  view: View,
  trustDomain: string,
): string[] => {
  const ids = acceptedIds(trustDomain, exporters(service, service.remotes.keys(), view));
  const own = localAccounts(localService, local).map((account) => accountId(trustDomain, account));
  return [...new Set([...ids, ...own])].sort(byName);
};
