import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildBatch } from '../../../src/journal/batch.ts';
import { writeEntry } from '../../../src/journal/entry.ts';
import type { Finding } from '../../../src/journal/finding.ts';
import { signedLine } from '../../../src/journal/lines.ts';
import { keyHex } from '../../../src/journal/segment.ts';
import { verifyExport } from '../../../src/journal/verify.ts';
import { fill, keys, move, otherKeys, rig } from './rig.ts';

let file: Buffer;
let lines: string[];

beforeAll(async () => {
  const r = rig();
  await fill(r, 6);
  await r.journal.append([move('a'), move('b'), move('c')], { step: 6 });
  await fill(r, 3, 2);
  file = await r.exported();
  lines = file.toString('utf8').split('\n').slice(0, -1);
});

const check = (text: string[] | Buffer) =>
  verifyExport(Array.isArray(text) ? Buffer.from(`${text.join('\n')}\n`) : text);
const found = (text: string[] | Buffer): Finding[] => [...check(text).findings];
const entryAt = (sequence: number): number =>
  lines.findIndex((l) => l.startsWith(`{"type":"entry","sequence":${sequence},`));
const sealOf = (sequence: number): number =>
  lines.findIndex((l, i) => i > entryAt(sequence) && l.startsWith('{"type":"seal"'));
const changed = (at: number, line: string): string[] => lines.map((l, i) => (i === at ? line : l));
const without = (...at: number[]): string[] => lines.filter((_, i) => !at.includes(i));

describe('an export that nobody touched', () => {
  it('holds, and says what it covers and by whose key', () => {
    const result = check(file);
    expect(result.findings).toEqual([]);
    expect(result.holds).toBe(true);
    // 1 begin, 6 single moves, 3 in one step, 6 in pairs.
    expect(result.sections).toMatchObject([
      { member: 'us-east', replica: 'isthmus-controller-0', first: 1, last: 16, entries: 16, filtered: false },
    ]);
    // The last three steps had the inputs of the first three: they are kept once.
    expect(result.sections[0]!.inputs).toEqual({ kept: 7, left: 0 });
    expect(result.sections[0]!.publicKey).toBe(keyHex(keys.publicKey));
  });

  it('is not taken for another writer’s', () => {
    expect(verifyExport(file, { expectKey: keyHex(keys.publicKey) }).holds).toBe(true);
    expect(verifyExport(file, { expectKey: check(file).sections[0]!.fingerprint }).holds).toBe(true);
    expect(verifyExport(file, { expectKey: keyHex(otherKeys.publicKey) }).findings[0]!.kind).toBe('key');
  });
});

describe('one entry', () => {
  it('that was changed is named, and no other', () => {
    for (let sequence = 1; sequence <= 16; sequence++) {
      const at = entryAt(sequence);
      expect(found(changed(at, lines[at]!.replace('"epoch":"7"', '"epoch":"8"'))), `entry ${sequence}`).toMatchObject([
        { kind: 'changed', sequence, line: at + 1 },
      ]);
    }
  });

  it('that was changed is named also when it claims to be another, or is no JSON any more', () => {
    for (const sequence of [1, 5, 8, 9, 16]) {
      const at = entryAt(sequence);
      const posing = lines[at]!.replace(`"sequence":${sequence},`, `"sequence":${sequence === 16 ? 3 : 16},`);
      expect(found(changed(at, posing)), `entry ${sequence}`).toMatchObject([{ kind: 'changed', sequence }]);
      expect(found(changed(at, '}{')), `entry ${sequence}`).toMatchObject([{ kind: 'changed', sequence }]);
    }
  });

  it('that is missing is named, at the start, in the middle and at the end', () => {
    for (let sequence = 1; sequence <= 16; sequence++) {
      expect(found(without(entryAt(sequence))), `entry ${sequence}`).toMatchObject([{ kind: 'missing', sequence }]);
    }
  });

  it('that is missing with the signature over it is named', () => {
    expect(found(without(entryAt(2), sealOf(2)))).toMatchObject([
      { kind: 'unsigned', sequence: 1 },
      { kind: 'missing', sequence: 2 },
    ]);
    for (const sequence of [3, 5, 7]) {
      expect(found(without(entryAt(sequence), sealOf(sequence)))).toMatchObject([{ kind: 'missing', sequence }]);
    }
    const last = [entryAt(15), entryAt(16), sealOf(16)];
    expect(found(without(...last)).filter(({ kind }) => kind === 'missing')).toMatchObject([
      { sequence: 15, last: 16 },
    ]);
  });

  it('that is missing at the end is named when the file was cut and ended anew by somebody without the key', () => {
    const cut = lines.slice(0, entryAt(15));
    expect(found(cut)).toEqual(
      expect.arrayContaining([expect.objectContaining({ kind: 'missing', sequence: 15, last: 16 })]),
    );
    expect(found([...cut, lines.at(-1)!])).toEqual(
      expect.arrayContaining([expect.objectContaining({ kind: 'missing', sequence: 15, last: 16 })]),
    );
  });

  it('that stands elsewhere is named', () => {
    for (let sequence = 8; sequence <= 9; sequence++) {
      const at = entryAt(sequence);
      const swapped = changed(at, lines[at + 1]!);
      swapped[at + 1] = lines[at]!;
      const findings = found(swapped);
      expect(findings).toMatchObject([{ kind: 'reordered' }]);
      expect([sequence, sequence + 1]).toContain(findings[0]!.sequence);
    }
    const moved = without(entryAt(4));
    moved.splice(moved.length - 1, 0, lines[entryAt(4)]!);
    expect(found(moved)).toMatchObject([{ kind: 'reordered', sequence: 4 }]);
  });

  it('that is there twice is named', () => {
    const at = entryAt(5);
    expect(found([...lines.slice(0, at), lines[at]!, ...lines.slice(at)])).toMatchObject([
      { kind: 'duplicate', sequence: 5 },
    ]);
  });

  it('that was never written is named', () => {
    const at = entryAt(5);
    const forged = lines[at]!.replace('"sequence":5,', '"sequence":99,');
    expect(found([...lines.slice(0, at), forged, ...lines.slice(at)])).toMatchObject([
      { kind: 'unsigned', sequence: 99 },
    ]);
  });

  it('is named when the whole chain after it was computed anew, without the key', () => {
    const r = { member: 'us-east', replica: 'isthmus-controller-0', key: otherKeys.privateKey };
    const target = JSON.parse(lines[entryAt(5)]!) as never as Parameters<typeof writeEntry>[0];
    const forged = writeEntry({ ...target, epoch: '99' });
    const at = entryAt(5);
    const seal = buildBatch(r, { chain: target.chain, sequence: 4, hash: target.previous }, [
      { kind: 'decision', epoch: '99', wallMs: 0, monotonicMs: 0, inputs: undefined, bodies: [target.body] },
    ]);
    const findings = found(changed(at, forged.line).map((l, i) => (i === sealOf(5) ? seal.text.split('\n')[1]! : l)));
    expect(findings.some(({ sequence, kind }) => sequence === 5 && kind !== 'anchor')).toBe(true);
    expect(findings.every(({ sequence }) => sequence === 5)).toBe(true);
  });
});

describe('any byte', () => {
  it('that is flipped is found', () => {
    fc.assert(
      fc.property(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const damaged = Buffer.from(file);
        damaged[at]! ^= flip;
        return !check(damaged).holds;
      }),
      { numRuns: 400 },
    );
  });

  it('that is flipped in an entry names that entry alone', () => {
    const starts = new Map<number, [number, number]>();
    let offset = 0;
    for (const line of lines) {
      const sequence = /^\{"type":"entry","sequence":(\d+),/.exec(line)?.[1];
      const end = offset + Buffer.byteLength(line);
      if (sequence !== undefined) starts.set(Number(sequence), [offset, end]);
      offset = end + 1;
    }
    fc.assert(
      fc.property(
        fc.constantFrom(...starts),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        ([sequence, [from, to]], at, flip) => {
          const damaged = Buffer.from(file);
          const where = from + (at % (to - from));
          damaged[where]! ^= flip;
          // A new line cuts it in two: both parts are of this entry.
          if (damaged[where] === 10) return !check(damaged).holds;
          const findings = found(damaged);
          return findings.length > 0 && findings.every((f) => f.sequence === sequence);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('that is cut off or added is found', () => {
    fc.assert(
      fc.property(fc.nat(file.length - 1), (length) => !check(file.subarray(0, length)).holds),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 40 }), (more) => !check(Buffer.concat([file, more])).holds),
      { numRuns: 100 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (noise) => !verifyExport(noise).holds),
      { numRuns: 200 },
    );
  });
});

describe('lines', () => {
  it('that are dropped, doubled or swapped are found', () => {
    fc.assert(
      fc.property(
        fc.nat(lines.length - 1),
        fc.nat(lines.length - 1),
        fc.constantFrom('drop', 'double', 'swap'),
        (a, b, what) => {
          const next = [...lines];
          if (what === 'drop') next.splice(a, 1);
          else if (what === 'double') next.splice(b, 0, lines[a]!);
          else {
            if (lines[a] === lines[b]) return true;
            next[a] = lines[b]!;
            next[b] = lines[a]!;
          }
          return !check(next).holds;
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe('a writer who signs nonsense', () => {
  const end = '{"type":"end"}';
  const head = (value: object): string =>
    signedLine(
      'journal-export',
      { type: 'journal', publicKey: keyHex(keys.publicKey), chain: 'c', ...value },
      keys.privateKey,
    );
  const draft = { kind: 'cut' as const, epoch: '1', wallMs: 0, monotonicMs: 0, inputs: undefined };
  const writer = { member: 'm', replica: 'r', key: keys.privateKey };
  it.each([
    head({}),
    head({ chainKey: 7, filter: 3, anchors: 3 }),
    head({ chainKey: keyHex(keys.publicKey), filter: {}, first: 1, last: 2 ** 50, anchors: [null], head: 'x' }),
    head({ chainKey: keyHex(keys.publicKey), filter: {}, head: { sequence: 2 ** 50 }, anchors: [] }),
  ])('is not believed, and stops nothing: %#', (line) => {
    for (const body of [null, { removed: 3 }, { removed: [null] }, 'x']) {
      const { text } = buildBatch(writer, { chain: 'c', sequence: 0, hash: '0'.repeat(64) }, [
        { ...draft, bodies: [body] },
      ]);
      expect(verifyExport(Buffer.from(`${line}\n${text}${end}\n`)).holds).toBe(false);
    }
  });
});

describe('a part of a journal', () => {
  it('holds by itself, and says which part it is', async () => {
    const r = rig();
    await fill(r, 10);
    const filter = { sinceMs: 1_700_000_003_000, untilMs: 1_700_000_006_500 };
    const result = check(await r.exported({ filter }));
    expect(result.findings).toEqual([]);
    expect(result.sections).toMatchObject([{ first: 5, last: 8, entries: 4, filtered: true }]);
    expect(result.sections[0]!.notes.join()).toContain('only entries 5 to 8 were asked for');
  });

  it('is that of one step, with its inputs', async () => {
    const r = rig();
    await fill(r, 4, 3);
    const result = check(await r.exported({ filter: { sequence: 6 } }));
    expect(result.findings).toEqual([]);
    expect(result.sections).toMatchObject([{ first: 5, last: 7, inputs: { kept: 1, left: 0 } }]);
  });

  it('may lack inputs when that was asked for', async () => {
    const r = rig();
    await fill(r, 4);
    const text = (await r.exported({ inputs: false })).toString();
    expect(text).not.toContain('"type":"inputs"');
    expect(check(Buffer.from(text))).toMatchObject({ holds: true, sections: [{ inputs: { kept: 0, left: 4 } }] });
  });
});

describe('inputs', () => {
  it('that were changed or removed name their entry', () => {
    const at = lines.findIndex((l) => l.startsWith('{"type":"inputs"'));
    expect(found(without(at))).toMatchObject([{ kind: 'missing', sequence: 2 }]);
    expect(found(changed(at, lines[at]!.replace('"data":"H4sI', '"data":"H4sJ')))).toMatchObject([
      { kind: 'changed', sequence: 2 },
    ]);
  });
});

describe('anchors', () => {
  it('show what the holder of the key itself took away or wrote anew', async () => {
    const r = rig();
    await fill(r, 5);
    const held = { ...r.journal.head()!, source: 'us-west' };
    const before = { ...held, sequence: 3, hash: 'ab'.repeat(32) };
    expect(verifyExport(await r.exported(), { anchors: [held] })).toMatchObject({ holds: true });
    expect(verifyExport(await r.exported(), { anchors: [before] }).findings).toMatchObject([
      { kind: 'anchor', sequence: 3 },
    ]);
    const beyond = { ...held, sequence: 9 };
    expect(verifyExport(await r.exported({ anchors: [beyond] })).findings).toMatchObject([
      { kind: 'missing', sequence: 7, last: 9 },
    ]);
    const other = { ...beyond, chain: '0123456789abcdef' };
    expect(verifyExport(await r.exported(), { anchors: [other] })).toMatchObject({ holds: true, absent: [other] });
    expect(verifyExport(await r.exported(), { anchors: [{ ...other, of: 'eu' }] }).absent).toEqual([]);
  });
});
