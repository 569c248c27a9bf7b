/** What a list of the store takes into memory, whoever has filled it. */
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { ListBudget } from '../../../src/store/list_budget.ts';

const mebibyte = new Uint8Array(1024 * 1024);
const entry = (key: string, value: Uint8Array = new Uint8Array(10)) => ({ key, value, modRevision: 1n });
const taken = (budget: ListBudget, count: number, name: (i: number) => string, value?: Uint8Array): number => {
  let took = 0;
  for (let i = 0; i < count; i++) if (budget.take(entry(name(i), value))) took++;
  return took;
};

describe('a list', () => {
  it.each([
    ['bytes', 200, mebibyte, limits.storeListNameBytesMax / mebibyte.length + 1],
    ['keys', 30_000, undefined, limits.storeListNameKeysMax],
  ] as const)(
    'takes no more %s of one name than a reader stages, and all of the others',
    (_what, count, value, most) => {
      const budget = new ListBudget();
      const took = taken(budget, count, (i) => `/isthmus/v1/demo/public/east/x/${i}`, value);
      expect(took).toBeLessThanOrEqual(most);
      expect(took).toBeGreaterThan(most * 0.9);
      expect(taken(budget, 20_000, (i) => `/isthmus/v1/demo/public/west/services/shop/s${i}`)).toBe(20_000);
      expect(taken(budget, 512, (i) => `/isthmus/v1/demo/set/members/m${i}`)).toBe(512);
    },
  );

  it('counts what one name wrote for single readers with the rest', () => {
    const budget = new ListBudget();
    taken(budget, 200, (i) => `/isthmus/v1/demo/to/r${i}/east/x`, mebibyte);
    expect(budget.take(entry('/isthmus/v1/demo/public/east/manifest'))).toBe(false);
    expect(budget.take(entry('/isthmus/v1/demo/to/r1/west/x'))).toBe(true);
  });

  it('is refused when all names together are more than memory holds', () => {
    const budget = new ListBudget();
    const fill = () => taken(budget, 1_000, (i) => `/isthmus/v1/demo/public/m${i}/x`, mebibyte);
    expect(fill).toThrow(expect.objectContaining({ code: 'store/too-large' }));
  });
});
