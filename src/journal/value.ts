/**
 * Values of the decision rooms as JSON text, and back: maps, sets, bigints and bytes survive.
 *
 * A replay needs the very inputs, and those are made of maps and of records with bigints. V8's own serialisation was passed over: a
 * person must be able to read an export without this program. An object that is no plain one is refused: half of it would be lost.
 */
import { errorCodes, fail, IsthmusError, ok, type Result } from '../core/errors.ts';

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

const depthMax = 64;
/** Keys of tagged values start with it; so do, escaped, the objects that have such a key themselves. */
const tag = '@';

/** Names of the fields down to where something is wrong: followed only when a first pass has failed, for it costs as much as the rest. */
type Trail = string[] | undefined;

const refuse = (path: string, why: string): never => {
  throw new IsthmusError('journal/malformed', `${path === '' ? 'value' : path}: ${why}`);
};

const within = (trail: Trail, step: string | number, value: unknown, depth: number): Json => {
  if (trail === undefined) return pack(value, trail, depth);
  trail.push(typeof step === 'number' ? `[${step}]` : `.${step}`);
  const packed = pack(value, trail, depth);
  trail.pop();
  return packed;
};

const pack = (value: unknown, trail: Trail, depth: number): Json => {
  const at = (): string => (trail ?? []).join('').replace(/^\./, '');
  if (depth > depthMax) return refuse(at(), `nested deeper than ${depthMax}`);
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'undefined':
      return { '@undefined': true };
    case 'bigint':
      return { '@bigint': value.toString() };
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : { '@number': Object.is(value, -0) ? '-0' : `${value}` };
    case 'object':
      return value === null ? null : packObject(value, trail, depth, at);
    default:
      return refuse(at(), `a ${typeof value} cannot be kept`);
  }
};

const packObject = (value: object, trail: Trail, depth: number, at: () => string): Json => {
  if (Array.isArray(value)) return value.map((item, i) => within(trail, i, item, depth + 1));
  if (value instanceof Map) {
    return { '@map': [...value].map(([k, v], i) => [pack(k, trail, depth + 1), within(trail, i, v, depth + 1)]) };
  }
  if (value instanceof Set) return { '@set': [...value].map((v, i) => within(trail, i, v, depth + 1)) };
  if (value instanceof Uint8Array) return { '@bytes': Buffer.from(value).toString('base64') };
  if (value instanceof IsthmusError) {
    return { '@error': { code: value.code, message: value.message, hint: value.hint ?? '' } };
  }
  const prototype = Object.getPrototypeOf(value) as object | null;
  if (prototype !== null && prototype !== Object.prototype) {
    return refuse(at(), `a ${prototype.constructor?.name ?? 'class'} cannot be kept`);
  }
  const source = value as Readonly<Record<string, unknown>>;
  const keys = Object.keys(source);
  const escaped = keys.some((key) => key.startsWith(tag));
  if (escaped || keys.includes('__proto__')) {
    const fields = keys.filter((key) => source[key] !== undefined);
    return { '@object': fields.map((key) => [key, within(trail, key, source[key], depth + 1)]) };
  }
  const packed: Record<string, Json> = {};
  for (const key of keys) {
    const field = source[key];
    // A field that is not there and one that is undefined mean the same everywhere here.
    if (field !== undefined) packed[key] = within(trail, key, field, depth + 1);
  }
  return packed;
};

/** @returns JSON text, or `journal/malformed` naming the field that cannot be kept */
export const encodeValue = (value: unknown): Result<string> => {
  for (const trail of [undefined, []]) {
    try {
      return ok(JSON.stringify(pack(value, trail, 0)));
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      if (trail !== undefined) return { ok: false, error };
    }
  }
  throw new Error('encodeValue: what failed once did not fail again');
};

const numbers: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
  '-0': -0,
};

const list = (value: unknown, what: string): readonly unknown[] =>
  Array.isArray(value) ? value : refuse(what, 'is not a list');

const pair = (value: unknown, what: string): readonly [unknown, unknown] => {
  const items = list(value, what);
  return items.length === 2 ? [items[0], items[1]] : refuse(what, 'is not a pair');
};

const untag = (name: string, inner: unknown, depth: number): unknown => {
  const text = (): string => (typeof inner === 'string' ? inner : refuse(name, 'is not text'));
  switch (name) {
    case '@undefined':
      return undefined;
    case '@bigint': {
      const digits = text();
      return /^-?[0-9]{1,40}$/.test(digits) ? BigInt(digits) : refuse(name, 'is not a number');
    }
    case '@number':
      return numbers[text()] ?? refuse(name, 'is not a number');
    case '@bytes':
      return new Uint8Array(Buffer.from(text(), 'base64'));
    case '@map':
      return new Map(list(inner, name).map((p) => pair(unpack(p, depth + 1), name)));
    case '@set':
      return new Set(list(inner, name).map((v) => unpack(v, depth + 1)));
    case '@object':
      return Object.fromEntries(
        list(inner, name).map((p) => {
          const [key, value] = pair(p, name);
          return [typeof key === 'string' ? key : refuse(name, 'has a key that is not text'), unpack(value, depth + 1)];
        }),
      );
    case '@error': {
      const { code, message, hint } = (inner ?? {}) as Record<string, unknown>;
      if (typeof code !== 'string' || !(code in errorCodes)) return refuse(name, 'has no known code');
      return new IsthmusError(
        code as keyof typeof errorCodes,
        String(message),
        hint === '' ? {} : { hint: String(hint) },
      );
    }
    default:
      return refuse(name, 'is not known to this version');
  }
};

const unpack = (value: unknown, depth: number): unknown => {
  if (depth > depthMax * 2) return refuse('', `nested deeper than ${depthMax}`);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => unpack(item, depth + 1));
  const entries = Object.entries(value);
  const first = entries[0];
  if (first?.[0].startsWith(tag) === true) {
    return entries.length === 1 ? untag(first[0], first[1], depth) : refuse(first[0], 'has fields beside it');
  }
  return Object.fromEntries(entries.map(([key, field]) => [key, unpack(field, depth + 1)]));
};

/** What `encodeValue` wrote; `journal/malformed` for anything else. */
export const decodeValue = (text: string): Result<unknown> => {
  try {
    return ok(unpack(JSON.parse(text), 0));
  } catch (error) {
    if (error instanceof IsthmusError) return { ok: false, error };
    return fail('journal/malformed', `value: ${(error as Error).message}`, { cause: error });
  }
};
