import { describe, expect, it } from 'vitest';
import type { IsthmusError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import { unpackInputs } from '../../../src/journal/inputs.ts';
import { verifyExport } from '../../../src/journal/verify.ts';
import { MemoryJournalFiles } from '../../sim/journal_files.ts';
import { fill, move, otherKeys, type Rig, rig } from './rig.ts';

const texts = async (r: Rig): Promise<string[]> =>
  (await r.reader.entries({})).map(({ entry }) =>
    entry.kind === 'decision' ? (entry.body as { text: string }).text : entry.kind,
  );
const verified = async (r: Rig) => verifyExport(await r.exported()).findings;
const error = async (promise: Promise<unknown>): Promise<IsthmusError> =>
  promise.then(
    () => Promise.reject(new Error('it did not reject')),
    (e: IsthmusError) => e,
  );
const entriesFiles = (r: Rig): string[] => [...r.files.files.keys()].filter((n) => n.endsWith('.entries')).sort();

describe('append', () => {
  it('resolves when the entries are on the disk, with their numbers', async () => {
    const r = rig();
    expect(await r.journal.append([move('one'), move('two')], { a: 1n })).toEqual({ durable: true, first: 2, last: 3 });
    expect(await r.journal.append([move('three')])).toEqual({ durable: true, first: 4, last: 4 });
    expect(await texts(r)).toEqual(['begin', 'one', 'two', 'three']);
    expect((await r.reader.entries({})).every(({ intact }) => intact)).toBe(true);
    expect(r.journal.head()).toMatchObject({ sequence: 4 });
    expect(await verified(r)).toEqual([]);
  });

  it('shares one write between what comes together', async () => {
    const r = rig();
    await r.journal.append([move('first')]);
    const before = r.files.writes;
    await Promise.all(['a', 'b', 'c', 'd'].map((t) => r.journal.append([move(t)])));
    expect(r.files.writes - before).toBe(1);
    expect(await texts(r)).toEqual(['begin', 'first', 'a', 'b', 'c', 'd']);
  });

  it('keeps the inputs of a step once for all its entries, to be read again', async () => {
    const r = rig();
    await r.journal.append([move('a'), move('b')], { state: new Map([['shop/web', 5n]]) });
    const found = await r.reader.find(3);
    const ref = found.ok ? found.value.entry.inputs : undefined;
    expect(ref).toMatchObject({ left: undefined });
    const lines = await r.reader.inputs(r.journal.disk.chain!, new Set([ref!.digest]));
    const data = Buffer.from((JSON.parse(lines.get(ref!.digest)!) as { data: string }).data, 'base64');
    expect(unpackInputs(data)).toEqual({ ok: true, value: { state: new Map([['shop/web', 5n]]) } });
  });

  it('writes a decision whose inputs cannot be kept, and says why', async () => {
    const r = rig();
    await r.journal.append([move('a')], { when: new Date(0) });
    await r.journal.append([move('b')], { noise: 'x'.repeat(limits.journalInputsTextBytesMax) });
    const lefts = (await r.reader.entries({})).map(({ entry }) => entry.inputs?.left);
    expect(lefts[1]).toContain('when: a Date');
    expect(lefts[2]).toContain('too large');
    expect(await verified(r)).toEqual([]);
  });

  it('shortens a decision that is larger than an entry may be', async () => {
    const r = rig();
    await r.journal.append([move('x'.repeat(limits.journalEntryBytesMax))]);
    const [, entry] = await r.reader.entries({});
    expect(entry!.entry.body).toMatchObject({ shortened: true });
    expect(await verified(r)).toEqual([]);
  });
});

describe('a restart', () => {
  it('goes on with the chain', async () => {
    const r = rig();
    await fill(r, 3);
    const again = rig({ disk: r.files, seed: 2 });
    await again.journal.open();
    expect(again.journal.head()).toEqual(r.journal.head());
    await fill(again, 2);
    expect(await texts(again)).toHaveLength(6);
    expect(await verified(again)).toEqual([]);
  });

  it('sets a write aside that was cut short at any byte, and says so in the chain', async () => {
    const r = rig();
    await fill(r, 2);
    const [name] = entriesFiles(r);
    const whole = r.files.files.get(name!)!;
    await fill(r, 1, 2);
    const longer = r.files.files.get(name!)!;
    for (let length = whole.length + 1; length < longer.length; length += 37) {
      const disk = new MemoryJournalFiles();
      for (const [other, bytes] of r.files.files) disk.files.set(other, bytes);
      disk.files.set(name!, longer.subarray(0, length));
      const again = rig({ disk, seed: 3 });
      await again.journal.open();
      expect(again.journal.head()!.sequence).toBe(3);
      expect(again.journal.state.problems.map((p) => p.code)).toEqual(['journal/broken']);
      const [aside] = [...disk.files.keys()].filter((n) => n.includes('.torn-'));
      expect(disk.files.get(aside!)).toEqual(longer.subarray(whole.length, length));
      await again.journal.append([move('after')]);
      expect((await texts(again)).slice(3)).toEqual(['torn', 'after']);
      expect(await verified(again)).toEqual([]);
    }
  });

  it('loses nothing when the very first write is cut short', async () => {
    const r = rig();
    await fill(r, 1);
    const [name] = entriesFiles(r);
    for (const length of [0, 1, 200, 700]) {
      const disk = new MemoryJournalFiles();
      disk.files.set(name!, r.files.files.get(name!)!.subarray(0, length));
      const again = rig({ disk, seed: 4 });
      await again.journal.append([move('after')]);
      expect((await texts(again)).at(-1)).toBe('after');
      expect(await verified(again)).toEqual([]);
    }
  });

  it('begins a new chain when the old one was damaged, and leaves it to be looked at', async () => {
    const r = rig();
    await fill(r, 5);
    const [name] = entriesFiles(r);
    const bytes = Buffer.from(r.files.files.get(name!)!);
    bytes[bytes.indexOf('step 2 move')] = 88;
    r.files.files.set(name!, bytes);
    const again = rig({ disk: r.files, seed: 5 });
    await again.journal.append([move('after')]);
    expect(again.journal.disk.chain).not.toBe(r.journal.disk.chain);
    const begin = (await again.reader.entries({ chain: again.journal.disk.chain })).at(0)!.entry;
    expect(begin.body).toMatchObject({ after: { chain: r.journal.disk.chain, sequence: 3 } });
    expect(await verified(again)).toEqual([]);
    expect(verifyExport(await again.exported({ chain: r.journal.disk.chain! })).findings).toMatchObject([
      { kind: 'changed', sequence: 4 },
    ]);
    expect(again.events.some((e) => e.kind === 'problem')).toBe(true);
  });

  it('begins a new chain under a new record key, and the old one still verifies', async () => {
    const r = rig();
    await fill(r, 2);
    const again = rig({ disk: r.files, key: otherKeys.privateKey, seed: 6 });
    await fill(again, 2);
    expect(again.journal.disk.chain).not.toBe(r.journal.disk.chain);
    expect(await verified(again)).toEqual([]);
    expect(verifyExport(await again.exported({ chain: r.journal.disk.chain! })).findings).toEqual([]);
  });

  it('tells when a manifest names an entry that the disk has lost', async () => {
    const r = rig();
    await fill(r, 2);
    const copy = new Map(r.files.files);
    await fill(r, 2);
    const published = r.journal.head()!;
    const disk = new MemoryJournalFiles();
    for (const [name, bytes] of copy) disk.files.set(name, bytes);
    const again = rig({ disk, seed: 7 });
    again.journal.witness(published);
    await again.journal.open();
    again.journal.witness({ ...published, sequence: 3 });
    again.journal.witness({ ...published, chain: 'f'.repeat(16), sequence: 99 });
    expect(again.journal.state.problems).toEqual([]);
    again.journal.witness(published);
    again.journal.witness(published);
    expect(again.journal.state.problems).toHaveLength(1);
    await again.journal.append([move('after')]);
    expect((await texts(again)).slice(3)).toEqual(['lost', 'after']);
    expect(
      verifyExport(await again.exported({ anchors: [{ ...published, source: 'us-west' }] })).findings,
    ).toMatchObject([{ kind: 'anchor', sequence: 5 }]);
  });
});

describe('a disk that does not take it', () => {
  it.each(['ENOSPC', 'EIO', 'EROFS'] as const)(
    '%s: people are refused, safety goes on and is written later',
    async (failing) => {
      const r = rig();
      await fill(r, 1);
      r.files.failing = failing;
      expect(await r.journal.append([move('evict us-west')])).toEqual({ durable: false });
      expect(r.journal.canAccept('controller').ok).toBe(true);
      for (const author of ['ann', 'drill/region-loss']) {
        const may = r.journal.canAccept(author);
        expect(may.ok ? undefined : may.error).toMatchObject({ code: 'journal/unwritable' });
        expect(await error(r.journal.append([move('drain', author)]))).toMatchObject({ code: 'journal/unwritable' });
      }
      expect(await r.journal.append([move('ramp')], { a: 1 })).toEqual({ durable: false });
      expect(r.journal.state).toMatchObject({ spooled: 2, lost: 0 });
      await r.clock.advance(5_000);
      expect(r.journal.state.spooled).toBe(2);
      expect(r.events.filter((e) => e.kind === 'failed').length).toBeGreaterThan(3);
      r.files.failing = undefined;
      await r.clock.advance(1_500);
      expect(r.journal.state).toMatchObject({ spooled: 0, failure: undefined });
      expect(await texts(r)).toEqual(['begin', 'step 0 move 0', 'evict us-west', 'ramp']);
      expect(await verified(r)).toEqual([]);
      expect(r.journal.canAccept('ann').ok).toBe(true);
    },
  );

  it('refuses a person also when the failure shows with that very write, and never writes it', async () => {
    const r = rig();
    await fill(r, 1);
    r.files.failing = 'ENOSPC';
    const both = [move('drain us-west', 'ann'), move('evict eu', 'controller')];
    expect(await error(r.journal.append(both))).toMatchObject({ code: 'journal/unwritable' });
    r.files.failing = undefined;
    await r.clock.advance(1_500);
    expect(await texts(r)).toEqual(['begin', 'step 0 move 0']);
    expect(r.journal.canAccept('ann').ok).toBe(true);
  });

  it('refuses nothing in a step in which nobody asked for anything, whoever once did', async () => {
    const r = rig();
    await fill(r, 1);
    r.files.failing = 'ENOSPC';
    const ramp = [move('drain us-west goes on at 50 %', 'ann')];
    expect(await r.journal.append(ramp, undefined, 'controller')).toEqual({ durable: false });
    expect(await r.journal.append(ramp, undefined, 'controller')).toEqual({ durable: false });
    r.files.failing = undefined;
    await r.clock.advance(1_500);
    expect((await texts(r)).slice(2)).toEqual([ramp[0]!.text, ramp[0]!.text]);
  });

  it('lets people go on where the policy says so', async () => {
    const r = rig({ whenUnwritable: 'spool' });
    r.files.failing = 'ENOSPC';
    expect(await r.journal.append([move('drain', 'ann')])).toEqual({ durable: false });
    r.files.failing = undefined;
    await r.clock.advance(1_500);
    expect(await texts(r)).toEqual(['begin', 'drain']);
  });

  it('that cannot even be read at the start does not stop the start', async () => {
    const r = rig();
    await fill(r, 2);
    r.files.failing = 'EIO';
    const again = rig({ disk: r.files, seed: 8 });
    await again.journal.open();
    expect(again.journal.head()).toBeUndefined();
    expect(await again.journal.append([move('meanwhile')])).toEqual({ durable: false });
    r.files.failing = undefined;
    await again.clock.advance(1_500);
    expect(await texts(again)).toEqual(['begin', 'step 0 move 0', 'step 1 move 0', 'meanwhile']);
    expect(await verified(again)).toEqual([]);
  });

  it('keeps no more in memory than there is room for, and counts what it lost', async () => {
    const r = rig({ bounds: { entriesMax: 4, inputsBytesMax: 400 } });
    await fill(r, 1);
    r.files.failing = 'ENOSPC';
    for (let i = 0; i < 10; i++) {
      await r.journal.append([move(`m${i}`)], { noise: `${i}`.repeat(100) });
      await r.clock.advance(300);
    }
    expect(r.journal.state).toMatchObject({ spooled: 4, lost: 6 });
    r.files.failing = undefined;
    await r.clock.advance(1_500);
    expect(await texts(r)).toEqual(['begin', 'step 0 move 0', 'gap', 'm6', 'm7', 'm8', 'm9']);
    const gap = (await r.reader.entries({}))[2]!.entry;
    expect(gap.body).toMatchObject({ entries: 6, byKind: { decision: 6 } });
    const lefts = (await r.reader.entries({})).slice(3).map(({ entry }) => entry.inputs?.left);
    expect(lefts[0]).toContain('dropped');
    expect(lefts[3]).toBeUndefined();
    expect(await verified(r)).toEqual([]);
  });

  it('that hangs does not hold a failover back; what was refused meanwhile is marked when it comes through', async () => {
    const r = rig();
    await fill(r, 1);
    const { promise, resolve } = Promise.withResolvers<void>();
    r.files.hold = promise;
    const safety = r.journal.append([move('evict us-west')]);
    const person = error(r.journal.append([move('drain eu', 'ann')]));
    await r.clock.advance(limits.journalWriteWaitMs + 10);
    expect(await safety).toEqual({ durable: false });
    expect(await person).toMatchObject({ code: 'journal/unwritable' });
    expect(await r.journal.append([move('next')])).toEqual({ durable: false });
    r.files.hold = undefined;
    resolve();
    await r.clock.advance(2_500);
    expect(r.journal.state).toMatchObject({ spooled: 0, failure: undefined });
    const all = await texts(r);
    expect(all).toEqual(['begin', 'step 0 move 0', 'evict us-west', 'drain eu', 'next', 'void']);
    expect((await r.reader.entries({})).at(-1)!.entry.body).toMatchObject({ first: 4, last: 4 });
    expect(await verified(r)).toEqual([]);
  });

  it('from which somebody removed the file, or its end, gets a new chain that says so', async () => {
    for (const damage of ['remove', 'cut'] as const) {
      const r = rig();
      await fill(r, 3);
      const [name] = entriesFiles(r);
      if (damage === 'remove') r.files.files.delete(name!);
      else r.files.files.set(name!, r.files.files.get(name!)!.subarray(0, 900));
      const before = r.journal.head()!;
      expect(await r.journal.append([move('after')])).toMatchObject({ durable: true });
      expect(r.journal.state.problems).toMatchObject([{ code: 'journal/broken' }]);
      const [begin] = await r.reader.entries({ chain: r.journal.disk.chain });
      expect(begin!.entry.body).toMatchObject({ after: before });
      expect(await verified(r)).toEqual([]);
    }
  });
});

describe('files', () => {
  const bounds = { segmentBytesMax: 4_000, entriesBytesMax: 16_000, allInputsBytesMax: 6_000 };

  it('are bounded: the oldest go, an entry says so, and what is left verifies', async () => {
    const r = rig({ bounds });
    await fill(r, 120);
    const sizes = (of: string): number =>
      [...r.files.files].filter(([n]) => n.endsWith(of)).reduce((sum, [, b]) => sum + b.length, 0);
    expect(sizes('.entries')).toBeLessThan(bounds.entriesBytesMax + 3 * bounds.segmentBytesMax);
    expect(sizes('.inputs')).toBeLessThan(bounds.allInputsBytesMax + 3 * bounds.segmentBytesMax);
    expect(await texts(r)).toContain('cut');
    const result = verifyExport(await r.exported());
    expect(result.findings).toEqual([]);
    expect(result.sections[0]!.first).toBeGreaterThan(20);
    expect(result.sections[0]!.notes.join()).toContain('were removed earlier');
    const again = rig({ disk: r.files, bounds, seed: 9 });
    await fill(again, 30);
    expect(await verified(again)).toEqual([]);
  });

  it('that somebody removes besides are found missing', async () => {
    const r = rig({ bounds: { segmentBytesMax: 4_000 } });
    await fill(r, 40);
    const names = entriesFiles(r);
    expect(names.length).toBeGreaterThan(4);
    for (const at of [0, 2]) {
      const disk = new MemoryJournalFiles();
      for (const [name, bytes] of r.files.files) if (name !== names[at]) disk.files.set(name, bytes);
      const again = rig({ disk, seed: 10 });
      await again.journal.open();
      const missing = (await verified(again)).filter(({ kind }) => kind === 'missing');
      expect(missing[0]!.sequence).toBe(Number(names[at]!.slice(24, 36)));
    }
  });

  it('can be asked for a part, newest or oldest first, and for what a body says', async () => {
    const r = rig({ bounds: { segmentBytesMax: 4_000 } });
    await fill(r, 40);
    const said = async (filter: Parameters<Rig['reader']['entries']>[0]) =>
      (await r.reader.entries(filter)).map(({ entry }) => entry.sequence);
    expect(await said({ limit: 3 })).toEqual([39, 40, 41]);
    expect(await said({ limit: 3, keep: 'oldest' })).toEqual([1, 2, 3]);
    expect(await said({ sinceMs: 1_700_000_010_000, limit: 2, keep: 'oldest' })).toEqual([12, 13]);
    expect(await said({ untilMs: 1_700_000_010_000, limit: 2 })).toEqual([11, 12]);
    const match = ({ entry }: { entry: { body: unknown } }) =>
      (entry.body as { text?: string }).text === 'step 7 move 0';
    expect(await said({ match })).toEqual([9]);
    const none = await r.reader.find(99);
    expect(none.ok ? '' : none.error.code).toBe('journal/not-found');
  });
});
