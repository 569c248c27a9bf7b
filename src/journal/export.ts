/**
 * A chain, or a part of it, as one file that can be checked anywhere: signed head, the lines as they lie on the disk, inputs, signed end.
 *
 * Lines are copied without being read: what was changed on the disk arrives changed, and verification names it. The head says which part
 * this is and what the controller knew of the whole; the end covers every byte before it.
 */
import { createHash, createPublicKey } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Writer } from './batch.ts';
import type { JournalDisk } from './disk.ts';
import { type Entry, type Head, type LogName, noHash, readEntry } from './entry.ts';
import { type Line, signedLine } from './lines.ts';
import type { JournalReader, SegmentFile } from './reading.ts';
import { type Group, keyHex, readSegmentHead } from './segment.ts';

/** What somebody else holds of a chain: a head that a manifest carried. */
export interface Anchor extends Head {
  /** Where it was seen: `own manifest`, or the member that remembers it. */
  readonly source: string;
  /** Whose journal it is. */
  readonly of?: string;
  /** Of which chain; undefined: the journal of decisions. */
  readonly log?: LogName | undefined;
}

export interface ExportFilter {
  readonly sinceMs?: number | undefined;
  readonly untilMs?: number | undefined;
  /** Only the step that this entry is of. */
  readonly sequence?: number | undefined;
  /** One file of several; see `export_part`. `sinceMs` and `untilMs` say then which files were asked for. */
  readonly part?: true | undefined;
}

export interface ExportOptions {
  readonly chain: string;
  readonly filter: ExportFilter;
  /** Without them the file is small, and nothing in it can be replayed. */
  readonly inputs: boolean;
  readonly anchors: readonly Anchor[];
  readonly wallMs: number;
  readonly version: string;
}

/** First line of an export. */
export interface ExportHead {
  readonly chain: string;
  readonly member: string;
  readonly replica: string;
  /** Undefined: the journal of decisions. */
  readonly log?: LogName | undefined;
  /** Raw Ed25519 key, hexadecimal: who exported it, and signed head and end. */
  readonly publicKey: string;
  /** Under which the chain was written; another one when the record key changed since. */
  readonly chainKey: string;
  /** SHA-256 of the raw key: what two people compare by telephone. */
  readonly fingerprint: string;
  readonly program: string;
  readonly exportedWallMs: number;
  /** Empty: the whole chain, as far as it is kept. */
  readonly filter: ExportFilter;
  /** 0 when there is no entry in the file. */
  readonly first: number;
  readonly last: number;
  /** Hash of the entry before the first. */
  readonly previous: string;
  /** The newest entry of the chain when this was made. */
  readonly head: Head | undefined;
  readonly inputs: 'kept' | 'left out';
  /** Inputs of older entries are no longer kept. */
  readonly inputsFrom: number;
  readonly anchors: readonly Anchor[];
}

export const fingerprintOf = (publicKey: string): string =>
  `sha256:${createHash('sha256').update(Buffer.from(publicKey, 'hex')).digest('hex')}`;

const timesOf = (group: Group): readonly number[] =>
  group.lines.flatMap((line) => {
    const entry = readEntry(line);
    return entry === undefined ? [] : [entry.wallMs];
  });

/** Batches are taken whole, and those that cannot be read too. */
const takes = (group: Group, { sinceMs, untilMs, sequence }: ExportFilter): boolean => {
  if (sequence !== undefined) return group.lines.some((line) => readEntry(line)?.sequence === sequence);
  const times = timesOf(group);
  if (times.length === 0) return true;
  return times.some((ms) => ms >= (sinceMs ?? ms) && ms <= (untilMs ?? ms));
};

interface Part {
  readonly segment: SegmentFile;
  readonly groups: readonly Group[];
}

export const isWhole = ({ sinceMs, untilMs, sequence, part }: ExportFilter): boolean =>
  sinceMs === undefined && untilMs === undefined && sequence === undefined && part === undefined;

const copied = (line: Line): Buffer => Buffer.concat([line.bytes, Buffer.from('\n')]);

const wantedInputs = (group: Group): readonly string[] => [
  ...new Set(
    group.lines.flatMap((line) => {
      const ref = readEntry(line)?.inputs;
      return ref === undefined || ref.left !== undefined ? [] : [ref.digest];
    }),
  ),
];

const bodyOf = async (parts: readonly Part[], reader: JournalReader, options: ExportOptions): Promise<Buffer[]> => {
  const whole = isWhole(options.filter);
  const wanted = new Set(options.inputs ? parts.flatMap(({ groups }) => groups.flatMap(wantedInputs)) : []);
  const inputs = wanted.size === 0 ? new Map<string, string>() : await reader.inputs(options.chain, wanted);
  const pieces: Buffer[] = [];
  const given = new Set<string>();
  for (const { segment, groups } of parts) {
    if (segment.head !== undefined) pieces.push(copied(segment.head));
    for (const group of groups) {
      for (const digest of wantedInputs(group)) {
        const line = inputs.get(digest);
        if (line !== undefined && !given.has(digest)) pieces.push(Buffer.from(`${line}\n`));
        given.add(digest);
      }
      pieces.push(...group.lines.map(copied));
      if (group.seal !== undefined) pieces.push(copied(group.seal));
    }
    if (whole && segment.rest.length > 0) pieces.push(Buffer.from(segment.rest), Buffer.from('\n'));
  }
  return pieces;
};

/** The file, ended. Rejects with `journal/unwritable` when the disk cannot be read. */
export const exportChain = async (
  writer: Writer,
  disk: JournalDisk,
  reader: JournalReader,
  options: ExportOptions,
): Promise<Result<Buffer>> => {
  const parts: Part[] = [];
  let bytes = 0;
  for (const file of await reader.list('entries', options.chain)) {
    const segment = await reader.segment(file);
    const groups = segment.groups.filter((group) => takes(group, options.filter));
    if (groups.length === 0 && !isWhole(options.filter)) continue;
    bytes += groups.reduce((sum, group) => sum + group.end - (group.lines[0] ?? group.seal)!.offset, 0);
    if (bytes > limits.journalExportBytesMax) break;
    parts.push({ segment, groups });
  }
  const pieces = await bodyOf(parts, reader, options);
  const top = signedLine(
    'journal-export',
    { type: 'journal', version: 1, ...(await headOf(writer, disk, reader, parts, options)) },
    writer.key,
  );
  const content = Buffer.concat([Buffer.from(`${top}\n`), ...pieces]);
  if (bytes > limits.journalExportBytesMax || content.length > limits.journalExportBytesMax) {
    return fail('usage/invalid', `the export would have more than ${limits.journalExportBytesMax} bytes`, {
      hint: 'ask for less with --since and --until, or leave the inputs out with --no-inputs',
    });
  }
  return ok(Buffer.concat([content, Buffer.from(`${endLine(content, writer)}\n`)]));
};

export const endLine = (content: Uint8Array, writer: Writer): string => {
  let lines = 0;
  for (let at = content.indexOf(10); at >= 0; at = content.indexOf(10, at + 1)) lines++;
  const sha256 = createHash('sha256').update(content).digest('hex');
  return signedLine('journal-end', { type: 'end', lines, sha256 }, writer.key);
};

const headOf = async (
  writer: Writer,
  disk: JournalDisk,
  reader: JournalReader,
  parts: readonly Part[],
  options: ExportOptions,
): Promise<ExportHead> => {
  let first: Entry | undefined;
  let last = 0;
  for (const { groups } of parts) {
    for (const { lines } of groups) {
      for (const line of lines) {
        const entry = readEntry(line);
        if (entry === undefined) continue;
        if (first === undefined || entry.sequence < first.sequence) first = entry;
        last = Math.max(last, entry.sequence);
      }
    }
  }
  const [oldestInputs] = await reader.list('inputs', options.chain);
  const publicKey = keyHex(createPublicKey(writer.key));
  const segmentHead = parts[0]?.segment.head;
  return {
    chain: options.chain,
    member: writer.member,
    replica: writer.replica,
    log: writer.log,
    publicKey,
    chainKey: (segmentHead === undefined ? undefined : readSegmentHead(segmentHead)?.publicKey) ?? publicKey,
    fingerprint: fingerprintOf(publicKey),
    program: `isthmus ${options.version}`,
    exportedWallMs: options.wallMs,
    filter: options.filter,
    first: first?.sequence ?? 0,
    last,
    previous: first?.previous ?? noHash,
    head: disk.head?.chain === options.chain ? disk.head : undefined,
    inputs: options.inputs ? 'kept' : 'left out',
    inputsFrom: oldestInputs?.first ?? 1,
    anchors: options.anchors.filter(({ chain }) => chain === options.chain),
  };
};
