/** Rights and limits at the egress, as Envoy gets them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { TypedExtensionConfigSchema } from '../../../src/gen/envoy/config/core/v3/extension_pb.ts';
import { ListenerSchema } from '../../../src/gen/envoy/config/listener/v3/listener_pb.ts';
import { RBAC_Action } from '../../../src/gen/envoy/config/rbac/v3/rbac_pb.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import { LocalRateLimitSchema } from '../../../src/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts';
import { RBACSchema } from '../../../src/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts';
import { HttpConnectionManagerSchema } from '../../../src/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { answeringFor } from '../../../src/translate/envoy/egress_members.ts';
import type { Encoded } from '../../../src/translate/envoy/encoded.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import { GatewayTranslation } from '../../../src/translate/envoy/translation.ts';
import type { EgressRules } from '../../../src/trust/egress_rules.ts';
import { accounts, rulesOf, spaces, to } from '../trust/egress_rules_of.ts';
import { decoded, managerConfig, member, memberView, unpacked, world } from './fixture.ts';

const members = ['us-east', 'us-west', 'eu-central'].map((name, i) =>
  memberView(member(name), [
    { id: 'gw-1', address: `10.${i}.0.1` },
    { id: 'gw-2', address: `10.${i}.0.2` },
  ]),
);
const services = ['checkout', 'cart'].map((name) => ({ key: `shop/${name}`, tiers: [['us-west'], ['eu-central']] }));
const input = (egress?: EgressRules) => world({ members, services, ...(egress && { egress }) });
const configOf = (resources: readonly Encoded[], name: string) =>
  decoded(resources, TypedExtensionConfigSchema, name).typedConfig;
const rbac = (egress: EgressRules | undefined, which: 'deny' | 'allow') =>
  unpacked(configOf(gatewayResources(input(egress)), `egress/${which}`), RBACSchema).rules;
const limit = (egress: EgressRules) =>
  unpacked(configOf(gatewayResources(input(egress)), 'egress/limits'), LocalRateLimitSchema);

describe('rights', () => {
  it('without policies are the two filters without rules, which let everything through', () => {
    expect([rbac(undefined, 'deny'), rbac(undefined, 'allow')]).toEqual([undefined, undefined]);
  });

  it('name the rule, the callers by their certificate, and the services by their authority', () => {
    const egress = rulesOf({
      no: { action: 'DENY', rules: [{ from: accounts('shop/batch-*'), to: to('shop/*') }] },
      yes: { action: 'ALLOW', rules: [{ from: accounts('shop/web'), to: to('shop/checkout') }] },
      all: { action: 'ALLOW', rules: [{ from: spaces('*'), to: to('*') }] },
    });
    const deny = rbac(egress, 'deny')!;
    expect(deny.action).toBe(RBAC_Action.DENY);
    expect(Object.keys(deny.policies)).toEqual(['no/0']);
    expect(deny.policies['no/0']).toMatchObject({
      permissions: [
        {
          rule: {
            value: {
              name: ':authority',
              headerMatchSpecifier: {
                value: { matchPattern: { case: 'contains', value: '.shop.svc.cluster.local:' } },
              },
            },
          },
        },
      ],
      principals: [
        {
          identifier: {
            case: 'authenticated',
            value: {
              principalName: { matchPattern: { case: 'prefix', value: 'spiffe://cluster.local/ns/shop/sa/batch-' } },
            },
          },
        },
      ],
    });
    const allow = rbac(egress, 'allow')!;
    expect(allow.action).toBe(RBAC_Action.ALLOW);
    expect(Object.keys(allow.policies)).toEqual(['all/0', 'yes/0']);
    expect(allow.policies['all/0']).toMatchObject({
      permissions: [{ rule: { case: 'any' } }],
      principals: [{ identifier: { case: 'any' } }],
    });
    expect(allow.policies['yes/0']!.permissions[0]).toMatchObject({
      rule: {
        value: {
          headerMatchSpecifier: {
            value: { matchPattern: { case: 'prefix', value: 'checkout.shop.svc.cluster.local:' } },
          },
        },
      },
    });
    // A policy that allows nothing denies everything: a filter with no rule of its own.
    expect(rbac(rulesOf({ none: { action: 'ALLOW' } }), 'allow')).toMatchObject({
      action: RBAC_Action.ALLOW,
      policies: {},
    });
  });

  it('and limits stand in the listener by name alone, limits first; without rights nothing is let through', () => {
    const listener = decoded(gatewayResources(input()), ListenerSchema, 'egress');
    const manager = unpacked(managerConfig(listener.filterChains[0]!), HttpConnectionManagerSchema);
    const names = manager.httpFilters.map(({ name }) => name);
    expect(names.slice(-4, -1)).toEqual(['egress/limits', 'egress/deny', 'egress/allow']);
    for (const { name, configType } of manager.httpFilters) {
      if (!name.startsWith('egress/') || configType.case !== 'configDiscovery') continue;
      expect(configType.value.defaultConfig === undefined, name).toBe(name !== 'egress/limits');
    }
    expect(manager.earlyHeaderMutationExtensions).toHaveLength(1);
    // Probes come in by another chain, and are not concerned.
    const probe = unpacked(managerConfig(listener.filterChains[1]!), HttpConnectionManagerSchema);
    expect(probe.httpFilters.some(({ name }) => name.startsWith('egress/'))).toBe(false);
  });

  it('that change push two small resources, and nothing else', () => {
    const translation = new GatewayTranslation();
    translation.rebuild(input());
    const nothing = { services: new Set<string>(), pods: new Set<string>(), members: false };
    const egress = rulesOf({ no: { action: 'DENY', rules: [{ from: spaces('shop'), to: to('*') }] } });
    expect(translation.update(input(egress), nothing).changed.map(({ name }) => name)).toEqual(['egress/deny']);
    expect(translation.update(input(egress), nothing).changed).toEqual([]);
    const limiting = rulesOf({ slow: { action: 'LIMIT', rules: [{ from: spaces('shop'), connectsPerSecond: 4 }] } });
    expect(
      translation
        .update(input(limiting), nothing)
        .changed.map(({ name }) => name)
        .sort(),
    ).toEqual(['egress/deny', 'egress/limits']);
  });

  it('of a thousand rules and ten thousand identities stand once, in a resource of a bounded size', () => {
    const rules = Array.from({ length: 250 }, (_, i) => ({
      from: accounts(...Array.from({ length: 10 }, (_, j) => `ns-${i}/account-${j}`)),
      to: to(`shop/service-${i}`),
    }));
    const egress = rulesOf(Object.fromEntries([0, 1, 2, 3].map((n) => [`p${n}`, { action: 'ALLOW', rules }])));
    const resources = gatewayResources(input(egress));
    const allow = resources.find(({ name }) => name === 'egress/allow')!;
    expect(allow.bytes.length).toBeLessThan(2_000_000);
    expect(resources.filter(({ name }) => name !== 'egress/allow').every(({ bytes }) => bytes.length < 20_000)).toBe(
      true,
    );
  });
});

describe('many identities', () => {
  type Principal = NonNullable<ReturnType<typeof rbac>>['policies'][string]['principals'][number];
  const fits = ({ identifier: by }: Principal, identity: string): boolean => {
    if (by.case === 'any') return true;
    if (by.case === 'andIds') return by.value.ids.every((one) => fits(one, identity));
    if (by.case === 'orIds') return by.value.ids.some((one) => fits(one, identity));
    if (by.case !== 'authenticated') throw new Error(`${by.case}`);
    const pattern = by.value.principalName!.matchPattern;
    return pattern.case === 'prefix' ? identity.startsWith(pattern.value as string) : identity === pattern.value;
  };
  const depth = ({ identifier: by }: Principal): number =>
    by.case === 'andIds' || by.case === 'orIds' ? 2 + Math.max(...by.value.ids.map(depth)) : 1;
  const principalsOf = (texts: readonly string[]) => {
    const rules = [{ from: accounts(...texts), to: to('*') }];
    return rbac(rulesOf({ a: { action: 'ALLOW', rules } }), 'allow')!.policies['a/0']!.principals;
  };

  it('mean what they say, however they are put together', () => {
    const name = fc.stringMatching(/^[a-c]{1,2}\/[a-c]{1,6}$/);
    const pattern = fc.stringMatching(/^[a-c]{1,2}\/[a-c]{0,5}\*$/);
    fc.assert(
      fc.property(
        fc.array(fc.oneof(name, pattern), { minLength: 1, maxLength: 60 }),
        fc.array(name),
        (texts, others) => {
          const made = principalsOf(texts);
          const said = (one: string) =>
            texts.some((text) => (text.endsWith('*') ? one.startsWith(text.slice(0, -1)) : one === text));
          for (const one of [...others, ...texts.filter((text) => !text.endsWith('*'))]) {
            const [namespace, account] = one.split('/');
            const identity = `spiffe://cluster.local/ns/${namespace}/sa/${account}`;
            expect(
              made.some((each) => fits(each, identity)),
              one,
            ).toBe(said(one));
          }
        },
      ),
    );
  });

  it('are no deeper than Envoy reads', () => {
    const nested = Array.from({ length: 60 }, (_, i) => `n/${'a'.repeat(i + 1)}`);
    const wide = Array.from({ length: 9_999 }, (_, i) => `n/account-${i}`);
    for (const texts of [nested, wide]) {
      const made = principalsOf(texts);
      expect(Math.max(...made.map(depth))).toBeLessThan(40);
      expect(made.length).toBeLessThan(20);
    }
  });
});

describe('limits', () => {
  const shown = (egress: EgressRules) =>
    limit(egress).descriptors.map(({ entries, tokenBucket }) => [
      ...entries.map(({ value }) => value),
      tokenBucket!.maxTokens,
    ]);

  it('are a bucket for each identity that comes, and of each that is named its own; gateways share them', () => {
    const made = limit(rulesOf({}));
    expect(made.maxDynamicDescriptors).toBe(limits.egressIdentitiesMax);
    expect(made.rateLimits).toHaveLength(1);
    // Two gateways with two Envoys each; a burst is one second.
    expect(shown(rulesOf({}))).toEqual([['default', '', limits.identityConnectsPerSecond / 4]]);
    const egress = rulesOf({
      a: {
        action: 'LIMIT',
        rules: [
          { from: spaces('*'), connectsPerSecond: 400 },
          { from: spaces('shop'), connectsPerSecond: 80 },
          { from: accounts('shop/web', 'pay/web'), connectsPerSecond: 800 },
        ],
      },
    });
    const shop = 'spiffe://cluster.local/ns/shop/sa/';
    expect(shown(egress)).toEqual([
      ['default', '', 100],
      [shop, '', 20],
      ['default', 'spiffe://cluster.local/ns/pay/sa/web', 200],
      [shop, `${shop}web`, 200],
    ]);
  });

  it('of beginnings within beginnings: the longest that fits is asked, and no other', () => {
    const made = limit(
      rulesOf({
        a: {
          action: 'LIMIT',
          rules: [
            { from: spaces('shop'), connectsPerSecond: 1 },
            { from: accounts('shop/a*'), connectsPerSecond: 2 },
            { from: accounts('shop/ab*'), connectsPerSecond: 3 },
            { from: spaces('pay'), connectsPerSecond: 4 },
          ],
        },
      }),
    );
    const asked = (identity: string): string[] =>
      made.rateLimits.flatMap(({ actions }) => {
        const { actionSpecifier: which } = actions[0]!;
        if (which.case !== 'headerValueMatch') throw new Error('not a match');
        const fits = which.value.headers.every(({ invertMatch, headerMatchSpecifier: by }) => {
          if (by.case !== 'stringMatch' || by.value.matchPattern.case !== 'prefix') throw new Error('not a prefix');
          return identity.startsWith(by.value.matchPattern.value) !== invertMatch;
        });
        return fits ? [which.value.descriptorValue] : [];
      });
    const of = (namespace: string, account: string) => asked(`spiffe://cluster.local/ns/${namespace}/sa/${account}`);
    const text = (tail: string) => [`spiffe://cluster.local/ns/${tail}`];
    expect(of('shop', 'x')).toEqual(text('shop/sa/'));
    expect(of('shop', 'ax')).toEqual(text('shop/sa/a'));
    expect(of('shop', 'abx')).toEqual(text('shop/sa/ab'));
    expect(of('pay', 'x')).toEqual(text('pay/sa/'));
    expect(of('other', 'x')).toEqual(['default']);
  });
});

describe('members that may answer', () => {
  const egress = rulesOf({
    a: {
      action: 'ALLOW',
      rules: [
        { from: spaces('shop'), to: to('shop/checkout'), members: ['eu-central'] },
        { from: accounts('shop/web'), to: to('shop/checkout'), members: ['us-west'] },
        { from: accounts('shop/admin'), to: to('shop/*') },
        { from: spaces('*'), to: to('shop/cart') },
      ],
    },
  });
  const text = (account: string) => `spiffe://cluster.local/ns/shop/sa/${account}`;

  it('add up over the rules that fit, the best fit first', () => {
    expect(answeringFor(egress, 'shop', 'checkout')).toEqual([
      { source: { text: text('admin'), prefix: false }, members: undefined },
      { source: { text: text('web'), prefix: false }, members: ['eu-central', 'us-west'] },
      { source: { text: text(''), prefix: true }, members: ['eu-central'] },
    ]);
    expect(answeringFor(egress, 'shop', 'cart')).toEqual([]);
    expect(answeringFor(rulesOf({}), 'shop', 'checkout')).toEqual([]);
  });

  const routesOf = (resources: readonly Encoded[], name: string) =>
    decoded(resources, RouteConfigurationSchema, 'egress')
      .virtualHosts.find((host) => host.name.startsWith(`${name}.`))!
      .routes.map(({ match, action }) => {
        const header = match!.headers[1]?.headerMatchSpecifier;
        const who = header?.case === 'stringMatch' ? header.value.matchPattern.value : '*';
        return [who, action.case === 'route' ? action.value.clusterSpecifier.value : ''];
      });

  it('are a route of their own for those callers, to a class of those members', () => {
    const resources = gatewayResources(input(egress));
    expect(routesOf(resources, 'checkout')).toEqual([
      [text('admin'), 'us-west>eu-central'],
      [text('web'), 'us-west>eu-central'],
      [text(''), 'eu-central'],
      ['*', 'us-west>eu-central'],
    ]);
    expect(routesOf(resources, 'cart')).toEqual([['*', 'us-west>eu-central']]);
    const nobody = rulesOf({
      a: { action: 'ALLOW', rules: [{ from: spaces('*'), to: to('*'), members: ['ap-south'] }] },
    });
    // Those who may answer do not have it: nowhere, and not to the others.
    expect(routesOf(gatewayResources(input(nobody)), 'checkout')).toEqual([['*', 'nowhere']]);
  });

  it('come and go with the rules, step by step as from scratch', () => {
    const translation = new GatewayTranslation();
    const held = new Map<string, Encoded>();
    const step = (rules?: EgressRules): void => {
      const nothing = { services: new Set<string>(), pods: new Set<string>(), members: false };
      const { changed, removed } =
        held.size === 0 ? translation.rebuild(input(rules)) : translation.update(input(rules), nothing);
      for (const one of removed) held.delete(`${one.typeUrl} ${one.name}`);
      for (const one of changed) held.set(`${one.typeUrl} ${one.name}`, one);
      const fresh = gatewayResources(input(rules));
      const key = (one: Encoded) => `${one.typeUrl} ${one.name}`;
      expect([...held.keys()].sort()).toEqual(fresh.map(key).sort());
      for (const one of fresh) expect(Buffer.compare(held.get(key(one))!.bytes, one.bytes), key(one)).toBe(0);
    };
    step();
    step(egress);
    step(rulesOf({ a: { action: 'ALLOW', rules: [{ from: spaces('*'), to: to('*'), members: ['us-west'] }] } }));
    step();
  });
});
