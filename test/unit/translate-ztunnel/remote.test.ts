import { describe, expect, it } from 'vitest';
import { IsthmusError } from '../../../src/core/errors.ts';
import {
  LoadBalancing_Mode,
  LoadBalancing_Scope,
  TunnelProtocol,
  WorkloadStatus,
} from '../../../src/gen/istio/workload/workload_pb.ts';
import { ZtunnelTranslation } from '../../../src/translate/ztunnel/translation.ts';
import {
  asService,
  asWorkload,
  c1,
  central,
  checkout,
  config,
  inputs,
  member,
  podName,
  record,
  serviceName,
  serviceView,
  splitName,
  translate,
  type World,
  west,
} from './fixture.ts';

describe('gateway mode', () => {
  const world = (over: World = {}): World => ({
    services: [checkout],
    pods: [c1],
    members: [west, central],
    views: [serviceView(checkout, { west: record('shop/checkout', 3), central: record('shop/checkout', 4) })],
    ...over,
  });

  it('shows one remote workload behind the local gateways', () => {
    const all = translate(world());
    expect([...all.keys()].sort()).toEqual([podName, splitName, serviceName].sort());
    const workload = asWorkload(all.get(splitName));
    expect(workload.addresses).toEqual([]);
    expect(workload).toMatchObject({
      network: 'isthmus',
      status: WorkloadStatus.HEALTHY,
      capacity: 7,
      tunnelProtocol: TunnelProtocol.HBONE,
    });
    expect(workload.networkGateway).toMatchObject({
      hboneMtlsPort: 15_018,
      destination: {
        case: 'hostname',
        value: { namespace: 'isthmus-system', hostname: 'isthmus-egress.isthmus-system.svc.cluster.local' },
      },
    });
    expect(workload.locality).toBeUndefined();
    expect(workload.services[serviceName]?.ports).toMatchObject([{ servicePort: 80, targetPort: 80 }]);
  });

  it('ranks local endpoints first and does not rank them among themselves', () => {
    const value = asService(translate(world()).get(serviceName));
    expect(value.loadBalancing).toMatchObject({
      mode: LoadBalancing_Mode.FAILOVER,
      routingPreference: [LoadBalancing_Scope.NETWORK],
    });
  });

  it('keeps the remote workload, with a weight, when nobody reports capacity', () => {
    const views = [serviceView(checkout, { west: record('shop/checkout', 0), central: record('shop/checkout', 0) })];
    const plan = {
      key: checkout.key,
      tiers: [[{ member: 'west', weight: 1 }], [{ member: 'central', weight: 1 }]],
      usable: false,
    };
    expect(asWorkload(translate(world({ views, plans: [plan] })).get(splitName))).toMatchObject({
      capacity: 1,
      status: WorkloadStatus.HEALTHY,
    });
    const empty = { key: checkout.key, tiers: [], usable: false };
    expect(translate(world({ views, plans: [empty] })).has(splitName)).toBe(true);
  });

  it('counts the members in the plan alone', () => {
    const plan = { key: checkout.key, tiers: [[{ member: 'central', weight: 1 }]], usable: true };
    expect(asWorkload(translate(world({ plans: [plan] })).get(splitName)).capacity).toBe(4);
  });

  it('accepts the accounts of both sides, and from a member only what it was granted', () => {
    const remote = record('shop/checkout', 1, { accounts: ['shop/canary', 'kube-system/admin', 'junk'] });
    const granted = member('west', { namespaces: ['shop'] });
    const views = [serviceView(checkout, { west: remote })];
    expect(asService(translate(world({ members: [granted], views })).get(serviceName)).subjectAltNames).toEqual([
      'spiffe://cluster.local/ns/shop/sa/canary',
      'spiffe://cluster.local/ns/shop/sa/checkout',
    ]);
    const one = member('west', { namespaces: ['shop'], serviceAccounts: ['shop/other'] });
    expect(asService(translate(world({ members: [one], views })).get(serviceName)).subjectAltNames).toEqual([
      'spiffe://cluster.local/ns/shop/sa/checkout',
    ]);
  });

  it('opens no path for services that cannot cross, are not shared here, or are nobody else’s', () => {
    const remotes = { west: record('shop/checkout', 3) };
    const unshared = { ...checkout, exported: undefined };
    for (const views of [
      [serviceView(checkout, remotes, { unsupported: new IsthmusError('service/session-affinity', 'no') })],
      [serviceView(unshared, remotes)],
      [serviceView(checkout, {})],
      [serviceView(checkout, remotes, { local: undefined })],
      [],
    ]) {
      const all = translate(world({ services: [views[0]?.local ?? checkout], views }));
      expect([...all.keys()].filter((name) => name.includes('SplitHorizon'))).toEqual([]);
      expect(asService(all.get(serviceName)).loadBalancing).toBeUndefined();
    }
  });

  it('keeps the ports that both sides have', () => {
    const two = { ...checkout, ports: [...checkout.ports, { name: 'grpc', port: 90, protocol: 'grpc' }] };
    const views = [
      serviceView(two, {
        west: record('shop/checkout', 1, {
          ports: [{ $typeName: 'isthmus.v1.ServicePort', name: 'grpc', port: 90, protocol: 'TCP' }],
        }),
      }),
    ];
    const workload = asWorkload(translate(world({ services: [two], views })).get(splitName));
    expect(workload.services[serviceName]?.ports.map((p) => p.servicePort)).toEqual([90]);
  });

  it('shows a port also when only a member that serves nothing else has it', () => {
    const two = { ...checkout, ports: [...checkout.ports, { name: 'grpc', port: 90, protocol: 'grpc' }] };
    const grpc = { $typeName: 'isthmus.v1.ServicePort' as const, name: 'grpc', port: 90, protocol: 'TCP' };
    const views = [
      serviceView(two, { west: record('shop/checkout', 0, { ports: [grpc] }), central: record('shop/checkout', 1) }),
    ];
    const plan = { key: two.key, tiers: [[{ member: 'central', weight: 1 }]], usable: true };
    const workload = asWorkload(translate(world({ services: [two], views, plans: [plan] })).get(splitName));
    expect(workload.services[serviceName]?.ports.map((p) => p.servicePort)).toEqual([80, 90]);
    expect(workload.capacity).toBe(1);
  });
});

describe('direct mode', () => {
  const direct = { ...checkout, mode: 'direct' as const };
  const world = (over: World = {}): World => ({
    services: [direct],
    pods: [c1],
    members: [
      member('west', {
        gateways: [
          { id: 'a', address: '192.0.2.1' },
          { id: 'b', address: '192.0.2.2', hbonePort: 16_008, draining: true },
        ],
      }),
      member('central', { gateways: [{ id: 'a', address: '192.0.2.9' }] }),
    ],
    views: [serviceView(direct, { west: record('shop/checkout', 3), central: record('shop/checkout', 0) })],
    ...over,
  });
  const westName = `net-west/SplitHorizonWorkload/isthmus-system/west/west.gateways.isthmus-system.isthmus.internal/${serviceName}`;

  it('shows one workload for each member', () => {
    const all = translate(world());
    expect(asWorkload(all.get(westName))).toMatchObject({
      network: 'net-west',
      capacity: 3,
      clusterId: 'west',
      locality: { region: 'region-west', zone: 'zone-west' },
      networkGateway: {
        hboneMtlsPort: 15_008,
        destination: {
          value: { namespace: 'isthmus-system', hostname: 'west.gateways.isthmus-system.isthmus.internal' },
        },
      },
    });
    expect([...all.keys()].filter((n) => n.includes('SplitHorizon'))).toHaveLength(2);
    // Not by region: which members serve is the plan's business.
    expect(asService(all.get(serviceName)).loadBalancing?.routingPreference).toEqual([LoadBalancing_Scope.NETWORK]);
  });

  it('resolves the remote gateways: identity, port, and a draining one out of use', () => {
    const all = translate(world());
    const key = 'isthmus-system/west.gateways.isthmus-system.isthmus.internal';
    expect(asService(all.get(key)).ports).toMatchObject([{ servicePort: 15_008 }]);
    const a = asWorkload(all.get('NetworkGateway/net-west/192.0.2.1/15008'));
    const b = asWorkload(all.get('NetworkGateway/net-west/192.0.2.2/16008'));
    expect(a).toMatchObject({
      namespace: 'isthmus-system',
      serviceAccount: 'isthmus-gateway',
      status: WorkloadStatus.HEALTHY,
    });
    expect(a.services[key]?.ports).toMatchObject([{ servicePort: 15_008, targetPort: 15_008 }]);
    expect(b.services[key]?.ports).toMatchObject([{ servicePort: 15_008, targetPort: 16_008 }]);
    expect(b.status).toBe(WorkloadStatus.UNHEALTHY);
  });

  it('keeps gateways that all drain', () => {
    const members = [member('west', { gateways: [{ id: 'a', address: '192.0.2.1', draining: true }] })];
    const views = [serviceView(direct, { west: record('shop/checkout', 3) })];
    const all = translate(world({ members, views }));
    expect(asWorkload(all.get('NetworkGateway/net-west/192.0.2.1/15008')).status).toBe(WorkloadStatus.HEALTHY);
  });

  it('shows no workload whose gateway could not be resolved', () => {
    for (const bad of [{ gateways: [] }, { gateways: [{ id: 'a', address: 'example.org' }] }, { account: 'nobody' }]) {
      const members = [member('west', bad)];
      const views = [serviceView(direct, { west: record('shop/checkout', 3) })];
      const names = [...translate(world({ members, views })).keys()];
      expect(names.filter((n) => n.includes('west'))).toEqual([]);
    }
  });

  it('gives a member on our own network another one, for a gateway works only across networks', () => {
    const members = [member('west', { network: config.network })];
    const views = [serviceView(direct, { west: record('shop/checkout', 3) })];
    const all = translate(world({ members, views }));
    const remote = [...all.values()].find((r) => r.name.includes('SplitHorizon'));
    expect(asWorkload(remote).network).toBe('net-east/west');
    expect(all.has('NetworkGateway/net-east/west/192.0.2.1/15008')).toBe(true);
  });

  it('withdraws the gateways with the last service that uses them', () => {
    const translation = new ZtunnelTranslation(config);
    translation.rebuild(inputs(world()));
    const gone = inputs(world({ views: [] }));
    const delta = translation.update(gone, {
      pods: new Set(),
      services: new Set([direct.key]),
      members: new Set(),
      gatewayHealth: false,
    });
    expect(delta.removed.filter((n) => n.startsWith('NetworkGateway/'))).toHaveLength(3);
    expect([...translation.resources.keys()].sort()).toEqual([podName, serviceName].sort());
  });
});
