/** EgressPolicies: what is read of them, what is refused and in which words, and what stays in force meanwhile. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseEgressPolicy } from '../../../src/trust/egress_policy.ts';
import {
  type CompiledEgress,
  compileEgress,
  type LocalEgressPolicy,
  restricts,
} from '../../../src/trust/egress_rules.ts';
import { covers, matches, parseSource, sourceText } from '../../../src/trust/egress_source.ts';

const domain = 'cluster.local';
const parse = (spec: unknown) => parseEgressPolicy('pay', spec, domain);
const id = (namespace: string, account: string): string => `spiffe://${domain}/ns/${namespace}/sa/${account}`;
const everybody = [{ source: { namespaces: ['*'] } }];

describe('a source', () => {
  it.each([
    ['principals', id('shop', 'cart'), id('shop', 'cart'), id('shop', 'cart2')],
    ['principals', 'cluster.local/ns/shop/sa/cart', id('shop', 'cart'), id('shop', 'car')],
    ['principals', `${id('shop', 'cart')}-*`, id('shop', 'cart-1'), id('shop', 'cart')],
    ['namespaces', 'shop', id('shop', 'anything'), id('shop2', 'anything')],
    ['serviceAccounts', 'shop/cart', id('shop', 'cart'), id('pay', 'cart')],
    ['serviceAccounts', 'shop/cart*', id('shop', 'cart-2'), id('shop', 'car')],
    ['serviceAccounts', 'shop/*', id('shop', 'x'), id('shopping', 'x')],
  ] as const)('%s %s means %s and not %s', (kind, text, yes, no) => {
    const pattern = parseSource(kind, text, domain)!;
    expect([matches(pattern, yes), matches(pattern, no)]).toEqual([true, false]);
    expect(sourceText(pattern)).not.toBe('');
  });

  it.each([
    ['principals', 'spiffe://other/ns/shop/sa/cart'],
    ['principals', 'spiffe://cluster.local/ns/shop/sa/*cart'],
    ['principals', 'spiffe://cluster.local/ns/*/sa/cart'],
    ['principals', '*'],
    ['principals', 'spiffe://cluster.local/ns/shop/sa/ca*rt'],
    ['namespaces', 'Shop'],
    ['namespaces', 'shop*'],
    ['namespaces', ''],
    ['serviceAccounts', 'cart'],
    ['serviceAccounts', 'a/b/c'],
    ['serviceAccounts', '*/cart'],
    ['serviceAccounts', 'shop/**'],
  ] as const)('%s %j is none', (kind, text) => {
    expect(parseSource(kind, text, domain)).toBeUndefined();
  });

  it('is nested in another or apart from it, never crossed', () => {
    const account = fc
      .stringMatching(/^[a-c]{1,3}\*?$/)
      .map((text) => parseSource('serviceAccounts', `n/${text}`, domain)!);
    const name = fc.stringMatching(/^[a-c]{1,4}$/).map((text) => id('n', text));
    fc.assert(
      fc.property(account, account, name, (a, b, identity) => {
        if (matches(a, identity) && matches(b, identity)) expect(covers(a, b) || covers(b, a)).toBe(true);
        if (covers(a, b) && matches(b, identity)) expect(matches(a, identity)).toBe(true);
      }),
    );
  });
});

describe('a policy', () => {
  it('is read', () => {
    const spec = {
      action: 'ALLOW',
      rules: [
        {
          from: [{ source: { namespaces: ['shop'] } }, { source: { serviceAccounts: ['pay/batch-*'] } }],
          to: [{ services: ['pay/ledger', 'bank/*'] }],
          members: ['us-west', 'eu-central', 'us-west'],
        },
        { from: everybody, to: [{ services: ['*'] }] },
      ],
    };
    expect(parse(spec)).toEqual({
      ok: true,
      value: {
        name: 'pay',
        action: 'ALLOW',
        rules: [
          {
            id: 'pay/0',
            sources: [
              { text: id('shop', ''), prefix: true },
              { text: id('pay', 'batch-'), prefix: true },
            ],
            services: [{ namespace: 'pay', name: 'ledger' }, { namespace: 'bank' }],
            members: ['eu-central', 'us-west'],
          },
          { id: 'pay/1', sources: undefined, services: undefined },
        ],
      },
    });
    expect(parse({ action: 'ALLOW' })).toMatchObject({ ok: true, value: { rules: [] } });
    expect(parse({ action: 'LIMIT', rules: [{ from: everybody, connectsPerSecond: 0.5 }] })).toMatchObject({
      ok: true,
    });
    expect(parse({ action: 'LIMIT', rules: [{ from: everybody, connectsPerSecond: 0 }] })).toMatchObject({ ok: false });
  });

  const rule = (over: object) => ({
    action: 'ALLOW',
    rules: [{ from: everybody, to: [{ services: ['*'] }], ...over }],
  });
  it.each<[string, unknown, RegExp]>([
    ['no action', { rules: [] }, /spec\.action: is missing \(write one of ALLOW, DENY, LIMIT\)/],
    ['another action', { action: 'allow' }, /spec\.action: "allow" is no action/],
    ['no object', 'ALLOW', /spec: "ALLOW" is not an object/],
    ['a field that there is not', { ...rule({}), rule: [] }, /spec\.rule: unknown field \(known here: action, rules\)/],
    ['a misspelt field of a rule', rule({ member: ['us-west'] }), /spec\.rules\[0\]\.member: unknown field/],
    ['nobody', rule({ from: [] }), /spec\.rules\[0\]\.from: the list is empty/],
    ['from left out', rule({ from: undefined }), /spec\.rules\[0\]\.from: missing/],
    ['to left out', rule({ to: undefined }), /spec\.rules\[0\]\.to: missing/],
    [
      'two kinds in one source',
      rule({ from: [{ source: { namespaces: ['a'], principals: ['b'] } }] }),
      /says principals and namespaces/,
    ],
    ['an empty source', rule({ from: [{ source: {} }] }), /from\[0\]\.source: is empty/],
    ['no source', rule({ from: [{ namespaces: ['a'] }] }), /from\[0\]\.namespaces: unknown field/],
    [
      'a bad namespace',
      rule({ from: [{ source: { namespaces: ['A'] } }] }),
      /namespaces\[0\]: "A" is not the name of a namespace/,
    ],
    ['a number', rule({ from: [{ source: { namespaces: [7] } }] }), /namespaces\[0\]: 7 is not a text/],
    [
      'another trust domain',
      rule({ from: [{ source: { principals: ['spiffe://o/ns/a/sa/b'] } }] }),
      /the trust domain here is cluster\.local/,
    ],
    ['no service', rule({ to: [{ services: ['ledger'] }] }), /services\[0\]: "ledger" is not a service/],
    ['a service with a port', rule({ to: [{ services: ['a/b:80'] }] }), /"a\/b:80" is not a service/],
    ['bad members', rule({ members: ['US'] }), /members\[0\]: "US" is not the name of a member/],
    ['empty members', rule({ members: [] }), /members: the list is empty/],
    ['members of a denial', { ...rule({ members: ['a'] }), action: 'DENY' }, /members: unknown field/],
    ['a denial of nothing', { action: 'DENY', rules: [] }, /spec\.rules: DENY without a rule does nothing/],
    ['a limit without a number', { action: 'LIMIT', rules: [{ from: everybody }] }, /connectsPerSecond: is missing/],
    [
      'a negative limit',
      { action: 'LIMIT', rules: [{ from: everybody, connectsPerSecond: -1 }] },
      /-1 is not a number above 0/,
    ],
    [
      'a limit as text',
      { action: 'LIMIT', rules: [{ from: everybody, connectsPerSecond: '5' }] },
      /"5" is not a number/,
    ],
    [
      'a limit with services',
      { action: 'LIMIT', rules: [{ from: everybody, to: [], connectsPerSecond: 1 }] },
      /to: unknown field/,
    ],
    ['too many rules', { action: 'ALLOW', rules: Array(300).fill({}) }, /300 rules: not a list of at most 256/],
  ])('with %s is refused, and says so', (_what, spec, message) => {
    const parsed = parse(spec);
    expect(parsed.ok).toBe(false);
    if (parsed.ok) return;
    expect(parsed.error).toMatchObject({ code: 'policy/invalid', message: expect.stringMatching(message) });
    expect(parsed.error.message).toContain('EgressPolicy pay: ');
    expect(parsed.error.hint).toBeTruthy();
  });

  it('of whatever form is read or refused, and never throws', () => {
    fc.assert(fc.property(fc.jsonValue(), (spec) => typeof parse(spec).ok === 'boolean'));
    fc.assert(
      fc.property(fc.jsonValue(), fc.constantFrom('from', 'to', 'members', 'connectsPerSecond'), (value, field) => {
        expect(typeof parse(rule({ [field]: value })).ok).toBe('boolean');
      }),
    );
  });
});

describe('all policies together', () => {
  const object = (name: string, spec: unknown, over: Partial<LocalEgressPolicy> = {}): LocalEgressPolicy => ({
    name,
    uid: `uid-${name}`,
    generation: 1,
    spec,
    ...over,
  });
  const compile = (objects: readonly LocalEgressPolicy[], before?: CompiledEgress) =>
    compileEgress(new Map(objects.map((one) => [one.name, one])), domain, before);
  const deny = { action: 'DENY', rules: [{ from: everybody, to: [{ services: ['bank/*'] }] }] };
  const allow = { action: 'ALLOW', rules: [{ from: everybody, to: [{ services: ['shop/*'] }] }] };
  const bad = { action: 'NO' };

  it('none restricts nobody; one that allows nothing restricts everybody', () => {
    expect(restricts(compile([]).rules)).toBe(false);
    expect(compile([object('a', { action: 'ALLOW' })]).rules.allow).toEqual([]);
    expect(compile([object('a', deny)]).rules).toMatchObject({ deny: [{ id: 'a/0' }], allow: undefined });
  });

  it('that turns bad keeps its last version: from this process, or from its status', () => {
    const good = compile([object('a', deny)]);
    const later = compile([object('a', bad, { generation: 2 })], good);
    expect(later.rules).toBe(good.rules);
    expect(later.outcomes.get('a')).toMatchObject({
      accepted: { generation: 1, spec: deny },
      problem: { code: 'policy/invalid' },
    });
    // A pod that starts now has only what stands in the status.
    const accepted = { generation: 1, spec: deny };
    const fresh = compile([object('a', bad, { generation: 2, accepted })]);
    expect(fresh.rules).toEqual(good.rules);
    expect(fresh.outcomes.get('a')).toMatchObject({ accepted });
    // Of another object under that name nothing is taken over.
    expect(compile([object('a', bad, { uid: 'other' })], good).rules.deny).toEqual([]);
  });

  it('that is bad from the start changes nothing for the others', () => {
    const before = compile([object('a', allow)]);
    const after = compile([object('a', allow), object('b', bad)], before);
    expect(after.rules).toEqual(before.rules);
    expect(after.outcomes.get('b')).toMatchObject({ policy: undefined, problem: { code: 'policy/invalid' } });
  });

  it('says the same in every order and on every replica, and is the same object as long as nothing changed', () => {
    const objects = [object('b', deny), object('a', allow), object('c', { ...deny, action: 'ALLOW' })];
    const one = compile(objects);
    expect(compile([...objects].reverse()).rules).toEqual(one.rules);
    expect(compile(objects, one).rules).toBe(one.rules);
    // Our own writes to the status are no change.
    const written = objects.map((each) => ({ ...each, accepted: { generation: 1, spec: each.spec } }));
    expect(compile(written, one).rules).toBe(one.rules);
  });

  it('of two limits for one source the lower counts', () => {
    const limit = (connectsPerSecond: number, from: unknown = [{ source: { namespaces: ['shop'] } }]) => ({
      action: 'LIMIT',
      rules: [{ from, connectsPerSecond }],
    });
    const { limits } = compile([
      object('a', limit(50)),
      object('b', limit(20)),
      object('c', limit(9, everybody)),
    ]).rules;
    expect(limits).toEqual([
      { source: undefined, perSecond: 9 },
      { source: { text: id('shop', ''), prefix: true }, perSecond: 20 },
    ]);
  });
});
