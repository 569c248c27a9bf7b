/** What a drain would move, as a table: a row for each cluster that would get more of a service than it has now. */
import { percentText } from '../controller/wording.ts';
import type { DryRunReport, LandingReport, MoveReport } from '../core/failover_report.ts';
import { age, aligned, paint, table, wrap } from './output.ts';

const rate = (perSecond: number | null, sign: boolean): string => {
  if (perSecond === null) return 'unknown';
  const number = perSecond >= 10 ? Math.round(perSecond) : Number(perSecond.toFixed(1));
  return `${sign && perSecond > 0 ? '+' : ''}${number}/s`;
};

const change = (landing: LandingReport): string =>
  `${landing.member} ${percentText(landing.beforePercent).replace(' %', '')} → ${percentText(landing.afterPercent)}`;

const client = (move: MoveReport): string => (move.estimated ? `${move.client} ~` : move.client);

/** Whether what a cluster would get more is above what it has left, as far as both are known. */
const over = ({ morePerSecond, headroomPerSecond }: LandingReport): boolean =>
  morePerSecond !== null && headroomPerSecond !== null && morePerSecond > headroomPerSecond;

const rowsOf = (move: MoveReport): string[][] => {
  const gain = move.landings.filter((l) => l.afterPercent > l.beforePercent + 0.5);
  const lose = move.landings.filter((l) => l.beforePercent > l.afterPercent + 0.5);
  const from = lose.map(change).join(' + ');
  if (gain.length === 0) {
    const stays = move.landings.filter((l) => l.afterPercent > 0);
    const onto =
      lose.length > 0
        ? 'nowhere: refused'
        : stays.length === 0
          ? 'nowhere'
          : `stays: ${move.held.map((h) => h.guard).join(', ')}`;
    const at = from === '' ? stays.map((l) => `${l.member} ${percentText(l.afterPercent)}`).join(' + ') : from;
    return [[move.service, client(move), at, onto, '', '', '']];
  }
  return gain.map((landing) => {
    const headroom = landing.headroomPerSecond === null ? 'not declared' : rate(landing.headroomPerSecond, false);
    return [
      move.service,
      client(move),
      from,
      change(landing),
      landing.ready === null ? '' : `${landing.ready}/${landing.total}`,
      rate(landing.morePerSecond, true),
      over(landing) ? paint('red', `${headroom} (less)`) : move.estimated ? 'its own' : headroom,
    ];
  });
};

const summary = (report: DryRunReport): string => {
  const moved = report.moves.filter((move) => move.movedPercent >= 0.5);
  if (moved.length === 0) return report.blocked ? 'Guards would hold back all of it.' : 'No traffic would move.';
  const services = new Set(moved.map((move) => move.service)).size;
  const clients = new Set(moved.map((move) => move.client)).size;
  const known = moved.flatMap((move) => (move.perSecond === null ? [] : [move.perSecond]));
  const load =
    known.length === 0
      ? 'how many calls that is has not been measured'
      : `${rate(
          known.reduce((sum, n) => sum + n, 0),
          false,
        )} measured`;
  const count = (n: number, word: string): string => `${n} ${word}${n === 1 ? '' : 's'}`;
  return `Calls of ${count(services, 'service')} from ${count(clients, 'cluster')} would move: ${load}. ${count(report.unchanged, 'service')} of ${report.member}’s callers stay.`;
};

export const renderDryRun = (report: DryRunReport, wide: boolean): string => {
  const { command, member } = report;
  const moves = wide ? report.moves : report.moves.filter((move) => move.movedPercent >= 0.5 || move.held.length > 0);
  const rows = moves.flatMap(rowsOf);
  const ramp = report.ramp
    .map((point) => `${point.percent} % ${point.afterSeconds < 0.5 ? 'at once' : `after ${age(point.afterSeconds)}`}`)
    .join(', ');
  const notes = [
    ...(moves.some((move) => move.estimated)
      ? ['~ decides for itself: estimated from the records and verdicts that it publishes, by the cluster set’s order.']
      : []),
    ...report.notes,
  ];
  return [
    paint('bold', `Dry run: ${command.kind} ${command.target}, as ${member} would do it now. Nothing was changed.`),
    ...(rows.length === 0 ? [] : [table(['SERVICE', 'CALLS FROM', 'FROM', 'ONTO', 'READY', 'ADDS', 'HEADROOM'], rows)]),
    [wrap(summary(report), '  '), ...(ramp === '' ? [] : [wrap(`Ramp: ${ramp}.`, '  ')])].join('\n'),
    ...(report.held.length === 0
      ? []
      : [
          `${paint('bold', 'Guards that would hold')}\n${aligned(report.held.map((h) => [h.guard, h.member ?? '', h.detail]))}`,
        ]),
    ...(notes.length === 0 ? [] : [notes.map((note) => wrap(note, '  ')).join('\n')]),
  ].join('\n\n');
};
