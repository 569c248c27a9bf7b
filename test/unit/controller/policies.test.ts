import { describe, expect, it } from 'vitest';
import { PolicyBook } from '../../../src/controller/policies.ts';
import type { LocalFailoverPolicy } from '../../../src/federation/local.ts';

const object = (name: string, spec: unknown, change: Partial<LocalFailoverPolicy> = {}): LocalFailoverPolicy => ({
  namespace: 'shop',
  name,
  uid: name,
  generation: 1,
  createdMs: 1,
  spec,
  ...change,
});
const of = (...list: LocalFailoverPolicy[]) => new Map(list.map((each) => [`shop/${each.name}`, each]));

describe('the policies of a controller', () => {
  it('begin with the configuration, and follow objects and the cluster set', () => {
    const book = new PolicyBook({ order: ['eu'], capabilities: { partialSpill: true } });
    expect(book.policies.default.order).toContainEqual({ kind: 'region', name: 'eu' });
    const objects = of(object('a', { targetRefs: [{ name: 'pay' }], mode: 'observe' }));
    expect(book.update(objects, undefined)).toBe(true);
    const first = book.policies;
    expect(first.services.get('shop/pay')?.mode).toBe('observe');
    expect(book.update(objects, undefined)).toBe(false);
    expect(book.policies).toBe(first);
    expect(book.update(objects, { whenAllBad: 'fail-fast' })).toBe(true);
    expect(book.policies.services.get('shop/pay')?.whenAllBad).toBe('fail-fast');
    expect(book.update(objects, { nonsense: 1 })).toBe(false);
    expect(book.problem?.code).toBe('policy/invalid');
    expect(book.policies.default.whenAllBad).toBe('fail-fast');
    expect(book.update(new Map(), undefined)).toBe(true);
    expect(book.policies.services.size).toBe(0);
  });

  it('are programmed once decisions were made by them, and know which targets nobody has', () => {
    const book = new PolicyBook({ order: [], capabilities: { partialSpill: false } });
    book.update(of(object('a', { targetRefs: [{ name: 'pay' }, { name: 'gone' }] })), undefined);
    const known = (service: string) => service === 'shop/pay';
    expect(book.standings(undefined, known).get('shop/a')).toMatchObject({ programmed: false, missing: ['shop/gone'] });
    expect(book.standings(book.policies, known).get('shop/a')?.programmed).toBe(true);
    // An object that is refused changes no policy, but its own conditions.
    const outcome = book.update(of(object('a', { mode: 'no' }, { uid: 'b' })), undefined);
    expect(outcome).toBe(true);
    expect(book.standings(book.policies, known).get('shop/a')?.outcome.problem?.code).toBe('policy/invalid');
  });
});
