/**
 * The bytes of a DeltaDiscoveryResponse, put together by hand from pieces that are encoded once.
 *
 * Encoding through the generated code costs tens of microseconds per resource and would be paid again for every proxy.
 * Here each resource is encoded when it changes, and a response is a concatenation of finished frames around four small
 * fields. The general encoder was passed over for that reason alone; the tests decode with it what is written here.
 */
import { createHash } from 'node:crypto';
import type { Resource } from './resource.ts';

// Field tags: (number << 3) | 2, length-delimited.
const tags = {
  responseSystemVersion: 0x0a,
  responseResources: 0x12,
  responseTypeUrl: 0x22,
  responseNonce: 0x2a,
  responseRemoved: 0x32,
  resourceVersion: 0x0a,
  resourceAny: 0x12,
  resourceName: 0x1a,
  anyTypeUrl: 0x0a,
  anyValue: 0x12,
} as const;

const varintSize = (value: number): number => {
  let size = 1;
  while (value >= 0x80) {
    value = Math.floor(value / 128);
    size++;
  }
  return size;
};

const fieldSize = (length: number): number => 1 + varintSize(length) + length;

/** Writes into a buffer of the exact size; a wrong size is a bug and throws. */
class Writer {
  readonly bytes: Buffer;
  #at = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafeSlow(size);
  }
  head(tag: number, length: number): this {
    this.bytes[this.#at++] = tag;
    let rest = length;
    while (rest >= 0x80) {
      this.bytes[this.#at++] = (rest % 128) | 0x80;
      rest = Math.floor(rest / 128);
    }
    this.bytes[this.#at++] = rest;
    return this;
  }
  raw(value: Uint8Array): this {
    this.bytes.set(value, this.#at);
    this.#at += value.length;
    return this;
  }
  text(tag: number, value: string): this {
    const length = Buffer.byteLength(value);
    this.head(tag, length);
    this.#at += this.bytes.write(value, this.#at, length, 'utf8');
    return this;
  }
  done(): Buffer {
    if (this.#at !== this.bytes.length) throw new Error(`xds: wrote ${this.#at} of ${this.bytes.length} bytes`);
    return this.bytes;
  }
}

/** Type, name and content make the version, so that versions of different resources may be summed up into one digest. */
const contentVersion = (typeUrl: string, name: string, message: Uint8Array): string =>
  createHash('sha256').update(`${typeUrl}\0${name}\0`).update(message).digest('hex').slice(0, 16);

const encodeFrame = (typeUrl: string, name: string, version: string, message: Uint8Array): Buffer => {
  const anySize = fieldSize(Buffer.byteLength(typeUrl)) + fieldSize(message.length);
  const size = fieldSize(Buffer.byteLength(name)) + fieldSize(Buffer.byteLength(version)) + fieldSize(anySize);
  return new Writer(fieldSize(size))
    .head(tags.responseResources, size)
    .text(tags.resourceName, name)
    .text(tags.resourceVersion, version)
    .head(tags.resourceAny, anySize)
    .text(tags.anyTypeUrl, typeUrl)
    .head(tags.anyValue, message.length)
    .raw(message)
    .done();
};

/**
 * A resource from its encoded message (the value of the Any). Equal type, name and bytes give an equal version on every
 * replica and after every restart: 16 hex digits of a SHA-256.
 */
export const makeResource = (typeUrl: string, name: string, message: Uint8Array): Resource => {
  const version = contentVersion(typeUrl, name, message);
  return { typeUrl, name, version, frame: encodeFrame(typeUrl, name, version, message) };
};

/** The same resource under the name by which it was asked for; its version stays. */
export const renamedFrame = (resource: Resource, name: string): Uint8Array => {
  const frame = resource.frame;
  const skipLength = (at: number): number => {
    while ((frame[at] ?? 0) >= 0x80) at++;
    return at + 1;
  };
  // tag, length of the whole, then the name: its tag, its length, its bytes. The rest does not depend on the name.
  const rest = frame.subarray(skipLength(skipLength(1) + 1) + Buffer.byteLength(resource.name));
  const size = fieldSize(Buffer.byteLength(name)) + rest.length;
  return new Writer(fieldSize(size)).head(tags.responseResources, size).text(tags.resourceName, name).raw(rest).done();
};

export interface ResponseParts {
  readonly typeUrl: string;
  readonly systemVersion: string;
  readonly nonce: string;
  readonly frames: readonly Uint8Array[];
  readonly removed: readonly string[];
}

export const encodeResponse = (parts: ResponseParts): Buffer => {
  let size =
    fieldSize(Buffer.byteLength(parts.systemVersion)) +
    fieldSize(Buffer.byteLength(parts.typeUrl)) +
    fieldSize(Buffer.byteLength(parts.nonce));
  for (const frame of parts.frames) size += frame.length;
  for (const name of parts.removed) size += fieldSize(Buffer.byteLength(name));
  const writer = new Writer(size)
    .text(tags.responseSystemVersion, parts.systemVersion)
    .text(tags.responseTypeUrl, parts.typeUrl)
    .text(tags.responseNonce, parts.nonce);
  for (const name of parts.removed) writer.text(tags.responseRemoved, name);
  for (const frame of parts.frames) writer.raw(frame);
  return writer.done();
};
