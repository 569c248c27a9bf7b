import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WorkloadStatus } from '../../../src/gen/istio/workload/workload_pb.ts';
import { ZtunnelTranslation } from '../../../src/translate/ztunnel/translation.ts';
import {
  asService,
  asWorkload,
  central,
  config,
  endpoint,
  inputs,
  member,
  pod,
  record,
  service,
  serviceView,
  translate,
  type World,
  west,
} from './fixture.ts';

describe('the local gateways', () => {
  const egress = service('isthmus-system/isthmus-egress', {
    exported: undefined,
    ports: [{ name: 'hbone', port: 443, protocol: 'TCP' }],
    endpoints: [endpoint('isthmus-system/g0', '10.0.1.1'), endpoint('isthmus-system/g1', '10.0.1.2')],
  });
  const gateway = (name: string, address: string, over = {}) =>
    pod(`isthmus-system/${name}`, address, {
      serviceAccount: 'isthmus-gateway',
      labels: { app: 'isthmus-gateway' },
      hbone: false,
      ...over,
    });
  const world = (gatewayHealth: Record<string, boolean>, over = {}): World => ({
    services: [egress],
    pods: [gateway('g0', '10.0.1.1', over), gateway('g1', '10.0.1.2', over)],
    gatewayHealth,
  });
  const statuses = (w: World) => {
    const all = translate(w);
    return ['g0', 'g1'].map((name) => asWorkload(all.get(`east//Pod/isthmus-system/${name}`)).status);
  };
  const { HEALTHY, UNHEALTHY } = WorkloadStatus;

  it('resolve by the egress port, whatever the Service calls its ports', () => {
    const value = asService(translate(world({})).get('isthmus-system/isthmus-egress.isthmus-system.svc.cluster.local'));
    expect(value.ports.find((p) => p.servicePort === 15_018)?.targetPort).toBe(15_018);
  });

  it('become unhealthy when they do not answer, the last one never', () => {
    expect(statuses(world({}))).toEqual([HEALTHY, HEALTHY]);
    expect(statuses(world({ g0: false }))).toEqual([UNHEALTHY, HEALTHY]);
    expect(statuses(world({ g0: false, g1: false }))).toEqual([HEALTHY, HEALTHY]);
    expect(statuses(world({}, { ready: false }))).toEqual([HEALTHY, HEALTHY]);
  });

  it('a dead one does not hide behind one that is not ready', () => {
    const mixed = world({ g0: false });
    const pods = [gateway('g0', '10.0.1.1'), gateway('g1', '10.0.1.2', { ready: false })];
    expect(statuses({ ...mixed, pods })).toEqual([HEALTHY, UNHEALTHY]);
  });

  it('change by themselves alone when one dies', () => {
    const translation = new ZtunnelTranslation(config);
    translation.rebuild(inputs(world({})));
    const none = { pods: new Set<string>(), services: new Set<string>(), members: new Set<string>() };
    const delta = translation.update(inputs(world({ g1: false })), { ...none, gatewayHealth: true });
    expect(delta.changed.map((r) => r.name)).toEqual(['east//Pod/isthmus-system/g1']);
    expect(delta.removed).toEqual([]);
  });
});

describe('updates by key', () => {
  it('give what a rebuild gives, whatever changes in whatever order', () => {
    const keys = ['a/one', 'a/two'];
    const podKeys = ['a/p0', 'a/p1', 'a/p2'];
    const change = fc.oneof(
      fc.record({
        kind: fc.constant('pod' as const),
        key: fc.constantFrom(...podKeys),
        present: fc.boolean(),
        ready: fc.boolean(),
        account: fc.constantFrom('x', 'y'),
      }),
      fc.record({
        kind: fc.constant('service' as const),
        key: fc.constantFrom(...keys),
        present: fc.boolean(),
        behind: fc.subarray(podKeys),
        direct: fc.boolean(),
      }),
      fc.record({
        kind: fc.constant('remote' as const),
        key: fc.constantFrom(...keys),
        members: fc.subarray(['west', 'central']),
        ready: fc.nat(3),
      }),
      fc.record({
        kind: fc.constant('member' as const),
        key: fc.constantFrom('west', 'central'),
        draining: fc.boolean(),
      }),
      fc.record({
        kind: fc.constant('plan' as const),
        key: fc.constantFrom(...keys),
        percent: fc.constantFrom(0, 40, 100),
        tiers: fc.constantFrom([['west'], ['central']], [['central', 'west']], []),
        failFast: fc.boolean(),
      }),
    );
    fc.assert(
      fc.property(fc.array(change, { maxLength: 25 }), (changes) => {
        const pods = new Map<string, ReturnType<typeof pod>>();
        const services = new Map<string, ReturnType<typeof service>>();
        const remotes = new Map<string, Record<string, ReturnType<typeof record>>>();
        const plans = new Map<string, NonNullable<World['plans']>[number]>();
        const members = new Map([west, central].map((m) => [m.member.name, m]));
        const translation = new ZtunnelTranslation(config);
        const mirror = new Map<string, Uint8Array>();
        const now = (): World => ({
          pods: [...pods.values()],
          services: [...services.values()],
          members: [...members.values()],
          views: [...services.values()].map((s) => serviceView(s, remotes.get(s.key) ?? {})),
          plans: [...plans.values()],
        });
        for (const c of changes) {
          if (c.kind === 'pod') {
            if (c.present)
              pods.set(c.key, pod(c.key, `10.0.0.${c.key.slice(-1)}`, { ready: c.ready, serviceAccount: c.account }));
            else pods.delete(c.key);
          } else if (c.kind === 'service') {
            const endpoints = c.behind.map((p) => endpoint(p, `10.0.0.${p.slice(-1)}`));
            if (c.present) services.set(c.key, service(c.key, { endpoints, mode: c.direct ? 'direct' : 'gateway' }));
            else services.delete(c.key);
          } else if (c.kind === 'remote') {
            remotes.set(c.key, Object.fromEntries(c.members.map((m) => [m, record(c.key, c.ready)])));
          } else if (c.kind === 'plan') {
            const tiers = c.tiers.map((names) => names.map((name, i) => ({ member: name, weight: i + 1 })));
            const { key, percent, failFast } = c;
            plans.set(key, { key, tiers, usable: true, local: { percent }, failFast });
          } else
            members.set(c.key, member(c.key, { gateways: [{ id: 'a', address: '192.0.2.3', draining: c.draining }] }));
          const delta = translation.update(inputs(now()), {
            pods: new Set(c.kind === 'pod' ? [c.key] : []),
            services: new Set(c.kind === 'pod' || c.kind === 'member' ? [] : [c.key]),
            members: new Set(c.kind === 'member' ? [c.key] : []),
            gatewayHealth: false,
          });
          for (const name of delta.removed) mirror.delete(name);
          for (const r of delta.changed) mirror.set(r.name, r.bytes);
        }
        const fresh = new ZtunnelTranslation(config);
        fresh.rebuild(inputs(now()));
        const hex = (m: Iterable<readonly [string, Uint8Array]>) =>
          [...m].map(([n, b]) => `${n} ${Buffer.from(b).toString('hex')}`).sort();
        const wanted = hex([...fresh.resources].map(([n, r]) => [n, r.bytes] as const));
        expect(hex(mirror)).toEqual(wanted);
        expect(translation.rebuild(inputs(now()))).toEqual({ changed: [], removed: [] });
      }),
      { numRuns: 200 },
    );
  });
});
