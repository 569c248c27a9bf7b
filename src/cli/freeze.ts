/** `isthmus freeze` and `thaw`: stops deciding, and goes on serving what was decided. */
import type { CommandReport } from '../core/failover_report.ts';
import { authorOf } from './author.ts';
import { renderCommand } from './drain.ts';
import { type Format, print, printData } from './output.ts';
import { type ReachOptions, sendOne } from './reach.ts';

export interface FreezeOptions extends ReachOptions {
  readonly reason?: string;
  readonly output: Format;
}

const effect = {
  freeze: 'Verdicts go on and are shown; nothing is moved until: isthmus thaw',
  thaw: 'Decisions go on from what is known now.',
} as const;

export const freezeCommand = async (kind: 'freeze' | 'thaw', options: FreezeOptions): Promise<void> => {
  const body = { kind, author: await authorOf(options), reason: options.reason ?? '' };
  const report = (await sendOne(options, '/v1/commands', body, 30_000)) as CommandReport;
  if (options.output === 'json' || options.output === 'yaml') printData(options.output, report);
  else print(`${renderCommand(kind, report)}\n${effect[kind]}`);
};
