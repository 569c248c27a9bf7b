/** `isthmus observe`: day by day, what would have been done by policies that only observe. */
import { observeReport, observeSinceMs } from '../controller/observing.ts';
import { IsthmusError } from '../core/errors.ts';
import type { ObservedDay, ObserveReport } from '../core/failover_report.ts';
import { decisionsOf } from './decisions.ts';
import { decisionRow } from './explain.ts';
import { aligned, type Format, paint, print, printData, wrap } from './output.ts';
import type { ReachOptions } from './reach.ts';

const count = (n: number, word: string): string => `${n} ${word}${n === 1 ? '' : 's'}`;

const day = ({ day: date, services }: ObservedDay, report: ObserveReport): string => {
  const today = report.at.slice(0, 10) === date ? ' (today)' : '';
  if (services.length === 0) return `${paint('bold', date)}${today}  nothing`;
  const all = services.reduce((sum, { decisions }) => sum + decisions.length, 0);
  const head = `${paint('bold', date)}${today}  ${count(all, 'decision')} about ${count(services.length, 'service')}`;
  const parts = services.map(({ service, decisions }) => {
    // The day stands above: times need no date.
    const rows = decisions.map((d) => decisionRow({ ...d, observed: false }, report.member, d.at));
    return `  ${service === '' ? 'the cluster as a whole' : service}\n${aligned(rows.map(([first = '', ...rest]) => [`  ${first}`, ...rest]))}`;
  });
  return [head, ...parts].join('\n');
};

export const renderObserve = (report: ObserveReport): string => {
  const { observing, member } = report;
  const who =
    observing.length === 0
      ? `No policy of ${member} only observes now: decisions are carried out.`
      : `In ${member} these policies only observe: ${observing.join(', ')}. Nothing below was done.`;
  return [wrap(who, '  '), ...report.days.map((one) => day(one, report))].join('\n\n');
};

const daysMax = 90;

export const observe = async (options: ReachOptions & { days: string; output: Format }): Promise<void> => {
  const days = Number(options.days);
  if (!/^\d{1,3}$/.test(options.days) || days < 1 || days > daysMax) {
    throw new IsthmusError('usage/invalid', `--days "${options.days}" is not a number of days`, {
      hint: `use 1 to ${daysMax}, for example --days 7`,
    });
  }
  const since = observeSinceMs(Date.now(), days);
  const { member, at, observing, decisions } = await decisionsOf(options, { since, observed: true });
  const report = observeReport({ self: member, nowWallMs: Date.parse(at), days, decisions, observing });
  if (options.output === 'json' || options.output === 'yaml') printData(options.output, report);
  else print(renderObserve(report));
};
