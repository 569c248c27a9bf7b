/**
 * `isthmus explain --at`: where a service's traffic went at a time in the past, from the journal.
 *
 * The journal has what was decided, with what was before and after; between two decisions nothing moved. So the nearest decision at
 * or before the time tells the placement, and the newest change of each cluster's state tells that. How many endpoints were ready
 * a journal does not say, and nothing is made up: those columns stay empty.
 */

import type {
  ChangeReport,
  DecisionReport,
  ExplainReport,
  PlacementReport,
  StandingReport,
} from '../core/failover_report.ts';
import type { ServiceKey } from '../core/names.ts';
import { span } from '../core/span.ts';
import { cellStates } from '../health/verdict.ts';
import { isoTime } from './explaining.ts';
import { type Shares, sharesOfPlacement } from './shares.ts';
import { listed, percentText } from './wording.ts';

export interface PastInput {
  readonly service: ServiceKey;
  readonly self: string;
  /** The time that is asked about, ms since 1970. */
  readonly atWallMs: number;
  /** Newest first: of the service, and of members and the cluster as a whole, at or before the time. */
  readonly before: readonly DecisionReport[];
  /** Oldest first: the first ones after it. */
  readonly after: readonly DecisionReport[];
}

const shownDecisions = 8;
const shownNext = 3;

const isPlacement = (value: DecisionReport['after']): value is PlacementReport =>
  value !== null && typeof value === 'object';

interface Known {
  readonly placement: PlacementReport;
  readonly decision: DecisionReport;
  /** The decision came later and says what was before it. */
  readonly later: boolean;
}

const known = ({ service, before, after }: PastInput): Known | undefined => {
  const last = before.find((d) => d.service === service && !d.observed && isPlacement(d.after));
  if (last !== undefined) return { placement: last.after as PlacementReport, decision: last, later: false };
  const next = after.find((d) => d.service === service && !d.observed && isPlacement(d.before));
  return next === undefined ? undefined : { placement: next.before as PlacementReport, decision: next, later: true };
};

/** The newest word about each member, of this service before that of the member as a whole. */
const statesOf = ({ service, before }: PastInput): Map<string, DecisionReport> => {
  const states = new Map<string, DecisionReport>();
  for (const d of before) {
    if (d.kind !== 'state' || d.member === null || (d.service !== null && d.service !== service)) continue;
    const newer = states.get(d.member);
    if (newer === undefined || (newer.service === null && d.service === service && isBad(d))) states.set(d.member, d);
  }
  return states;
};

const stateAfter = (d: DecisionReport): string => {
  const word = typeof d.after === 'string' ? d.after : '';
  return (cellStates as readonly string[]).includes(word) ? word : 'unknown';
};
/** The journal's detail begins with whom it is about, which stands in the row already. */
const aboutIt = (d: DecisionReport): string => {
  const who = d.service === null ? `${d.member}: ` : `${d.service} at ${d.member}: `;
  return d.detail.startsWith(who) ? d.detail.slice(who.length) : d.detail;
};
const isBad = (d: DecisionReport): boolean => !['fresh', 'unknown'].includes(stateAfter(d));

const rowsOf = (input: PastInput, placement: PlacementReport | undefined, shares: Shares): StandingReport[] => {
  const states = statesOf(input);
  const tiers = placement?.tiers ?? [];
  const tierOf = (member: string): number =>
    tiers.findIndex((cells) => cells.some((cell) => cell.member === member)) + 1;
  const members = [...new Set([input.self, ...tiers.flat().map((cell) => cell.member), ...states.keys()])];
  return members.map((member) => {
    const state = states.get(member);
    const local = member === input.self;
    const tier = tierOf(member);
    return {
      member,
      local,
      tier: local ? 0 : tier === 0 ? null : tier,
      sharePercent: shares.get(member) ?? 0,
      weightPercent:
        tiers.flat().find((cell) => cell.member === member)?.percent ?? (local ? (placement?.localPercent ?? 100) : 0),
      state: state === undefined ? 'unknown' : stateAfter(state),
      reason: state?.rule ?? '',
      detail: state === undefined ? '' : aboutIt(state),
      ageSeconds: state === undefined ? null : (input.atWallMs - Date.parse(state.at)) / 1000,
      untilSeconds: null,
      ready: null,
      total: null,
    };
  });
};

/** `us-west 100 %`, `us-east itself, with us-west behind it`. */
export const placementText = (placement: PlacementReport | string, self: string): string => {
  if (typeof placement === 'string') return placement;
  const shares = sharesOfPlacement(placement, self);
  if (shares.size === 0) return 'nowhere';
  const name = (member: string): string => (member === self ? `${member} itself` : member);
  const parts = [...shares].map(([member, share]) =>
    shares.size === 1 ? name(member) : `${name(member)} ${percentText(share)}`,
  );
  return listed(parts);
};

const clock = (iso: string): string => `${iso.slice(0, 10)} ${iso.slice(11, 19)}Z`;

const headline = (input: PastInput, found: Known | undefined): string => {
  const at = clock(isoTime(input.atWallMs));
  const calls = `At ${at} calls of ${input.service} from ${input.self}`;
  if (found === undefined) {
    return `${calls} went where ready endpoints were, this cluster’s own first: the journal has no decision about it until then.`;
  }
  const where = placementText(found.placement, input.self);
  const { decision } = found;
  const why = `${decision.rule}${decision.detail === '' ? '' : `: ${decision.detail}`}`;
  if (found.later) return `${calls} went to ${where}: nothing had been decided about it until ${clock(decision.at)}.`;
  const ago = span(input.atWallMs - Date.parse(decision.at));
  const who = decision.author === 'controller' ? 'the controller' : decision.author;
  return `${calls} went to ${where}, as ${who} had decided ${ago} before (${why}).`;
};

const changesAfter = ({ atWallMs, self, service, after }: PastInput): ChangeReport[] =>
  after
    .filter((d) => d.service === null || d.service === service)
    .slice(0, shownNext)
    .map((d) => ({
      inSeconds: (Date.parse(d.at) - atWallMs) / 1000,
      what: `${d.kind}${d.member === null ? '' : ` of ${d.member}`}${d.after === null ? '' : `: ${placementText(d.after, self)}`} (${d.rule})`,
      command: null,
    }));

export const explainPast = (input: PastInput): ExplainReport => {
  const found = known(input);
  const shares: Shares = found === undefined ? new Map() : sharesOfPlacement(found.placement, input.self);
  const freezing = input.before.find((d) => d.kind === 'freeze' || d.kind === 'thaw');
  const rows = rowsOf(input, found?.placement, shares);
  return {
    apiVersion: 'isthmus.dev/v1',
    kind: 'Explain',
    deciding: false,
    service: input.service,
    from: input.self,
    at: isoTime(input.atWallMs),
    source: 'journal',
    headline: headline(input, found),
    notes: [
      'From the journal: what was decided until then. How many endpoints were ready is not in it.',
      ...(freezing?.kind === 'freeze'
        ? [`Decisions were frozen since ${clock(freezing.at)} by ${freezing.author}.`]
        : []),
      ...(input.before.length === 0
        ? ['The journal has nothing that old: nothing was decided yet, or its older files are gone.']
        : []),
      ...(input.before.length > 0 && rows.some((row) => row.state === 'unknown')
        ? ['unknown: no change of that state until then is in what was read of the journal.']
        : []),
    ],
    standings: rows,
    policy: { name: found?.decision.policy ?? '', mode: '', lines: [] },
    held: found === undefined || found.later ? [] : found.decision.guards,
    changes: changesAfter(input),
    decisions: input.before.filter((d) => d.service === null || d.service === input.service).slice(0, shownDecisions),
  };
};
