/**
 * DeltaDiscoveryRequest, decoded by hand: a proxy answers every push, so decoding sits on the path whose cost is
 * multiplied by the number of proxies, and each field has its bound before anything is built from it. Only what the
 * subscription machine uses is read; all other fields are skipped (the node's metadata may be large and is nobody's
 * business). The generated decoder was passed over: it builds the whole node for every answer and knows no bounds.
 */
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';

export interface DeltaRequest {
  /** Only the first request of a stream has to carry it. */
  readonly nodeId: string | undefined;
  readonly typeUrl: string;
  readonly subscribe: readonly string[];
  readonly unsubscribe: readonly string[];
  readonly initialVersions: ReadonlyMap<string, string>;
  /** Empty when this is not an answer. */
  readonly nonce: string;
  /** Set when the answer is a refusal. Cut to `limits.errorDetailLengthMax`. */
  readonly error: string | undefined;
}

class Malformed extends Error {}

/** Reads fields of one message; every length is checked against what is left. */
class Reader {
  readonly #bytes: Buffer;
  #at: number;
  readonly #end: number;

  constructor(bytes: Buffer, at: number, end: number) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
  }
  get more(): boolean {
    return this.#at < this.#end;
  }
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 10; i++) {
      if (this.#at >= this.#end) throw new Malformed('truncated number');
      const byte = this.#bytes[this.#at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw new Malformed('number longer than 10 bytes');
  }
  length(): number {
    const length = this.varint();
    if (length > this.#end - this.#at) throw new Malformed('length beyond the end');
    return length;
  }
  text(field: string, max: number): string {
    const length = this.length();
    if (length > max) throw new Malformed(`${field} is longer than ${max} bytes`);
    const start = this.#at;
    this.#at += length;
    return this.#bytes.toString('utf8', start, this.#at);
  }
  /** Up to `max` bytes of a text, the rest dropped. */
  cutText(max: number): string {
    const length = this.length();
    const start = this.#at;
    this.#at += length;
    return this.#bytes.toString('utf8', start, start + Math.min(length, max));
  }
  message(): Reader {
    const length = this.length();
    const start = this.#at;
    this.#at += length;
    return new Reader(this.#bytes, start, this.#at);
  }
  skip(wireType: number): void {
    if (wireType === 0) this.varint();
    else if (wireType === 2) this.message();
    else if (wireType === 1) this.#at += 8;
    else if (wireType === 5) this.#at += 4;
    else throw new Malformed(`wire type ${wireType}`);
    if (this.#at > this.#end) throw new Malformed('field beyond the end');
  }
}

/** Text fields by number; anything else is skipped. */
const readFields = (reader: Reader, onText: (number: number) => boolean): void => {
  while (reader.more) {
    const tag = reader.varint();
    const number = Math.floor(tag / 8);
    if (number === 0) throw new Malformed('field number 0');
    if (tag % 8 === 2 && onText(number)) continue;
    reader.skip(tag % 8);
  }
};

const readStringEntry = (reader: Reader): readonly [string, string] => {
  let key = '';
  let value = '';
  readFields(reader, (number) => {
    if (number === 1) key = reader.text('a resource name', limits.resourceNameLengthMax);
    else if (number === 2) value = reader.text('a resource version', limits.versionLengthMax);
    else return false;
    return true;
  });
  return [key, value];
};

const readText = (reader: Reader, wanted: number, read: () => string): string => {
  let value = '';
  readFields(reader, (number) => {
    if (number !== wanted) return false;
    value = read();
    return true;
  });
  return value;
};

const decode = (bytes: Buffer): DeltaRequest => {
  const reader = new Reader(bytes, 0, bytes.length);
  const subscribe: string[] = [];
  const unsubscribe: string[] = [];
  const initialVersions = new Map<string, string>();
  let nodeId: string | undefined;
  let typeUrl = '';
  let nonce = '';
  let error: string | undefined;
  let names = 0;
  const name = (): string => {
    if (++names > limits.subscriptionsPerStreamMax) {
      throw new Malformed(`more than ${limits.subscriptionsPerStreamMax} resource names`);
    }
    return reader.text('a resource name', limits.resourceNameLengthMax);
  };
  readFields(reader, (number) => {
    if (number === 1) {
      const node = reader.message();
      nodeId = readText(node, 1, () => node.text('the node id', limits.nodeIdLengthMax));
    } else if (number === 2) typeUrl = reader.text('the type', limits.typeUrlLengthMax);
    else if (number === 3) subscribe.push(name());
    else if (number === 4) unsubscribe.push(name());
    else if (number === 5) {
      if (++names > limits.subscriptionsPerStreamMax) throw new Malformed('too many initial resource versions');
      const [key, version] = readStringEntry(reader.message());
      initialVersions.set(key, version);
    } else if (number === 6) nonce = reader.text('the nonce', limits.nonceLengthMax);
    else if (number === 7) {
      const status = reader.message();
      error = readText(status, 2, () => status.cutText(limits.errorDetailLengthMax));
    } else return false;
    return true;
  });
  if (typeUrl === '') throw new Malformed('no type');
  return { nodeId, typeUrl, subscribe, unsubscribe, initialVersions, nonce, error };
};

/** Fails with `xds/malformed`, naming the field that is wrong. */
export const decodeDeltaRequest = (bytes: Buffer): Result<DeltaRequest> => {
  try {
    return ok(decode(bytes));
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return fail('xds/malformed', `discovery request of ${bytes.length} bytes: ${error.message}`, {
      hint: 'the client must speak delta xDS v3 (DeltaDiscoveryRequest)',
    });
  }
};
