/**
 * The one sentence: who answers a service's calls, and why it is not somebody who would come before.
 *
 * Made from the same rows that are shown under it, so that the two cannot disagree. A sentence for each combination of states was
 * passed over: there are too many, and the one that matters at night is the one that nobody wrote.
 */
import type { StandingReport } from '../core/failover_report.ts';
import { because, isReason, listed, percentText } from './wording.ts';

export interface HeadlineInput {
  readonly service: string;
  readonly from: string;
  /** In the order in which the policy wishes them. */
  readonly rows: readonly StandingReport[];
  readonly failFast: boolean;
}

/** At most so many clusters are excused in one sentence; the table has all. */
const excusesMax = 2;

const cause = (row: StandingReport): string => {
  const words = isReason(row.reason) ? because(row.reason, row) : row.reason;
  const state = row.state === 'fresh' || row.state === 'unknown' ? '' : `${row.member} is ${row.state}: `;
  // The number of endpoints is in the words already.
  const detail = row.detail === '' || row.reason === 'NotReady' ? '' : ` (${row.detail})`;
  // A fresh cell is out for something that is no verdict: its name takes the place of "it".
  if (state !== '') return `${state}${words}${detail}`;
  const named = words.startsWith('it ')
    ? words.replace(/^it /, `${row.member} `)
    : words.replace(/\bits\b/, `${row.member}’s`);
  return `${named}${detail}`;
};

/** Those that the policy would rather have than what serves, and that get less than they would. */
export const passedOver = (rows: readonly StandingReport[]): StandingReport[] => {
  const last = rows.findLastIndex((row) => row.sharePercent > 0);
  const before = last < 0 ? rows : rows.slice(0, last + 1);
  return before.filter((row) => row.sharePercent === 0 || (row.weightPercent < 100 && row.reason !== 'Healthy'));
};

const excuses = (rows: readonly StandingReport[]): string => {
  const shown = rows.slice(0, excusesMax).map((row) => cause(row));
  const more = rows.length - shown.length;
  return `${shown.join('; and ')}${more > 0 ? `; and ${more} more below` : ''}`;
};

const answering = (rows: readonly StandingReport[]): string => {
  const serving = rows.filter((row) => row.sharePercent > 0);
  if (serving.length === 1) return serving[0]!.local ? `${serving[0]!.member} itself` : serving[0]!.member;
  return listed(
    serving.map((row) => `${row.local ? `${row.member} itself` : row.member} (${percentText(row.sharePercent)})`),
  );
};

const ready = (row: StandingReport): string =>
  row.ready === null || row.total === null ? '' : `${row.ready} of ${row.total} endpoints ready`;

/** Nobody was passed over: say what serves, and what stands behind it. */
const undisturbed = (rows: readonly StandingReport[]): string => {
  const serving = rows.filter((row) => row.sharePercent > 0);
  const first = serving[0]!;
  const known = serving.length === 1 && ready(first) !== '' ? `, with ${ready(first)}` : '';
  if (rows.length === 1) return `${known}; no other cluster exports it`;
  return first.local || serving.length > 1
    ? known
    : `, the first in the order that has endpoints${known === '' ? '' : known.replace(', with', ':')}`;
};

export const headlineOf = ({ service, from, rows, failFast }: HeadlineInput): string => {
  const calls = `Calls of ${service} from ${from}`;
  if (rows.length === 0) return `${calls} have nowhere to go: no cluster exports it.`;
  const out = passedOver(rows);
  if (rows.every((row) => row.sharePercent === 0)) {
    const how = failFast ? ' at once, as its policy wishes when every cell is bad' : '';
    return `${calls} are refused${how}, because ${excuses(out)}.`;
  }
  const answered = `${calls} are answered by ${answering(rows)}`;
  return out.length === 0 ? `${answered}${undisturbed(rows)}.` : `${answered}, because ${excuses(out)}.`;
};
