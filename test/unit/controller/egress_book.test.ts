/** The rules of the egress as a controller keeps them, and what it says of them. */
import { describe, expect, it } from 'vitest';
import { EgressBook } from '../../../src/controller/egress_book.ts';
import type { LocalEgressPolicy } from '../../../src/trust/egress_rules.ts';
import { accounts, spaces, to } from '../trust/egress_rules_of.ts';

const objects = (specs: Readonly<Record<string, unknown>>, generation = 1): ReadonlyMap<string, LocalEgressPolicy> =>
  new Map(Object.entries(specs).map(([name, spec]) => [name, { name, uid: name, generation, spec }]));
const deny = { action: 'DENY', rules: [{ from: accounts('shop/batch-*'), to: to('pay/*') }] };
const allow = { action: 'ALLOW', rules: [{ from: spaces('shop'), to: to('pay/ledger'), members: ['us-west'] }] };

describe('the book', () => {
  it('holds nobody up without policies', () => {
    const book = new EgressBook('cluster.local');
    book.update(undefined, true);
    expect([book.restricts, book.linesFor('pay/ledger'), book.problems(), book.counts()]).toEqual([
      false,
      [],
      [],
      { inForce: 0, refused: 0 },
    ]);
  });

  it('says for a service who may call it, by which rule', () => {
    const book = new EgressBook('cluster.local');
    book.update(objects({ deny, allow }), true);
    expect(book.linesFor('pay/ledger')).toEqual([
      'denied by deny/0: shop/batch-*',
      'allowed by allow/0: namespace shop, to be answered by us-west only',
      'whom no rule allows is denied (rule “none”)',
    ]);
    expect(book.linesFor('shop/cart')).toEqual(['whom no rule allows is denied (rule “none”)']);
  });

  it('goes on by the last good version, and says so', () => {
    const book = new EgressBook('cluster.local');
    book.update(objects({ deny }), true);
    const { rules } = book;
    book.update(objects({ deny: { action: 'PERMIT' } }, 2), true);
    expect(book.rules).toBe(rules);
    expect(book.counts()).toEqual({ inForce: 1, refused: 1 });
    expect(book.problems()).toMatchObject([
      {
        code: 'policy/invalid',
        message: expect.stringMatching(/spec\.action: "PERMIT".*generation 1 of it stays in force$/),
      },
    ]);
  });

  it('keeps what an earlier run saw where the objects may not be read, and lets go where they may', () => {
    const book = new EgressBook('cluster.local');
    book.restore(objects({ deny }));
    book.update(new Map(), false);
    expect(book.restricts).toBe(true);
    expect(book.objects.has('deny')).toBe(true);
    book.update(new Map(), true);
    expect(book.restricts).toBe(false);
    // Known in this run: the API server's answer stands, also when it gives no more of them.
    book.update(objects({ deny }), true);
    book.update(objects({ deny }), false);
    expect(book.restricts).toBe(true);
  });

  it('says when there is very much of it', () => {
    const book = new EgressBook('cluster.local');
    const rules = Array.from({ length: 251 }, (_, i) => ({ from: spaces(`n-${i}`), to: to('*') }));
    book.update(objects(Object.fromEntries([1, 2, 3, 4].map((n) => [`p${n}`, { action: 'DENY', rules }]))), true);
    expect(book.problems()).toMatchObject([{ code: 'policy/large' }]);
    expect(book.rules.deny).toHaveLength(1_004);
  });
});
