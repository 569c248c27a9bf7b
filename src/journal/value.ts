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

const refuse = (path: string, why: string): never => {
  throw new IsthmusError('journal/malformed', `${path === '' ? 'value' : path}: ${why}`);
};

const pack = (value: unknown, path: string, depth: number): Json => {
  if (depth > depthMax) return refuse(path, `nested deeper than ${depthMax}`);
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
      return value === null ? null : packObject(value, path, depth);
    default:
      return refuse(path, `a ${typeof value} cannot be kept`);
  }
};

const packObject = (value: object, path: string, depth: number): Json => {
  if (Array.isArray(value)) return value.map((item, i) => pack(item, `${path}[${i}]`, depth + 1));
  if (value instanceof Map) {
    return { '@map': [...value].map(([k, v], i) => [pack(k, path, depth + 1), pack(v, `${path}{${i}}`, depth + 1)]) };
  }
  if (value instanceof Set) return { '@set': [...value].map((v, i) => pack(v, `${path}{${i}}`, depth + 1)) };
  if (value instanceof Uint8Array) return { '@bytes': Buffer.from(value).toString('base64') };
  if (value instanceof IsthmusError) {
    return { '@error': { code: value.code, message: value.message, hint: value.hint ?? '' } };
  }
  const prototype = Object.getPrototypeOf(value) as object | null;
  if (prototype !== null && prototype !== Object.prototype) {
    return refuse(path, `a ${prototype.constructor?.name ?? 'class'} cannot be kept`);
  }
  const fields: [string, Json][] = [];
  let escaped = false;
  for (const [key, field] of Object.entries(value)) {
    // A field that is not there and one that is undefined mean the same everywhere here.
    if (field === undefined) continue;
    escaped ||= key.startsWith(tag);
    fields.push([key, pack(field, path === '' ? key : `${path}.${key}`, depth + 1)]);
  }
  return escaped ? { '@object': fields } : Object.fromEntries(fields);
};

/** @returns JSON text, or `journal/malformed` naming the field that cannot be kept */
export const encodeValue = (value: unknown): Result<string> => {
  try {
    return ok(JSON.stringify(pack(value, '', 0)));
  } catch (error) {
    if (error instanceof IsthmusError) return { ok: false, error };
    throw error;
  }
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
