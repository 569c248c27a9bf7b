/**
 * Why there is no tunnel, in one word that a person can look up, from what Envoy says of it.
 *
 * Status alone would not do: a 503 is nobody there, nobody reached, or an answer of the far side, and a 429 is one of several bounds.
 */
import type { Result } from './connection.ts';

/** What each reason means; docs/AUDIT.md has the same table. */
export const reasons = {
  'not-exported': 'no such service and port for this caller, or not a CONNECT',
  grant: 'more than the serving member takes of this service from the caller’s member',
  rate: 'more new tunnels a second than a member may open',
  limit: 'another bound of a gateway',
  source: 'more new tunnels a second than this workload may open',
  policy: 'an EgressPolicy denies it, or none allows it; `rule` says which',
  loop: 'it came through a gateway already',
  forbidden: 'refused by a rule',
  'no-endpoint': 'nobody to send it to',
  unreachable: 'no gateway, or pod, took the connection',
  tls: 'the other side’s certificate was not accepted, or ours not by it',
  overflow: 'too many connections or requests under way',
  broken: 'the connection broke',
  timeout: 'it took too long',
  age: 'the tunnel reached its age limit',
  left: 'the caller went away',
  handshake: 'a caller whose TLS handshake or certificate was not accepted',
  'no-member': 'a name (SNI) that no member’s gateways use',
  unread: 'connections that were closed, too many at once to look at each: let in or not',
  malformed: 'the request was no valid HTTP/2',
  refused: 'answered with another status; see it',
} as const;
export type Reason = keyof typeof reasons;

/** What an access log says, without Envoy's types. */
export interface Answer {
  /** 0: none. */
  readonly status: number;
  readonly established: boolean;
  /** Of the answer: which bound refused it. */
  readonly refused: string | undefined;
  readonly transportFailure: boolean;
  readonly flags: Readonly<
    Partial<
      Record<
        | 'noRouteFound'
        | 'noHealthyUpstream'
        | 'noClusterFound'
        | 'upstreamConnectionFailure'
        | 'upstreamConnectionTermination'
        | 'upstreamRemoteReset'
        | 'upstreamProtocolError'
        | 'upstreamOverflow'
        | 'upstreamRequestTimeout'
        | 'streamIdleTimeout'
        | 'durationTimeout'
        | 'upstreamMaxStreamDurationReached'
        | 'downstreamProtocolError'
        | 'downstreamConnectionTermination'
        | 'downstreamRemoteReset',
        boolean
      >
    >
  >;
  /** Envoy's `response_code_details`. */
  readonly details: string;
}

const broken = ({ flags }: Answer): boolean =>
  flags.upstreamConnectionTermination === true ||
  flags.upstreamRemoteReset === true ||
  flags.upstreamConnectionFailure === true ||
  flags.upstreamProtocolError === true;

const late = ({ flags }: Answer): boolean =>
  flags.upstreamRequestTimeout === true || flags.streamIdleTimeout === true || flags.durationTimeout === true;

const ofEnded = (answer: Answer): readonly [Result, Reason | undefined] => {
  if (answer.flags.upstreamMaxStreamDurationReached === true) return ['closed', 'age'];
  if (broken(answer)) return ['cut', 'broken'];
  return late(answer) ? ['cut', 'timeout'] : ['closed', undefined];
};

const ofFailed = (answer: Answer): Reason => {
  const { flags, transportFailure } = answer;
  if (transportFailure) return 'tls';
  if (flags.noHealthyUpstream === true || flags.noClusterFound === true) return 'no-endpoint';
  if (flags.upstreamOverflow === true) return 'overflow';
  if (flags.upstreamConnectionFailure === true) return 'unreachable';
  if (broken(answer)) return 'broken';
  return late(answer) ? 'timeout' : 'refused';
};

/** Bounds of the far gateway. */
const bounds: readonly Reason[] = ['grant', 'rate'];
/** How Envoy names the bound that this gateway itself set. */
const ownBound = 'local_rate_limited';
const ruleText = /^rbac_access_denied_matched_policy\[(.*)\]$/;
const loopRule = 'loop';

/** The rule by which this gateway refused, in its own words; undefined: it was none of its rules. */
export const ruleOf = (details: string): string | undefined => {
  const rule = ruleText.exec(details)?.[1];
  return rule === loopRule ? undefined : rule;
};

/**
 * Why it was refused. What the far gateway says counts only where it was the far one that answered: it could claim that a bound or a rule
 * of ours was reached.
 */
const ofForbidden = (details: string): Reason => {
  if (ruleOf(details) !== undefined) return 'policy';
  return ruleText.test(details) ? 'loop' : 'forbidden';
};

const ofBound = (refused: string | undefined, details: string): Reason => {
  const own = details.includes(ownBound);
  if (own && refused === 'source') return 'source';
  return bounds.find((reason) => reason === refused) ?? 'limit';
};

/** What became of a connection that has ended, and why. */
export const outcomeOf = (answer: Answer): readonly [Result, Reason | undefined] => {
  const { status, established, refused, details, flags } = answer;
  if (established) return ofEnded(answer);
  switch (status) {
    case 403:
      return ['denied', ofForbidden(details)];
    case 404:
      return ['denied', 'not-exported'];
    case 429:
      return ['denied', ofBound(refused, details)];
    case 0:
      if (flags.downstreamProtocolError === true) return ['denied', 'malformed'];
      return broken(answer) || flags.noHealthyUpstream === true ? ['failed', ofFailed(answer)] : ['left', 'left'];
    default:
      if (flags.downstreamProtocolError === true) return ['denied', 'malformed'];
      return status >= 400 && status < 500 ? ['denied', 'refused'] : ['failed', ofFailed(answer)];
  }
};
