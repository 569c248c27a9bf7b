/**
 * What gateways say of themselves on the answer to a CONNECT, so that a trace can name the hop that broke.
 *
 * A caller asks by `x-isthmus-trace: 1`. Each gateway on the way appends one mark to `x-isthmus-hop`, the far one first:
 * `federation;member=us-west;upstream=10.2.0.7:15008;flags=-;details=via_upstream`. One header for all hops was chosen over
 * one header per hop and field: a proxy that does not know the header passes it on, and the order is the order of the path.
 * Values are Envoy's own words (`%RESPONSE_FLAGS%`, `%RESPONSE_CODE_DETAILS%`), so nothing is lost in translation.
 */

export const traceHeader = 'x-isthmus-trace';
export const hopHeader = 'x-isthmus-hop';

/**
 * On a 429: which bound was reached. Of the far gateway `grant`, what its member takes of this service from the caller's member, and
 * `rate`, new tunnels a second of that member altogether; of the caller's own `source`, new tunnels a second of its identity.
 */
export const refusedHeader = 'x-isthmus-refused';
export const refusals = { grant: 'grant', rate: 'rate', source: 'source' } as const;

/**
 * The workload that a gateway carries a CONNECT for, as its certificate named it there. For the far side it is that member's claim.
 */
export const sourceHeader = 'x-isthmus-source';

/** `egress`: the caller's own gateway; `federation`: the far one, from a gateway; `hbone`: the far one, from a ztunnel. */
export const hopRoles = ['egress', 'federation', 'hbone'] as const;
export type HopRole = (typeof hopRoles)[number];

/** Known fields; absent ones were not said. */
export interface HopMark {
  readonly role: HopRole;
  /** The member whose gateway speaks. */
  readonly member?: string;
  /** Which of its gateways. */
  readonly gateway?: string;
  /** Where it sent the CONNECT, or tried to: `ip:port`. */
  readonly upstream?: string;
  /** The member that it chose. */
  readonly to?: string;
  /** Envoy's short flags: `UF`, `UH`, `NR` …; `-` is none. */
  readonly flags?: string;
  readonly details?: string;
  readonly attempts?: string;
  /** Identity that the upstream proved. */
  readonly peer?: string;
}

const fields = ['member', 'gateway', 'upstream', 'to', 'flags', 'details', 'attempts', 'peer'] as const;
type Field = (typeof fields)[number];
const known = new Set<string>(fields);
const start = new RegExp(`(?:^|,)\\s*(?=(?:${hopRoles.join('|')})(?:;|$|,))`);

/** One mark as header text. Values may hold Envoy's `%…%` commands. A `;` inside a value would end it, so it becomes a blank. */
export const hopMark = (role: HopRole, values: Readonly<Partial<Record<Field, string>>>): string =>
  [role, ...Object.entries(values).map(([key, value]) => `${key}=${value.replaceAll(';', ' ')}`)].join(';');

/** The marks in path order: the caller's own gateway first. Unknown roles and fields are left out, never an error. */
export const parseHops = (header: string | readonly string[] | undefined): HopMark[] => {
  if (header === undefined) return [];
  const text = typeof header === 'string' ? header : header.join(',');
  const marks: HopMark[] = [];
  for (const part of text.slice(0, 8_192).split(start)) {
    const [role, ...pairs] = part.split(';');
    const known_ = hopRoles.find((r) => r === role?.trim());
    if (known_ === undefined) continue;
    const values: Partial<Record<string, string>> = {};
    for (const pair of pairs) {
      const at = pair.indexOf('=');
      const key = pair.slice(0, at).trim();
      const value = pair.slice(at + 1).trim();
      if (at > 0 && known.has(key) && value !== '' && value !== '-') values[key] = value;
    }
    marks.push({ role: known_, ...values });
  }
  return marks.reverse();
};
