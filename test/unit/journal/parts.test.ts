/** An audit in many parts: what is changed, missing, doubled or out of place in it is found, with nothing but the file. */
import { beforeAll, describe, expect, it } from 'vitest';
import { partsOf } from '../../../src/cli/audit_source.ts';
import type { Anchor } from '../../../src/journal/export.ts';
import { joinParts } from '../../../src/journal/parts.ts';
import { keyHex } from '../../../src/journal/segment.ts';
import { verifyExport } from '../../../src/journal/verify.ts';
import { auditRig, keys } from '../audit/rig.ts';
import { fill, rig } from './rig.ts';

let parts: string[];
let last = 0;
let since: string[];
let anchor: Anchor;

beforeAll(async () => {
  const r = auditRig({ bounds: { segmentBytesMax: 10_000 } });
  await r.audit.open();
  for (let second = 0; second < 20; second++) {
    for (let i = 0; i < 5; i++) r.ended({ from: `10.1.0.7:${second * 10 + i}` });
    await r.clock.advance(1_000);
  }
  parts = await r.parts();
  last = r.audit.journal.head()!.sequence;
  since = (await r.parts(`&since=${r.clock.wallMs() - 1}`)).slice(-1);
  anchor = { ...r.audit.journal.head()!, source: 'us-west' };
});

const check = (text: string, anchors: readonly Anchor[] = []) =>
  joinParts(
    [...partsOf(Buffer.from(text))].map(({ bytes, linesBefore }) =>
      verifyExport(bytes, { log: 'audit', linesBefore, anchors }),
    ),
    anchors,
  );
const lines = () => parts.join('').split('\n').slice(0, -1);
const text = (all: readonly string[]) => `${all.join('\n')}\n`;
const entryAt = (sequence: number): number =>
  lines().findIndex((l) => l.startsWith(`{"type":"entry","sequence":${sequence},`));

describe('an audit in parts', () => {
  it('holds, as one', () => {
    expect(parts.length).toBeGreaterThan(4);
    const result = check(parts.join(''));
    expect(result.findings).toEqual([]);
    expect(result.sections).toMatchObject([{ first: 1, last, entries: last, filtered: false }]);
    expect(result.sections[0]!.publicKey).toBe(keyHex(keys.publicKey));
  });

  it('names each entry that was changed, and its line', () => {
    for (let sequence = 1; sequence <= last; sequence += 19) {
      const all = lines();
      const at = entryAt(sequence);
      all[at] = all[at]!.replace('"epoch":"7"', '"epoch":"8"');
      expect(check(text(all)).findings, `entry ${sequence}`).toMatchObject([
        { kind: 'changed', sequence, line: at + 1 },
      ]);
    }
  });

  it('names each entry that is missing, or stands elsewhere', () => {
    for (let sequence = 2; sequence < last; sequence += 19) {
      const without = lines().filter((_, i) => i !== entryAt(sequence));
      expect(check(text(without)).findings, `entry ${sequence}`).toMatchObject([{ kind: 'missing', sequence }]);
    }
    const all = lines();
    const [a, b] = [entryAt(3), entryAt(4)];
    [all[a], all[b]] = [all[b]!, all[a]!];
    expect(check(text(all)).findings[0]!.kind).toBe('reordered');
  });

  it('names the entries of a part that is missing: the first, any, the last', () => {
    for (const [i] of parts.entries()) {
      const result = check(parts.filter((_, k) => k !== i).join(''));
      const { first, last: end } = verifyExport(Buffer.from(parts[i]!), { log: 'audit' }).sections[0]!;
      expect(result.holds).toBe(false);
      expect(result.findings, `part ${i}`).toEqual([
        expect.objectContaining({ kind: 'missing', sequence: first, last: end }),
      ]);
    }
    expect(check(parts.slice(0, -2).join('')).holds).toBe(false);
  });

  it('finds parts that are there twice, or stand in another order', () => {
    const [first, second, ...rest] = parts;
    expect(check([first, first, second, ...rest].join('')).findings).toMatchObject([{ kind: 'duplicate' }]);
    expect(check([second, first, ...rest].join('')).findings).toMatchObject([{ kind: 'reordered' }]);
  });

  it('finds the cut anywhere in a line, and what was added', () => {
    const whole = parts.join('');
    for (const at of [0.1, 0.5, 0.9, 0.999]) {
      expect(check(whole.slice(0, Math.floor(whole.length * at))).holds, `cut at ${at}`).toBe(false);
    }
    expect(check(`${whole}more`).holds).toBe(false);
    expect(check('').holds).toBe(false);
  });

  it('of another chain, by the same key, does not pass for the missing one', async () => {
    const other = auditRig({ seed: 9, bounds: { segmentBytesMax: 10_000 } });
    await other.audit.open();
    for (let second = 0; second < 20; second++) {
      for (let i = 0; i < 5; i++) other.ended();
      await other.clock.advance(1_000);
    }
    const strange = (await other.parts())[1]!;
    const mixed = parts.map((part, i) => (i === 1 ? strange : part)).join('');
    expect(check(mixed).holds).toBe(false);
  });

  it('of a time says that it is a part, and what is missing within it is found', () => {
    expect(check(since.join(''))).toMatchObject({ holds: true, sections: [{ filtered: true, last }] });
  });

  it('is held against what peers remember', () => {
    expect(check(parts.join(''), [anchor]).sections[0]!.anchors).toMatchObject([{ outcome: 'agrees' }]);
    const rewritten = { ...anchor, hash: 'ab'.repeat(32) };
    expect(check(parts.join(''), [rewritten]).findings).toMatchObject([{ kind: 'anchor', sequence: last }]);
    const ahead = { ...anchor, sequence: last + 3 };
    expect(check(parts.join(''), [ahead]).findings).toMatchObject([{ kind: 'missing', sequence: last + 1 }]);
    const gone = { ...anchor, chain: '0123456789abcdef' };
    expect(check(parts.join(''), [gone]).absent).toMatchObject([{ chain: '0123456789abcdef' }]);
  });

  it('is not taken for a journal, nor a journal for it', async () => {
    expect(verifyExport(Buffer.from(parts[0]!)).findings[0]!.message).toMatch(/part of the audit, and the journal/);
    const r = rig();
    await fill(r, 2);
    const journal = await r.exported();
    expect(verifyExport(journal).holds).toBe(true);
    expect(verifyExport(journal, { log: 'audit' }).findings[0]!.message).toMatch(/part of the journal, and the audit/);
  });
});
