/**
 * Finds entries on the disk: newest first, file by file, as much as was asked for.
 *
 * No index is kept: people ask a few times a day, and what is read anew shows what lies there now, damage included.
 */
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { JournalDisk } from './disk.ts';
import { type FileName, type JournalFiles, journalFiles } from './files.ts';
import { readInputs } from './inputs.ts';
import { splitLines } from './lines.ts';
import { entriesOf, type Found, type Group, groupLines, keyFromHex, readSegmentHead } from './segment.ts';

export interface EntryFilter {
  readonly sinceMs?: number | undefined;
  readonly untilMs?: number | undefined;
  /** At most so many, `journalListMax` when it does not say. */
  readonly limit?: number | undefined;
  /** Which of too many: the newest, unless it says `oldest`. The answer is in the order of the chain either way. */
  readonly keep?: 'newest' | 'oldest' | undefined;
  /** Only this chain. */
  readonly chain?: string | undefined;
  /** Of the body: this room does not read it. */
  readonly match?: ((found: Found) => boolean) | undefined;
}

export interface SegmentFile {
  readonly file: FileName;
  readonly head: ReturnType<typeof groupLines>['head'];
  readonly groups: readonly Group[];
  readonly rest: Uint8Array;
}

export class JournalReader {
  readonly #files: JournalFiles;
  readonly #disk: JournalDisk;

  constructor(files: JournalFiles, disk: JournalDisk) {
    this.#files = files;
    this.#disk = disk;
  }

  async list(of: FileName['of'], chain?: string): Promise<readonly FileName[]> {
    const all = journalFiles(await this.#files.list());
    return all.filter((file) => file.of === of && (chain === undefined || file.chain === chain));
  }

  /** Names of the chains on this disk, oldest first. */
  async chains(): Promise<readonly string[]> {
    return [...new Set((await this.list('entries')).map(({ chain }) => chain))];
  }

  /** A file as far as it is durable: a write may be under way behind that. */
  async segment(file: FileName): Promise<SegmentFile> {
    return { file, ...groupLines(await this.bytes(file)) };
  }

  async bytes(file: FileName): Promise<Uint8Array> {
    const bytes = await this.whole(file);
    return bytes.subarray(0, Math.min(bytes.length, this.#disk.durable(file)));
  }

  /** As it lies there, what a write under way has left included. */
  whole(file: FileName): Promise<Uint8Array> {
    return this.#files.read(file.name, limits.journalFileBytesMax);
  }

  /** Oldest first. */
  async entries(filter: EntryFilter): Promise<readonly Found[]> {
    const limit = filter.limit ?? limits.journalListMax;
    const newest = filter.keep !== 'oldest';
    const inOrder = <T>(items: readonly T[]): readonly T[] => (newest ? items.toReversed() : items);
    const found: Found[] = [];
    for (const file of inOrder(await this.list('entries', filter.chain))) {
      const { head, groups } = await this.segment(file);
      const key = keyFromHex(head === undefined ? undefined : readSegmentHead(head)?.publicKey);
      for (const group of inOrder(groups)) {
        // Most are passed over by their time: a signature is checked only for those that are shown.
        if (!entriesOf(group, undefined).some((one) => matches(one, filter))) continue;
        found.push(...inOrder(entriesOf(group, key)).filter((one) => matches(one, filter)));
        if (found.length >= limit) return inOrder(found.slice(0, limit));
      }
    }
    return inOrder(found);
  }

  /** One entry; of the newest chain that has it, unless one is named. */
  async find(sequence: number, chain?: string): Promise<Result<Found>> {
    for (const file of (await this.list('entries', chain)).toReversed()) {
      if (file.first > sequence) continue;
      const { head, groups } = await this.segment(file);
      const key = keyFromHex(head === undefined ? undefined : readSegmentHead(head)?.publicKey);
      const found = groups.flatMap((group) => entriesOf(group, key)).find(({ entry }) => entry.sequence === sequence);
      if (found !== undefined) return ok(found);
    }
    return fail(
      'journal/not-found',
      `this journal has no entry ${sequence}${chain === undefined ? '' : ` in chain ${chain}`}`,
      {
        hint: 'list what it has: isthmus journal list',
      },
    );
  }

  /** Compressed inputs by digest, of those wanted; those that are gone are left out. */
  async inputs(chain: string, wanted: ReadonlySet<string>): Promise<ReadonlyMap<string, string>> {
    const lines = new Map<string, string>();
    for (const file of (await this.list('inputs', chain)).toReversed()) {
      if (lines.size === wanted.size) break;
      for (const line of splitLines(await this.bytes(file)).lines) {
        const read = readInputs(line);
        if (read?.data !== undefined && wanted.has(read.digest)) lines.set(read.digest, line.text!);
      }
    }
    return lines;
  }
}

const matches = (found: Found, { sinceMs, untilMs, match }: EntryFilter): boolean => {
  const { wallMs } = found.entry;
  if (sinceMs !== undefined && wallMs < sinceMs) return false;
  if (untilMs !== undefined && wallMs > untilMs) return false;
  return match === undefined || match(found);
};
