/** What one member may ask of the federation listener, and how long tunnels live. */
import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CellStanding, Grant, ServicePlan } from '../../../src/failover/plan.ts';
import { TypedExtensionConfigSchema } from '../../../src/gen/envoy/config/core/v3/extension_pb.ts';
import { ListenerSchema } from '../../../src/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import { LocalRateLimitSchema } from '../../../src/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts';
import { ConnectionLimitSchema } from '../../../src/gen/envoy/extensions/filters/network/connection_limit/v3/connection_limit_pb.ts';
import { HttpConnectionManagerSchema } from '../../../src/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { StatusCode } from '../../../src/gen/envoy/type/v3/http_status_pb.ts';
import { TokenBucketSchema } from '../../../src/gen/envoy/type/v3/token_bucket_pb.ts';
import type { Reason } from '../../../src/health/verdict.ts';
import { bucketOf } from '../../../src/translate/envoy/border.ts';
import { typeUrls } from '../../../src/translate/envoy/encoded.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import { GatewayTranslation } from '../../../src/translate/envoy/translation.ts';
import { tunnelAgeOf } from '../../../src/translate/envoy/tunnel_age.ts';
import { undecided } from '../failover/undecided.ts';
import { decoded, managerConfig, member, memberView, type ServiceSpec, unpacked, world } from './fixture.ts';

const members = ['us-east', 'us-west', 'eu-central'].map((name, i) =>
  memberView(member(name), [
    { id: 'gw-1', address: `10.${i}.0.1` },
    { id: 'gw-2', address: `10.${i}.0.2` },
  ]),
);
const services: ServiceSpec[] = [
  { key: 'shop/checkout', ports: [80, 443], pods: [{ name: 'c', address: '10.244.0.7' }], tiers: [['us-west']] },
];
const grant = (reader: string, perSecond: number, service = 'shop/checkout'): Grant => ({ reader, service, perSecond });
const withGrants = (...grants: Grant[]) => world({ members, services, grants });
const grantsOf = (resources: Parameters<typeof decoded>[0], name: string) =>
  unpacked(decoded(resources, TypedExtensionConfigSchema, `grants/${name}`).typedConfig, LocalRateLimitSchema);

/** Tunnels a second that a bucket lets through for ever. */
const rateOf = (bucket: ReturnType<typeof bucketOf>): number => {
  const { tokensPerFill, fillInterval } = create(TokenBucketSchema, bucket as object);
  return (tokensPerFill ?? 1) / (Number(fillInterval!.seconds) + fillInterval!.nanos / 1e9);
};

describe('a part of a grant', () => {
  it('is never above it, all parts and their bursts together, and hardly below', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000_000 }), fc.integer({ min: 1, max: 64 }), (perSecond, envoys) => {
        const bucket = create(TokenBucketSchema, bucketOf(perSecond, envoys) as object);
        expect(rateOf(bucket) * envoys).toBeLessThanOrEqual(perSecond * (1 + 1e-9));
        expect(rateOf(bucket) * envoys).toBeGreaterThanOrEqual(perSecond * 0.97);
        expect(bucket.maxTokens).toBeGreaterThanOrEqual(1);
        expect(bucket.maxTokens * envoys).toBeLessThanOrEqual(Math.max(envoys, perSecond / 4));
        // Envoy takes no quicker ones.
        expect(Number(bucket.fillInterval!.seconds) * 1_000 + bucket.fillInterval!.nanos / 1e6).toBeGreaterThanOrEqual(
          50,
        );
      }),
    );
  });
  it('of nothing is one tunnel a day, for there is no bucket of 0', () => {
    expect(rateOf(bucketOf(0, 4))).toBeLessThan(0.000_02);
  });
});

describe('grants', () => {
  it('are an extension configuration for each other member, none for us, empty where nothing is bounded', () => {
    const resources = gatewayResources(withGrants(grant('us-west', 80), grant('us-west', 8, 'shop/cart')));
    const names = resources.filter(({ typeUrl }) => typeUrl === typeUrls.extension).map(({ name }) => name);
    const grants = names.filter((name) => name.startsWith('grants/'));
    expect(grants.sort()).toEqual(['grants/eu-central', 'grants/us-west']);
    expect(grantsOf(resources, 'eu-central').descriptors).toEqual([]);
    const limit = grantsOf(resources, 'us-west');
    expect(limit.descriptors.map(({ entries }) => entries[0])).toMatchObject([
      { key: 'service', value: 'shop/cart' },
      { key: 'service', value: 'shop/checkout' },
    ]);
    // Two gateways with two Envoys each share 80.
    expect(rateOf(limit.descriptors[1]!.tokenBucket!)).toBeCloseTo(20, 5);
    expect(limit.tokenBucket).toBeUndefined();
  });

  it('are for all ports of a service together: routes name the service, in a stage that no other limit reads', () => {
    const resources = gatewayResources(withGrants(grant('us-west', 80)));
    const routes = decoded(resources, RouteConfigurationSchema, 'federation');
    const named = routes.virtualHosts.flatMap(({ routes: of }) =>
      of.flatMap(({ action }) => (action.case === 'route' ? action.value.rateLimits : [])),
    );
    expect(named).toHaveLength(2);
    for (const { stage, actions } of named) {
      expect(stage).toBe(grantsOf(resources, 'us-west').stage);
      expect(actions[0]?.actionSpecifier).toMatchObject({
        case: 'genericKey',
        value: { descriptorKey: 'service', descriptorValue: 'shop/checkout' },
      });
    }
  });

  it('change alone: no listener, whose connections would be drained, and no routes', () => {
    const translation = new GatewayTranslation();
    translation.rebuild(withGrants(grant('us-west', 80), grant('eu-central', 80)));
    const none = { services: new Set<string>(), pods: new Set<string>(), members: false };
    const delta = translation.update(withGrants(grant('us-west', 40), grant('eu-central', 80)), none);
    expect(delta.changed.map(({ name }) => name)).toEqual(['grants/us-west']);
    expect(translation.update(withGrants(grant('us-west', 40), grant('eu-central', 80)), none).changed).toEqual([]);
    expect(
      translation
        .update(withGrants(), none)
        .changed.map(({ name }) => name)
        .sort(),
    ).toEqual(['grants/eu-central', 'grants/us-west']);
  });

  it('are divided anew when a gateway of ours comes or drains', () => {
    const translation = new GatewayTranslation();
    translation.rebuild(withGrants(grant('us-west', 80)));
    const [self, ...others] = members;
    const draining = memberView(self!.member, [
      { id: 'gw-1', address: '10.0.0.1' },
      { id: 'gw-2', address: '10.0.0.2', draining: true },
    ]);
    const input = world({ members: [draining, ...others], services, grants: [grant('us-west', 80)] });
    const delta = translation.update(input, { services: new Set(), pods: new Set(), members: true });
    expect(rateOf(grantsOf(delta.changed, 'us-west').descriptors[0]!.tokenBucket!)).toBeCloseTo(40, 5);
  });
});

describe('the chain of a member', () => {
  const resources = gatewayResources(withGrants());
  const chains = decoded(resources, ListenerSchema, 'federation').filterChains;

  it('bounds its connections first of all', () => {
    for (const chain of chains) {
      const first = chain.filters[0]!.configType;
      const config = unpacked(first.case === 'typedConfig' ? first.value : undefined, ConnectionLimitSchema);
      expect(config.maxConnections).toBeGreaterThan(0n);
    }
    const prefixes = chains.map(({ filters }) => filters.length);
    expect(prefixes).toEqual([2, 2]);
  });

  it('bounds new tunnels behind the health check, by a rate and by its grants; both answer 429 and are enforced', () => {
    for (const [i, chain] of chains.entries()) {
      const { httpFilters } = unpacked(managerConfig(chain), HttpConnectionManagerSchema);
      expect(httpFilters.map(({ name }) => name)).toEqual([
        'envoy.filters.http.health_check',
        'envoy.filters.http.rbac',
        'envoy.filters.http.local_ratelimit',
        `grants/${['eu-central', 'us-west'][i]}`,
        'envoy.filters.http.router',
      ]);
      const rate = httpFilters[2]!.configType;
      const grants = httpFilters[3]!.configType;
      if (grants.case !== 'configDiscovery') throw new Error('not discovered');
      const limits = [
        unpacked(rate.case === 'typedConfig' ? rate.value : undefined, LocalRateLimitSchema),
        unpacked(grants.value.defaultConfig, LocalRateLimitSchema),
        grantsOf(resources, 'us-west'),
      ];
      for (const limit of limits) {
        expect(limit.status?.code).toBe(StatusCode.TooManyRequests);
        expect(limit.filterEnabled?.defaultValue?.numerator).toBe(100);
        expect(limit.filterEnforced?.defaultValue?.numerator).toBe(100);
      }
      expect(limits.map((limit) => limit.responseHeadersToAdd[0]?.header)).toMatchObject([
        { key: 'x-isthmus-refused', value: 'rate' },
        { key: 'x-isthmus-refused', value: 'grant' },
        { key: 'x-isthmus-refused', value: 'grant' },
      ]);
      expect(limits[0]!.stage).not.toBe(limits[2]!.stage);
    }
  });
});

describe('the age of tunnels', () => {
  const actionOf = (resources: Parameters<typeof decoded>[0], name = 'egress') => {
    const action = decoded(resources, RouteConfigurationSchema, name).virtualHosts[0]!.routes[0]!.action;
    if (action.case !== 'route') throw new Error('no route');
    return action.value;
  };

  it('is unlimited, unless the plan says so; then it is said to those who open tunnels, not to those who end them', () => {
    expect(actionOf(gatewayResources(withGrants())).maxStreamDuration).toBeUndefined();
    const aged = gatewayResources(world({ members, services: [{ ...services[0]!, tunnelAgeMs: 90_500 }] }));
    expect(actionOf(aged).maxStreamDuration?.maxStreamDuration).toMatchObject({ seconds: 90n, nanos: 500_000_000 });
    expect(actionOf(aged).timeout).toMatchObject({ seconds: 0n, nanos: 0 });
    expect(actionOf(aged, 'federation').maxStreamDuration).toBeUndefined();
  });

  it('is given while somebody lacks a part of its share, unless that is drained on purpose', () => {
    const standing = (percent: number, reason: Reason): CellStanding => ({
      member: 'us-west',
      state: 'fresh',
      reason,
      detail: '',
      sinceMs: 0,
      deadlineMs: undefined,
      tier: 0,
      percent,
      ready: 1,
      total: 1,
    });
    const plan: ServicePlan = { ...undecided, key: 'shop/a', tiers: [], usable: true, tunnelAgeMs: 60_000 };
    const age = (...standings: CellStanding[]) => tunnelAgeOf({ ...plan, standings });
    expect(age(standing(100, 'Healthy'), standing(100, 'Healthy'))).toBeUndefined();
    expect(age(standing(100, 'Healthy'), standing(25, 'Ramping'))).toBe(60_000);
    expect(age(standing(100, 'Healthy'), standing(0, 'ProbeFailed'))).toBe(60_000);
    expect(age(standing(100, 'Healthy'), standing(0, 'Draining'))).toBeUndefined();
    expect(age(standing(0, 'ProbeFailed'), standing(0, 'Draining'))).toBe(60_000);
    expect(tunnelAgeOf({ ...plan, tunnelAgeMs: 0 })).toBeUndefined();
    expect(tunnelAgeOf(undefined)).toBeUndefined();
  });

  it('changes with the plan of its service alone', () => {
    const translation = new GatewayTranslation();
    translation.rebuild(withGrants());
    const input = world({ members, services: [{ ...services[0]!, tunnelAgeMs: 60_000 }] });
    const delta = translation.update(input, { services: new Set(['shop/checkout']), pods: new Set(), members: false });
    expect(delta.changed.map(({ name }) => name)).toEqual(['egress']);
    expect(actionOf(delta.changed).maxStreamDuration?.maxStreamDuration?.seconds).toBe(60n);
  });
});

describe('plans that move', () => {
  const names = (resources: ReturnType<typeof gatewayResources>) =>
    resources.filter(
      ({ typeUrl, name }) =>
        typeUrl === typeUrls.cluster && /us-west|eu-central/.test(name) && !name.startsWith('probe/'),
    );

  it('need few classes, whatever the weights of a thousand services in the midst of their ramps', () => {
    const steps = [10, 25, 50, 100];
    const ramping = Array.from({ length: 1_000 }, (_, i) => ({
      key: `shop/s${i}`,
      tiers: [
        [
          { member: 'us-west', weight: (1 + (i % 37)) * (steps[i % 4]! / 100) },
          { member: 'eu-central', weight: 1 + ((i * 7) % 41) },
        ],
      ],
    }));
    expect(names(gatewayResources(world({ members, services: ramping }))).length).toBeLessThanOrEqual(13);
  });

  it('take one service off a peer and leave the others and the peer’s class as they are', () => {
    const both = ['shop/a', 'shop/b'].map((key) => ({ key, tiers: [['us-west'], ['eu-central']] }));
    const translation = new GatewayTranslation();
    translation.rebuild(world({ members, services: both }), 0);
    const input = world({ members, services: [both[0]!, { key: 'shop/b', tiers: [['eu-central']] }] });
    const dirty = { services: new Set(['shop/b']), pods: new Set<string>(), members: false };
    const first = translation.update(input, dirty, 1_000);
    // The new class's cluster first; routes follow when it can be warm.
    expect(first.changed.map(({ name }) => name).sort()).toEqual(['eu-central', 'eu-central']);
    const none = { services: new Set<string>(), pods: new Set<string>(), members: false };
    const second = translation.update(input, none, first.wakeAtMs!);
    expect(second.changed.map(({ name }) => name)).toEqual(['egress']);
    expect(second.removed).toEqual([]);
    const hosts = decoded(second.changed, RouteConfigurationSchema, 'egress').virtualHosts;
    const clusterOf = hosts.map(({ name, routes }) => {
      const action = routes[0]!.action;
      return [name.split('.')[0], action.case === 'route' ? action.value.clusterSpecifier.value : undefined];
    });
    expect(clusterOf).toEqual([
      ['a', 'us-west>eu-central'],
      ['b', 'eu-central'],
    ]);
  });
});
