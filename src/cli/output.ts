/**
 * What people and scripts read: data on stdout, progress on stderr. Tables look like kubectl's: upper-case heads, two blanks
 * between columns, no boxes, so that they grep and awk well.
 */
import { styleText } from 'node:util';
import { stringify } from 'yaml';
import { IsthmusError } from '../core/errors.ts';

export const formats = ['table', 'wide', 'json', 'yaml'] as const;
export type Format = (typeof formats)[number];

export const parseFormat = (value: string): Format => {
  if ((formats as readonly string[]).includes(value)) return value as Format;
  throw new IsthmusError('usage/invalid', `output format "${value}" is not known`, {
    hint: `use one of ${formats.join(', ')}`,
  });
};

const width = (text: string): number => text.length;

export const table = (head: readonly string[], rows: readonly (readonly string[])[]): string => {
  const widths = head.map((h, i) => Math.max(width(h), ...rows.map((r) => width(r[i] ?? ''))));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (i === head.length - 1 ? cell : cell + ' '.repeat(widths[i]! - width(cell) + 2)))
      .join('')
      .trimEnd();
  return [line(head), ...rows.map((r) => line(r.map((c) => (c === '' ? '-' : c))))].join('\n');
};

export const print = (text: string): void => {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
};

export const printData = (format: 'json' | 'yaml', value: unknown): void =>
  print(format === 'json' ? JSON.stringify(value, null, 2) : stringify(value));

/** 0.4 → `400ms`, 12 → `12s`, 4000 → `1h6m`. */
export const age = (seconds: number | null): string => {
  if (seconds === null) return 'never';
  if (seconds < 1) return `${Math.round(seconds * 1000)}ms`;
  if (seconds < 100) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m${Math.round(seconds % 60)}s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}h${minutes % 60}m` : `${Math.floor(hours / 24)}d${hours % 24}h`;
};

const unicode = (): boolean =>
  /utf-?8/i.test(process.env['LC_ALL'] ?? process.env['LC_CTYPE'] ?? process.env['LANG'] ?? '');

/** The three marks of a step, in ASCII where the terminal is not UTF-8. */
export const mark = (kind: 'ok' | 'fail' | 'warn'): string => {
  const glyph = unicode() ? { ok: '✓', fail: '✗', warn: '⚠' }[kind] : { ok: '[ok]', fail: '[x]', warn: '[!]' }[kind];
  const colour = { ok: 'green', fail: 'red', warn: 'yellow' } as const;
  return styleText(colour[kind], glyph, { stream: process.stderr });
};

/** Runs one named step and reports it with its duration on stderr. */
export const step = async <T>(name: string, run: () => Promise<T>): Promise<T> => {
  const start = performance.now();
  try {
    const value = await run();
    process.stderr.write(` ${mark('ok')} ${name} (${age((performance.now() - start) / 1000)})\n`);
    return value;
  } catch (error) {
    process.stderr.write(` ${mark('fail')} ${name}\n`);
    throw error;
  }
};

/** Prints an expected failure as a person wants it, and gives its exit code. Anything else is a bug and is thrown on. */
export const reportFailure = (error: unknown): number => {
  if (!(error instanceof IsthmusError)) throw error;
  process.stderr.write(`${styleText('red', 'error', { stream: process.stderr })} ${error.code}: ${error.message}\n`);
  if (error.hint !== undefined) process.stderr.write(`  next: ${error.hint}\n`);
  return error.exit;
};
