/**
 * A file of a chain: a signed head that says what came before, then batches.
 *
 * The head is the checkpoint that is left when older files are removed: the chain can be followed from there, and how many entries there
 * once were stays known.
 */
import type { KeyObject } from 'node:crypto';
import { publicKeyOf, rawPublicKey } from '../records/signed.ts';
import { readSeal, type Seal, sealSigned } from './batch.ts';
import { type Entry, entryHash, type Head, type LogName, readEntry } from './entry.ts';
import { type Line, lineSigned, parseLine, signedLine, splitLines, typeOf } from './lines.ts';

export interface SegmentHead {
  readonly chain: string;
  /** Number of the chain among those of this disk. */
  readonly ordinal: number;
  readonly member: string;
  readonly replica: string;
  /** Raw Ed25519 key, hexadecimal. */
  readonly publicKey: string;
  readonly first: number;
  readonly previous: string;
  readonly wallMs: number;
  /** Undefined: the journal of decisions. */
  readonly log?: LogName | undefined;
}

export const segmentLine = (head: SegmentHead, key: KeyObject): string =>
  signedLine('journal-segment', { type: 'segment', version: 1, ...head }, key);

export const keyHex = (key: KeyObject): string => Buffer.from(rawPublicKey(key)).toString('hex');

export const keyFromHex = (hex: unknown): KeyObject | undefined => {
  if (typeof hex !== 'string' || !/^[0-9a-f]{64}$/.test(hex)) return undefined;
  const key = publicKeyOf(Buffer.from(hex, 'hex'));
  return key.ok ? key.value : undefined;
};

/** The head on a line, if it has the shape of one and is signed by the key that it names. */
export const readSegmentHead = (line: Line): SegmentHead | undefined => {
  const value = parseLine(line);
  if (value?.['type'] !== 'segment' || line.text === undefined) return undefined;
  const key = keyFromHex(value['publicKey']);
  if (key === undefined || !lineSigned('journal-segment', line.text, key)) return undefined;
  const { chain, ordinal, member, replica, publicKey, first, previous, wallMs, log } = value as unknown as SegmentHead;
  return { chain, ordinal, member, replica, publicKey, first, previous, wallMs, log };
};

/** Lines that end in a seal; `seal` is undefined for those at the end that have none. */
export interface Group {
  readonly lines: readonly Line[];
  readonly seal: Line | undefined;
  /** Offset of the byte after it. */
  readonly end: number;
}

/** Without any judgement, for exports and listings. */
export const groupLines = (
  bytes: Uint8Array,
): { readonly head: Line | undefined; readonly groups: readonly Group[]; readonly rest: Uint8Array } => {
  const { lines, rest } = splitLines(bytes);
  const [first] = lines;
  const head = first !== undefined && typeOf(first) === 'segment' ? first : undefined;
  const groups: Group[] = [];
  let open: Line[] = [];
  for (const line of head === undefined ? lines : lines.slice(1)) {
    if (typeOf(line) !== 'seal') {
      open.push(line);
      continue;
    }
    groups.push({ lines: open, seal: line, end: line.offset + line.bytes.length + 1 });
    open = [];
  }
  const last = open.at(-1);
  if (last !== undefined) groups.push({ lines: open, seal: undefined, end: last.offset + last.bytes.length + 1 });
  return { head, groups, rest };
};

/** Whether a group is whole: the seal by the key, the entries those that it names, in order, after `before`. */
export const groupHolds = (group: Group, key: KeyObject, before: Head): Seal | undefined => {
  if (group.seal === undefined || !sealSigned(group.seal, key)) return undefined;
  const seal = readSeal(group.seal);
  if (seal === undefined || seal.chain !== before.chain || seal.first !== before.sequence + 1) return undefined;
  if (seal.hashes.length !== group.lines.length) return undefined;
  let previous = before.hash;
  for (const [i, line] of group.lines.entries()) {
    const entry = readEntry(line);
    if (entry === undefined || entry.sequence !== seal.first + i || entry.previous !== previous) return undefined;
    if (entryHash(line) !== seal.hashes[i]) return undefined;
    previous = seal.hashes[i]!;
  }
  return seal;
};

/** What can be trusted of a file, from its start. */
export interface SegmentState {
  readonly head: SegmentHead;
  /** Newest entry of the whole batches. */
  readonly tip: Head;
  /** Length of what holds. */
  readonly goodBytes: number;
  readonly firstWallMs: number;
  readonly lastWallMs: number;
  /** True when a batch that is signed follows what does not hold: not a write that was cut short. */
  readonly damaged: boolean;
}

/** By the key that its head names; undefined when there is no head that holds. */
export const readSegment = (bytes: Uint8Array): SegmentState | undefined => {
  const { head: headLine, groups } = groupLines(bytes);
  const head = headLine === undefined ? undefined : readSegmentHead(headLine);
  const key = keyFromHex(head?.publicKey);
  if (headLine === undefined || head === undefined || key === undefined) return undefined;
  let tip: Head = { chain: head.chain, sequence: head.first - 1, hash: head.previous };
  let goodBytes = headLine.bytes.length + 1;
  let times = { first: head.wallMs, last: head.wallMs };
  for (const [i, group] of groups.entries()) {
    const seal = groupHolds(group, key, tip);
    if (seal === undefined) {
      const damaged = groups.slice(i + 1).some(({ seal: later }) => later !== undefined && sealSigned(later, key));
      return { head, tip, goodBytes, firstWallMs: times.first, lastWallMs: times.last, damaged };
    }
    tip = { chain: head.chain, sequence: seal.last, hash: seal.hashes.at(-1)! };
    goodBytes = group.end;
    const last = readEntry(group.lines.at(-1)!)!;
    times = { first: Math.min(times.first, last.wallMs), last: Math.max(times.last, last.wallMs) };
  }
  return { head, tip, goodBytes, firstWallMs: times.first, lastWallMs: times.last, damaged: false };
};

/** An entry as it is found on disk, and whether its seal vouches for it. */
export interface Found {
  readonly entry: Entry;
  readonly hash: string;
  readonly intact: boolean;
}

/** The entries of a group that can be read. */
export const entriesOf = (group: Group, key: KeyObject | undefined): readonly Found[] => {
  const seal = group.seal === undefined ? undefined : readSeal(group.seal);
  const signed = group.seal !== undefined && key !== undefined && sealSigned(group.seal, key);
  return group.lines.flatMap((line) => {
    const entry = readEntry(line);
    if (entry === undefined) return [];
    const hash = entryHash(line);
    return [{ entry, hash, intact: signed && seal?.hashes[entry.sequence - seal.first] === hash }];
  });
};
