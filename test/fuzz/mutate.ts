/**
 * Valid input, broken a little: random bytes end at the first check, and what lies behind it is never reached. Bytes are changed
 * by what they are (fields of protobuf, elements of DER), JSON by its nodes, text by its characters. A mutation is data, so that a
 * failing one can be made smaller.
 */
import fc from 'fast-check';

export interface Mutation {
  readonly kind: (typeof kinds)[number];
  /** Where, modulo what there is. */
  readonly at: number;
  readonly size: number;
  readonly pick: number;
}

const kinds = ['flip', 'set', 'cut', 'drop', 'insert', 'repeat', 'length', 'number', 'nest', 'swap', 'grow'] as const;

export const mutations: fc.Arbitrary<readonly Mutation[]> = fc.array(
  fc.record({
    kind: fc.constantFrom(...kinds),
    at: fc.nat(1_000_000),
    size: fc.oneof(
      { weight: 8, arbitrary: fc.nat(8) },
      { weight: 6, arbitrary: fc.nat(300) },
      { weight: 1, arbitrary: fc.nat(70_000) },
    ),
    pick: fc.nat(1_000),
  }),
  { minLength: 1, maxLength: 5 },
);

const numbers = [0n, 1n, 127n, 128n, 0x7fff_ffffn, 0xffff_ffffn, 1n << 53n, (1n << 63n) - 1n, (1n << 64n) - 1n];

const varint = (value: bigint): Buffer => {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
};

interface Field {
  readonly start: number;
  readonly tagEnd: number;
  readonly end: number;
  readonly wire: number;
}

const readVarint = (bytes: Buffer, from: number): { readonly value: number; readonly end: number } | undefined => {
  let value = 0;
  for (let i = 0; i < 5; i++) {
    const byte = bytes[from + i];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, end: from + i + 1 };
  }
  return undefined;
};

/** Fields of a protobuf message, those of messages inside it too, as far as the bytes make sense as such. */
export const fieldsOf = (bytes: Buffer, from = 0, to = bytes.length, depth = 0): Field[] => {
  const fields: Field[] = [];
  let at = from;
  while (at < to) {
    const tag = readVarint(bytes, at);
    if (tag === undefined || tag.value < 8) return depth === 0 ? fields : [];
    const wire = tag.value & 7;
    let end: number;
    if (wire === 0) end = readVarint(bytes, tag.end)?.end ?? to;
    else if (wire === 1) end = tag.end + 8;
    else if (wire === 5) end = tag.end + 4;
    else if (wire === 2) {
      const length = readVarint(bytes, tag.end);
      if (length === undefined) return depth === 0 ? fields : [];
      end = length.end + length.value;
      if (end <= to && depth < 4) fields.push(...fieldsOf(bytes, length.end, end, depth + 1));
    } else return depth === 0 ? fields : [];
    if (end > to) return depth === 0 ? fields : [];
    fields.push({ start: at, tagEnd: tag.end, end, wire });
    at = end;
  }
  return fields;
};

const splice = (bytes: Buffer, from: number, to: number, by: Uint8Array): Buffer =>
  Buffer.concat([bytes.subarray(0, from), by, bytes.subarray(to)]);

const mutateField = (bytes: Buffer, { kind, at, size, pick }: Mutation): Buffer | undefined => {
  const fields = fieldsOf(bytes);
  const field = fields[at % Math.max(1, fields.length)];
  if (field === undefined) return undefined;
  const whole = bytes.subarray(field.start, field.end);
  const other = fields[pick % fields.length]!;
  switch (kind) {
    case 'drop':
      return splice(bytes, field.start, field.end, Buffer.alloc(0));
    case 'repeat':
      return splice(bytes, field.end, field.end, Buffer.concat(Array.from({ length: 1 + (size % 300) }, () => whole)));
    case 'swap':
      return splice(bytes, field.start, field.end, bytes.subarray(other.start, other.end));
    case 'length':
      return field.wire === 2
        ? splice(bytes, field.tagEnd, field.tagEnd + 1, varint(numbers[pick % numbers.length]!))
        : undefined;
    case 'number':
      return field.wire === 0
        ? splice(bytes, field.tagEnd, field.end, varint(numbers[pick % numbers.length]!))
        : splice(bytes, field.start, field.tagEnd, varint(BigInt((pick % 64) * 8 + (size % 8))));
    case 'nest': {
      let nested = Buffer.from(whole);
      const tag = bytes.subarray(field.start, field.tagEnd);
      for (let i = 0; i < size % 200; i++) nested = Buffer.concat([tag, varint(BigInt(nested.length)), nested]);
      return splice(bytes, field.start, field.end, nested);
    }
    case 'grow': {
      const body = Buffer.alloc(size, 0x61 + (pick % 26));
      const tag = bytes.subarray(field.start, field.tagEnd);
      return field.wire === 2
        ? splice(bytes, field.start, field.end, Buffer.concat([tag, varint(BigInt(size)), body]))
        : undefined;
    }
    default:
      return undefined;
  }
};

const mutatePlain = (bytes: Buffer, { kind, at, size, pick }: Mutation): Buffer => {
  const i = at % Math.max(1, bytes.length);
  const copy = Buffer.from(bytes);
  switch (kind) {
    case 'flip':
      if (copy.length > 0) copy[i]! ^= 1 << (pick % 8);
      return copy;
    case 'set':
      if (copy.length > 0) copy[i] = [0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x22, 0x7b][pick % 8]!;
      return copy;
    case 'cut':
      return copy.subarray(0, i);
    case 'drop':
      return splice(copy, i, Math.min(copy.length, i + 1 + (size % 16)), Buffer.alloc(0));
    case 'repeat': {
      const piece = copy.subarray(i, i + 1 + (pick % 64));
      return splice(copy, i, i, Buffer.concat(Array.from({ length: 1 + (size % 500) }, () => piece)));
    }
    default:
      return splice(copy, i, i, Buffer.alloc(1 + (size % 2_000), pick % 256));
  }
};

/** Bytes: as fields where they are some, as elements of DER or plain bytes otherwise. */
export const mutateBytes = (seed: Uint8Array, list: readonly Mutation[]): Buffer => {
  let bytes: Buffer = Buffer.from(seed);
  for (const mutation of list) bytes = mutateField(bytes, mutation) ?? mutatePlain(bytes, mutation);
  return bytes;
};

export const mutateText = (seed: string, list: readonly Mutation[]): string => {
  let text = seed;
  const odd = ['\0', '\n', '"', '\\', '%', '~', '/', '..', 'é', '\u{1f600}', '\ud800', '-', ',', '=', '0', '9', ' '];
  for (const { kind, at, size, pick } of list) {
    const i = at % (text.length + 1);
    if (kind === 'cut') text = text.slice(0, i);
    else if (kind === 'drop') text = text.slice(0, i) + text.slice(i + 1 + (size % 8));
    else if (kind === 'repeat')
      text = text.slice(0, i) + text.slice(i, i + 1 + (pick % 20)).repeat(1 + (size % 3_000)) + text.slice(i);
    else if (kind === 'number') text = text.replace(/\d+/, String(numbers[pick % numbers.length]));
    else if (kind === 'grow') text = text.slice(0, i) + odd[pick % odd.length]!.repeat(size) + text.slice(i);
    else text = text.slice(0, i) + odd[pick % odd.length]! + text.slice(i + (size % 2));
  }
  return text;
};

type Path = readonly (string | number)[];

const pathsOf = (value: unknown, path: Path = [], into: Path[] = []): Path[] => {
  into.push(path);
  if (typeof value === 'object' && value !== null) {
    for (const [key, inner] of Object.entries(value)) pathsOf(inner, [...path, key], into);
  }
  return into;
};

const replaced = (value: unknown, path: Path, by: (old: unknown) => unknown): unknown => {
  const [first, ...rest] = path;
  if (first === undefined) return by(value);
  if (Array.isArray(value)) return value.map((v, i) => (String(i) === String(first) ? replaced(v, rest, by) : v));
  return { ...(value as object), [first]: replaced((value as Record<string, unknown>)[first], rest, by) };
};

const deep = (depth: number): unknown => {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = i % 2 === 0 ? [value] : { a: value };
  return value;
};

/** One node of a JSON value becomes something else. */
export const mutateJson = (seed: unknown, list: readonly Mutation[]): unknown => {
  let value = seed;
  for (const { kind, at, size, pick } of list) {
    const paths = pathsOf(value);
    const path = paths[at % paths.length]!;
    const others: readonly unknown[] = [
      null,
      true,
      -1,
      0,
      1e308,
      Number.NaN,
      Number.MAX_SAFE_INTEGER,
      '',
      'x'.repeat(size),
      [],
      {},
      Array.from({ length: size % 1_000 }, (_, i) => i),
      { __proto__: null, constructor: 1, toString: 2 },
      JSON.parse('{"__proto__": {"polluted": 1}}'),
      undefined,
      '2026-13-45T99:99:99Z',
      '../../etc/passwd',
      '\ud800',
    ];
    value = replaced(value, path, (old) => {
      if (kind === 'nest') return deep(size % 400);
      if (kind === 'repeat') return Array.from({ length: 1 + (size % 100) }, () => old);
      if (kind === 'swap') return lookUp(value, paths[pick % paths.length]!);
      if (typeof old === 'string' && kind !== 'set') return mutateText(old, [{ kind, at: pick, size, pick }]);
      if (typeof old === 'number' && kind === 'number') return Number(numbers[pick % numbers.length]);
      return others[pick % others.length];
    });
  }
  return value;
};

const lookUp = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>((inner, key) => (inner as Record<string | number, unknown> | undefined)?.[key], value);
