/**
 * SPIFFE ids, read strictly and built in one place.
 *
 * Two kinds exist here: a workload's (`spiffe://<trust domain>/ns/<namespace>/sa/<account>`, as Istio writes them) and a member's
 * gateways' (`spiffe://<cluster set>/cluster/<member>`, known between gateways only). An id that a peer sends is never used as
 * it came: it is parsed, or built anew from names that were checked.
 */
import { fail, ok, type Result } from '../core/errors.ts';
import { isDnsLabel } from '../core/names.ts';
import { isSubdomain, isTrustDomain } from '../records/fields.ts';

export interface WorkloadIdentity {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly account: string;
}

/** SPIFFE allows 2048 bytes; so do TLS libraries. */
const idLengthMax = 2048;

export const workloadId = (trustDomain: string, namespace: string, account: string): string =>
  `spiffe://${trustDomain}/ns/${namespace}/sa/${account}`;

/** The id of `namespace/account`. */
export const accountId = (trustDomain: string, account: string): string => {
  const slash = account.indexOf('/');
  return workloadId(trustDomain, account.slice(0, slash), account.slice(slash + 1));
};

/** The identity under which a member's gateways know each other. */
export const memberId = (clusterset: string, member: string): string => `spiffe://${clusterset}/cluster/${member}`;

/** The server name that the gateways of `from` send to another member's, which picks the filter chain there. */
export const memberServerName = (clusterset: string, from: string): string =>
  `${from}.${clusterset}.federation.isthmus`;

/** Errors: `trust/invalid`, naming the id. */
export const parseWorkloadId = (id: string): Result<WorkloadIdentity> => {
  const parts = id.length <= idLengthMax && id.startsWith('spiffe://') ? id.slice('spiffe://'.length).split('/') : [];
  const [trustDomain, ns, namespace, sa, account] = parts;
  const valid =
    parts.length === 5 &&
    ns === 'ns' &&
    sa === 'sa' &&
    isTrustDomain(trustDomain ?? '') &&
    isDnsLabel(namespace ?? '') &&
    isSubdomain(account ?? '');
  if (!valid) return notAnId(id, 'spiffe://<trust domain>/ns/<namespace>/sa/<account>');
  return ok({ trustDomain: trustDomain!, namespace: namespace!, account: account! });
};

/** Errors: `trust/invalid`, naming the id. */
export const parseMemberId = (id: string): Result<{ readonly clusterset: string; readonly member: string }> => {
  const parts = id.length <= idLengthMax && id.startsWith('spiffe://') ? id.slice('spiffe://'.length).split('/') : [];
  const [clusterset, kind, member] = parts;
  if (parts.length !== 3 || kind !== 'cluster' || !isDnsLabel(clusterset ?? '') || !isDnsLabel(member ?? '')) {
    return notAnId(id, 'spiffe://<cluster set>/cluster/<member>');
  }
  return ok({ clusterset: clusterset!, member: member! });
};

const notAnId = (id: string, form: string): Result<never> =>
  fail('trust/invalid', `${JSON.stringify(id.slice(0, 120))} is not a SPIFFE id of the form ${form}`);
