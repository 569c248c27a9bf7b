import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MerkleSet, valueHash } from '../../../src/records/merkle.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);
const setOf = (entries: Iterable<readonly [string, string]>): MerkleSet => {
  const set = new MerkleSet();
  for (const [key, value] of entries) set.set(key, valueHash(bytes(value)));
  return set;
};

describe('the Merkle set', () => {
  it('has one root for one content, however it came to be', () => {
    const step = fc.tuple(fc.stringMatching(/^[a-f]{1,3}$/), fc.option(fc.string(), { nil: undefined }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const incremental = new MerkleSet();
        const model = new Map<string, string>();
        for (const [key, value] of steps) {
          const before = incremental.root();
          const changed = value === undefined ? incremental.delete(key) : incremental.set(key, valueHash(bytes(value)));
          expect(changed).toBe(value === undefined ? model.has(key) : model.get(key) !== value);
          expect(incremental.root().equals(before)).toBe(!changed);
          if (value === undefined) model.delete(key);
          else model.set(key, value);
        }
        const scratch = setOf([...model].sort(([a], [b]) => (a < b ? 1 : -1)));
        expect(incremental.count).toBe(model.size);
        expect(incremental.root()).toEqual(scratch.root());
        expect([...incremental.keys()].sort()).toEqual([...model.keys()].sort());
      }),
    );
  });

  it('changes its root with every key, value and count', () => {
    const roots = [
      setOf([]),
      setOf([['a', '1']]),
      setOf([['a', '2']]),
      setOf([['b', '1']]),
      setOf([
        ['a', '1'],
        ['b', '1'],
      ]),
    ].map((set) => set.root().toString('hex'));
    expect(new Set(roots).size).toBe(roots.length);
  });

  it('keeps its root over versions: members of different versions must agree', () => {
    expect(
      setOf([
        ['services/shop/checkout', 'x'],
        ['gateways', 'y'],
      ])
        .root()
        .toString('hex'),
    ).toMatchInlineSnapshot(`"d2317d15a47c8741ad39e9048616a90946aa0cf49f3f22c020ab6350ceaa1b09"`);
  });
});
