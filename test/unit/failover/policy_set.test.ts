import { describe, expect, it } from 'vitest';
import { orderSteps } from '../../../src/failover/order.ts';
import { defaultPolicy, policyOf } from '../../../src/failover/policy.ts';
import { type CompiledPolicies, compilePolicies, type PolicySources } from '../../../src/failover/policy_set.ts';
import type { LocalFailoverPolicy } from '../../../src/federation/local.ts';

const object = (name: string, createdMs: number, spec: unknown, more: Partial<LocalFailoverPolicy> = {}) =>
  ({ namespace: 'shop', name, uid: `uid-${name}`, generation: 1, createdMs, spec, ...more }) as LocalFailoverPolicy;
const capabilities = { partialSpill: true };
const sources = (list: readonly LocalFailoverPolicy[], setSpec?: Record<string, unknown>): PolicySources => ({
  objects: new Map(list.map((each) => [`${each.namespace}/${each.name}`, each])),
  setSpec,
  order: orderSteps([]),
  capabilities,
});
const targets = (...names: string[]) => ({ targetRefs: names.map((name) => ({ name })) });
const outcome = (compiled: CompiledPolicies, key: string) => compiled.outcomes.get(key)!;

describe('the policies of a cluster', () => {
  it('are the built-in one when nobody says anything', () => {
    const { policies, setProblem } = compilePolicies(sources([]));
    expect(policies.default).toEqual(defaultPolicy);
    expect(setProblem).toBeUndefined();
    expect(policyOf(policies, 'shop/pay').name).toBe('default');
  });

  it('go from the cluster set over the namespace to the service', () => {
    const list = [
      object('all', 1, { drain: { over: '1m' } }),
      object('pay', 2, { ...targets('pay'), failback: { mode: 'latched' } }),
    ];
    const { policies } = compilePolicies(sources(list, { mode: 'observe' }));
    expect(policyOf(policies, 'bank/x')).toMatchObject({ name: 'default', mode: 'observe' });
    expect(policyOf(policies, 'shop/cart')).toMatchObject({
      name: 'shop/all',
      mode: 'observe',
      drain: { overMs: 60_000 },
    });
    // Over the cluster set's, not over the namespace's: an object means the same wherever it stands.
    expect(policyOf(policies, 'shop/pay')).toMatchObject({
      name: 'shop/pay',
      mode: 'observe',
      failback: { mode: 'latched' },
      drain: { overMs: 30_000 },
    });
  });

  it('of two for one service the older decides, then the first by name, and the other is told', () => {
    const young = object('a', 5, targets('pay', 'cart'));
    const old = object('z', 1, targets('pay'));
    const twin = object('b', 5, targets('cart'));
    const compiled = compilePolicies(sources([young, twin, old]));
    expect(policyOf(compiled.policies, 'shop/pay').name).toBe('shop/z');
    expect(policyOf(compiled.policies, 'shop/cart').name).toBe('shop/a');
    expect(outcome(compiled, 'shop/a')).toMatchObject({
      decides: ['shop/cart'],
      lost: [{ service: 'shop/pay', to: 'shop/z' }],
    });
    expect(outcome(compiled, 'shop/b')).toMatchObject({ decides: [], lost: [{ service: 'shop/cart', to: 'shop/a' }] });
    const wide = compilePolicies(sources([object('m', 2, {}), object('n', 1, {})]));
    expect(policyOf(wide.policies, 'shop/pay').name).toBe('shop/n');
    expect(outcome(wide, 'shop/m')).toMatchObject({ wholeNamespace: false, lost: [{ service: '*', to: 'shop/n' }] });
  });

  it('one that names the service goes before an older one for the namespace, and neither is in conflict', () => {
    const compiled = compilePolicies(sources([object('all', 1, {}), object('pay', 9, targets('pay'))]));
    expect(policyOf(compiled.policies, 'shop/pay').name).toBe('shop/pay');
    expect([...compiled.outcomes.values()].flatMap(({ lost }) => lost)).toEqual([]);
  });

  it('one that is refused keeps its last good version, not that of another object of its name', () => {
    const good = object('pay', 1, { ...targets('pay'), mode: 'observe' });
    const first = compilePolicies(sources([good]));
    const bad = { ...good, generation: 2, spec: { ...targets('pay'), mode: 'maybe' } };
    const second = compilePolicies(sources([bad]), first);
    expect(policyOf(second.policies, 'shop/pay').mode).toBe('observe');
    expect(outcome(second, 'shop/pay').problem?.message).toContain('spec.mode: "maybe"');
    const third = compilePolicies(sources([{ ...bad, uid: 'another' }]), second);
    expect(policyOf(third.policies, 'shop/pay').name).toBe('default');
    expect(outcome(third, 'shop/pay')).toMatchObject({ parsed: undefined, decides: [] });
    expect(policyOf(compilePolicies(sources([bad])).policies, 'shop/pay').name).toBe('default');
  });

  it('the cluster set’s, when it is refused, stays as it was', () => {
    const first = compilePolicies(sources([], { mode: 'observe' }));
    const second = compilePolicies(sources([], { mode: 'observe', colour: 'red' }), first);
    expect(second.policies.default.mode).toBe('observe');
    expect(second.setProblem?.message).toContain('spec.colour: unknown field');
    expect(compilePolicies(sources([], { colour: 'red' })).policies.default).toEqual(defaultPolicy);
  });

  it('are the same objects as long as they say the same', () => {
    const list = [object('all', 1, {}), object('pay', 2, targets('pay')), object('odd', 3, { mode: 7 })];
    const first = compilePolicies(sources(list, { drain: { over: '1m' } }));
    const again = compilePolicies(sources(list, { drain: { over: '60s' } }), first);
    expect(again.policies).toBe(first.policies);
    expect([...again.outcomes].every(([key, each]) => first.outcomes.get(key) === each)).toBe(true);
    // A new version that says the same: a new outcome, the same policy.
    const touched = list.map((each) => (each.name === 'pay' ? { ...each, generation: 2 } : each));
    const third = compilePolicies(sources(touched, { drain: { over: '1m' } }), first);
    expect(third.policies).toBe(first.policies);
    // One that changes leaves the others.
    const changed = [...list.slice(0, 1), object('pay', 2, { ...targets('pay'), mode: 'observe' })];
    const fourth = compilePolicies(sources(changed, { drain: { over: '1m' } }), first);
    expect(fourth.policies).not.toBe(first.policies);
    expect(fourth.policies.default).toBe(first.policies.default);
    expect(fourth.policies.namespaces).toBe(first.policies.namespaces);
    const gone = compilePolicies(sources([]), fourth);
    expect(gone.policies.services.size).toBe(0);
  });
});
