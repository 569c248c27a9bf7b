/** `isthmus audit list|verify|export`: who connected across the border, and whether the account of it is whole. */
import { results } from '../audit/connection.ts';
import { IsthmusError } from '../core/errors.ts';
import type { Anchor } from '../journal/export.ts';
import { readExport } from '../journal/export_file.ts';
import type { Verification } from '../journal/finding.ts';
import { joinParts } from '../journal/parts.ts';
import type { Found } from '../journal/segment.ts';
import { verifyExport } from '../journal/verify.ts';
import { eachPart, newestFirst, type Range } from './audit_source.ts';
import { type AuditEntryReport, auditEntry, renderAudit } from './audit_text.ts';
import { readAnchorFile, readAnchors, type SourceOptions } from './journal_source.ts';
import { renderVerification } from './journal_text.ts';
import { type Format, print, printData } from './output.ts';
import { timeOf } from './times.ts';

interface RangeOptions extends SourceOptions {
  readonly since?: string;
  readonly until?: string;
}

const rangeOf = ({ since, until }: RangeOptions): Range => {
  const now = Date.now();
  const sinceMs = since === undefined ? undefined : timeOf('--since', since, now);
  const untilMs = until === undefined ? undefined : timeOf('--until', until, now);
  if (sinceMs !== undefined && untilMs !== undefined && sinceMs > untilMs) {
    throw new IsthmusError('usage/invalid', `--since "${since}" is after --until "${until}"`);
  }
  return { sinceMs, untilMs };
};

export interface ListOptions extends RangeOptions {
  readonly denied?: true;
  readonly side?: string;
  readonly source?: string;
  readonly service?: string;
  readonly member?: string;
  readonly result?: string;
  readonly reason?: string;
  readonly limit: string;
  readonly output: Format;
}

const limitMax = 10_000;

const oneOf = (option: string, value: string | undefined, known: readonly string[]): void => {
  if (value === undefined || known.includes(value)) return;
  throw new IsthmusError('usage/invalid', `${option} "${value}" is not one of ${known.join(', ')}`);
};

/** Whether an entry was asked for. What is no connection tells of the audit itself, and is shown unless something narrower was asked. */
const matching = (options: ListOptions): ((entry: AuditEntryReport) => boolean) => {
  const { denied, side, source, service, member, result, reason } = options;
  const narrow = [side, source, service, member, result, reason].some((value) => value !== undefined);
  return ({ kind, connection }) => {
    if (connection === null) return !narrow && (denied === undefined || kind === 'gap');
    if (denied === true && !['denied', 'failed', 'left'].includes(connection.result)) return false;
    if (source !== undefined && connection.source !== source && !connection.source.endsWith(`/${source}`)) return false;
    if (member !== undefined && connection.member !== member && !(connection.source === member)) return false;
    return (
      (side === undefined || connection.side === side) &&
      (service === undefined || connection.service === service) &&
      (result === undefined || connection.result === result) &&
      (reason === undefined || connection.reason === reason)
    );
  };
};

const timeOfEntry = ({ entry }: Found): number => {
  const { startMs, durationMs } = (entry.body ?? {}) as { startMs?: number; durationMs?: number };
  return entry.kind === 'connection' && startMs !== undefined ? startMs + (durationMs ?? 0) : entry.wallMs;
};

export const list = async (options: ListOptions): Promise<void> => {
  const limit = Number(options.limit);
  if (!Number.isInteger(limit) || limit < 1 || limit > limitMax) {
    throw new IsthmusError('usage/invalid', `--limit "${options.limit}" is not a number from 1 to ${limitMax}`);
  }
  oneOf('--side', options.side, ['egress', 'ingress', 'direct']);
  oneOf('--result', options.result, results);
  const range = rangeOf(options);
  const wanted = matching(options);
  const found: AuditEntryReport[] = [];
  const perReplica = new Map<string, number>();
  const reports = await newestFirst(options, range, (part, replica) => {
    const inRange = readExport(Buffer.from(part)).entries.filter((one) => {
      const ms = timeOfEntry(one);
      return ms >= (range.sinceMs ?? 0) && ms <= (range.untilMs ?? Number.POSITIVE_INFINITY);
    });
    const more = inRange.map(auditEntry).filter(wanted);
    found.push(...more.slice(-limit));
    const count = (perReplica.get(replica) ?? 0) + more.length;
    perReplica.set(replica, count);
    return count >= limit;
  });
  const entries = found
    .toSorted((a, b) => (a.at === b.at ? a.sequence - b.sequence : a.at < b.at ? -1 : 1))
    .slice(-limit);
  const { output } = options;
  if (output !== 'json' && output !== 'yaml') print(renderAudit(entries, reports, output === 'wide'));
  else {
    const replicas = reports.map(({ parts: _, ...report }) => report);
    printData(output, { apiVersion: 'isthmus.dev/v1', kind: 'AuditList', replicas, entries });
  }
};

export interface VerifyOptions extends RangeOptions {
  readonly key?: string;
  readonly anchors?: string;
  readonly output: Format;
}

/** Of the audit's chains alone: who holds anchors holds those of journals too. */
const anchorsFor = async (options: VerifyOptions): Promise<readonly Anchor[]> => {
  const given = options.anchors === undefined ? [] : readAnchorFile(options.anchors);
  const remembered = options.file === undefined ? (await readAnchors(options)).flatMap(({ anchors }) => anchors) : [];
  return [...given, ...remembered].filter(({ log }) => log === 'audit');
};

export const verify = async (options: VerifyOptions): Promise<void> => {
  const anchors = await anchorsFor(options);
  const verified: Verification[] = [];
  await eachPart(options, rangeOf(options), ({ bytes, linesBefore }) => {
    const expectKey = options.key?.toLowerCase();
    verified.push(verifyExport(bytes, { expectKey, anchors, log: 'audit', linesBefore }));
  });
  const result = joinParts(verified, anchors);
  const { output } = options;
  if (output === 'json' || output === 'yaml') {
    printData(output, { apiVersion: 'isthmus.dev/v1', kind: 'AuditVerification', ...result });
  } else print(renderVerification(result, 'audit'));
  if (!result.holds) process.exitCode = 79;
};

/** The bytes go to stdout as they are: redirect them into a file. */
export const exportAudit = async (options: RangeOptions): Promise<void> =>
  eachPart(
    options,
    rangeOf(options),
    ({ bytes }) => new Promise<void>((resolve) => void process.stdout.write(bytes, () => resolve())),
  );
