/** The keyed translation: small changes give small deltas, and routes wait for their class. */

import { fromBinary } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import type { Encoded } from '../../../src/translate/envoy/encoded.ts';
import type { GatewayInput } from '../../../src/translate/envoy/input.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import { type GatewayDelta, type GatewayDirty, GatewayTranslation } from '../../../src/translate/envoy/translation.ts';
import { member, memberView, type ServiceSpec, world } from './fixture.ts';

const members = ['us-east', 'us-west', 'eu-central'].map((name, i) =>
  memberView(member(name), [{ id: 'gw-1', address: `10.0.${i}.1` }]),
);
const nothing: GatewayDirty = { services: new Set(), pods: new Set(), members: false };
const dirty = (...services: string[]): GatewayDirty => ({ ...nothing, services: new Set(services) });
const input = (services: readonly ServiceSpec[]): GatewayInput => world({ members, services });
const names = ({ changed, removed }: GatewayDelta) => ({
  changed: changed.map(({ typeUrl, name }) => `${typeUrl.split('.').at(-1)} ${name}`).sort(),
  removed: removed.map(({ typeUrl, name }) => `${typeUrl.split('.').at(-1)} ${name}`).sort(),
});

const pods = [{ name: 'cart-1', address: '10.244.0.1' }];
const many: ServiceSpec[] = [
  ...Array.from({ length: 20 }, (_, i) => ({ key: `shop/s${i}`, tiers: [['us-west'], ['eu-central']] })),
  { key: 'shop/cart', pods, tiers: [['us-west'], ['eu-central']] },
];
const changedTo = (key: string, over: Partial<ServiceSpec>): ServiceSpec[] =>
  many.map((spec) => (spec.key === key ? { ...spec, ...over } : spec));

/** What a follower of the deltas holds. */
class Follower {
  readonly held = new Map<string, Encoded>();
  take({ changed, removed }: GatewayDelta): void {
    for (const resource of changed) this.held.set(`${resource.typeUrl} ${resource.name}`, resource);
    for (const { typeUrl, name } of removed) this.held.delete(`${typeUrl} ${name}`);
  }
  hasAll(of: GatewayInput): void {
    const byName = (list: Iterable<Encoded>) =>
      Object.fromEntries([...list].map((r) => [`${r.typeUrl} ${r.name}`, Buffer.from(r.bytes).toString('base64')]));
    expect(byName(this.held.values())).toEqual(byName(gatewayResources(of)));
  }
  classOf(authority: string): string | undefined {
    const routes = [...this.held.values()].find((r) => r.name === 'egress' && r.typeUrl.endsWith('RouteConfiguration'));
    const host = fromBinary(RouteConfigurationSchema, routes!.bytes).virtualHosts.find(
      ({ name }) => name === authority,
    );
    const action = host?.routes[0]?.action;
    const specifier = action?.case === 'route' ? action.value.clusterSpecifier : undefined;
    return specifier?.case === 'cluster' ? specifier.value : undefined;
  }
}

const started = (nowMs: number) => {
  const translation = new GatewayTranslation();
  const follower = new Follower();
  follower.take(translation.rebuild(input(many), nowMs));
  return { translation, follower };
};

describe('the keyed translation', () => {
  it('begins with everything, routes included', () => {
    const { follower } = started(1_000);
    follower.hasAll(input(many));
  });

  it('says nothing when nothing changed', () => {
    const { translation } = started(1_000);
    const delta = translation.rebuild(input(many), 2_000);
    expect(delta).toEqual({ changed: [], removed: [], wakeAtMs: undefined });
  });

  it('sends one assignment when a pod turns unready', () => {
    const { translation, follower } = started(1_000);
    const now = input(changedTo('shop/cart', { pods: [{ ...pods[0]!, ready: false }] }));
    const delta = translation.update(now, { ...nothing, pods: new Set(['shop/cart-1']) }, 2_000);
    expect(names(delta)).toEqual({ changed: ['ClusterLoadAssignment local/shop/cart/80'], removed: [] });
    follower.take(delta);
    follower.hasAll(now);
  });

  it('sends one assignment for all services of a class when a gateway moves', () => {
    const { translation, follower } = started(1_000);
    const moved = members.map((view) =>
      view.member.name === 'us-west' ? memberView(view.member, [{ id: 'gw-2', address: '10.0.1.2' }]) : view,
    );
    const now = world({ members: moved, services: many });
    const delta = translation.update(now, { ...nothing, members: true }, 2_000);
    expect(names(delta)).toEqual({ changed: ['ClusterLoadAssignment us-west>eu-central'], removed: [] });
    follower.take(delta);
    follower.hasAll(now);
  });

  it('leaves nothing behind of a service that is gone', () => {
    const { translation, follower } = started(1_000);
    const now = input(many.filter(({ key }) => key !== 'shop/cart'));
    follower.take(translation.update(now, dirty('shop/cart'), 2_000));
    follower.hasAll(now);
  });
});

describe('a route that changes its class', () => {
  const authority = 's1.shop.svc.cluster.local:80';
  const moved = input(changedTo('shop/s1', { tiers: [['eu-central']] }));

  it('waits until the new cluster can be warm, then moves', () => {
    const { translation, follower } = started(1_000);
    const first = translation.update(moved, dirty('shop/s1'), 5_000);
    expect(names(first)).toEqual({ changed: ['Cluster eu-central', 'ClusterLoadAssignment eu-central'], removed: [] });
    follower.take(first);
    expect(follower.classOf(authority)).toBe('us-west>eu-central');
    const wake = first.wakeAtMs!;
    // Longer than a health check of a dead member takes.
    expect(wake - 5_000).toBeGreaterThan(600);
    expect(wake - 5_000).toBeLessThan(2_000);
    const early = translation.update(moved, nothing, wake - 1);
    expect(early).toEqual({ changed: [], removed: [], wakeAtMs: wake });
    const late = translation.update(moved, nothing, wake);
    expect(names(late)).toEqual({ changed: ['RouteConfiguration egress'], removed: [] });
    expect(late.wakeAtMs).toBeUndefined();
    follower.take(late);
    expect(follower.classOf(authority)).toBe('eu-central');
    follower.hasAll(moved);
  });

  it('moves at once to a class that is warm', () => {
    const { translation, follower } = started(1_000);
    follower.take(translation.update(moved, dirty('shop/s1'), 5_000));
    follower.take(translation.update(moved, nothing, 9_000));
    const two = input(
      changedTo('shop/s1', { tiers: [['eu-central']] }).map((spec) =>
        spec.key === 'shop/s2' ? { ...spec, tiers: [['eu-central']] } : spec,
      ),
    );
    const delta = translation.update(two, dirty('shop/s2'), 9_001);
    expect(delta.wakeAtMs).toBeUndefined();
    follower.take(delta);
    follower.hasAll(two);
  });

  it('stays when it is called back before it went, and the new class goes again', () => {
    const { translation, follower } = started(1_000);
    follower.take(translation.update(moved, dirty('shop/s1'), 5_000));
    const back = translation.update(input(many), dirty('shop/s1'), 5_100);
    expect(names(back)).toEqual({ changed: [], removed: ['Cluster eu-central', 'ClusterLoadAssignment eu-central'] });
    expect(back.wakeAtMs).toBeUndefined();
    follower.take(back);
    follower.hasAll(input(many));
  });

  it('follows a change of mind to a third class', () => {
    const { translation, follower } = started(1_000);
    follower.take(translation.update(moved, dirty('shop/s1'), 5_000));
    const third = input(changedTo('shop/s1', { tiers: [['us-west']] }));
    const delta = translation.update(third, dirty('shop/s1'), 5_100);
    follower.take(delta);
    expect(follower.classOf(authority)).toBe('us-west>eu-central');
    follower.take(translation.update(third, nothing, delta.wakeAtMs));
    follower.hasAll(third);
  });

  it('takes the last class away only together with its routes', () => {
    const { translation, follower } = started(1_000);
    const all = input(many.map((spec) => ({ ...spec, tiers: [['eu-central'], ['us-west']] })));
    const keys = dirty(...many.map(({ key }) => key));
    const first = translation.update(all, keys, 5_000);
    expect(names(first).removed).toEqual([]);
    const last = translation.update(all, nothing, first.wakeAtMs);
    expect(names(last)).toEqual({
      changed: ['RouteConfiguration egress'],
      removed: ['Cluster us-west>eu-central', 'ClusterLoadAssignment us-west>eu-central'],
    });
    follower.take(first);
    follower.take(last);
    follower.hasAll(all);
  });

  it('goes at once when the service has no route yet, or no path any more', () => {
    const { translation, follower } = started(1_000);
    const added = input([...many, { key: 'shop/new', tiers: [['eu-central']] }]);
    const delta = translation.update(added, dirty('shop/new'), 5_000);
    expect(delta.wakeAtMs).toBeUndefined();
    follower.take(delta);
    follower.hasAll(added);
    const gone = input([...many, { key: 'shop/new', tiers: [] }]);
    follower.take(translation.update(gone, dirty('shop/new'), 5_001));
    follower.hasAll(gone);
  });
});

describe('a port that not all members have', () => {
  const west = [['us-west']];
  const both = [['us-west'], ['eu-central']];
  const cart = (over: Partial<ServiceSpec>): GatewayInput =>
    input(changedTo('shop/cart', { ports: [80, 81], ...over }));

  it('leads to the class of those that have it, the others to their own', () => {
    const follower = new Follower();
    const of = cart({ portTiers: { 81: [['eu-central']] } });
    follower.take(new GatewayTranslation().rebuild(of));
    follower.hasAll(of);
    expect(follower.classOf('cart.shop.svc.cluster.local:80')).toBe('us-west>eu-central');
    expect(follower.classOf('cart.shop.svc.cluster.local:81')).toBe('eu-central');
  });

  it('has no route when nobody has it', () => {
    const follower = new Follower();
    const of = cart({ portTiers: { 81: [] } });
    follower.take(new GatewayTranslation().rebuild(of));
    follower.hasAll(of);
    expect(follower.classOf('cart.shop.svc.cluster.local:80')).toBe('us-west>eu-central');
    expect(follower.classOf('cart.shop.svc.cluster.local:81')).toBeUndefined();
  });

  it('moves by itself, when its own class is warm, and leaves nothing behind', () => {
    const translation = new GatewayTranslation();
    const follower = new Follower();
    const step = (of: GatewayInput, nowMs: number, which = dirty('shop/cart')): GatewayDelta => {
      const delta = translation.update(of, which, nowMs);
      follower.take(delta);
      return delta;
    };
    follower.take(translation.rebuild(cart({ tiers: both }), 0));
    const split = cart({ tiers: both, portTiers: { 81: west } });
    const { wakeAtMs } = step(split, 100_000);
    expect(wakeAtMs).toBeGreaterThan(100_000);
    expect(follower.classOf('cart.shop.svc.cluster.local:81')).toBe('us-west>eu-central');
    expect(step(split, wakeAtMs!, nothing).wakeAtMs).toBeUndefined();
    expect(follower.classOf('cart.shop.svc.cluster.local:80')).toBe('us-west>eu-central');
    expect(follower.classOf('cart.shop.svc.cluster.local:81')).toBe('us-west');
    follower.hasAll(split);
    step(cart({ tiers: both }), 200_000);
    expect(follower.classOf('cart.shop.svc.cluster.local:81')).toBe('us-west>eu-central');
    follower.hasAll(cart({ tiers: both }));
  });
});
