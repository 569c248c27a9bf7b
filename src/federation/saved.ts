/**
 * The last good state of all members as bytes, so that a controller that starts with the store dark serves at once.
 *
 * Written member by member, so that a large set can go to disk in pieces. It holds values as they were signed and memberships
 * with their signature, which is verified again on reading. The file around it has a checksum of its own; here a length that
 * does not fit or a root that does not come out is `state/corrupt`. JSON was passed over: four times the size, ten times the time.
 */
import { toBinary } from '@bufbuild/protobuf';
import { IsthmusError } from '../core/errors.ts';
import { type Manifest, ManifestSchema } from '../gen/isthmus/v1/records_pb.ts';
import { decodeManifest } from '../records/manifest.ts';
import type { SavedLog, SavedRecord } from './member.ts';

const magic = Buffer.from('isthmus federation 1\n', 'latin1');
const hashBytes = 32;

export interface SavedMember {
  readonly name: string;
  /** Signed bytes. */
  readonly membership: Uint8Array;
  readonly log: SavedLog;
}

class Writer {
  #bytes = Buffer.allocUnsafe(64 * 1024);
  #at = 0;

  u8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#at++] = value;
  }
  u32(value: number): void {
    this.#reserve(4);
    this.#at = this.#bytes.writeUInt32LE(value, this.#at);
  }
  f64(value: number): void {
    this.#reserve(8);
    this.#at = this.#bytes.writeDoubleLE(value, this.#at);
  }
  raw(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }
  bytes(value: Uint8Array): void {
    this.u32(value.length);
    this.raw(value);
  }
  /** Characters up to U+00FF. */
  packed(value: string): void {
    this.u32(value.length);
    this.#reserve(value.length);
    this.#at += this.#bytes.write(value, this.#at, 'latin1');
  }
  done(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  #reserve(length: number): void {
    if (this.#at + length <= this.#bytes.length) return;
    const grown = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#at + length));
    grown.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = grown;
  }
}

const corrupt = (what: string): IsthmusError =>
  new IsthmusError('state/corrupt', `saved federation state: ${what}`, {
    hint: 'the controller starts without it, and learns everything from the store again',
  });

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }
  u8(): number {
    return this.#bytes[this.#take(1)]!;
  }
  u32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }
  f64(): number {
    return this.#bytes.readDoubleLE(this.#take(8));
  }
  raw(length: number): Buffer {
    const start = this.#take(length);
    return this.#bytes.subarray(start, start + length);
  }
  bytes(): Buffer {
    return this.raw(this.u32());
  }
  packed(): string {
    const length = this.u32();
    const start = this.#take(length);
    return this.#bytes.toString('latin1', start, start + length);
  }

  #take(length: number): number {
    const start = this.#at;
    if (length > this.#bytes.length - start) throw corrupt(`truncated at byte ${start}`);
    this.#at = start + length;
    return start;
  }
}

export const savedHeader = (wallMs: number): Buffer => {
  const writer = new Writer();
  writer.raw(magic);
  writer.f64(wallMs);
  return writer.done();
};

/** @param nowMs - on the clock of `freshAtMs`; ages are saved, since that clock ends with the process */
export const saveMember = ({ name, membership, log }: SavedMember, nowMs: number): Buffer => {
  const writer = new Writer();
  writer.packed(name);
  writer.bytes(membership);
  for (const manifest of [log.admitted, log.seen]) {
    writer.bytes(manifest === undefined ? new Uint8Array() : toBinary(ManifestSchema, manifest));
  }
  writer.f64(log.freshAtMs === undefined ? -1 : Math.max(0, nowMs - log.freshAtMs));
  writeRecords(writer, log.records, 1);
  writeRecords(writer, log.part ?? [], forUs);
  writer.u8(0);
  return writer.done();
};

/** Each has its kind in front: 1, and 2 with a last good value; those for us alone 3 and 4. */
const forUs = 3;
const writeRecords = (writer: Writer, records: Iterable<SavedRecord>, kind: number): void => {
  for (const { key, hash, covered, lastGood } of records) {
    writer.u8(lastGood === undefined ? kind : kind + 1);
    writer.bytes(Buffer.from(key));
    writer.raw(hash);
    writer.packed(covered);
    if (lastGood !== undefined) writer.packed(lastGood);
  }
};

const readManifest = (bytes: Uint8Array): Manifest | undefined => {
  if (bytes.length === 0) return undefined;
  const manifest = decodeManifest(bytes);
  if (!manifest.ok) throw corrupt(manifest.error.message);
  return manifest.value;
};

const readRecord = (reader: Reader, kind: number): SavedRecord => {
  if (kind > forUs + 1) throw corrupt(`record of kind ${kind}`);
  return {
    key: reader.bytes().toString(),
    hash: reader.raw(hashBytes),
    covered: reader.packed(),
    lastGood: kind % 2 === 0 ? reader.packed() : undefined,
  };
};

/**
 * Reads what the functions above wrote, one member at a time: all of them at once would double the memory of the start.
 * @throws IsthmusError `state/corrupt`
 */
export function* readSaved(bytes: Uint8Array, nowMs: number, wallMs: number): Generator<SavedMember> {
  const reader = new Reader(bytes);
  if (!reader.raw(Math.min(magic.length, bytes.length)).equals(magic)) throw corrupt('not of this format or version');
  // Time in which the process was down counts, unless the wall clock says it was negative.
  const downMs = Math.max(0, wallMs - reader.f64());
  while (!reader.atEnd) {
    const name = reader.packed();
    const membership = new Uint8Array(reader.bytes());
    const admitted = readManifest(reader.bytes());
    const seen = readManifest(reader.bytes());
    const ageMs = reader.f64();
    if (!Number.isFinite(ageMs)) throw corrupt(`age ${ageMs} of ${name}`);
    const records: SavedRecord[] = [];
    const part: SavedRecord[] = [];
    for (let kind = reader.u8(); kind !== 0; kind = reader.u8()) {
      (kind < forUs ? records : part).push(readRecord(reader, kind));
    }
    const freshAtMs = ageMs < 0 ? undefined : nowMs - ageMs - downMs;
    yield { name, membership, log: { admitted, seen, freshAtMs, records, part } };
  }
}
