/** `isthmus failback` and `isthmus confirm-withdrawal`: the word of a person that a decision waits for. */
import type { CommandReport } from '../core/failover_report.ts';
import { authorOf } from './author.ts';
import { confirm, realTerminal, type Terminal } from './confirm.ts';
import { renderCommand } from './drain.ts';
import { type Format, print, printData } from './output.ts';
import { type ReachOptions, sendOne } from './reach.ts';

export interface FailbackOptions extends ReachOptions {
  readonly cluster?: string;
  readonly reason?: string;
  readonly output: Format;
}

const send = async (what: string, body: object, options: FailbackOptions): Promise<void> => {
  const said = { author: await authorOf(options), reason: options.reason ?? '' };
  const report = (await sendOne(options, '/v1/commands', { ...body, ...said }, 30_000)) as CommandReport;
  if (options.output === 'json' || options.output === 'yaml') printData(options.output, report);
  else print(renderCommand(what, report));
};

/** Lets a cluster that is healthy again have its share of a service back; without --cluster, the one that is asked. */
export const failback = (service: string, options: FailbackOptions): Promise<void> => {
  const { cluster } = options;
  const member = cluster === undefined ? {} : { member: cluster };
  const what = `failback of ${service}${cluster === undefined ? '' : ` to ${cluster}`}`;
  return send(what, { kind: 'failback', service, ...member }, options);
};

export const confirmWithdrawal = async (
  options: FailbackOptions & { readonly cluster: string; readonly yes: boolean },
  terminal: Terminal = realTerminal,
): Promise<void> => {
  const { cluster, yes } = options;
  const what = `confirm what ${cluster} withdrew`;
  if (!yes) await confirm(what, cluster, `isthmus confirm-withdrawal --cluster ${cluster} --yes`, terminal);
  await send(`withdrawal of ${cluster}`, { kind: 'confirm-withdrawal', member: cluster }, options);
};
