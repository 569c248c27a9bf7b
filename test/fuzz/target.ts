/** One decoder under test, and what must hold of it whatever it is given. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { IsthmusError } from '../../src/core/errors.ts';

export interface Target<T> {
  readonly name: string;
  /** Valid ones. */
  readonly seeds: readonly T[];
  /** Returns what was read, or a refusal: a Result, or by throwing an IsthmusError. */
  readonly run: (input: T) => unknown;
  /** Writes what was read and reads it again. */
  readonly again?: (read: unknown) => unknown;
  /** Bytes that reading may take for each byte of input, where the usual is too little. */
  readonly memoryPerByte?: number;
  /** Time for one input, where the usual is too little. */
  readonly slowMs?: number;
  /** Inputs at most, where each is dear on purpose. */
  readonly most?: number;
}

interface Refusal {
  readonly ok: boolean;
  readonly value?: unknown;
  readonly error?: unknown;
}

const slowMsDefault = 250;
/** What reading may take: so much, and so much for each byte of input. */
const memoryBase = 24 * 1024 * 1024;
const memoryPerByte = 400;

const isResult = (value: unknown): value is Refusal =>
  typeof value === 'object' &&
  value !== null &&
  typeof (value as Refusal).ok === 'boolean' &&
  ('value' in value || 'error' in value);

const sizeOf = (input: unknown): number =>
  input instanceof Uint8Array
    ? input.length
    : typeof input === 'string'
      ? input.length
      : (JSON.stringify(input)?.length ?? 10);

const memory = (): number => {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

/** @returns what was read; undefined when it was refused as it should be. Throws what is a fault. */
const once = <T>(target: Target<T>, input: T): { readonly read: unknown; readonly ms: number } => {
  const startMs = performance.now();
  let read: unknown;
  try {
    const result = target.run(input);
    if (isResult(result) && !result.ok) {
      if (!(result.error instanceof IsthmusError)) throw new Error('refused with something else than an IsthmusError');
      read = undefined;
    } else read = isResult(result) ? result.value : result;
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
  }
  return { read, ms: performance.now() - startMs };
};

/** Throws when the target does what no decoder may. */
export const judge = <T>(target: Target<T>, input: T): void => {
  const before = memory();
  const { read, ms } = once(target, input);
  const taken = memory() - before;
  if (taken > memoryBase + sizeOf(input) * (target.memoryPerByte ?? memoryPerByte)) {
    throw new Error(`${target.name} took ${taken} bytes for an input of ${sizeOf(input)}`);
  }
  // The machine may be busy, the collector at work: slow is what is slow each time.
  const slowMs = target.slowMs ?? slowMsDefault;
  if (ms > slowMs && [1, 2, 3].every(() => once(target, input).ms > slowMs)) {
    throw new Error(`${target.name} took ${Math.round(ms)} ms for an input of ${sizeOf(input)} bytes`);
  }
  if (read === undefined || target.again === undefined) return;
  const again = target.again(read);
  const value = isResult(again) && again.ok ? again.value : again;
  if (!isDeepStrictEqual(value, read)) throw new Error(`${target.name}: what was read and written reads differently`);
};

const corpus = fileURLToPath(new URL('corpus/', import.meta.url));
const pattern = /^([a-z-]+)\.[0-9a-f]{12}\.(bin|txt|json)$/;

const write = (input: unknown): { readonly bytes: Buffer; readonly kind: string } => {
  if (input instanceof Uint8Array) return { bytes: Buffer.from(input), kind: 'bin' };
  if (typeof input === 'string') return { bytes: Buffer.from(input), kind: 'txt' };
  return { bytes: Buffer.from(JSON.stringify(input) ?? 'null'), kind: 'json' };
};

/** Keeps an input that broke something: it is replayed with every run from then on. */
export const keep = (name: string, input: unknown): string => {
  const { bytes, kind } = write(input);
  const file = `${name}.${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}.${kind}`;
  mkdirSync(corpus, { recursive: true });
  writeFileSync(`${corpus}${file}`, bytes);
  return `test/fuzz/corpus/${file}`;
};

export interface Kept {
  readonly file: string;
  readonly name: string;
  readonly input: unknown;
}

export const kept = (): readonly Kept[] =>
  readdirSync(corpus).flatMap((file) => {
    const match = pattern.exec(file);
    if (match === null) return [];
    const bytes = readFileSync(`${corpus}${file}`);
    const input =
      match[2] === 'bin' ? bytes : match[2] === 'txt' ? bytes.toString() : (JSON.parse(bytes.toString()) as unknown);
    return [{ file, name: match[1]!, input }];
  });
