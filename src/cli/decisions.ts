/** The decisions of all replicas of a cluster, as one list: each replica has in its journal what it decided itself. */
import type { DecisionListReport, DecisionReport } from '../core/failover_report.ts';
import { askAll, type ReachOptions } from './reach.ts';

export interface DecisionsQuery {
  readonly service?: string;
  readonly since?: number;
  readonly until?: number;
  readonly observed?: boolean;
  readonly first?: 'newest' | 'oldest';
  readonly limit?: number;
}

export interface Decisions {
  readonly member: string;
  readonly at: string;
  readonly observing: readonly string[];
  readonly decisions: readonly DecisionReport[];
}

/** Each decision once, in the order that was asked for. */
export const mergeDecisions = (
  lists: readonly (readonly DecisionReport[])[],
  first: 'newest' | 'oldest' = 'newest',
): DecisionReport[] => {
  const all = new Map(lists.flat().map((d) => [`${d.replica}|${d.entry}|${d.at}|${d.detail}`, d]));
  const sign = first === 'newest' ? -1 : 1;
  // Of one moment those with the higher number are newer; the sort is stable for the rest.
  return [...all.values()].sort(
    (a, b) => sign * (a.at < b.at ? -1 : a.at > b.at ? 1 : Number(a.entry) - Number(b.entry)),
  );
};

export const decisionsOf = async (options: ReachOptions, query: DecisionsQuery): Promise<Decisions> => {
  const fields = Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]);
  const answers = (await askAll(
    options,
    `/v1/decisions?${new URLSearchParams(fields)}`,
    30_000,
  )) as DecisionListReport[];
  const newest = answers.reduce((a, b) => (a.at >= b.at ? a : b));
  return {
    member: newest.member,
    at: newest.at,
    observing: [...new Set(answers.flatMap((answer) => answer.observing))].sort(),
    decisions: mergeDecisions(
      answers.map((answer) => answer.decisions),
      query.first,
    ),
  };
};
