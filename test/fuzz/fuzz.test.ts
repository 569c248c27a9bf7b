/**
 * Every decoder, given broken input: no crash but a typed refusal, no hang, no memory taken on somebody's word; and what was
 * accepted is written as it was read. FUZZ_RUNS is the number of inputs to each (`make fuzz`).
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { byteTargets } from './bytes.ts';
import { type Mutation, mutateBytes, mutateJson, mutateText, mutations } from './mutate.ts';
import { judge, keep, kept, type Target } from './target.ts';
import { jsonTargets, textTargets } from './texts.ts';

const numRuns = Number(process.env.FUZZ_RUNS ?? 150);
const seed = process.env.FUZZ_SEED === undefined ? {} : { seed: Number(process.env.FUZZ_SEED) };

const fuzz = <T>(
  target: Target<T>,
  mutate: (seed: T, list: readonly Mutation[]) => T,
  other: fc.Arbitrary<T>,
): void => {
  const mutated = fc
    .tuple(fc.nat(target.seeds.length - 1), mutations)
    .map(([at, list]) => mutate(target.seeds[at]!, list));
  let broken: { readonly input: T } | undefined;
  const property = fc.property(
    fc.oneof({ weight: 9, arbitrary: mutated }, { weight: 1, arbitrary: other }),
    (input) => {
      try {
        judge(target, input);
      } catch (error) {
        // The last that fails is the smallest.
        broken = { input };
        throw error;
      }
    },
  );
  const result = fc.check(property, { numRuns: Math.min(numRuns, target.most ?? numRuns), ...seed });
  if (!result.failed) return;
  const file = broken === undefined ? 'nowhere' : keep(target.name, broken.input);
  const cause = result.errorInstance as Error | null;
  throw new Error(`seed ${result.seed}, kept in ${file}: ${cause?.stack ?? 'failed'}`);
};

describe('valid input is read', () => {
  const all = [...byteTargets, ...textTargets, ...jsonTargets] as Target<unknown>[];
  it.each(all.map((target) => [target.name, target] as const))('by %s', (_name, target) => {
    for (const input of target.seeds) judge(target, input);
  });
  it('each has a name of its own', () => {
    expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
  });
  const found = kept();
  it.runIf(found.length > 0).each(found.map((k) => [k.file, k] as const))(
    'what once broke something: %s',
    (_file, { name, input }) => {
      const target = all.find((t) => t.name === name);
      if (target !== undefined) judge(target, input);
    },
  );
});

describe('broken bytes', () => {
  it.each(byteTargets.map((t) => [t.name, t] as const))('for %s', (_name, target) =>
    fuzz(target, mutateBytes, fc.uint8Array({ maxLength: 2_000 })),
  );
});

describe('broken text', () => {
  it.each(textTargets.map((t) => [t.name, t] as const))('for %s', (_name, target) =>
    fuzz(target, mutateText, fc.string({ maxLength: 400, unit: 'binary' })),
  );
});

describe('broken values', () => {
  it.each(jsonTargets.map((t) => [t.name, t] as const))('for %s', (_name, target) =>
    fuzz<unknown>(target, mutateJson, fc.jsonValue() as fc.Arbitrary<unknown>),
  );
});
