/** The pages that people wrote name files, tests and scenarios; what they name must be there, and nothing may be left out. */
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const pages = ['README.md', ...globSync('docs/**/*.md', { cwd: root })];
const all = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map((m) => m[1]!);

describe('links', () => {
  it('lead somewhere', () => {
    const dead = pages.flatMap((page) =>
      all(read(page), /\]\(([^)#]+)[^)]*\)/g)
        .filter((link) => !/^https?:/.test(link) && !existsSync(join(root, dirname(page), link)))
        .map((link) => `${page}: ${link}`),
    );
    expect(dead).toEqual([]);
  });
});

describe('the invariants', () => {
  const rows = read('docs/INVARIANTS.md')
    .split('\n')
    .filter((line) => /^\| \d/.test(line));
  const simulated = readdirSync(join(root, 'test/sim/invariants')).map((file) => file.replace(/\.ts$/, ''));

  it('have a number each', () => {
    const numbers = rows.map((row) => row.split('|')[1]!.trim());
    expect(new Set(numbers).size).toBe(numbers.length);
  });
  it('name files that exist', () => {
    const missing = rows
      .flatMap((row) => all(row, /`([a-z0-9_/.-]+\.ts)`/g))
      .filter((file) => !['', 'src', 'test', 'test/unit'].some((dir) => existsSync(join(root, dir, file))));
    expect(missing).toEqual([]);
  });
  it('name tests that exist', () => {
    const tests = globSync('test/**/*.ts', { cwd: root })
      .filter((file) => file !== 'test/unit/docs.test.ts')
      .map(read)
      .join('\n');
    const missing = rows
      .flatMap((row) => all(row, /"([^"]+)"/g))
      .filter((name) => !name.split('…').every((part) => tests.includes(part.replace(/[,:]?\s*$/, '').trim())));
    expect(missing).toEqual([]);
  });
  it('and the simulation name each other', () => {
    const named = rows.flatMap((row) => all(row.slice(Math.max(0, row.indexOf('sim: '))), /`([a-z]+(?:-[a-z]+)*)`/g));
    const kept = simulated.filter((name) => !['all', 'invariant', 'placement'].includes(name));
    expect(kept.filter((name) => !named.includes(name))).toEqual([]);
    expect(kept.filter((name) => !read('docs/SIMULATION.md').includes(`\`${name}\``))).toEqual([]);
  });
});

describe('the architecture', () => {
  const page = read('docs/ARCHITECTURE.md');
  it('has every room', () => {
    const rooms = readdirSync(join(root, 'src'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    expect(rooms.map(({ name }) => name).filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });
  it('has every scenario, and so has the readme', () => {
    const names = globSync('scenarios/*.scenario.yaml', { cwd: root }).map((file) =>
      file.replace(/^scenarios\/|\.scenario\.yaml$/g, ''),
    );
    expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
    expect(
      names.filter((name) => !new RegExp(`^\\| ${/^\d+/.exec(name)?.[0]} \\|`, 'm').test(read('README.md'))),
    ).toEqual([]);
  });
});
