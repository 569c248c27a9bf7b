/**
 * The inputs of a step as one compressed blob, shared by all its entries: what `replay` runs again.
 *
 * They are far larger than the entries, which name them by digest; so they lie in files of their own and are removed earlier. The digest
 * is of the compressed bytes: it can be checked before anything is unpacked.
 */
import { gunzipSync, gzipSync } from 'node:zlib';
import { fail, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { InputsRef } from './entry.ts';
import { digestOf, hashPattern, inputsDomain, type Line, parseLine } from './lines.ts';
import { decodeValue, encodeValue } from './value.ts';

export interface PackedInputs {
  readonly ref: InputsRef;
  /** The line to keep; undefined when only the digest is. */
  readonly line: string | undefined;
}

const nothingKept = (digest: string, bytes: number, left: string): PackedInputs => ({
  ref: { digest, bytes, left },
  line: undefined,
});

/** Never fails: inputs that cannot be kept are a fact about them, and no reason to hold a decision back. */
export const packInputs = (value: unknown): PackedInputs => {
  const text = encodeValue(value);
  if (!text.ok) return nothingKept(digestOf(inputsDomain, ''), 0, `cannot be written down: ${text.error.message}`);
  const bytes = Buffer.byteLength(text.value);
  if (bytes > limits.journalInputsTextBytesMax) {
    return nothingKept(
      digestOf(inputsDomain, text.value),
      bytes,
      `too large (${bytes} bytes), only their digest is kept`,
    );
  }
  const data = gzipSync(text.value, { level: 1 });
  const digest = digestOf(inputsDomain, data);
  if (data.length > limits.journalInputsBytesMax) {
    return nothingKept(digest, data.length, `too large (${data.length} bytes), only their digest is kept`);
  }
  const line = JSON.stringify({ type: 'inputs', digest, data: data.toString('base64') });
  return { ref: { digest, bytes: data.length, left: undefined }, line };
};

/** The digest that a line of inputs names, and its data when they match it. */
export const readInputs = (line: Line): { readonly digest: string; readonly data: Buffer | undefined } | undefined => {
  const value = parseLine(line);
  const { type, digest, data } = value ?? {};
  if (type !== 'inputs' || typeof digest !== 'string' || !hashPattern.test(digest) || typeof data !== 'string')
    return undefined;
  const bytes = Buffer.from(data, 'base64');
  const written = JSON.stringify({ type: 'inputs', digest, data: bytes.toString('base64') });
  return { digest, data: written === line.text && digestOf(inputsDomain, bytes) === digest ? bytes : undefined };
};

/** @param data - compressed, its digest checked */
export const unpackInputs = (data: Uint8Array): Result<unknown> => {
  try {
    return decodeValue(gunzipSync(data, { maxOutputLength: limits.journalInputsTextBytesMax }).toString('utf8'));
  } catch (cause) {
    return fail('journal/malformed', `inputs cannot be unpacked: ${(cause as Error).message}`, { cause });
  }
};
