/**
 * Decisions as the journal has them, for explain and observe. What was written and then not carried out (a `void` entry says so) is left
 * out: it moved nothing.
 */
import type { DecisionReport, HoldReport, PlacementReport } from '../core/failover_report.ts';
import type { ServiceKey } from '../core/names.ts';
import type { Decision } from '../failover/decision.ts';
import type { Entry } from '../journal/entry.ts';
import type { EntryFilter } from '../journal/reading.ts';
import { holdReport, isoTime } from './explaining.ts';

/** Which decisions are wanted from the journal. */
export interface DecisionQuery {
  /** Decisions about this service, and those about no service in particular; undefined: all. */
  readonly service: ServiceKey | undefined;
  readonly fromWallMs: number | undefined;
  readonly untilWallMs: number | undefined;
  readonly observed: boolean | undefined;
  readonly newestFirst: boolean;
  readonly limit: number;
}

/** The part of the journal's reader that is used. */
export interface EntrySource {
  /** Oldest first. */
  entries(filter: EntryFilter): Promise<readonly { readonly entry: Entry }[]>;
}

/** An entry that takes back others is written this soon after them. */
const voidWithinMs = 60_000;

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const nameOr = (value: unknown): string | null => (typeof value === 'string' ? value : null);
const list = (value: unknown): readonly Record<string, unknown>[] =>
  Array.isArray(value) ? value.filter((item) => typeof item === 'object' && item !== null) : [];

const place = (value: unknown): PlacementReport | string | null => {
  if (typeof value === 'string') return value;
  if (typeof value !== 'object' || value === null) return null;
  const { localPercent, tiers } = value as Record<string, unknown>;
  if (typeof localPercent !== 'number' || !Array.isArray(tiers)) return null;
  const cell = (one: Record<string, unknown>) => ({
    member: text(one['member']),
    weight: Number(one['weight'] ?? 0),
    percent: Number(one['percent'] ?? 0),
  });
  return { localPercent, tiers: tiers.map((cells) => list(cells).map(cell)) };
};

const hold = (value: Record<string, unknown>): HoldReport => ({
  guard: text(value['guard']),
  member: nameOr(value['member']),
  detail: text(value['detail']),
});

/**
 * The body of an entry, as far as it is a decision: it may have been written by another version, or be one that was too long and cut.
 * Undefined: it is none.
 */
export const decisionReport = (entry: Entry): DecisionReport | undefined => {
  if (entry.kind !== 'decision' || typeof entry.body !== 'object' || entry.body === null) return undefined;
  const body = entry.body as Record<string, unknown>;
  return {
    at: isoTime(entry.wallMs),
    entry: String(entry.sequence),
    replica: entry.replica,
    kind: text(body['kind']) || 'decision',
    service: nameOr(body['service']),
    member: nameOr(body['member']),
    rule: text(body['rule']),
    detail:
      body['shortened'] === true ? 'too long for the journal; its beginning is in the entry' : text(body['detail']),
    author: text(body['author']),
    guards: list(body['guards']).map(hold),
    before: place(body['before']),
    after: place(body['after']),
    observed: body['observed'] === true,
    policy: text(body['policy']),
  };
};

/** A decision just made, as it will be read back. */
export const freshReport = (decision: Decision, wallMs: number, replica: string): DecisionReport => ({
  at: isoTime(wallMs),
  entry: '',
  replica,
  kind: decision.kind,
  service: decision.service ?? null,
  member: decision.member ?? null,
  rule: decision.rule,
  detail: decision.detail,
  author: decision.author,
  guards: decision.guards.map(holdReport),
  before: decision.before ?? null,
  after: decision.after ?? null,
  observed: decision.observed,
  policy: decision.policy,
});

const concerns = ({ entry }: { readonly entry: Entry }, query: DecisionQuery): boolean => {
  if (entry.kind === 'void') return true;
  if (query.untilWallMs !== undefined && entry.wallMs > query.untilWallMs) return false;
  const decision = decisionReport(entry);
  if (decision === undefined) return false;
  if (query.observed !== undefined && decision.observed !== query.observed) return false;
  return query.service === undefined || decision.service === null || decision.service === query.service;
};

/** Numbers of the entries that a later one takes back, by chain. */
const voided = (entries: readonly { readonly entry: Entry }[]): ReadonlySet<string> => {
  const found = new Set<string>();
  for (const { entry } of entries) {
    if (entry.kind !== 'void') continue;
    const { first, last } = (entry.body ?? {}) as Record<string, unknown>;
    if (typeof first !== 'number' || typeof last !== 'number') continue;
    for (let n = first; n <= last && n < first + 1_000; n++) found.add(`${entry.chain}/${n}`);
  }
  return found;
};

export const journalDecisions = async (
  journal: EntrySource,
  query: DecisionQuery,
): Promise<readonly DecisionReport[]> => {
  const entries = await journal.entries({
    sinceMs: query.fromWallMs,
    untilMs: query.untilWallMs === undefined ? undefined : query.untilWallMs + voidWithinMs,
    limit: query.limit,
    keep: query.newestFirst ? 'newest' : 'oldest',
    match: (found) => concerns(found, query),
  });
  const gone = voided(entries);
  const decisions = entries.flatMap(({ entry }) => {
    const decision = gone.has(`${entry.chain}/${entry.sequence}`) ? undefined : decisionReport(entry);
    return decision === undefined ? [] : [decision];
  });
  return query.newestFirst ? decisions.reverse() : decisions;
};
