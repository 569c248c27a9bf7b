import { generateKeyPairSync } from 'node:crypto';
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { IsthmusError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import type { JournalFiles } from '../../../src/journal/files.ts';
import { Journal } from '../../../src/journal/journal.ts';
import { JournalReader } from '../../../src/journal/reading.ts';
import { DiskJournalFiles } from '../../../src/store/journal_files.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import { MemoryJournalFiles } from '../../sim/journal_files.ts';

let dir: string;
let clock: SimClock;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'isthmus-journal-'));
  clock = new SimClock();
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const code = async (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'ok',
    (error: IsthmusError) => error.code,
  );
const text = async (files: JournalFiles, name: string): Promise<string> =>
  Buffer.from(await files.read(name, 1_000)).toString();

describe.each([
  ['on a disk', (): JournalFiles => new DiskJournalFiles({ dir: join(dir, 'journal'), clock })],
  ['in memory', (): JournalFiles => new MemoryJournalFiles()],
])('files %s', (_, open) => {
  it('grow, and give back what they hold', async () => {
    const files = open();
    expect(await files.list()).toEqual([]);
    await files.write('a.entries', 0, Buffer.from('one'));
    await files.write('a.entries', 3, Buffer.from(' two'));
    expect(await text(files, 'a.entries')).toBe('one two');
    expect(await files.list()).toEqual([{ name: 'a.entries', bytes: 7 }]);
  });
  it('lose what a failed write left behind the offset', async () => {
    const files = open();
    await files.write('a.entries', 0, Buffer.from('one and something longer'));
    await files.write('a.entries', 3, Buffer.from('!'));
    expect(await text(files, 'a.entries')).toBe('one!');
    await files.write('a.entries', 0, Buffer.from('new'));
    expect(await text(files, 'a.entries')).toBe('new');
  });
  it('that are shorter than they were, or gone, were changed by somebody', async () => {
    const files = open();
    expect(await code(files.write('a.entries', 5, Buffer.from('x')))).toBe('journal/broken');
    await files.write('a.entries', 0, Buffer.from('one'));
    expect(await code(files.write('a.entries', 9, Buffer.from('x')))).toBe('journal/broken');
    expect(await text(files, 'a.entries')).toBe('one');
  });
  it('are removed, also twice, and set aside under a name of their own', async () => {
    const files = open();
    await files.write('a.entries', 0, Buffer.from('one'));
    const first = await files.setAside('a.entries', Buffer.from('torn'));
    const second = await files.setAside('a.entries', Buffer.from('again'));
    expect(second).not.toBe(first);
    expect(await text(files, first)).toBe('torn');
    await files.remove('a.entries');
    await files.remove('a.entries');
    await files.probe();
    expect((await files.list()).map(({ name }) => name).sort()).toEqual([first, second].sort());
  });
});

describe('a real directory', () => {
  const files = () => new DiskJournalFiles({ dir, clock });

  it('belongs to its own user alone', async () => {
    const inner = new DiskJournalFiles({ dir: join(dir, 'journal'), clock });
    await inner.list();
    await inner.write('a.entries', 0, Buffer.from('x'));
    expect((await stat(join(dir, 'journal'))).mode & 0o777).toBe(0o700);
    expect((await stat(join(dir, 'journal', 'a.entries'))).mode & 0o777).toBe(0o600);
  });

  it('that is none, or holds links, is an error with a next step', async () => {
    await writeFile(join(dir, 'file'), '');
    const none = new DiskJournalFiles({ dir: join(dir, 'file'), clock });
    expect(await code(none.list())).toBe('journal/unwritable');
    await symlink('/etc/passwd', join(dir, 'a.entries'));
    expect(await code(files().write('a.entries', 0, Buffer.from('x')))).toBe('journal/unwritable');
    expect(await code(files().read('b.entries', 10))).toBe('journal/unwritable');
    await writeFile(join(dir, 'c.entries'), 'x'.repeat(100));
    expect(await code(files().read('c.entries', 10))).toBe('journal/unwritable');
    if (process.getuid?.() === 0) return;
    await chmod(dir, 0o500);
    expect(await code(files().write('d.entries', 0, Buffer.from('x')))).toBe('journal/unwritable');
    await chmod(dir, 0o700);
  });

  it('that is full says so, and what was written before stays', async () => {
    // The kernel’s own full device.
    const error = await new DiskJournalFiles({ dir: '/dev', clock }).write('full', 0, Buffer.from('x')).then(
      () => undefined,
      (e: IsthmusError) => e,
    );
    expect(error).toMatchObject({ code: 'journal/unwritable', hint: expect.stringContaining('full') });
  });

  it('keeps no more damaged pieces than a person can look at', async () => {
    for (let i = 0; i < limits.stateSetAsideMax; i++) await files().setAside('a.entries', Buffer.from([i]));
    expect(await code(files().setAside('a.entries', Buffer.from('x')))).toBe('journal/unwritable');
  });
});

describe('a journal on a real disk', () => {
  const { privateKey } = generateKeyPairSync('ed25519');
  const open = async () => {
    const files = new DiskJournalFiles({ dir, clock });
    const { epoch, onEvent } = { epoch: () => 1n, onEvent: () => {} };
    const options = {
      member: 'us-east',
      replica: 'r0',
      key: privateKey,
      files,
      clock,
      rng: seededRng(1),
      version: '0',
    };
    const journal = new Journal({ ...options, epoch, onEvent, whenUnwritable: 'refuse' });
    await journal.open();
    return { journal, reader: new JournalReader(files, journal.disk) };
  };
  const said = (author: string, what: string) => ({ author, what });

  it('is there whole after a restart, and knows when its file was cut or deleted meanwhile', async () => {
    const one = await open();
    expect(await one.journal.append([said('controller', 'a')], { x: 1 })).toMatchObject({ durable: true });
    const two = await open();
    expect(two.journal.head()).toEqual(one.journal.head());
    await two.journal.append([said('controller', 'b')]);
    const [name] = (await readdir(dir)).filter((n) => n.endsWith('.entries'));
    const whole = await readFile(join(dir, name!));
    await truncate(join(dir, name!), whole.length - 10);
    await two.journal.append([said('controller', 'c')]);
    expect(two.journal.state.problems).toMatchObject([{ code: 'journal/broken' }]);
    for (const file of await readdir(dir)) if (file.endsWith('.entries')) await unlink(join(dir, file));
    await two.journal.append([said('controller', 'd')]);
    expect(two.journal.state.problems).toHaveLength(2);
    expect((await two.reader.entries({})).map(({ entry }) => entry.kind)).toEqual(['begin', 'decision']);
  });
});
