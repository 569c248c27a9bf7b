import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { seal, unseal } from '../../../src/store/envelope.ts';
import { openSavedState, type SavedState } from '../../../src/store/saved.ts';
import { SimClock } from '../../sim/clock.ts';

let dir: string;
let clock: SimClock;
let logged: { level: string; msg: string; fields: Readonly<Record<string, unknown>> }[];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'isthmus-saved-'));
  clock = new SimClock(1_700_000_000_000);
  logged = [];
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const open = (): Promise<SavedState> =>
  openSavedState({ dir, clock, log: (level, msg, fields) => logged.push({ level, msg, fields }) });
const bytes = (text: string): Uint8Array => Buffer.from(text);
const loaded = async (state: SavedState, name = 'view'): Promise<string | undefined> => {
  const found = await state.load(name);
  return found === undefined ? undefined : Buffer.from(found.payload).toString();
};
const asides = async (): Promise<string[]> => (await readdir(dir)).filter((f) => f.includes('.corrupt-')).sort();

describe('saved state', () => {
  it('gives back what was saved, also to the next process', async () => {
    const state = await open();
    expect(await state.load('view')).toBeUndefined();
    await state.save('view', bytes('one'), { highWater: 7n, facts: { member: 'us-east' } });
    await state.save('view', bytes('two'), { highWater: 9n, facts: { member: 'us-east' } });
    const found = await (await open()).load('view');
    expect(Buffer.from(found!.payload).toString()).toBe('two');
    expect(found).toMatchObject({ savedWallMs: 1_700_000_000_000, highWater: 9n, facts: { member: 'us-east' } });
    expect(await asides()).toEqual([]);
    expect((await readdir(dir)).filter((f) => f.endsWith('.tmp'))).toEqual([]);
  });

  it('keeps key and states for its own user alone', async () => {
    const state = await open();
    await state.save('view', bytes('x'));
    for (const file of ['mac.key', 'view']) expect((await stat(join(dir, file))).mode & 0o777).toBe(0o600);
    await chmod(join(dir, 'mac.key'), 0o644);
    expect(await loaded(await open())).toBe('x');
    expect((await stat(join(dir, 'mac.key'))).mode & 0o777).toBe(0o600);
    expect(logged.some((l) => l.level === 'warn')).toBe(true);
  });

  it('never trusts a file with a flipped bit, wherever it is', () => {
    const key = randomBytes(32);
    const whole = Buffer.concat(seal(key, 'view', bytes('payload of some length'), 1, { highWater: 3n }));
    expect(unseal(key, 'view', whole).ok).toBe(true);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const damaged = Buffer.from(whole);
        damaged[at]! ^= flip;
        const result = unseal(key, 'view', damaged);
        return !result.ok && result.error.code === 'state/corrupt';
      }),
      { numRuns: 2_000 },
    );
    for (let at = 0; at < whole.length; at++) {
      const damaged = Buffer.from(whole);
      damaged[at]! ^= 1;
      expect(unseal(key, 'view', damaged).ok).toBe(false);
    }
  });

  it('never trusts a file cut or extended to any length, nor noise', () => {
    const key = randomBytes(32);
    const whole = Buffer.concat(seal(key, 'view', bytes('payload'), 1, {}));
    for (let length = 0; length < whole.length; length++) {
      expect(unseal(key, 'view', whole.subarray(0, length)).ok).toBe(false);
    }
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 64 }), (more) => {
        return !unseal(key, 'view', Buffer.concat([whole, more])).ok;
      }),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (noise) => !unseal(key, 'view', Buffer.from(noise)).ok));
  });

  it('round-trips any payload and facts', () => {
    const key = randomBytes(32);
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 2_000 }),
        fc.dictionary(fc.string(), fc.string()),
        fc.option(fc.bigInt({ min: 0n }), { nil: undefined }),
        (payload, facts, highWater) => {
          const meta = highWater === undefined ? { facts } : { facts, highWater };
          const result = unseal(key, 'view', Buffer.concat(seal(key, 'view', payload, 5, meta)));
          if (!result.ok) return false;
          expect(Buffer.compare(result.value.payload, payload)).toBe(0);
          expect({ ...result.value.facts }).toEqual({ ...facts });
          return result.value.highWater === highWater;
        },
      ),
    );
  });

  it('sets a damaged file aside with an error, and goes on without it', async () => {
    const state = await open();
    await state.save('view', bytes('good'));
    const damaged = await readFile(join(dir, 'view'));
    damaged[damaged.length - 40]! ^= 1;
    await writeFile(join(dir, 'view'), damaged);
    const next = await open();
    expect(await next.load('view')).toBeUndefined();
    expect(await asides()).toEqual(['view.corrupt-1700000000000']);
    expect(await readFile(join(dir, 'view.corrupt-1700000000000'))).toEqual(damaged);
    expect(next.problems().map((p) => p.code)).toEqual(['state/corrupt']);
    expect(next.problems()[0]?.message).toContain('MAC');
    expect(logged.filter((l) => l.level === 'error')).toHaveLength(1);
    await next.save('view', bytes('new'));
    expect(await loaded(await open())).toBe('new');
    expect(await asides()).toHaveLength(1);
  });

  it('sets aside what is saved over without having been loaded', async () => {
    await (await open()).save('view', bytes('good'));
    await truncate(join(dir, 'view'), 50);
    await (await open()).save('view', bytes('new'));
    expect(await asides()).toHaveLength(1);
    expect(await loaded(await open())).toBe('new');
  });

  it('sets aside a newer version, a foreign state, another name, an oversized file and what is no file, each with its reason', async () => {
    const state = await open();
    await state.save('view', bytes('x'));
    const path = join(dir, 'view');
    const mine = await readFile(path);
    const newer = Buffer.from(mine);
    newer.writeUInt32BE(2, 8);
    const cases: [why: RegExp, make: () => Promise<unknown>][] = [
      [/newer one wrote it/, () => writeFile(path, newer)],
      [/MAC/, () => writeFile(path, Buffer.concat(seal(randomBytes(32), 'view', bytes('evil'), 1, {})))],
      [/under another name/, async () => writeFile(path, await sealedAs('journal'))],
      [
        /more than any state has/,
        async () => {
          await writeFile(path, mine);
          await truncate(path, limits.stateBytesMax + 100_000);
        },
      ],
      [/not a regular file/, () => mkdir(path)],
      [/not a regular file/, () => symlink(join(dir, 'mac.key'), path)],
      [/too few/, () => writeFile(path, '')],
    ];
    for (const [why, make] of cases) {
      await rm(path, { force: true, recursive: true });
      await make();
      const next = await open();
      expect(await next.load('view')).toBeUndefined();
      expect(next.problems()[0]?.message).toMatch(why);
      expect(next.problems()[0]?.code).toBe('state/corrupt');
      expect(existsSync(path)).toBe(false);
    }
    expect(await asides()).toHaveLength(cases.length);
  });

  const sealedAs = async (name: string): Promise<Buffer> =>
    Buffer.concat(seal(await readFile(join(dir, 'mac.key')), name, bytes('x'), 1, {}));

  it('never overwrites what was set aside, and refuses to save when there is too much of it', async () => {
    const state = await open();
    await state.save('view', bytes('x'));
    for (let i = 0; i < limits.stateSetAsideMax; i++) {
      await writeFile(join(dir, 'view'), `damaged ${i}`);
      expect(await (await open()).load('view')).toBeUndefined();
    }
    const files = await asides();
    expect(files).toHaveLength(limits.stateSetAsideMax);
    const contents = await Promise.all(files.map((f) => readFile(join(dir, f), 'utf8')));
    expect(new Set(contents).size).toBe(limits.stateSetAsideMax);
    await writeFile(join(dir, 'view'), 'one too many');
    const last = await open();
    expect(await last.load('view')).toBeUndefined();
    await expect(last.save('view', bytes('new'))).rejects.toMatchObject({ code: 'state/io' });
    expect(await readFile(join(dir, 'view'), 'utf8')).toBe('one too many');
    // Another name is no worse off, and making room heals it.
    await last.save('journal', bytes('y'));
    await rm(join(dir, files[0]!));
    await last.save('view', bytes('new'));
    expect(await loaded(last)).toBe('new');
    expect(await asides()).toHaveLength(limits.stateSetAsideMax);
  });

  it('trusts nothing after the key was lost or damaged', async () => {
    await (await open()).save('view', bytes('x'));
    await rm(join(dir, 'mac.key'));
    expect(await loaded(await open())).toBeUndefined();
    await (await open()).save('view', bytes('y'));
    await writeFile(join(dir, 'mac.key'), 'short');
    const state = await open();
    expect(await loaded(state)).toBeUndefined();
    expect(state.problems()).toHaveLength(2);
    expect((await readFile(join(dir, 'mac.key'))).length).toBe(32);
    expect(await asides()).toHaveLength(3);
  });

  it('leaves the last one whole when the write of the next is cut short', async () => {
    const state = await open();
    await state.save('view', bytes('good'));
    await copyFile(join(dir, 'view'), join(dir, 'view.tmp'));
    await truncate(join(dir, 'view.tmp'), 20);
    const next = await open();
    expect(await loaded(next)).toBe('good');
    await next.save('view', bytes('better'));
    expect(await loaded(await open())).toBe('better');
  });

  it('saves in order, the last one wins', async () => {
    const state = await open();
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => state.save('view', bytes(`${i}`), { highWater: BigInt(i) })),
    );
    expect(await loaded(await open())).toBe('19');
  });

  it('takes a high-water mark that goes back for a bug', async () => {
    await (await open()).save('view', bytes('a'), { highWater: 5n });
    const state = await open();
    await expect(state.save('view', bytes('b'), { highWater: 4n })).rejects.toThrow('would go back');
    await expect(state.save('view', bytes('b'))).rejects.toThrow('would go back');
    await state.save('view', bytes('c'), { highWater: 5n });
    expect(await loaded(await open())).toBe('c');
  });

  it('says so when the directory cannot be used, and refuses what is too large', async () => {
    await writeFile(join(dir, 'file'), '');
    const log = () => {};
    await expect(openSavedState({ dir: join(dir, 'file'), clock, log })).rejects.toMatchObject({ code: 'state/io' });
    const state = await open();
    await expect(state.save('../x', bytes(''))).rejects.toThrow('cannot be a name');
    const huge = { byteLength: limits.stateBytesMax + 1 } as Uint8Array;
    await expect(state.save('view', huge)).rejects.toMatchObject({ code: 'state/io' });
    await rm(dir, { recursive: true });
    const error = await state.save('view', bytes('x')).catch((e) => e);
    expect(error).toMatchObject({ code: 'state/io' });
    expect(error.hint).toBeTruthy();
  });
});
