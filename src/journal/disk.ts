/**
 * The chain on this replica's disk: opens it, appends to it, begins new files, removes old ones. Says nothing of what to do when the
 * disk fails: it rejects, and what was durable before stays.
 *
 * Opening trusts the whole batches of the newest file. Bytes after them are a write that was cut short: kept aside, and told in
 * the chain. Damage before a batch that holds is no such thing: that chain ends where it holds, and a new one begins that names it.
 */
import { createHash, createPublicKey } from 'node:crypto';
import type { Clock, Rng } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { type Batch, buildBatch, type Draft, sealSigned, startOf, type Writer } from './batch.ts';
import type { Head } from './entry.ts';
import { type FileName, fileName, type JournalFiles, journalFiles } from './files.ts';
import type { PackedInputs } from './inputs.ts';
import { groupLines, keyHex, readSegment, segmentLine } from './segment.ts';

export interface DiskBounds {
  readonly segmentBytesMax: number;
  readonly fileBytesMax: number;
  readonly entriesBytesMax: number;
  readonly allInputsBytesMax: number;
  /** What must stay free on the volume, at the cost of our own oldest files; 0: that is not ours to see to. */
  readonly freeBytesMin: number;
}

export interface DiskOptions {
  readonly writer: Writer;
  readonly files: JournalFiles;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly version: string;
  readonly epoch: () => string;
  readonly bounds: DiskBounds;
  /** What was found damaged or was lost; loud. */
  readonly onProblem: (problem: IsthmusError) => void;
}

interface Tail {
  readonly name: string;
  readonly bytes: number;
}

interface Standing {
  ordinal: number;
  head: Head;
  /** Undefined: the next write begins a file. */
  entries: Tail | undefined;
  inputs: Tail | undefined;
}

const hexDigits = 16;

export class JournalDisk {
  readonly #o: DiskOptions;
  #standing: Standing | undefined;
  #opening: Promise<void> | undefined;
  /** To be told in the chain with the next write. */
  #notes: Draft[] = [];

  constructor(options: DiskOptions) {
    this.#o = options;
  }

  /** The newest durable entry; undefined before the first, and while the disk was never read. */
  get head(): Head | undefined {
    const head = this.#standing?.head;
    return head === undefined || head.sequence === 0 ? undefined : head;
  }
  /** Undefined while the disk was never read. */
  get chain(): string | undefined {
    return this.#standing?.head.chain;
  }
  /** The file that is being written, how much of it is durable, and the entry that it ends with. */
  get writing(): { readonly name: string; readonly bytes: number; readonly head: Head } | undefined {
    const { entries, head } = this.#standing ?? {};
    return entries === undefined || head === undefined ? undefined : { ...entries, head };
  }
  /** Length of what is durable of a file that is being written. */
  durable(file: FileName): number {
    const { entries, inputs } = this.#standing ?? {};
    if (file.name === entries?.name) return entries.bytes;
    return file.name === inputs?.name ? inputs.bytes : file.bytes;
  }

  /** Reads where the chain stands, once. Rejects with `journal/unwritable`. */
  open(): Promise<void> {
    if (this.#standing !== undefined) return Promise.resolve();
    // Whoever comes meanwhile waits for the same: two would begin two chains.
    this.#opening ??= this.#load().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #load(): Promise<void> {
    const found = journalFiles(await this.#o.files.list());
    const newest = found.findLast(({ of }) => of === 'entries');
    if (newest === undefined) {
      this.#begin(found.at(-1)?.ordinal ?? 0, 'this disk had no journal');
      return;
    }
    const own = found.filter(({ of, chain }) => of === 'entries' && chain === newest.chain);
    await this.#resume(own, found);
  }

  /** Whether the disk can be read and written; rejects with `journal/unwritable`. */
  async probe(): Promise<void> {
    await this.open();
    await this.#o.files.probe();
  }

  /** Is told in the chain with the next write. */
  note(kind: Draft['kind'], body: unknown): void {
    this.#notes.push(this.#draft(kind, body));
  }

  /** Resolves when the entries are durable; rejects with `journal/unwritable`, and then none is. */
  async write(drafts: readonly Draft[]): Promise<Batch> {
    await this.open();
    try {
      return await this.#append(drafts);
    } catch (error) {
      if (!(error instanceof IsthmusError) || error.code !== 'journal/broken') throw error;
      // Somebody changed the file under our hands. What we hold is safe in a chain of its own.
      this.#o.onProblem(error);
      this.#begin(this.#standing!.ordinal, error.message, this.#standing!.head);
      return await this.#append(drafts);
    }
  }

  async #resume(own: readonly FileName[], all: readonly FileName[]): Promise<void> {
    const file = own.at(-1)!;
    const bytes = await this.#o.files.read(file.name, this.#o.bounds.fileBytesMax);
    const state = readSegment(bytes);
    if (state === undefined) return this.#headless(file, bytes, own, all);
    const tip = state.tip;
    if (state.head.chain !== file.chain || state.damaged) {
      this.#o.onProblem(broken(file.name, `what follows entry ${tip.sequence} was changed on the disk`));
      return this.#begin(file.ordinal, `${file.name} is damaged after entry ${tip.sequence}`, tip);
    }
    if (state.head.publicKey !== keyHex(this.#o.writer.key)) {
      return this.#begin(file.ordinal, 'the record key changed', tip);
    }
    const rest = bytes.subarray(state.goodBytes);
    this.#standing = {
      ordinal: file.ordinal,
      head: tip,
      entries: { name: file.name, bytes: state.goodBytes },
      inputs: undefined,
    };
    if (rest.length > 0) await this.#setAside(file.name, rest, tip.sequence);
  }

  /** A file that does not begin as it must: one that was just being made, or one that somebody damaged. */
  async #headless(
    file: FileName,
    bytes: Uint8Array,
    own: readonly FileName[],
    all: readonly FileName[],
  ): Promise<void> {
    const key = createPublicKey(this.#o.writer.key);
    const signed = groupLines(bytes).groups.some(({ seal }) => seal !== undefined && sealSigned(seal, key));
    if (signed) {
      this.#o.onProblem(broken(file.name, 'its head was changed on the disk'));
      return this.#begin(file.ordinal, `${file.name} has no head that holds`);
    }
    const before = own.slice(0, -1);
    if (before.length > 0) await this.#resume(before, all);
    else this.#begin(file.ordinal, 'the journal’s first file was cut short');
    await this.#setAside(file.name, bytes, this.#standing!.head.sequence);
    await this.#o.files.remove(file.name);
  }

  async #setAside(name: string, bytes: Uint8Array, after: number): Promise<void> {
    const standing = this.#standing;
    // Until it is safe, nothing may be written over it.
    this.#standing = undefined;
    const kept = bytes.length === 0 ? '' : await this.#o.files.setAside(name, bytes);
    this.#standing = standing;
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    this.note('torn', { file: name, after, bytes: bytes.length, sha256, kept });
    this.#o.onProblem(
      new IsthmusError('journal/broken', `${name}: ${bytes.length} bytes after entry ${after} are no whole batch`, {
        hint: `a write that was cut short by a crash looks like this; they were kept as ${kept}`,
        subject: { file: kept },
      }),
    );
  }

  #begin(ordinalBefore: number, reason: string, after?: Head): void {
    const { writer, clock, rng, version } = this.#o;
    const seed = `${writer.member}\0${writer.replica}\0${clock.wallMs()}\0${rng()}\0${rng()}\0${keyHex(writer.key)}`;
    const chain = createHash('sha256').update(seed).digest('hex').slice(0, hexDigits);
    this.#standing = { ordinal: ordinalBefore + 1, head: startOf(chain), entries: undefined, inputs: undefined };
    this.#notes.unshift(this.#draft('begin', { reason, version, after }));
  }

  #draft(kind: Draft['kind'], body: unknown): Draft {
    const { clock, epoch } = this.#o;
    const times = { wallMs: clock.wallMs(), monotonicMs: clock.monotonicMs() };
    return { kind, epoch: epoch(), ...times, inputs: undefined, bodies: [body] };
  }

  async #append(drafts: readonly Draft[]): Promise<Batch> {
    const { writer, files, clock, bounds } = this.#o;
    const standing = this.#standing!;
    const { ordinal, head } = standing;
    const notes = [...this.#notes];
    const inputsBefore = standing.inputs;
    const known = await this.#writeInputs(standing, drafts);
    const fresh = standing.entries === undefined || standing.entries.bytes >= bounds.segmentBytesMax;
    const cuts = fresh || known.fresh ? await this.#tooMany(standing) : [];
    if (cuts.length > 0) notes.push(this.#draft('cut', cutBody(cuts)));
    const batch = buildBatch(writer, head, [...notes, ...known.drafts]);
    const first = head.sequence + 1;
    const { member, replica, key, log } = writer;
    const publicKey = keyHex(key);
    const start = { chain: head.chain, ordinal, member, replica, log, publicKey, first, previous: head.hash };
    const top = fresh ? `${segmentLine({ ...start, wallMs: clock.wallMs() }, key)}\n` : '';
    const tail = fresh ? { name: fileName(ordinal, head.chain, first, 'entries'), bytes: 0 } : standing.entries!;
    const bytes = Buffer.from(top + batch.text);
    try {
      await files.write(tail.name, tail.bytes, bytes);
    } catch (error) {
      // Nothing names these inputs: they are written over with the next try.
      standing.inputs = inputsBefore;
      throw error;
    }
    standing.entries = { name: tail.name, bytes: tail.bytes + bytes.length };
    standing.head = batch.head;
    this.#notes = this.#notes.filter((note) => !notes.includes(note));
    for (const { name } of cuts) {
      await files.remove(name).catch((error: unknown) => this.#o.onProblem(asProblem(error)));
    }
    return batch;
  }

  /** Inputs first: an entry must not name what is not there. When they alone cannot be written, the entries say so. */
  async #writeInputs(
    standing: Standing,
    drafts: readonly Draft[],
  ): Promise<{ readonly drafts: readonly Draft[]; readonly fresh: boolean }> {
    const lines = drafts.flatMap(({ inputs }) => (inputs?.line === undefined ? [] : [`${inputs.line}\n`]));
    if (lines.length === 0) return { drafts, fresh: false };
    const { files, bounds } = this.#o;
    const { ordinal, head } = standing;
    const fresh = standing.inputs === undefined || standing.inputs.bytes >= bounds.segmentBytesMax;
    const name = fresh ? fileName(ordinal, head.chain, head.sequence + 1, 'inputs') : standing.inputs!.name;
    const offset = fresh ? 0 : standing.inputs!.bytes;
    const bytes = Buffer.from(lines.join(''));
    try {
      await files.write(name, offset, bytes);
      standing.inputs = { name, bytes: offset + bytes.length };
      return { drafts, fresh };
    } catch (error) {
      standing.inputs = undefined;
      const problem = asProblem(error);
      this.#o.onProblem(problem);
      return {
        drafts: drafts.map((draft) => withoutInputs(draft, `could not be written: ${problem.message}`)),
        fresh: false,
      };
    }
  }

  /** What all files of entries may take: less than allowed where the volume is short of room. */
  async #room(all: readonly FileName[]): Promise<number> {
    const { files, bounds } = this.#o;
    if (bounds.freeBytesMin === 0) return bounds.entriesBytesMax;
    const own = all.reduce((sum, { of, bytes }) => sum + (of === 'entries' ? bytes : 0), 0);
    return Math.min(bounds.entriesBytesMax, Math.max(0, own + (await files.free()) - bounds.freeBytesMin));
  }

  /** The oldest files, as many as there are too many of; never those that are being written. */
  async #tooMany(standing: Standing): Promise<readonly Cut[]> {
    const { files, bounds } = this.#o;
    const all = journalFiles(await files.list());
    const busy = [standing.entries?.name, standing.inputs?.name];
    const over = (of: FileName['of'], max: number): FileName[] => {
      const list = all.filter((file) => file.of === of);
      let bytes = list.reduce((sum, file) => sum + file.bytes, 0);
      const cut: FileName[] = [];
      for (const file of list) {
        if (bytes <= max || busy.includes(file.name)) break;
        bytes -= file.bytes;
        cut.push(file);
      }
      return cut;
    };
    const entries = await this.#room(all);
    return [...over('entries', entries), ...over('inputs', bounds.allInputsBytesMax)].map((file) => {
      const next = all.find(({ of, chain, first }) => of === file.of && chain === file.chain && first > file.first);
      return { ...file, upTo: next === undefined ? undefined : next.first - 1 };
    });
  }
}

/** A file to be removed. */
interface Cut extends FileName {
  /** The last entry that it holds, or holds the inputs of; undefined: the last of its chain. */
  readonly upTo: number | undefined;
}

const cutBody = (cuts: readonly Cut[]): unknown => {
  const newest = new Map<string, Pick<Cut, 'of' | 'chain' | 'upTo'>>();
  for (const { of, chain, upTo } of cuts) newest.set(`${of} ${chain}`, { of, chain, upTo });
  return { reason: 'there is no room for more', removed: [...newest.values()] };
};

export const withoutInputs = (draft: Draft, left: string): Draft => {
  if (draft.inputs?.line === undefined) return draft;
  const inputs: PackedInputs = { ref: { ...draft.inputs.ref, left }, line: undefined };
  return { ...draft, inputs };
};

const broken = (file: string, why: string): IsthmusError =>
  new IsthmusError('journal/broken', `${file}: ${why}`, {
    hint: 'a new chain was begun; `isthmus journal verify` names the entries that do not hold',
    subject: { file },
  });

const asProblem = (error: unknown): IsthmusError => {
  if (error instanceof IsthmusError) return error;
  throw error;
};
