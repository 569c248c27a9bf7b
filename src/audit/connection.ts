/**
 * A connection across the border, or the attempt at one, as the audit keeps it: the body of one entry.
 *
 * `source` is what a certificate proved to the gateway that tells of it: at the egress and at the hbone listener the workload, at the
 * federation listener the member. What that member says of its workload is its claim, and stands apart as such.
 */

/** `egress`: from here to another member; `ingress`: from another member's gateway; `direct`: from a ztunnel at the hbone listener. */
export type Side = 'egress' | 'ingress' | 'direct';

/**
 * - `open`: it stands; told of those that last.
 * - `closed`: it had a tunnel, and an end in good order.
 * - `cut`: it had a tunnel, which broke.
 * - `denied`: refused, by a rule or a bound: see `reason`.
 * - `failed`: got no tunnel for another reason.
 * - `left`: the caller went before there was an answer.
 */
export const results = ['open', 'closed', 'cut', 'denied', 'failed', 'left'] as const;
export type Result = (typeof results)[number];

export interface Connection {
  readonly side: Side;
  readonly result: Result;
  /** Why, when it is not `open` or `closed`; see `reasons`. */
  readonly reason?: string;
  /** Of a denial by policy: the rule, `<policy>/<number>`; `none`: no rule allows it. */
  readonly rule?: string;
  /** More about it, in Envoy's words. */
  readonly detail?: string;
  /** SPIFFE id, or the member's name at the ingress; empty when none was shown. */
  readonly source: string;
  /** At the ingress: the workload, as the member says. */
  readonly claim?: string;
  /** `ip:port` that it came from. */
  readonly from: string;
  /** `host:port` that was asked for. */
  readonly authority: string;
  /** `namespace/name`, when that is a service that is known here. */
  readonly service?: string;
  /** At the egress: the member that answered, or was tried last. */
  readonly member?: string;
  /** `ip:port` of its gateway, or of our own pod. */
  readonly to?: string;
  /** HTTP status of the CONNECT; 0: there was no answer. */
  readonly status: number;
  /** Tries, when there was more than one. */
  readonly attempts?: number;
  /** When it was asked for, ms since 1970. */
  readonly startMs: number;
  /** From then to this. */
  readonly durationMs: number;
  /** Bytes of the tunnel from the source, and to it. */
  readonly sent: number;
  readonly received: number;
  /** The member calls it a probe. */
  readonly probe?: true;
  /** Our gateway pod that told of it. */
  readonly gateway: string;
  /** Stands for so many that are alike but for their times, ports and services; see `Folding`. */
  readonly count?: number;
}

/** Whether it came to nothing. */
export const withoutTunnel = ({ result }: Connection): boolean => ['denied', 'failed', 'left'].includes(result);

const texts = ['side', 'result', 'source', 'from', 'authority', 'gateway'] as const;
const numbers = ['status', 'startMs', 'durationMs', 'sent', 'received'] as const;
const optionalTexts = ['reason', 'rule', 'detail', 'claim', 'service', 'member', 'to'] as const;
const optionalNumbers = ['attempts', 'count'] as const;

/** Whether the body of an entry, that anybody may have written, is one. */
export const isConnection = (value: unknown): value is Connection => {
  if (typeof value !== 'object' || value === null) return false;
  const of = value as Readonly<Record<string, unknown>>;
  return (
    texts.every((field) => typeof of[field] === 'string') &&
    numbers.every((field) => Number.isFinite(of[field])) &&
    optionalTexts.every((field) => of[field] === undefined || typeof of[field] === 'string') &&
    optionalNumbers.every((field) => of[field] === undefined || Number.isFinite(of[field]))
  );
};
