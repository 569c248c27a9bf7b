/**
 * What people and scripts read: data on stdout, progress on stderr. Tables look like kubectl's: upper-case heads, two blanks
 * between columns, no boxes, so that they grep and awk well.
 */
import { stripVTControlCharacters, styleText } from 'node:util';
import { stringify } from 'yaml';
import { IsthmusError } from '../core/errors.ts';

export const formats = ['table', 'wide', 'json', 'yaml'] as const;
export type Format = (typeof formats)[number];

/** Colours take no room. */
const visible = (text: string): number => stripVTControlCharacters(text).length;

export const table = (head: readonly string[], rows: readonly (readonly string[])[]): string => {
  const widths = head.map((h, i) => Math.max(visible(h), ...rows.map((r) => visible(r[i] ?? ''))));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (i === head.length - 1 ? cell : cell + ' '.repeat(widths[i]! - visible(cell) + 2)))
      .join('')
      .trimEnd();
  return [line(head), ...rows.map((r) => line(r.map((c) => (c === '' ? '-' : c))))].join('\n');
};

type Colour = 'green' | 'yellow' | 'red' | 'dim' | 'bold';

/** For stdout: plain unless it is a terminal, and as NO_COLOR and FORCE_COLOR say. */
export const paint = (colour: Colour, text: string): string => styleText(colour, text, { stream: process.stdout });

/** A state as a word in its colour. */
export const paintState = (state: string, text: string = state): string => {
  const colours: Record<string, Colour> = { fresh: 'green', suspect: 'yellow', quarantined: 'red', evicted: 'red' };
  const colour = colours[state];
  return colour === undefined ? text : paint(colour, text);
};

/** Prose is cut into lines for a terminal only: what is read by programs, or kept, stays in one. */
export const columns = (): number =>
  process.stdout.isTTY ? Math.max(60, Math.min(process.stdout.columns ?? 100, 120)) : Number.POSITIVE_INFINITY;

/** @param indent - of the second line and those after it */
export const wrap = (text: string, indent: string, width: number = columns()): string => {
  const start = /^ */.exec(text)![0];
  const lines: string[] = [];
  let line: string | undefined;
  for (const word of text.slice(start.length).split(' ')) {
    const longer: string = line === undefined ? start + word : `${line} ${word}`;
    if (line !== undefined && visible(longer) > width) {
      lines.push(line);
      line = indent + word;
    } else line = longer;
  }
  return [...lines, line ?? start].join('\n');
};

/** Rows without a head, indented, aligned; the last column is prose. */
export const aligned = (rows: readonly (readonly string[])[], width: number = columns()): string => {
  const count = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: count }, (_, i) => Math.max(...rows.map((row) => visible(row[i] ?? ''))));
  const line = (row: readonly string[]): string => {
    const cells = row.map((cell, i) =>
      i === row.length - 1 ? cell : cell + ' '.repeat(widths[i]! - visible(cell) + 2),
    );
    const start = 2 + widths.slice(0, row.length - 1).reduce((sum, w) => sum + w + 2, 0);
    return wrap(`  ${cells.join('')}`, ' '.repeat(Math.min(start, 40)), width).trimEnd();
  };
  return rows.map(line).join('\n');
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
  if (seconds < 100) return `${seconds < 10 ? Number(seconds.toFixed(1)) : Math.round(seconds)}s`;
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
