/**
 * The bytes of a saved state: magic, version, header, payload, and an HMAC over all of it.
 *
 * The name is part of what the MAC covers, so that one state cannot be passed off as another. A plain checksum was passed
 * over: it finds a broken disk, not somebody who writes to it.
 *
 *   0   8  magic
 *   8   4  version (big endian)
 *  12   4  length of the header
 *  16   h  header, JSON
 *  ..   n  payload
 *  ..  32  HMAC-SHA-256
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';

export const envelopeVersion = 1;
export const macBytes = 32;
const magic = Buffer.from('ISTHMUSS');
const headerBytesMax = 64 * 1024;
const fixedBytes = 16;

/** The most that an envelope adds to its payload. */
export const overheadBytesMax = fixedBytes + headerBytesMax + macBytes;

export interface SavedMeta {
  /** A mark that may only rise from one save to the next; see saved.ts. */
  readonly highWater?: bigint;
  /** Small facts about the payload that are good to know before it is decoded. */
  readonly facts?: Readonly<Record<string, string>>;
}

export interface Saved {
  readonly payload: Uint8Array;
  readonly savedWallMs: number;
  readonly highWater: bigint | undefined;
  readonly facts: Readonly<Record<string, string>>;
}

/** The pieces to write, in order. The payload is not copied. */
export const seal = (
  macKey: Uint8Array,
  name: string,
  payload: Uint8Array,
  savedWallMs: number,
  meta: SavedMeta,
): readonly Uint8Array[] => {
  const header = Buffer.from(
    JSON.stringify({
      name,
      savedWallMs,
      payloadBytes: payload.byteLength,
      ...(meta.highWater === undefined ? {} : { highWater: meta.highWater.toString() }),
      facts: meta.facts ?? {},
    }),
  );
  if (header.length > headerBytesMax) throw new Error(`seal: the facts of ${name} take ${header.length} bytes`);
  const start = Buffer.alloc(fixedBytes);
  magic.copy(start);
  start.writeUInt32BE(envelopeVersion, 8);
  start.writeUInt32BE(header.length, 12);
  const mac = createHmac('sha256', macKey).update(start).update(header).update(payload).digest();
  return [start, header, payload, mac];
};

/** The payload is a view on `bytes`. Nothing in the file is used before the MAC was found right. */
export const unseal = (macKey: Uint8Array, name: string, bytes: Buffer): Result<Saved> => {
  const corrupt = (why: string): Result<Saved> => fail('state/corrupt', `saved state "${name}": ${why}`);
  if (bytes.length < fixedBytes + macBytes) return corrupt(`${bytes.length} bytes are too few`);
  if (!bytes.subarray(0, 8).equals(magic)) return corrupt('it does not start as a saved state');
  const version = bytes.readUInt32BE(8);
  if (version > envelopeVersion) {
    return corrupt(`it has version ${version}, and this program knows ${envelopeVersion}: a newer one wrote it`);
  }
  if (version !== envelopeVersion) return corrupt(`it has version ${version}, which never was`);
  const end = bytes.length - macBytes;
  const mac = createHmac('sha256', macKey).update(bytes.subarray(0, end)).digest();
  if (!timingSafeEqual(mac, bytes.subarray(end))) {
    return corrupt('its MAC is wrong: it is damaged, or was not written here');
  }
  const headerEnd = fixedBytes + bytes.readUInt32BE(12);
  if (headerEnd > end) return corrupt('its header is longer than the file');
  const header = parseHeader(bytes.subarray(fixedBytes, headerEnd));
  if (header === undefined) return corrupt('its header cannot be read');
  if (header.name !== name) return corrupt(`it is the saved state "${header.name}" under another name`);
  if (header.payloadBytes !== end - headerEnd) return corrupt('its payload has another length than its header says');
  return ok({
    payload: bytes.subarray(headerEnd, end),
    savedWallMs: header.savedWallMs,
    highWater: header.highWater,
    facts: header.facts,
  });
};

interface Header {
  readonly name: string;
  readonly savedWallMs: number;
  readonly payloadBytes: number;
  readonly highWater: bigint | undefined;
  readonly facts: Readonly<Record<string, string>>;
}

const parseHeader = (bytes: Buffer): Header | undefined => {
  try {
    const raw = JSON.parse(bytes.toString()) as Record<string, unknown>;
    const { name, savedWallMs, payloadBytes, highWater, facts } = raw;
    if (typeof name !== 'string' || typeof savedWallMs !== 'number' || typeof payloadBytes !== 'number')
      return undefined;
    return {
      name,
      savedWallMs,
      payloadBytes,
      highWater: typeof highWater === 'string' ? BigInt(highWater) : undefined,
      facts: (facts ?? {}) as Record<string, string>,
    };
  } catch {
    return undefined;
  }
};
