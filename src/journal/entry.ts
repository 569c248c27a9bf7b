/**
 * An entry of the journal: what happened, and its place in the chain.
 *
 * Each entry names the hash of the one before, so the newest hash stands for all of them. What a decision says is the body, which this
 * room does not read: it keeps any JSON.
 */
import { limits } from '../core/limits.ts';
import { digestOf, entryDomain, hashPattern, type Line, parseLine } from './lines.ts';

/**
 * - `decision`: of the controller, a person or a drill; the body is what the decision room wrote.
 * - `begin`: first of a chain, and why there is a new one.
 * - `gap`: entries that could not be written and were lost.
 * - `cut`: older entries, or inputs, were removed because there is room for so many only.
 * - `torn`: bytes at the end of the file were no whole batch, and were set aside.
 * - `lost`: a manifest named a newer entry than the disk has.
 * - `void`: what the named entries decided was not carried out.
 *
 * In the border audit, instead of `decision` and `void`:
 * - `connection`: over the border, or the attempt at one.
 * - `source`: from here on, or no longer, a gateway tells of its connections.
 */
export const entryKinds = ['decision', 'begin', 'gap', 'cut', 'torn', 'lost', 'void', 'connection', 'source'] as const;
export type EntryKind = (typeof entryKinds)[number];

/** What a chain is of, when it is not the journal of decisions: signed in its heads, so that one is never shown for the other. */
export type LogName = 'audit';

/** Where a chain stands: the newest entry and its hash. */
export interface Head {
  readonly chain: string;
  readonly sequence: number;
  /** SHA-256, hexadecimal. */
  readonly hash: string;
}

/** The inputs of a step, kept apart from its entries. */
export interface InputsRef {
  /** Of the compressed inputs. */
  readonly digest: string;
  /** Compressed. */
  readonly bytes: number;
  /** Why they are not kept; undefined: they are. */
  readonly left: string | undefined;
}

export interface Entry {
  readonly sequence: number;
  readonly kind: EntryKind;
  readonly chain: string;
  readonly member: string;
  readonly replica: string;
  /** Epoch of the writer's term; 0 before the first. */
  readonly epoch: string;
  readonly wallMs: number;
  readonly monotonicMs: number;
  /** Hash of the entry before. */
  readonly previous: string;
  /** The entries that one step made: the first of them, and how many. */
  readonly step: { readonly first: number; readonly count: number };
  readonly inputs: InputsRef | undefined;
  readonly body: unknown;
}

/** Of the entry before the first. */
export const noHash = '0'.repeat(64);

/** The line of an entry, and its hash. */
export const writeEntry = (entry: Entry): { readonly line: string; readonly hash: string } => {
  const { sequence, kind, chain, member, replica, epoch, wallMs, monotonicMs, previous, step, inputs, body } = entry;
  const head = { type: 'entry', sequence, kind, chain, member, replica, epoch, wallMs, monotonicMs, previous, step };
  let text = JSON.stringify({ ...head, inputs, body });
  if (Buffer.byteLength(text) > limits.journalEntryBytesMax) {
    // Never a reason not to write: the beginning says most of it.
    const short = { shortened: true, bytes: Buffer.byteLength(text), text: JSON.stringify(body).slice(0, 4_096) };
    text = JSON.stringify({ ...head, inputs, body: short });
  }
  return { line: text, hash: digestOf(entryDomain, text) };
};

export const entryHash = (line: Line): string => digestOf(entryDomain, line.bytes);

const isCount = (value: unknown, min: number): value is number =>
  Number.isSafeInteger(value) && (value as number) >= min;

const inputsOf = (value: unknown): InputsRef | undefined | false => {
  if (value === undefined) return undefined;
  const { digest, bytes, left } = (value ?? {}) as Record<string, unknown>;
  if (typeof digest !== 'string' || !hashPattern.test(digest) || !isCount(bytes, 0)) return false;
  return { digest, bytes, left: typeof left === 'string' ? left : undefined };
};

/** The entry on a line, if it has the shape of one. Whether it is the one that was written is for its hash to say. */
export const readEntry = (line: Line): Entry | undefined => {
  const value = parseLine(line);
  if (value?.['type'] !== 'entry') return undefined;
  const { sequence, kind, chain, member, replica, epoch, wallMs, monotonicMs, previous } = value;
  const step = (value['step'] ?? {}) as Record<string, unknown>;
  const inputs = inputsOf(value['inputs']);
  if (!isCount(sequence, 1) || !isCount(step['first'], 1) || !isCount(step['count'], 1) || inputs === false)
    return undefined;
  if (typeof wallMs !== 'number' || typeof monotonicMs !== 'number' || typeof previous !== 'string') return undefined;
  if (typeof chain !== 'string' || typeof member !== 'string' || typeof replica !== 'string') return undefined;
  if (typeof epoch !== 'string' || !entryKinds.some((known) => known === kind)) return undefined;
  return {
    sequence,
    kind: kind as EntryKind,
    chain,
    member,
    replica,
    epoch,
    wallMs,
    monotonicMs,
    previous,
    step: { first: step['first'], count: step['count'] },
    inputs,
    body: value['body'],
  };
};
