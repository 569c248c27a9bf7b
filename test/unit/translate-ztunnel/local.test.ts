import { describe, expect, it } from 'vitest';
import { TunnelProtocol, WorkloadStatus } from '../../../src/gen/istio/workload/workload_pb.ts';
import { formatAddress, parseAddress } from '../../../src/translate/ztunnel/ip.ts';
import { untranslatable } from '../../../src/translate/ztunnel/policies.ts';
import {
  asService,
  asWorkload,
  c1,
  checkout,
  endpoint,
  pod,
  podName,
  service,
  serviceName,
  translate,
} from './fixture.ts';

describe('local pods', () => {
  it('carry what ztunnel needs to reach them and to present them', () => {
    const all = translate({ services: [checkout], pods: [c1] });
    const workload = asWorkload(all.get(podName));
    expect(workload).toMatchObject({
      uid: podName,
      namespace: 'shop',
      network: 'net-east',
      tunnelProtocol: TunnelProtocol.HBONE,
      serviceAccount: 'checkout',
      node: 'node-1',
      canonicalName: 'checkout',
      canonicalRevision: 'latest',
      clusterId: 'east',
      status: WorkloadStatus.HEALTHY,
      locality: { region: 'us-east', zone: 'us-east-1' },
    });
    expect([...workload.addresses[0]!]).toEqual([10, 0, 0, 1]);
    expect(workload.services[serviceName]?.ports).toMatchObject([{ servicePort: 80, targetPort: 8080 }]);
    expect(all.get(podName)?.aliases).toEqual(['net-east/10.0.0.1']);
  });

  it('are unhealthy when not ready, but keep their place behind the service', () => {
    const unready = { ...checkout, endpoints: [endpoint('shop/c1', '10.0.0.1', { ready: false })] };
    for (const world of [
      { services: [unready], pods: [c1] },
      { services: [checkout], pods: [{ ...c1, ready: false }] },
      { services: [checkout], pods: [{ ...c1, terminating: true }] },
    ]) {
      const workload = asWorkload(translate(world).get(podName));
      expect(workload.status).toBe(WorkloadStatus.UNHEALTHY);
      expect(Object.keys(workload.services)).toEqual([serviceName]);
    }
  });

  it('leave a service for which they alone are not ready', () => {
    const other = service('shop/admin', { endpoints: [endpoint('shop/c1', '10.0.0.1', { ready: false })] });
    const workload = asWorkload(translate({ services: [checkout, other], pods: [c1] }).get(podName));
    expect(workload.status).toBe(WorkloadStatus.HEALTHY);
    expect(Object.keys(workload.services)).toEqual([serviceName]);
  });

  it('without an address are not sent; on the host network they have no alias', () => {
    const all = translate({
      pods: [pod('a/none', ''), pod('a/host', '10.1.1.1', { hostNetwork: true, hbone: false })],
    });
    expect([...all.keys()]).toEqual(['east//Pod/a/host']);
    expect(all.get('east//Pod/a/host')?.aliases).toEqual([]);
    expect(asWorkload(all.get('east//Pod/a/host')).tunnelProtocol).toBe(TunnelProtocol.NONE);
  });
});

describe('local services', () => {
  it('have their VIPs on the network of the clients and no ranking of their own', () => {
    const dual = service('shop/dual', {
      clusterIPs: ['10.96.0.7', 'fd00::7'],
      endpoints: [endpoint('shop/c1', '10.0.0.1')],
    });
    const all = translate({ services: [dual], pods: [c1] });
    const resource = all.get('shop/dual.shop.svc.cluster.local');
    expect(resource?.aliases).toEqual(['net-east/10.96.0.7', 'net-east/fd00::7']);
    const value = asService(resource);
    expect(value.addresses.map((a) => a.network)).toEqual(['net-east', 'net-east']);
    expect(value.ports).toMatchObject([{ servicePort: 80, targetPort: 8080 }]);
    expect(value.loadBalancing).toBeUndefined();
    expect(value.subjectAltNames).toEqual([]);
  });

  it('name a target port only where all endpoints agree, and no UDP port', () => {
    const named = service('shop/named', {
      ports: [
        { name: 'http', port: 80, protocol: 'TCP' },
        { name: 'dns', port: 53, protocol: 'UDP' },
      ],
      endpoints: [
        endpoint('shop/c1', '10.0.0.1', {
          ports: new Map([
            [80, 1],
            [53, 5353],
          ]),
        }),
        endpoint('shop/c2', '10.0.0.2', {
          ports: new Map([
            [80, 2],
            [53, 5353],
          ]),
        }),
      ],
    });
    const all = translate({ services: [named], pods: [c1] });
    expect(asService(all.get('shop/named.shop.svc.cluster.local')).ports).toMatchObject([
      { servicePort: 80, targetPort: 0 },
    ]);
    expect(asWorkload(all.get(podName)).services['shop/named.shop.svc.cluster.local']?.ports).toMatchObject([
      { servicePort: 80, targetPort: 1 },
    ]);
  });

  it('without an address: headless is sent, ExternalName is not', () => {
    const all = translate({
      services: [
        service('shop/headless', { headless: true, clusterIPs: ['None'] }),
        service('shop/elsewhere', { type: 'ExternalName', clusterIPs: [] }),
      ],
    });
    expect([...all.keys()]).toEqual(['shop/headless.shop.svc.cluster.local']);
    expect(asService(all.get('shop/headless.shop.svc.cluster.local')).addresses).toEqual([]);
  });

  it('reach endpoints that are no pods', () => {
    const kubernetes = service('default/kubernetes', {
      endpoints: [endpoint(undefined, '172.18.0.2', { ports: new Map([[80, 6443]]) })],
    });
    const all = translate({ services: [kubernetes] });
    const name = 'east/discovery.k8s.io/EndpointSlice/default/kubernetes/172.18.0.2';
    expect(asWorkload(all.get(name)).tunnelProtocol).toBe(TunnelProtocol.NONE);
    expect(
      asWorkload(all.get(name)).services['default/kubernetes.default.svc.cluster.local']?.ports[0]?.targetPort,
    ).toBe(6443);
  });
});

describe('untranslatable policies', () => {
  it('are refused by name', () => {
    expect(untranslatable([])).toBeUndefined();
    const error = untranslatable([
      { kind: 'PeerAuthentication', namespace: 'shop', name: 'strict' },
      { kind: 'AuthorizationPolicy', namespace: 'shop', name: 'deny' },
    ]);
    expect(error?.code).toBe('policy/untranslatable');
    expect(error?.message).toContain('AuthorizationPolicy shop/deny, PeerAuthentication shop/strict');
  });

  it('are counted beyond the first twenty', () => {
    const many = Array.from({ length: 25 }, (_, i) => ({
      kind: 'AuthorizationPolicy' as const,
      namespace: 'n',
      name: `p${i}`,
    }));
    expect(untranslatable(many)?.message).toContain('and 5 more');
  });
});

describe('addresses', () => {
  it('are read and written as ztunnel does', () => {
    for (const text of ['10.0.0.1', '::', '::1', 'fd00::7', '2001:db8::1:0:0:1', '1:2:3:4:5:6:7:8', 'fe80::1']) {
      expect(formatAddress(parseAddress(text)!)).toBe(text);
    }
    expect(formatAddress(parseAddress('2001:DB8:0:0:1::')!)).toBe('2001:db8:0:0:1::');
    expect(formatAddress(parseAddress('::ffff:10.0.0.1')!)).toBe('::ffff:a00:1');
  });

  it('that are none are refused', () => {
    for (const text of [
      '',
      '1.2.3',
      '1.2.3.256',
      '01.2.3.4',
      '1.2.3.4.5',
      ':',
      ':::',
      '1::2::3',
      '1:2:3:4:5:6:7',
      '1:2:3:4:5:6:7:8:9',
      'g::',
      '::1.2.3',
      '1.2.3.4::',
      '1:2:3:4:5:6:7::8',
      'a b',
    ]) {
      expect(parseAddress(text), text).toBeUndefined();
    }
  });
});
