/**
 * `isthmus explain`: where a service's traffic goes and why, from the state that serves it. What was known in the past is made from
 * the journal in `explaining_past.ts`.
 *
 * Nothing is decided here, and nothing is remembered for the sake of explaining: rows come from the plan, the reasons from the
 * verdicts, and what is said of the future from the policy. What the plan does not know, the reader is told that it is not known.
 */

import { IsthmusError } from '../core/errors.ts';
import type { DecisionReport, ExplainReport, HoldReport } from '../core/failover_report.ts';
import type { ServiceKey } from '../core/names.ts';
import { span } from '../core/span.ts';
import type { GuardHold } from '../failover/plan.ts';
import { importName, namespaceOf } from '../federation/imports.ts';
import type { ServiceView } from '../federation/view.ts';
import type { HeldShown } from '../federation/withdrawals.ts';
import { changesOf } from './changes.ts';
import { clientOf, estimatedRows, type Opinion } from './elsewhere.ts';
import { headlineOf } from './headline.ts';
import { policyLines } from './policy_lines.ts';
import { type Standings, type StandingsInput, standingsOf } from './standings.ts';
import { listed } from './wording.ts';

/** A person’s standing order to decide nothing. */
export interface Frozen {
  readonly author: string;
  readonly reason: string;
  readonly sinceMs: number;
}

export interface ExplainInput extends StandingsInput {
  readonly wallMs: number;
  /** Whether this replica decides. */
  readonly deciding: boolean;
  readonly frozen: Frozen | undefined;
  /** Since our own manifest was read back, ms; undefined: never. */
  readonly readBackMs: number | undefined;
  /** What members withdrew and is held, by member. */
  readonly withdrawals: ReadonlyMap<string, readonly HeldShown[]>;
  /** What the other members publish of their verdicts. */
  readonly opinions: ReadonlyMap<string, Opinion>;
  /** Age of a member's records, ms; undefined: never seen. */
  ageMs(member: string): number | undefined;
  /** Services that have a named signal for gray failures. */
  hasGraySignal(service: ServiceKey): boolean;
  /** Of this service and of the members that export it, newest first. */
  readonly decisions: readonly DecisionReport[];
}

export const holdReport = (hold: GuardHold): HoldReport => ({
  guard: hold.guard,
  member: hold.member ?? null,
  detail: hold.detail,
});

export const isoTime = (wallMs: number): string => new Date(wallMs).toISOString();

const shownDecisions = 8;

const importHint = (key: ServiceKey): string =>
  `to import it: kubectl label namespace ${namespaceOf(key)} ${importName}=true`;

const notImported = (key: ServiceKey, { view }: ExplainInput): string[] => {
  const offered = view.notImported?.get(key);
  if (offered === undefined) return [];
  return [`${listed(offered)} export it too, and it is not imported here; ${importHint(key)}.`];
};

/** @throws IsthmusError usage/invalid, with names that are like it */
export const findService = (key: ServiceKey, input: Pick<StandingsInput, 'view'>): ServiceView => {
  const found = input.view.services.get(key);
  if (found !== undefined) return found;
  const offered = input.view.notImported?.get(key);
  if (offered !== undefined) {
    const message = `${key} is exported by ${listed(offered)}, and ${input.view.self} does not import it: nothing here leads there`;
    throw new IsthmusError('service/not-imported', message, { hint: importHint(key), subject: { service: key } });
  }
  const name = key.slice(key.indexOf('/') + 1);
  const like = [...input.view.services.keys()].filter((k) => k.endsWith(`/${name}`)).slice(0, 3);
  throw new IsthmusError('usage/invalid', `no service "${key}" in ${input.view.self} or among what its peers export`, {
    hint: like.length > 0 ? `did you mean ${listed(like)}?` : 'see the services in `isthmus status`',
    subject: { field: 'service', value: key },
  });
};

const portLines = ({ plan }: Standings): string[] =>
  [...(plan?.ports ?? [])].map(([port, tiers]) => {
    const who = tiers.flat().map((cell) => cell.member);
    return who.length === 0
      ? `Port ${port} is offered by no other cluster.`
      : `Port ${port} is offered by ${listed(who)} only.`;
  });

/** What members withdrew of this service and is kept. */
const heldOf = (service: ServiceKey, { withdrawals }: ExplainInput): (HeldShown & { readonly member: string })[] =>
  [...withdrawals].flatMap(([member, all]) =>
    all.filter((one) => one.service === service).map((held) => ({ ...held, member })),
  );

const withdrawn = (service: ServiceKey, input: ExplainInput): string[] =>
  heldOf(service, input).map(({ member, sinceMs, deadlineMs, reason }) => {
    const until = span(deadlineMs - input.nowMs);
    const sooner =
      reason === 'Mass' ? `or isthmus confirm-withdrawal --cluster ${member}` : 'or its gateway refuses a probe of it';
    return `${member} withdrew it ${span(input.nowMs - sinceMs)} ago; it is kept for ${until} more, ${sooner}.`;
  });

const notesOf = (standings: Standings, input: ExplainInput): string[] => {
  const { service, policy, plan } = standings;
  const { frozen, nowMs } = input;
  const silent = policy.thresholds.silentMs;
  const frozenLine = (f: Frozen): string => {
    const why = f.reason === '' ? '' : ` (“${f.reason}”)`;
    return `Decisions are frozen since ${span(nowMs - f.sinceMs)} by ${f.author}${why}: verdicts go on, nothing is moved.`;
  };
  const readBack = input.readBackMs;
  return [
    ...(frozen === undefined ? [] : [frozenLine(frozen)]),
    ...(policy.mode === 'observe' ? ['The policy only observes: what it would do is journalled, and not done.'] : []),
    ...(readBack === undefined || readBack > silent
      ? ['The store does not answer: what is shown of other clusters is what was last known.']
      : []),
    ...notImported(service.key, input),
    ...(service.unsupported === undefined ? [] : [`It has no path to other clusters: ${service.unsupported.message}.`]),
    ...(plan?.failFast === true ? ['Nothing is left, and the policy wishes calls to fail at once.'] : []),
    ...withdrawn(service.key, input),
    ...portLines(standings),
    ...(input.hasGraySignal(service.key)
      ? []
      : [
          'No gray signal: a cell that accepts calls and answers them badly is not noticed (annotation isthmus.dev/probe-path, or isthmus.dev/metric-query).',
        ]),
  ];
};

const base = (input: ExplainInput, service: ServiceKey) =>
  ({
    apiVersion: 'isthmus.dev/v1',
    kind: 'Explain',
    service,
    at: isoTime(input.wallMs),
    deciding: input.deciding,
  }) as const;

/** The view of this cluster's own callers. */
export const explain = (key: ServiceKey, input: ExplainInput): ExplainReport => {
  const standings = standingsOf(findService(key, input), input);
  const { rows, policy, plan } = standings;
  const { partialSpill } = input.policies.capabilities;
  const from = input.view.self;
  const withdrawals = heldOf(key, input).map(({ member, deadlineMs, reason }) => {
    const untilSeconds = Math.max(0, deadlineMs - input.nowMs) / 1000;
    return { member, untilSeconds, mass: reason === 'Mass' };
  });
  const mass = withdrawals.some((one) => one.mass) ? input.policies.default.thresholds : undefined;
  return {
    ...base(input, key),
    from,
    source: 'now',
    headline: headlineOf({ service: key, from, rows, failFast: plan?.failFast ?? false }),
    notes: notesOf(standings, input),
    standings: rows,
    policy: {
      name: policy.name,
      mode: policy.mode,
      lines: policyLines(policy, rows, plan?.held ?? [], partialSpill, mass),
    },
    held: (plan?.held ?? []).map(holdReport),
    changes: changesOf({
      service: key,
      from,
      rows,
      policy,
      partialSpill,
      frozen: input.frozen !== undefined,
      withdrawals,
    }),
    decisions: input.decisions.slice(0, shownDecisions),
  };
};

/** The view of another cluster's callers, from what that cluster publishes. */
export const explainFrom = (key: ServiceKey, from: string, input: ExplainInput): ExplainReport => {
  if (from === input.view.self) return explain(key, input);
  const ask = `isthmus explain ${key} --context <the context of ${from}>`;
  const known = [...input.view.members.keys()].sort();
  if (!input.view.members.has(from)) {
    throw new IsthmusError('usage/invalid', `--from "${from}" is no member of the cluster set`, {
      hint: `it has ${listed(known)}`,
      subject: { field: 'from', value: from },
    });
  }
  const service = findService(key, input);
  const policy = input.policies.default;
  const { view, opinions } = input;
  const rows = estimatedRows(service, clientOf(from, { view, policy, opinions }), view);
  const opinion = opinions.get(from);
  const age = input.ageMs(from);
  const { partialSpill } = input.policies.capabilities;
  const source =
    opinion === undefined ? `${from} publishes no verdicts` : `These are the verdicts that ${from} publishes`;
  return {
    ...base(input, key),
    from,
    source: 'record',
    headline: headlineOf({ service: key, from, rows, failFast: false }),
    notes: [
      `${source}${age === undefined ? '' : ` (its records were fresh ${span(age)} ago)`}; shares are estimated by the cluster set’s order, ` +
        'without policies of its own and without endpoints that it does not export.',
      `For its own answer: ${ask}`,
      ...(opinion?.frozen === true ? [`Decisions are frozen in ${from}.`] : []),
      ...(opinion !== undefined && opinion.more > 0
        ? [`${opinion.more} more of its verdicts did not fit into its record.`]
        : []),
    ],
    standings: rows,
    policy: {
      name: policy.name,
      mode: policy.mode,
      lines: policyLines(policy, rows, [], partialSpill).slice(0, 1),
    },
    held: [],
    changes: [],
    decisions: [],
  };
};
