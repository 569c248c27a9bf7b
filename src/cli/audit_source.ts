/**
 * Where the command line gets an audit from: an export given by name, else every controller that it can reach. Either way it comes as
 * parts, one after the other, so that an audit of any size is read in the memory of one.
 */
import type { AuditPartAnswer, AuditPartReport, AuditReport } from '../core/audit_report.ts';
import { IsthmusError } from '../core/errors.ts';
import { parseLine, splitLines } from '../journal/lines.ts';
import { eachReached, noReplica, readExportFile, type SourceOptions } from './journal_source.ts';

export interface Part {
  readonly bytes: Uint8Array;
  /** Lines of the file that come before it. */
  readonly linesBefore: number;
}

/** What was asked for, ms since 1970. */
export interface Range {
  readonly sinceMs: number | undefined;
  readonly untilMs: number | undefined;
}

const fileBytesMax = 8 * 1024 ** 3;
const timeoutMs = 60_000;
/** New files may begin while the others are fetched. */
const roundsMax = 5;

const readAuditFile = (path: string): Buffer => readExportFile(path, 'audit', fileBytesMax);

const linesIn = (bytes: Buffer): number => {
  let lines = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) lines++;
  return lines;
};

const endLine = Buffer.from('\n{"type":"end",');

/** Cut behind each end line; whether what is between makes sense is for verification to say. */
export const partsOf = function* (file: Uint8Array): Generator<Part> {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.length);
  let linesBefore = 0;
  for (let start = 0; start < bytes.length || start === 0; ) {
    const mark = bytes.indexOf(endLine, start);
    const line = mark < 0 ? -1 : bytes.indexOf(10, mark + 1);
    const end = line < 0 ? bytes.length : line + 1;
    const part = bytes.subarray(start, end);
    yield { bytes: part, linesBefore };
    linesBefore += linesIn(part);
    if (end === start) return;
    start = end;
  }
};

interface Reached {
  readonly name: string;
  get(path: string, timeoutMs: number): Promise<unknown>;
}

/** One controller's audit. */
export class AuditOf {
  readonly report: AuditReport;
  readonly #controller: Reached;

  constructor(controller: Reached, report: AuditReport) {
    this.#controller = controller;
    this.report = report;
  }

  /** Undefined: it was removed meanwhile, for want of room. */
  async part({ chain, first }: AuditPartReport, { sinceMs, untilMs }: Range): Promise<Buffer | undefined> {
    const query = new URLSearchParams({ chain, first: String(first) });
    if (sinceMs !== undefined) query.set('since', String(Math.trunc(sinceMs)));
    if (untilMs !== undefined) query.set('until', String(Math.trunc(untilMs)));
    try {
      const answer = await this.#controller.get(`/v1/audit/part?${query}`, timeoutMs);
      return Buffer.from((answer as AuditPartAnswer).text);
    } catch (error) {
      if (error instanceof IsthmusError && error.code === 'journal/not-found') return undefined;
      throw error;
    }
  }

  async again(): Promise<AuditReport> {
    return (await this.#controller.get('/v1/audit', timeoutMs)) as AuditReport;
  }

  /** Those that may hold something of this range, oldest first. What a part begins with says when the one before it ends. */
  async *parts(range: Range): AsyncGenerator<Buffer> {
    const { sinceMs, untilMs } = range;
    const begins = async (part: AuditPartReport): Promise<{ bytes: Buffer; ms: number } | undefined> => {
      const bytes = await this.part(part, range);
      return bytes === undefined ? undefined : { bytes, ms: beginsAt(bytes) };
    };
    const given = new Set<string>();
    let parts = this.report.parts;
    let from = 0;
    for (let i = parts.length - 1; sinceMs !== undefined && i > 0; i--) {
      const found = await begins(parts[i]!);
      from = i;
      if (found !== undefined && found.ms < sinceMs) break;
      from = 0;
    }
    parts = parts.slice(from);
    for (let round = 0; round < roundsMax; round++) {
      let newer = false;
      for (const part of parts) {
        const found = await begins(part);
        given.add(`${part.chain} ${part.first}`);
        if (found === undefined) continue;
        if (untilMs !== undefined && found.ms > untilMs) return;
        yield found.bytes;
        newer = !isNewest(found.bytes);
      }
      if (!newer) return;
      const known = new Set(this.report.parts.map(({ chain, first }) => `${chain} ${first}`));
      parts = (await this.again()).parts.filter(({ chain, first }) => {
        const name = `${chain} ${first}`;
        return !given.has(name) && !known.has(name);
      });
      if (parts.length === 0) return;
    }
  }
}

const headOf = (bytes: Buffer, line: number): Readonly<Record<string, unknown>> | undefined => {
  let start = 0;
  for (let i = 0; i < line; i++) start = bytes.indexOf(10, start) + 1;
  const end = bytes.indexOf(10, start);
  const found = splitLines(bytes.subarray(start, end + 1)).lines[0];
  return found === undefined ? undefined : parseLine(found);
};

/** When the file was begun; what it holds is of a second or so before, and later. */
const beginsAt = (bytes: Buffer): number => Number(headOf(bytes, 1)?.['wallMs'] ?? 0);

/** Whether the chain ended with this part when it was exported. */
const isNewest = (bytes: Buffer): boolean => {
  const { head, last } = (headOf(bytes, 0) ?? {}) as { head?: { sequence: number }; last?: number };
  return head === undefined || head.sequence <= (last ?? 0);
};

/**
 * What `use` makes of the audit of each controller. Each replica has its own; at least one answers, or its error is thrown.
 */
const eachController = async <T>(options: SourceOptions, use: (audit: AuditOf) => Promise<T>): Promise<T[]> => {
  const made: T[] = [];
  const names: string[] = [];
  const failure = await eachReached(options, async (controller) => {
    const report = (await controller.get('/v1/audit', timeoutMs)) as AuditReport;
    names.push(report.replica);
    if (options.replica === undefined || options.replica === report.replica) {
      made.push(await use(new AuditOf(controller, report)));
    }
  });
  if (made.length > 0) return made;
  throw failure ?? noReplica(options.replica, names);
};

/** Every part of the file, or of all controllers, in order. */
export const eachPart = async (
  options: SourceOptions,
  range: Range,
  use: (part: Part) => Promise<void> | void,
): Promise<void> => {
  if (options.file !== undefined) {
    for (const part of partsOf(readAuditFile(options.file))) await use(part);
    return;
  }
  let linesBefore = 0;
  await eachController(options, async (audit) => {
    for await (const bytes of audit.parts(range)) {
      await use({ bytes, linesBefore });
      linesBefore += linesIn(bytes);
    }
  });
};

/** Parts newest first, until `use` has enough of a replica. @returns what each controller says of its audit */
export const newestFirst = async (
  options: SourceOptions,
  range: Range,
  use: (part: Uint8Array, replica: string) => boolean,
): Promise<readonly AuditReport[]> => {
  if (options.file !== undefined) {
    const parts = [...partsOf(readAuditFile(options.file))];
    // Of all replicas and chains together: none of them is done before it was seen.
    for (const { bytes } of parts.toReversed()) use(bytes, '');
    return [];
  }
  return eachController(options, async (audit) => {
    for (const part of audit.report.parts.toReversed()) {
      const bytes = await audit.part(part, range);
      if (bytes === undefined) break;
      if (use(bytes, audit.report.replica)) break;
      if (range.sinceMs !== undefined && beginsAt(bytes) < range.sinceMs) break;
    }
    return audit.report;
  });
};
