/** Judges expectations by what was observed: pure, so that a verdict can be tested and traced to calls. */
import { clusterOf, outcome } from '../lab/outcome.ts';
import { momentOf, type Observed } from './observed.ts';
import type { Expectation, Mode } from './spec.ts';

export interface Judged {
  readonly what: string;
  readonly met: boolean;
  /** Met by the patience asked for alone: the file's own limit was missed. */
  readonly late?: boolean;
  /** What was seen, with numbers. */
  readonly seen: string;
  readonly figures: readonly {
    readonly name: string;
    readonly value: number;
    readonly unit: string;
    readonly aim: number;
  }[];
}

/**
 * How much a busy machine is allowed: times are multiplied by it, and each step above 1 allows one failed call in a hundred more. 1 is
 * what the file says. Counts of decisions, states and shares are never eased, and figures keep their aims.
 */
export type Patience = number;

type Of<K extends string> = Extract<Expectation, Record<K, unknown>> extends Record<K, infer V> ? V : never;

const time = (s: number): string => `${Math.round(s * 10) / 10} s`;
const spanText = (from: number, until: number): string => `${from}–${until} s`;
const wall = (observed: Observed, from: number, until: number) => ({
  from: observed.zero + momentOf(observed.delays, from) * 1000,
  until: observed.zero + momentOf(observed.delays, until) * 1000,
});
const callsOf = (observed: Observed, mode: Mode) => observed.calls.get(mode) ?? [];

const judgeCalls = (e: Of<'calls'>, observed: Observed, patience: Patience): Judged => {
  const span = wall(observed, e.from, e.until);
  const seen = outcome(callsOf(observed, e.mode), span, 'new');
  const failures = callsOf(observed, e.mode).filter(
    (c) => c.kind === 'new' && !c.ok && c.start >= span.from && c.start < span.until,
  );
  const lastS = Math.max(0, ...failures.map((c) => (c.start - span.from) / 1000));
  const percent = seen.sent === 0 ? 100 : (100 * seen.failed) / seen.sent;
  const morePercent = patience - 1;
  const limits: [
    name: string,
    value: number,
    limit: number | undefined,
    unit: string,
    eased: (limit: number) => number,
  ][] = [
    ['failed', seen.failed, e.failedMax, 'calls', (limit) => limit + (seen.sent * morePercent) / 100],
    ['failed share', percent, e.failedPercentMax, '%', (limit) => limit + morePercent],
    ['longest stall', seen.longestStallMs, e.stallMaxMs, 'ms', (limit) => limit * patience],
    ['last failure after', lastS, e.lastFailureMaxS, 's', (limit) => limit * patience],
  ];
  const asked = limits.flatMap(([name, value, limit, unit, eased]) =>
    limit === undefined ? [] : [{ name, value, limit, unit, bearable: eased(limit) }],
  );
  const enough = seen.sent > 0;
  const missed = asked.some(({ value, limit }) => value > limit);
  const met = enough && asked.every(({ value, bearable }) => value <= bearable);
  return {
    what: `${e.mode} mode, calls begun in ${spanText(e.from, e.until)}: ${asked.map(({ name, limit, unit }) => `${name} ≤ ${limit} ${unit}`).join(', ')}`,
    met,
    late: met && missed,
    seen: enough
      ? `${seen.failed} of ${seen.sent} failed, longest stall ${Math.round(seen.longestStallMs)} ms${failures.length > 0 ? `, last failure after ${time(lastS)} (${Object.keys(seen.errors).slice(0, 3).join('; ')})` : ''}`
      : 'no call was sent',
    figures: asked.map(({ name, value, limit, unit }) => ({
      name: `${e.mode}, ${spanText(e.from, e.until)}: ${name}`,
      value: Math.round(value * 10) / 10,
      unit,
      aim: limit,
    })),
  };
};

const shares = (observed: Observed, mode: Mode, from: number, until: number): Map<string, number> => {
  const { answeredBy } = outcome(callsOf(observed, mode), wall(observed, from, until), 'new');
  const total = Object.values(answeredBy).reduce((a, b) => a + b, 0);
  return new Map(Object.entries(answeredBy).map(([cluster, n]) => [cluster, (100 * n) / total]));
};

const judgeAnswered = (e: Of<'answered'>, observed: Observed): Judged => {
  const seen = shares(observed, e.mode, e.from, e.until);
  const low = Object.entries(e.atLeast ?? {}).filter(([c, p]) => (seen.get(c) ?? 0) < p);
  const high = Object.entries(e.atMost ?? {}).filter(([c, p]) => (seen.get(c) ?? 0) > p);
  const wanted = [
    ...Object.entries(e.atLeast ?? {}).map(([c, p]) => `${c} ≥ ${p} %`),
    ...Object.entries(e.atMost ?? {}).map(([c, p]) => `${c} ≤ ${p} %`),
  ];
  return {
    what: `${e.mode} mode, answers in ${spanText(e.from, e.until)}: ${wanted.join(', ')}`,
    met: seen.size > 0 && low.length === 0 && high.length === 0,
    seen: [...seen].map(([c, p]) => `${c} ${Math.round(p)} %`).join(', ') || 'nobody answered',
    figures: [],
  };
};

const judgeState = (e: Of<'state'>, observed: Observed): Judged => {
  const [from, until] = [momentOf(observed.delays, e.from), momentOf(observed.delays, e.until)];
  const samples = observed.states.filter(
    (s) => s.cluster === e.cluster && s.peer === e.peer && s.at >= from && s.at <= until,
  );
  const good = samples.filter((s) => (e.is as readonly string[]).includes(s.state));
  const states = [...new Set(samples.map((s) => s.state))];
  return {
    what: `${e.peer} is ${e.is.join(' or ')} at ${e.cluster} ${e.always ? 'all of' : 'some time in'} ${spanText(e.from, e.until)}`,
    met: samples.length > 0 && (e.always ? good.length === samples.length : good.length > 0),
    seen:
      samples.length === 0
        ? 'no sample'
        : `${states.join(', ')}${good.length > 0 ? `; first at ${time(good[0]!.at)}` : ''}`,
    figures: [],
  };
};

const judgeJournal = (e: Of<'journal'>, observed: Observed): Judged => {
  const wanted = [e.kind, e.rule, e.service, e.member].filter((v) => v !== undefined).join(' ');
  const what = `journal of ${e.cluster}, ${spanText(e.from, e.until)}: ${wanted || 'entries'}, at least ${e.atLeast}${e.atMost === undefined ? '' : `, at most ${e.atMost}`}`;
  const journal = observed.journals.get(e.cluster);
  if (journal === undefined) return { what, met: false, seen: 'the journal could not be read', figures: [] };
  const { from, until } = wall(observed, e.from, e.until);
  const found = journal.entries.filter(
    (entry) =>
      entry.wallMs >= from &&
      entry.wallMs <= until &&
      (e.kind === undefined || entry.kind === e.kind) &&
      (e.rule === undefined || entry.rule === e.rule) &&
      (e.service === undefined || entry.service === e.service) &&
      (e.member === undefined || entry.member === e.member),
  );
  return {
    what,
    met: found.length >= e.atLeast && (e.atMost === undefined || found.length <= e.atMost),
    seen: `${found.length}${found[0] === undefined ? '' : `: ${found[0].detail}`}`,
    figures: [],
  };
};

const judgeVerifies = ({ cluster }: Of<'journalVerifies'>, observed: Observed): Judged => {
  const journal = observed.journals.get(cluster);
  return {
    what: `journal of ${cluster} verifies`,
    met: journal !== undefined && journal.verified === undefined,
    seen:
      journal === undefined
        ? 'the journal could not be read'
        : (journal.verified ?? `${journal.entries.length} entries, whole`),
    figures: [],
  };
};

const judgeShifted = (e: Of<'shifted'>, observed: Observed, patience: Patience): Judged => {
  const { from, until } = wall(observed, e.from, e.until);
  const calls = callsOf(observed, e.mode).filter((c) => c.kind === 'new' && c.start >= from && c.start < until);
  const wrong = calls.filter((c) => !c.ok || !e.to.includes(clusterOf(c.answeredBy)));
  const lastS = Math.max(0, ...wrong.map((c) => (c.start - from) / 1000));
  // The span must end calm, else it never shifted.
  const calm = calls.some((c) => (c.start - from) / 1000 > lastS);
  return {
    what: `${e.mode} mode: from ${e.from} s on all answers come from ${e.to.join(' or ')} within ${e.withinS} s`,
    met: calls.length > 0 && calm && lastS <= e.withinS * patience,
    late: calls.length > 0 && calm && lastS > e.withinS && lastS <= e.withinS * patience,
    seen: calm ? `after ${time(lastS)}` : 'never',
    figures: [
      {
        name: `${e.mode}: shifted to ${e.to.join('+')} after`,
        value: Math.round(lastS * 10) / 10,
        unit: 's',
        aim: e.withinS,
      },
    ],
  };
};

export const judge = (expectation: Expectation, observed: Observed, patience: Patience = 1): Judged => {
  if ('calls' in expectation) return judgeCalls(expectation.calls, observed, patience);
  if ('answered' in expectation) return judgeAnswered(expectation.answered, observed);
  if ('state' in expectation) return judgeState(expectation.state, observed);
  if ('journal' in expectation) return judgeJournal(expectation.journal, observed);
  if ('journalVerifies' in expectation) return judgeVerifies(expectation.journalVerifies, observed);
  return judgeShifted(expectation.shifted, observed, patience);
};
