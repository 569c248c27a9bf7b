import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IsthmusError } from '../../../src/core/errors.ts';
import { decodeValue, encodeValue } from '../../../src/journal/value.ts';

const back = (value: unknown): unknown => {
  const text = encodeValue(value);
  if (!text.ok) throw text.error;
  const decoded = decodeValue(text.value);
  if (!decoded.ok) throw decoded.error;
  return decoded.value;
};

const tree = fc.letrec((tie) => ({
  leaf: fc.oneof(
    fc.string(),
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    fc.bigInt({ min: -(2n ** 64n), max: 2n ** 64n }),
    fc.uint8Array({ maxLength: 8 }),
  ),
  node: fc.oneof(
    { maxDepth: 4 },
    tie('leaf'),
    fc.array(tie('node'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(fc.string(), fc.constantFrom('@map', '@', '__proto__', '$typeName')), tie('node'), {
      maxKeys: 4,
      noNullPrototype: true,
    }),
    fc
      .array(fc.tuple(tie('leaf'), tie('node')), { maxLength: 4 })
      .map((pairs) => new Map(pairs as [unknown, unknown][])),
    fc.array(fc.string(), { maxLength: 4 }).map((items) => new Set(items)),
  ),
}));

describe('values', () => {
  it('come back as they were, whatever they are made of', () => {
    fc.assert(
      fc.property(tree.node, (value) => {
        expect(back(value)).toEqual(value);
      }),
      { numRuns: 500 },
    );
  });
  it('keep undefined in lists and maps, and leave out fields that are', () => {
    expect(back({ a: undefined, b: [undefined, 1], c: new Map([['k', undefined]]) })).toEqual({
      b: [undefined, 1],
      c: new Map([['k', undefined]]),
    });
  });
  it('keep expected errors', () => {
    const error = back(new IsthmusError('service/headless', 'no', { hint: 'give it an address' }));
    expect(error).toMatchObject({ code: 'service/headless', message: 'no', hint: 'give it an address' });
  });
  it('that are no plain data are refused by the name of the field', () => {
    const refused = encodeValue({ a: { b: [1, new Date(0)] } });
    expect(refused.ok ? '' : refused.error.message).toBe('a.b[1]: a Date cannot be kept');
    expect(encodeValue({ f: () => 1 }).ok).toBe(false);
  });
  it('never pollute what they are read into', () => {
    const value = back(JSON.parse('{"__proto__": {"polluted": true}}')) as Record<string, unknown>;
    expect(value['polluted']).toBeUndefined();
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });
  it('from anybody else are refused or read, never thrown over', () => {
    for (const text of [
      '',
      '{',
      '{"@map":1}',
      '{"@what":1}',
      '{"@bigint":"x"}',
      '{"@map":[[1]]}',
      '{"@set":[],"a":1}',
    ]) {
      expect(decodeValue(text).ok, text).toBe(false);
    }
    expect(decodeValue('['.repeat(100_000)).ok).toBe(false);
    expect(decodeValue(`${'['.repeat(5_000)}${']'.repeat(5_000)}`).ok).toBe(false);
  });
});
