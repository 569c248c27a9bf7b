/**
 * Entries are written in batches: what one fsync makes durable. Each batch ends in a seal, a signed list of its entries' hashes.
 *
 * So a batch is there whole or not at all, a changed entry is named by its number even when the chain after it was recomputed, and a
 * thousand decisions of one instant cost one signature. A signature an entry was passed over: 40 ms of CPU in the very moment in which a
 * region has failed.
 */
import type { KeyObject } from 'node:crypto';
import { type Entry, type EntryKind, type Head, type LogName, noHash, writeEntry } from './entry.ts';
import type { PackedInputs } from './inputs.ts';
import { hashPattern, type Line, lineSigned, parseLine, signedLine } from './lines.ts';

/** Who writes a chain. */
export interface Writer {
  readonly member: string;
  readonly replica: string;
  /** Ed25519, private: the member's record key. */
  readonly key: KeyObject;
  /** Undefined: the journal of decisions. */
  readonly log?: LogName | undefined;
}

/** What one step has to say; it gets its numbers when it is written. */
export interface Draft {
  readonly kind: EntryKind;
  readonly epoch: string;
  readonly wallMs: number;
  readonly monotonicMs: number;
  readonly inputs: PackedInputs | undefined;
  /** One entry each, at least one. */
  readonly bodies: readonly unknown[];
}

export interface Batch {
  /** Of entries and seal, each ended. */
  readonly text: string;
  readonly head: Head;
  readonly entries: readonly Entry[];
}

export const startOf = (chain: string): Head => ({ chain, sequence: 0, hash: noHash });

/** @param head - the newest entry so far */
export const buildBatch = (writer: Writer, head: Head, drafts: readonly Draft[]): Batch => {
  const lines: string[] = [];
  const hashes: string[] = [];
  const entries: Entry[] = [];
  let { sequence, hash } = head;
  const first = sequence + 1;
  for (const { bodies, inputs, ...draft } of drafts) {
    const step = { first: sequence + 1, count: bodies.length };
    for (const body of bodies) {
      sequence++;
      const { member, replica } = writer;
      const place = { sequence, chain: head.chain, member, replica, previous: hash, step };
      const entry: Entry = { ...draft, ...place, inputs: inputs?.ref, body };
      const written = writeEntry(entry);
      hash = written.hash;
      lines.push(written.line);
      hashes.push(hash);
      entries.push(entry);
    }
  }
  if (entries.length === 0) throw new Error('buildBatch: nothing to write');
  lines.push(
    signedLine('journal-seal', { type: 'seal', chain: head.chain, first, last: sequence, hashes }, writer.key),
  );
  return { text: `${lines.join('\n')}\n`, head: { chain: head.chain, sequence, hash }, entries };
};

export interface Seal {
  readonly chain: string;
  readonly first: number;
  readonly last: number;
  readonly hashes: readonly string[];
}

/** The seal on a line, if it has the shape of one; its signature is for the caller to check. */
export const readSeal = (line: Line): Seal | undefined => {
  const value = parseLine(line);
  if (value?.['type'] !== 'seal') return undefined;
  const { chain, first, last, hashes } = value;
  if (typeof chain !== 'string' || !Number.isSafeInteger(first) || !Number.isSafeInteger(last)) return undefined;
  if (!Array.isArray(hashes) || !hashes.every((h) => typeof h === 'string' && hashPattern.test(h))) return undefined;
  const seal = { chain, first: first as number, last: last as number, hashes: hashes as string[] };
  return seal.first >= 1 && seal.last - seal.first + 1 === hashes.length ? seal : undefined;
};

export const sealSigned = (line: Line, key: KeyObject): boolean =>
  line.text !== undefined && lineSigned('journal-seal', line.text, key);
