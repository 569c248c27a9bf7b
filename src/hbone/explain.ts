/**
 * What a refused CONNECT means, in words: a gateway's mark (Envoy's flags and details) or a bare status, with the next step.
 */
import { ruleOf } from '../audit/reason.ts';
import type { HopMark } from '../core/hop.ts';

export interface Explanation {
  readonly what: string;
  readonly next: string;
}

const flags: Readonly<Record<string, Explanation>> = {
  UF: { what: 'could not connect onward', next: 'check that the next hop is up and that no partition lies between' },
  UH: {
    what: 'no healthy endpoint behind it',
    next: 'check readiness of the service there, and ejections: isthmus status',
  },
  NR: { what: 'no route for this service', next: 'check that the service is exported, and to this cluster' },
  NC: {
    what: 'its route leads to a cluster that it does not have',
    next: 'check that the gateway accepted its configuration: isthmus status',
  },
  UC: {
    what: 'the connection onward ended before an answer',
    next: 'look at the log of the next hop for a crash or a reset',
  },
  UR: { what: 'the next hop reset the request', next: 'look at the log of the next hop' },
  URX: { what: 'all attempts failed', next: 'check the gateways of the other clusters: isthmus status' },
  UO: { what: 'a circuit breaker is open', next: 'check the connection limits of the DestinationRule' },
  UT: { what: 'no answer in time', next: 'check for a partition or a hung process at the next hop' },
  LR: { what: 'the gateway itself reset the request', next: 'look at the log of the gateway' },
  RL: { what: 'a rate limit of this member was reached', next: 'slow down, or raise the limit of the member' },
};

const ofRule = (rule: string): Explanation => ({
  what: `this caller may not call this service: ${rule === 'none' ? 'no EgressPolicy allows it' : `the rule ${rule} of an EgressPolicy denies it`}`,
  next: 'see the rules that concern it: isthmus explain, kubectl get egresspolicies',
});

/** Of the gateway of the caller's own cluster. */
const byOwnRules = (details: string): Explanation | undefined => {
  const rule = ruleOf(details);
  if (rule !== undefined) return ofRule(rule);
  if (!details.includes('local_rate_limited')) return undefined;
  return {
    what: 'this workload opens more tunnels a second than it may',
    next: 'slow down, or give it a higher limit in an EgressPolicy',
  };
};

const byDetails = (details: string): Explanation | undefined => {
  if (details.includes('rbac_access_denied')) {
    return {
      what: 'this caller may not call this service',
      next: 'check the grants of the calling cluster and of the service account',
    };
  }
  if (details.includes('overload')) return { what: 'the gateway is overloaded', next: 'add gateway pods' };
  return undefined;
};

/** Why this gateway did not answer 200; undefined when its mark gives no reason. */
export const explainMark = (mark: HopMark): Explanation | undefined => {
  const said = [mark.flags, mark.details].filter((text) => text !== undefined).join(' ');
  const known =
    (mark.role === 'egress' ? byOwnRules(mark.details ?? '') : undefined) ??
    byDetails(mark.details ?? '') ??
    (mark.flags ?? '')
      .split(',')
      .map((flag) => flags[flag.trim()])
      .find(Boolean);
  if (known !== undefined) return { what: `${known.what} (${said})`, next: known.next };
  return mark.flags === undefined ? undefined : { what: `failed (${said})`, next: 'look at the log of the gateway' };
};

const statuses: Readonly<Record<number, Explanation>> = {
  400: {
    what: 'the far ztunnel finds the address not its own',
    next: 'check the endpoints of the service: an address may have been reused',
  },
  401: {
    what: 'an authorization policy there denies this caller',
    next: 'check the policies in the namespace of the service',
  },
  403: {
    what: 'this caller may not call this service',
    next: 'check the grants of the calling cluster and the exported services',
  },
  404: { what: 'nobody knows this service there', next: 'check that the service is exported, and to this cluster' },
  503: {
    what: 'nothing serves it there',
    next: 'check that the application listens on its target port, and its readiness',
  },
};

/** A status without any mark. */
export const explainStatus = (status: number): Explanation => {
  const known = statuses[status];
  if (known !== undefined) return { what: `answered ${status}: ${known.what}`, next: known.next };
  return { what: `answered ${status}`, next: 'look at the log of this hop' };
};
