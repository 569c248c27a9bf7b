/**
 * What the gateways note of a member's writes, in one key of the store that each write of that member changes too, and compares.
 *
 * It is what makes counts exact with several gateways: if the note is as this gateway has last seen it, nothing of the member was
 * written that this gateway does not know. The numbers of keys and bytes are for people; they are counted from what stands there.
 */

export interface Note {
  readonly keys: number;
  readonly bytes: number;
  /** See `allowance.ts`: of changes, and of bytes written. */
  readonly changesUntilMs: number;
  readonly bytesUntilMs: number;
}

export const emptyNote: Note = { keys: 0, bytes: 0, changesUntilMs: 0, bytesUntilMs: 0 };

const fields = ['keys', 'bytes', 'changesUntilMs', 'bytesUntilMs'] as const;
const noteBytesMax = 512;

export const encodeNote = (note: Note): Uint8Array => Buffer.from(JSON.stringify(note));

/** Undefined: it is none of ours, and counts as empty. */
export const decodeNote = (bytes: Uint8Array): Note | undefined => {
  if (bytes.length > noteBytesMax) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const said = value as Readonly<Record<string, unknown>>;
  const counts = (field: string): boolean => Number.isSafeInteger(said[field]) && Number(said[field]) >= 0;
  if (!fields.every(counts)) return undefined;
  const [keys, held, changesUntilMs, bytesUntilMs] = fields.map((field) => Number(said[field]));
  return { keys: keys!, bytes: held!, changesUntilMs: changesUntilMs!, bytesUntilMs: bytesUntilMs! };
};
