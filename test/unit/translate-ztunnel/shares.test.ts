/** How a plan's shares become what ztunnel understands: ranks, weights, places and status. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ServicePlan, Tiers } from '../../../src/failover/plan.ts';
import type { Workload } from '../../../src/gen/istio/workload/workload_pb.ts';
import {
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  WorkloadStatus,
} from '../../../src/gen/istio/workload/workload_pb.ts';
import { ZtunnelTranslation } from '../../../src/translate/ztunnel/translation.ts';
import {
  asService,
  asWorkload,
  central,
  config,
  endpoint,
  inputs,
  pod,
  record,
  service,
  serviceName,
  serviceView,
  splitName,
  translate,
  type World,
  west,
} from './fixture.ts';

const tier = (...members: string[]) => members.map((member) => ({ member, weight: 1 }));
const planned = (over: Partial<ServicePlan> & { readonly key?: string } = {}) => ({
  key: 'shop/checkout',
  tiers: [tier('west'), tier('central')] as Tiers,
  usable: true,
  ...over,
});
const cartName = 'shop/cart.shop.svc.cluster.local';
const podNames = (count: number) => Array.from({ length: count }, (_, i) => `p${i}`);

/** checkout and cart behind the same pods. */
const world = (plan: Partial<ServicePlan>, over: { pods?: number; unready?: number; mode?: 'direct' } = {}): World => {
  const names = podNames(over.pods ?? 2);
  const ready = (i: number): boolean => i >= (over.unready ?? 0);
  const endpoints = names.map((name, i) => endpoint(`shop/${name}`, `10.1.${i >> 8}.${i & 255}`, { ready: ready(i) }));
  const checkout = service('shop/checkout', { endpoints, ...(over.mode === undefined ? {} : { mode: over.mode }) });
  const cart = service('shop/cart', { endpoints, clusterIPs: ['10.96.0.11'] });
  return {
    services: [checkout, cart],
    pods: names.map((name, i) => pod(`shop/${name}`, `10.1.${i >> 8}.${i & 255}`, { ready: ready(i) })),
    members: [west, central],
    views: [
      serviceView(checkout, { west: record('shop/checkout', 3), central: record('shop/checkout', 4) }),
      serviceView(cart, { west: record('shop/cart', 3) }),
    ],
    plans: [planned(plan), planned({ key: 'shop/cart', tiers: [tier('west')] })],
  };
};

type All = ReturnType<typeof translate>;

/** What a ztunnel on our network would make of it: the share of connections that each workload gets. */
const shares = (all: All, of = serviceName): Map<string, number> => {
  const balancing = asService(all.get(of)).loadBalancing;
  const behind: Workload[] = [...all.values()]
    .filter(({ name }) => !name.startsWith('shop/') && !name.startsWith('isthmus-system/'))
    .map(asWorkload)
    .filter((w) => w.services[of] !== undefined && w.status === WorkloadStatus.HEALTHY);
  const near = behind.filter((w) => w.network === config.network);
  const ranked = balancing?.mode === LoadBalancing_Mode.FAILOVER;
  const chosen = ranked && near.length > 0 ? near : behind;
  const sum = chosen.reduce((total, w) => total + (w.capacity ?? 1), 0);
  const result = new Map<string, number>();
  for (const w of chosen) result.set(w.clusterId, (result.get(w.clusterId) ?? 0) + (w.capacity ?? 1) / sum);
  return result;
};

describe('a part of the local traffic', () => {
  it('comes out within a tenth of a percent, from one pod to a thousand', () => {
    for (const pods of [1, 2, 3, 7, 100, 1_000]) {
      for (const percent of [1, 10, 30, 50, 70, 90, 99]) {
        const share = shares(translate(world({ local: { percent } }, { pods })));
        expect(share.get('east'), `${pods} pods, ${percent} %`).toBeCloseTo(percent / 100, 3);
      }
    }
  }, 20_000);

  it('drops the ranks and touches no pod: another service of theirs stays at home', () => {
    const before = translate(world({}));
    const after = translate(world({ local: { percent: 30 } }));
    expect(asService(after.get(serviceName)).loadBalancing).toBeUndefined();
    expect(asService(after.get(serviceName)).subjectAltNames).toEqual(
      asService(before.get(serviceName)).subjectAltNames,
    );
    const changed = [...after].filter(([name, { bytes }]) => Buffer.compare(before.get(name)!.bytes, bytes) !== 0);
    expect(changed.map(([name]) => name).sort()).toEqual([splitName, serviceName].sort());
    expect(shares(after, cartName)).toEqual(new Map([['east', 1]]));
  });

  it('is of those pods that are ready, and follows them', () => {
    const translation = new ZtunnelTranslation(config);
    translation.rebuild(inputs(world({ local: { percent: 50 } }, { pods: 4 })));
    const delta = translation.update(inputs(world({ local: { percent: 50 } }, { pods: 4, unready: 3 })), {
      pods: new Set(['shop/p0', 'shop/p1', 'shop/p2']),
      services: new Set(),
      members: new Set(),
      gatewayHealth: false,
    });
    expect(delta.changed.map(({ name }) => name)).toContain(splitName);
    expect(shares(translation.resources).get('east')).toBeCloseTo(0.5, 3);
  });

  it('in direct mode the rest goes to the first tier, by its weights', () => {
    const first = [
      { member: 'west', weight: 3 },
      { member: 'central', weight: 1 },
    ];
    const share = shares(translate(world({ local: { percent: 60 }, tiers: [first] }, { mode: 'direct', pods: 3 })));
    expect(share.get('east')).toBeCloseTo(0.6, 3);
    expect(share.get('west')).toBeCloseTo(0.3, 3);
    expect(share.get('central')).toBeCloseTo(0.1, 3);
  });

  it('never gives anybody a weight of 0, which would leave ztunnel without an upstream, nor one of more than 32 bits', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.001, max: 99.999, noNaN: true }),
        fc.integer({ min: 0, max: 5 }),
        fc.array(fc.double({ min: 1e-9, max: 1e9, noNaN: true }), { minLength: 2, maxLength: 2 }),
        fc.constantFrom(undefined, 'direct' as const),
        (percent, pods, [a, b], mode) => {
          const tiers = [
            [
              { member: 'west', weight: a! },
              { member: 'central', weight: b! },
            ],
          ];
          const all = translate(
            world({ local: { percent }, tiers }, { pods, ...(mode === undefined ? {} : { mode }) }),
          );
          for (const resource of all.values()) {
            if (!resource.name.includes('SplitHorizon')) continue;
            const { capacity } = asWorkload(resource);
            expect(capacity).toBeGreaterThanOrEqual(1);
            expect(capacity).toBeLessThan(2 ** 32);
          }
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('nothing of the local traffic', () => {
  it('takes the service out of its pods’ places; the pods and their other services stay', () => {
    const all = translate(world({ local: { percent: 0 } }));
    for (const name of podNames(2)) {
      const workload = asWorkload(all.get(`east//Pod/shop/${name}`));
      expect(Object.keys(workload.services)).toEqual([cartName]);
      expect(workload).toMatchObject({ status: WorkloadStatus.HEALTHY });
      expect(workload.addresses).toHaveLength(1);
    }
    expect(shares(all)).toEqual(new Map([['isthmus', 1]]));
    expect(shares(all, cartName)).toEqual(new Map([['east', 1]]));
  });

  it('leaves the service its target port, by which the ztunnel beside a pod resolves a tunnel from elsewhere', () => {
    const all = translate(world({ local: { percent: 0 } }));
    expect(asService(all.get(serviceName)).ports).toMatchObject([{ servicePort: 80, targetPort: 8080 }]);
  });

  it('where pods disagree on the port they keep their places, which alone know it, and the others get the weight', () => {
    const base = world({ local: { percent: 0 } });
    const [checkout, cart] = base.services!;
    const endpoints = checkout!.endpoints.map((e, i) => ({ ...e, ports: new Map([[80, 8080 + i]]) }));
    const named = { ...checkout!, endpoints };
    const views = [serviceView(named, { west: record('shop/checkout', 3) }), base.views![1]!];
    const all = translate({ ...base, services: [named, cart!], views });
    expect(asWorkload(all.get('east//Pod/shop/p1')).services[serviceName]?.ports).toMatchObject([{ targetPort: 8081 }]);
    expect(shares(all).get('east')).toBeLessThan(0.000_01);
    expect(shares(all).get('isthmus')).toBeGreaterThan(0.999_99);
  });

  it('is ignored where there is nobody else: local endpoints are then all there is', () => {
    const base = world({ local: { percent: 0 } });
    const alone = { ...base, views: [serviceView(base.services![0]!, {}), base.views![1]!] };
    expect(shares(translate(alone))).toEqual(new Map([['east', 1]]));
    const unreachable = world({ local: { percent: 0 } }, { mode: 'direct' });
    const members = unreachable.members!.map((m) => ({ ...m, gateways: undefined }));
    expect(shares(translate({ ...unreachable, members }))).toEqual(new Map([['east', 1]]));
  });

  it('comes and goes by the key of the service alone', () => {
    const translation = new ZtunnelTranslation(config);
    translation.rebuild(inputs(world({})));
    const at = (percent: number) => {
      const dirty = { pods: new Set<string>(), services: new Set(['shop/checkout']), members: new Set<string>() };
      translation.update(inputs(world({ local: { percent } })), { ...dirty, gatewayHealth: false });
      const fresh = translate(world({ local: { percent } }));
      for (const [name, { bytes }] of fresh) {
        expect(Buffer.compare(translation.resources.get(name)!.bytes, bytes), `${name} at ${percent} %`).toBe(0);
      }
      expect(translation.resources.size).toBe(fresh.size);
    };
    for (const percent of [0, 100, 0, 40, 0, 100, 40, 100]) at(percent);
  });
});

describe('all of the local traffic', () => {
  it('is ranked, local endpoints first, in both modes', () => {
    for (const mode of [undefined, 'direct'] as const) {
      const all = translate(world({}, mode === undefined ? {} : { mode }));
      expect(asService(all.get(serviceName)).loadBalancing).toMatchObject({
        mode: LoadBalancing_Mode.FAILOVER,
        routingPreference: [LoadBalancing_Scope.NETWORK],
      });
      expect(shares(all)).toEqual(new Map([['east', 1]]));
    }
  });
});

describe('the order of clusters in direct mode', () => {
  const nobodyHere = { pods: 1, unready: 1, mode: 'direct' as const };

  it('is the plan’s: the first tier is used alone, by its weights', () => {
    expect(shares(translate(world({}, nobodyHere)))).toEqual(new Map([['west', 1]]));
    const swapped = [tier('central'), tier('west')];
    expect(shares(translate(world({ tiers: swapped }, nobodyHere)))).toEqual(new Map([['central', 1]]));
    const both = [
      [
        { member: 'west', weight: 0.25 },
        { member: 'central', weight: 0.75 },
      ],
    ];
    expect(shares(translate(world({ tiers: both }, nobodyHere))).get('west')).toBeCloseTo(0.25, 3);
  });

  it('passes over a tier whose gateways a ztunnel cannot reach', () => {
    const base = world({}, nobodyHere);
    const members = [{ ...west, gateways: undefined }, central];
    expect(shares(translate({ ...base, members }))).toEqual(new Map([['central', 1]]));
  });
});

describe('failing fast', () => {
  it('makes what is elsewhere unhealthy, in both modes', () => {
    for (const mode of [undefined, 'direct'] as const) {
      const all = translate(
        world({ failFast: true }, { pods: 1, unready: 1, ...(mode === undefined ? {} : { mode }) }),
      );
      expect(shares(all)).toEqual(new Map());
      const remotes = [...all.values()].filter(
        ({ name }) => name.includes('SplitHorizon') && name.includes('checkout'),
      );
      expect(remotes.length).toBeGreaterThan(0);
      for (const remote of remotes) expect(asWorkload(remote).status).toBe(WorkloadStatus.UNHEALTHY);
    }
  });
});

describe('draining gateways of ours', () => {
  const gateway = (name: string, address: string) =>
    pod(`isthmus-system/${name}`, address, { labels: { app: 'isthmus-gateway' }, hbone: false });
  const gateways = [gateway('g0', '10.0.1.1'), gateway('g1', '10.0.1.2')];
  const draining = (names: readonly string[], gatewayHealth: Record<string, boolean> = {}) => {
    const given = inputs({ pods: gateways, gatewayHealth });
    return {
      ...given,
      plan: { ...given.plan, draining: { ...given.plan.draining, gateways: new Set(names) } },
    };
  };
  const statuses = (translation: ZtunnelTranslation) =>
    ['g0', 'g1'].map((name) => asWorkload(translation.resources.get(`east//Pod/isthmus-system/${name}`)).status);
  const { HEALTHY, UNHEALTHY } = WorkloadStatus;

  it('are unhealthy at once and without any other mark, and back when they no longer drain', () => {
    const translation = new ZtunnelTranslation(config);
    translation.rebuild(draining([]));
    const none = { pods: new Set<string>(), services: new Set<string>(), members: new Set<string>() };
    const delta = translation.update(draining(['g0']), { ...none, gatewayHealth: false });
    expect(delta.changed.map(({ name }) => name)).toEqual(['east//Pod/isthmus-system/g0']);
    expect(statuses(translation)).toEqual([UNHEALTHY, HEALTHY]);
    translation.update(draining([]), { ...none, gatewayHealth: false });
    expect(statuses(translation)).toEqual([HEALTHY, HEALTHY]);
  });

  it('stay when all drain, and when the other one is dead', () => {
    const translation = new ZtunnelTranslation(config);
    translation.rebuild(draining(['g0', 'g1']));
    expect(statuses(translation)).toEqual([HEALTHY, HEALTHY]);
    translation.rebuild(draining(['g0'], { g1: false }));
    expect(statuses(translation)).toEqual([HEALTHY, UNHEALTHY]);
  });
});
