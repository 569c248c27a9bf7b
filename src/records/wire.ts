/**
 * Reads protobuf bytes strictly, one field after the other.
 *
 * The generated decoder is lenient, as protobuf asks: of a field sent twice the last one wins, a number too large for its
 * field is cut, text may be any UTF-8. Records come from members that may be hostile, so here each of these is an error
 * that names the field. It is also four times as fast, which is what lets a controller read 100,000 records at start within
 * its second, and it shares equal strings, which is what lets it hold them. Writing stays with the generated encoder, so
 * that two independent implementations check each other in the tests.
 */
import { IsthmusError } from '../core/errors.ts';

export const malformed = (message: string): IsthmusError => new IsthmusError('record/malformed', message);

/** A value for a message to a person: bounded, and printable whatever it holds. */
export const shown = (value: string): string => JSON.stringify(value.length > 80 ? `${value.slice(0, 77)}...` : value);

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** Equal strings and equal small messages are kept once; the table is emptied when it is full, which costs memory, never meaning. */
class Shared<T> {
  readonly #values = new Map<string, T>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  get(key: string): T | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: T): T {
    if (this.#values.size >= this.#max) this.#values.clear();
    this.#values.set(key, value);
    return value;
  }
}

const strings = new Shared<string>(65_536);
const sharedBytesMax = 256;

/** The one copy of a string that is likely to come again (names, keys). */
export const intern = (value: string): string => strings.get(value) ?? strings.set(value, value);

export class WireReader {
  readonly #bytes: Buffer;
  readonly #what: string;
  #at: number;
  readonly #end: number;
  #wire = 0;
  #field = 0;
  #seen = 0;

  /** `what` names the message in errors. */
  constructor(bytes: Uint8Array, what: string, at = 0, end = bytes.length) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#what = what;
    this.#at = at;
    this.#end = end;
  }

  /** The next field's number, 0 at the end. */
  next(): number {
    if (this.#at >= this.#end) return 0;
    const tag = this.#varint32('tag');
    this.#wire = tag & 7;
    this.#field = tag >>> 3;
    if (this.#field === 0) throw malformed(`${this.#what}: field number 0 at byte ${this.#at}`);
    return this.#field;
  }

  /** Asserts that a singular field comes for the first time. Field numbers up to 31. */
  once(name: string): this {
    const bit = 1 << this.#field;
    if ((this.#seen & bit) !== 0) throw malformed(`${this.#what}.${name}: appears twice`);
    this.#seen |= bit;
    return this;
  }

  uint32(name: string, max = 0xffff_ffff): number {
    this.#expect(VARINT, name);
    const value = this.#varint32(name);
    if (value > max) throw malformed(`${this.#what}.${name}: ${value} is above ${max}`);
    return value;
  }

  uint64(name: string, max: bigint): bigint {
    this.#expect(VARINT, name);
    const start = this.#at;
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.#byte(name);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) break;
      if (this.#at - start >= 10) throw malformed(`${this.#what}.${name}: number longer than 64 bits`);
    }
    if (value > max) throw malformed(`${this.#what}.${name}: ${value} is above ${max}`);
    return value;
  }

  bool(name: string): boolean {
    return this.uint32(name, 1) === 1;
  }

  /** Printable ASCII only: every text in a record is a name. */
  text(name: string, lengthMax: number): string {
    const [start, end] = this.#span(name, lengthMax);
    for (let i = start; i < end; i++) {
      const byte = this.#bytes[i]!;
      if (byte < 0x20 || byte > 0x7e) throw malformed(`${this.#what}.${name}: byte 0x${byte.toString(16)} is not text`);
    }
    return intern(this.#bytes.toString('latin1', start, end));
  }

  /** A copy: a view would keep the whole message of the store alive. */
  bytes(name: string, lengthMax: number): Uint8Array {
    const [start, end] = this.#span(name, lengthMax);
    return new Uint8Array(this.#bytes.subarray(start, end));
  }

  message<T>(name: string, read: (reader: WireReader) => T): T {
    const [start, end] = this.#span(name, this.#end - this.#at);
    return read(new WireReader(this.#bytes, `${this.#what}.${name}`, start, end));
  }

  /**
   * Like `message`, for small messages of which few different ones exist. The result is shared, so never changed. One that is larger
   * than ours ever are (with fields that nobody knows, say) is read and not kept: whoever writes records could fill the table.
   */
  sharedMessage<T>(name: string, shared: SharedMessages<T>, read: (reader: WireReader) => T): T {
    const [start, end] = this.#span(name, this.#end - this.#at);
    if (end - start > sharedBytesMax) return read(new WireReader(this.#bytes, `${this.#what}.${name}`, start, end));
    const key = this.#bytes.toString('latin1', start, end);
    return shared.get(key) ?? shared.set(key, read(new WireReader(this.#bytes, `${this.#what}.${name}`, start, end)));
  }

  /** A repeated number, packed or not, appended to `into`. */
  numbers(name: string, into: number[], countMax: number): void {
    if (this.#wire === VARINT) {
      into.push(this.#varint32(name));
    } else {
      const [start, end] = this.#span(name, this.#end - this.#at);
      const inner = new WireReader(this.#bytes, this.#what, start, end);
      while (inner.#at < end && into.length <= countMax) into.push(inner.#varint32(name));
    }
    if (into.length > countMax) throw malformed(`${this.#what}.${name}: more than ${countMax} entries`);
  }

  /** Passes over a field of a later version. */
  skip(): void {
    if (this.#wire === VARINT) {
      const start = this.#at;
      while (this.#byte('unknown field') >= 0x80) {
        if (this.#at - start >= 10) throw malformed(`${this.#what}: field ${this.#field}: number longer than 64 bits`);
      }
    } else if (this.#wire === BYTES) {
      this.#span(`field ${this.#field}`, this.#end - this.#at);
    } else if (this.#wire === FIXED64 || this.#wire === FIXED32) {
      this.#at += this.#wire === FIXED64 ? 8 : 4;
      if (this.#at > this.#end) throw malformed(`${this.#what}: field ${this.#field} is truncated`);
    } else {
      throw malformed(`${this.#what}: field ${this.#field} has wire type ${this.#wire}`);
    }
  }

  #expect(wire: number, name: string): void {
    if (this.#wire !== wire) throw malformed(`${this.#what}.${name}: wire type ${this.#wire}, expected ${wire}`);
  }

  #span(name: string, lengthMax: number): [number, number] {
    this.#expect(BYTES, name);
    const length = this.#varint32(name);
    const start = this.#at;
    if (length > this.#end - start) throw malformed(`${this.#what}.${name}: truncated (${length} bytes announced)`);
    if (length > lengthMax) throw malformed(`${this.#what}.${name}: ${length} bytes, ${lengthMax} allowed`);
    this.#at = start + length;
    return [start, this.#at];
  }

  #byte(name: string): number {
    if (this.#at >= this.#end) throw malformed(`${this.#what}.${name}: truncated`);
    return this.#bytes[this.#at++]!;
  }

  #varint32(name: string): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#byte(name);
      if (shift === 28 && byte > 0x0f) break;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw malformed(`${this.#what}.${name}: number longer than 32 bits`);
  }
}

/** A table of small messages by their bytes, see `WireReader.sharedMessage`. */
export type SharedMessages<T> = Pick<Shared<T>, 'get' | 'set'>;
export const sharedMessages = <T>(max: number): SharedMessages<T> => new Shared<T>(max);
