/** `isthmus trace`: a traceroute for double HBONE, run by a controller with a certificate of the calling workload. */

import { IsthmusError } from '../core/errors.ts';
import type { TraceReport } from '../core/report.ts';
import { type Format, mark, print, printData, table } from './output.ts';
import { askOne, type ReachOptions } from './reach.ts';

const render = (report: TraceReport): string => {
  const rows = report.hops.map((hop, i) => [
    String(i + 1),
    hop.name,
    hop.address,
    hop.ms === null ? '' : `${hop.ms.toFixed(1)}ms`,
    hop.ok ? 'ok' : 'BROKEN',
    hop.identity,
    hop.detail,
  ]);
  return [
    `${report.from} → ${report.service} (${report.path})`,
    table(['HOP', 'WHAT', 'ADDRESS', 'TIME', 'RESULT', 'IDENTITY', 'DETAIL'], rows),
    `${mark(report.ok ? 'ok' : 'fail')} ${report.verdict}`,
  ].join('\n');
};

export const traceCommand = async (
  from: string,
  service: string,
  options: ReachOptions & { output: Format; timeout: string },
): Promise<void> => {
  const timeoutMs = Number(options.timeout);
  if (!Number.isInteger(timeoutMs) || timeoutMs < 100 || timeoutMs > 60_000) {
    throw new IsthmusError(
      'usage/invalid',
      `--timeout "${options.timeout}" is not a number of milliseconds from 100 to 60000`,
    );
  }
  const query = new URLSearchParams({ from, service, timeoutMs: String(timeoutMs) });
  const report = (await askOne(options, `/v1/trace?${query}`, timeoutMs + 5_000)) as TraceReport;
  if (options.output === 'json' || options.output === 'yaml') printData(options.output, report);
  else print(render(report));
  if (!report.ok) process.exitCode = 79;
};
