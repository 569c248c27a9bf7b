/** `isthmus explain`: where a service's traffic goes and why, for somebody who was not there. */
import { explainPast, placementText } from '../controller/explaining_past.ts';
import { percentText } from '../controller/wording.ts';
import { IsthmusError } from '../core/errors.ts';
import type { ChangeReport, DecisionReport, ExplainReport, StandingReport } from '../core/failover_report.ts';
import { decisionsOf, mergeDecisions } from './decisions.ts';
import { denialRow } from './denials_text.ts';
import { age, aligned, type Format, paint, paintState, print, printData, table, wrap } from './output.ts';
import { askAll, type ReachOptions } from './reach.ts';
import { shortTime, timeOf } from './times.ts';

const tier = (row: StandingReport): string => (row.local ? 'local' : row.tier === null ? '' : String(row.tier));
const share = ({ sharePercent }: StandingReport): string => percentText(sharePercent).padStart(5);
const ready = ({ ready: some, total }: StandingReport): string =>
  some === null || total === null ? '' : `${some}/${total}`;
const until = (seconds: number | null): string => (seconds === null ? '' : `in ${age(seconds)}`);
const ageOf = (seconds: number | null): string => (seconds === null ? '' : age(seconds));

const rows = ({ standings }: ExplainReport, wide: boolean): string =>
  table(
    [
      ...['CLUSTER', 'TIER', 'SHARE', ...(wide ? ['WEIGHT'] : []), 'STATE', 'AGE', 'REASON', 'READY', 'UNTIL'],
      ...(wide ? ['DETAIL'] : []),
    ],
    standings.map((row) => [
      row.member,
      tier(row),
      row.sharePercent > 0 ? paint('bold', share(row)) : share(row),
      ...(wide ? [percentText(row.weightPercent)] : []),
      paintState(row.state),
      ageOf(row.ageSeconds),
      row.reason,
      ready(row),
      until(row.untilSeconds),
      ...(wide ? [row.detail] : []),
    ]),
  );

const details = ({ standings }: ExplainReport): string[] => {
  const said = standings.filter((row) => row.detail !== '' && row.reason !== 'Healthy' && row.reason !== 'NotReady');
  return said.length === 0 ? [] : [aligned(said.map((row) => [row.member, row.detail]))];
};

const section = (title: string, lines: readonly (readonly string[])[]): string[] =>
  lines.length === 0 ? [] : [`${paint('bold', title)}\n${aligned(lines)}`];

/** Before → after of a decision, as words; empty when it has neither. */
const movement = ({ before, after }: DecisionReport, self: string): string => {
  const text = (value: DecisionReport['after']): string => (value === null ? '' : placementText(value, self));
  if (before === null || after === null) return text(after ?? before);
  return text(before) === text(after) ? text(after) : `${text(before)} → ${text(after)}`;
};

/** One decision a line: when, what, of whom, why, by whom, where to find it. */
export const decisionRow = (decision: DecisionReport, self: string, nowIso: string): string[] => {
  const { kind, member, rule, detail, author, entry, observed } = decision;
  const moved = movement(decision, self);
  return [
    shortTime(decision.at, nowIso),
    `${kind}${observed ? ' (observed)' : ''}`,
    member ?? '',
    `${moved === '' ? '' : `${moved}; `}${rule}${detail === '' ? '' : `: ${detail}`} (by ${author}${entry === '' ? '' : `, entry ${entry}`})`,
  ];
};

const changeRow = ({ inSeconds, what, command }: ChangeReport, past: boolean): string[] => {
  const when = inSeconds === null ? 'when' : past ? `${age(inSeconds)} later` : `in ${age(inSeconds)}`;
  return [when, `${what}${command === null ? '' : `: ${command}`}`];
};

export const renderExplain = (report: ExplainReport, wide: boolean): string => {
  const past = report.source === 'journal';
  const { policy } = report;
  const parts = [
    wrap(report.headline, '  '),
    ...(report.standings.length === 0 ? [] : [[rows(report, wide), ...(wide ? [] : details(report))].join('\n')]),
    ...(report.notes.length === 0 ? [] : [report.notes.map((note) => wrap(`note: ${note}`, '  ')).join('\n')]),
    ...section(
      `Policy ${policy.name}${policy.mode === 'observe' ? ' (observes only)' : ''}`,
      policy.lines.map(({ field, value, effect }) => [field, `${value}${effect === '' ? '' : ` — ${effect}`}`]),
    ),
    ...section(
      'Rights at the egress',
      (report.rights ?? []).map((line) => [line]),
    ),
    ...section('Denied in the last 10 minutes', (report.denied ?? []).map(denialRow)),
    ...section(
      past ? 'Guards that held then' : 'Guards that hold',
      report.held.map(({ guard, member, detail }) => [guard, member ?? '', detail]),
    ),
    ...section(
      past ? 'What came next' : 'What would change it',
      report.changes.map((change) => changeRow(change, past)),
    ),
    ...section(
      past ? 'Decisions until then, newest first' : 'Last decisions, newest first',
      report.decisions.map((decision) => decisionRow(decision, report.from, report.at)),
    ),
  ];
  return parts.join('\n\n');
};

export interface ExplainOptions extends ReachOptions {
  readonly from?: string;
  readonly at?: string;
  readonly output: Format;
}

const shownDecisions = 8;
const pastMax = 500;

/** Of now: the word of the replica that decides, with what any of them decided. */
const presentReport = async (service: string, options: ExplainOptions): Promise<ExplainReport> => {
  const query = new URLSearchParams({ service });
  if (options.from !== undefined) query.set('from', options.from);
  const reports = (await askAll(options, `/v1/explain?${query}`, 15_000)) as ExplainReport[];
  const report = reports.find(({ deciding }) => deciding) ?? reports[0]!;
  const decisions = mergeDecisions(reports.map((one) => one.decisions));
  return { ...report, decisions: decisions.slice(0, shownDecisions) };
};

/** Of the past: what the journals of all replicas say. */
const pastReport = async (service: string, at: string, options: ExplainOptions): Promise<ExplainReport> => {
  const atWallMs = timeOf('--at', at, Date.now());
  const [before, after] = await Promise.all([
    decisionsOf(options, { service, until: atWallMs, first: 'newest', limit: pastMax }),
    decisionsOf(options, { service, since: atWallMs + 1, first: 'oldest', limit: pastMax }),
  ]);
  const { from } = options;
  if (from !== undefined && from !== before.member) {
    throw new IsthmusError('usage/invalid', `--from "${from}": another cluster keeps a journal of its own`, {
      hint: `isthmus explain ${service} --at ${at} --context <the context of ${from}>`,
    });
  }
  return explainPast({
    service,
    self: before.member,
    atWallMs,
    before: before.decisions,
    after: after.decisions,
  });
};

export const explainCommand = async (service: string, options: ExplainOptions): Promise<void> => {
  const report =
    options.at === undefined ? await presentReport(service, options) : await pastReport(service, options.at, options);
  if (options.output === 'json' || options.output === 'yaml') printData(options.output, report);
  else print(renderExplain(report, options.output === 'wide'));
};
