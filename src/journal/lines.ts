/**
 * Lines of a journal: one JSON object each, in the very bytes that were hashed or signed.
 *
 * Nobody has to write JSON the same way twice: what was written is what is checked. A binary format was passed over, since at 03:12
 * `grep` and `jq` are at hand.
 */
import { createHash, type KeyObject } from 'node:crypto';
import { type SignedKind, signatureHolds, signatureOf } from '../records/signed.ts';

export const entryDomain = 'isthmus/v1/journal-entry\0';
export const inputsDomain = 'isthmus/v1/journal-inputs\0';

/** SHA-256 under a domain, hexadecimal. */
export const digestOf = (domain: string, bytes: Uint8Array | string): string =>
  createHash('sha256').update(domain, 'latin1').update(bytes).digest('hex');

export const hashPattern = /^[0-9a-f]{64}$/;

/** The object as a line, signed: the signature is its last field and covers the text without it. */
export const signedLine = (kind: SignedKind, value: object, key: KeyObject): string => {
  const text = JSON.stringify(value);
  const signature = Buffer.from(signatureOf(kind, Buffer.from(text), key)).toString('base64url');
  return `${text.slice(0, -1)},"signature":"${signature}"}`;
};

const signedPattern = /^(.*),"signature":"([A-Za-z0-9_-]{86})"\}$/s;

/** Whether a line is signed by `key`, in the one way in which it can be written. */
export const lineSigned = (kind: SignedKind, line: string, key: KeyObject): boolean => {
  const match = signedPattern.exec(line);
  if (match === null) return false;
  const signature = Buffer.from(match[2]!, 'base64url');
  // The last letter has bits to spare: two spellings would be one signature.
  if (signature.toString('base64url') !== match[2]) return false;
  return signatureHolds(kind, { payload: Buffer.from(`${match[1]}}`), signature }, key);
};

/** A line's bytes, where it starts in its file, and its text; undefined when that is not UTF-8. */
export interface Line {
  readonly offset: number;
  readonly bytes: Uint8Array;
  readonly text: string | undefined;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return utf8.decode(bytes);
  } catch {
    return undefined;
  }
};

/** Lines that end as they must, and what is left after the last of them. */
export const splitLines = (bytes: Uint8Array): { readonly lines: readonly Line[]; readonly rest: Uint8Array } => {
  const lines: Line[] = [];
  let start = 0;
  for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, start)) {
    const part = bytes.subarray(start, end);
    lines.push({ offset: start, bytes: part, text: textOf(part) });
    start = end + 1;
  }
  return { lines, rest: bytes.subarray(start) };
};

export const lineTypes = ['segment', 'entry', 'seal', 'inputs', 'journal', 'end'] as const;
export type LineType = (typeof lineTypes)[number];

const typePattern = /^\{"type":"([a-z]+)",/;

export const typeOf = (line: Line): LineType | undefined => {
  const name = line.text === undefined ? undefined : typePattern.exec(line.text)?.[1];
  return lineTypes.find((type) => type === name);
};

/** The object on a line; undefined when there is none. */
export const parseLine = (line: Line): Readonly<Record<string, unknown>> | undefined => {
  if (line.text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(line.text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Readonly<Record<string, unknown>>)
      : undefined;
  } catch {
    return undefined;
  }
};
