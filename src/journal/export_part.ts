/**
 * One file of a chain, exported by itself: signed head, the bytes as they lie on the disk, signed end. What is too large for one export
 * is many of these, one after the other; whether they are all there, `parts` finds out.
 *
 * Nothing in it is read but its last line: a controller that serves an audit of hundreds of megabytes has other things to do than to
 * parse it.
 */
import { createPublicKey } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { readSeal, type Writer } from './batch.ts';
import type { JournalDisk } from './disk.ts';
import { type ExportHead, endLine, fingerprintOf } from './export.ts';
import type { FileName } from './files.ts';
import { type Line, signedLine, splitLines } from './lines.ts';
import type { JournalReader } from './reading.ts';
import { keyHex, readSegmentHead } from './segment.ts';

export interface PartOptions {
  /** Which files were asked for altogether. */
  readonly sinceMs: number | undefined;
  readonly untilMs: number | undefined;
  readonly wallMs: number;
  readonly version: string;
}

/** The line that ends at `end`, without its line feed. */
const lineBefore = (bytes: Uint8Array, end: number): Line | undefined => {
  const start = bytes.lastIndexOf(10, end - 1) + 1;
  return splitLines(bytes.subarray(start, end + 1)).lines[0];
};

/** The last entry of a file that is complete, as its last seal says; 0 when there is none. */
const lastSealed = (bytes: Uint8Array): number => {
  const line = bytes.length < 2 ? undefined : lineBefore(bytes, bytes.length - 1);
  return (line === undefined ? undefined : readSeal(line))?.last ?? 0;
};

/** Rejects with `journal/unwritable` when the disk cannot be read. */
export const exportPart = async (
  writer: Writer,
  disk: JournalDisk,
  reader: JournalReader,
  { chain, first }: Pick<FileName, 'chain' | 'first'>,
  options: PartOptions,
): Promise<Result<string>> => {
  const files = await reader.list('entries', chain);
  const at = files.findIndex((file) => file.first === first);
  const file = files[at];
  if (file === undefined) {
    return fail('journal/not-found', `there is no file of chain ${chain} that begins with entry ${first}`, {
      hint: 'the oldest files are removed when there is no room for them: ask again',
    });
  }
  // Head and length from one moment: writes go on while the file is read.
  const head = disk.head?.chain === chain ? disk.head : undefined;
  const { writing } = disk;
  const current = writing?.name === file.name ? writing : undefined;
  const all = await reader.whole(file);
  const bytes = current === undefined ? all : all.subarray(0, Math.min(all.length, current.bytes));
  const next = files[at + 1];
  const last = current?.head.sequence ?? (next === undefined ? lastSealed(bytes) : next.first - 1);
  const top = bytes.indexOf(10);
  const segment = top < 0 ? undefined : readSegmentHead(splitLines(bytes.subarray(0, top + 1)).lines[0]!);
  const publicKey = keyHex(createPublicKey(writer.key));
  const exported: ExportHead = {
    chain,
    member: writer.member,
    replica: writer.replica,
    log: writer.log,
    publicKey,
    chainKey: segment?.publicKey ?? publicKey,
    fingerprint: fingerprintOf(publicKey),
    program: `isthmus ${options.version}`,
    exportedWallMs: options.wallMs,
    filter: { part: true, sinceMs: options.sinceMs, untilMs: options.untilMs },
    first,
    last,
    previous: segment?.previous ?? '',
    head,
    inputs: 'left out',
    inputsFrom: 1,
    anchors: [],
  };
  const line = signedLine('journal-export', { type: 'journal', version: 1, ...exported }, writer.key);
  const ended = bytes.length === 0 || bytes.at(-1) === 10 ? [] : [Buffer.from('\n')];
  const content = Buffer.concat([Buffer.from(`${line}\n`), bytes, ...ended]);
  return ok(`${content.toString('utf8')}${endLine(content, writer)}\n`);
};
