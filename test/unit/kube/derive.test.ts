import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { exportConditions } from '../../../src/kube/conditions.ts';
import { joinEndpoints } from '../../../src/kube/endpoints.ts';
import { cutLines } from '../../../src/kube/lines.ts';
import { createLocalState } from '../../../src/kube/local_state.ts';
import {
  projectExport,
  projectNamespace,
  projectPod,
  projectService,
  projectSlice,
} from '../../../src/kube/objects.ts';
import { durationMs, projectPolicy, projectRule, ruleTarget } from '../../../src/kube/policies.ts';

describe('lines', () => {
  test('any cut of the bytes gives the same lines, also through a character', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ unit: 'grapheme' }).filter((s) => !s.includes('\n') && s !== '')),
        fc.array(fc.nat(7)),
        (lines, cuts) => {
          const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
          const got: string[] = [];
          const cutter = cutLines(10_000, (line) => got.push(line));
          let at = 0;
          for (let turn = 0; at < bytes.length; turn++) {
            const size = 1 + (cuts[turn % Math.max(1, cuts.length)] ?? 0);
            expect(cutter.push(bytes.subarray(at, at + size))).toBe(true);
            at += size;
          }
          expect(got).toEqual(lines);
        },
      ),
    );
  });

  test('a line over the bound ends it, in one chunk or in many', () => {
    expect(cutLines(10, () => {}).push(Buffer.from('12345678901\n'))).toBe(false);
    const cutter = cutLines(10, () => {});
    expect(cutter.push(Buffer.from('123456\n123456'))).toBe(true);
    expect(cutter.push(Buffer.from('12345'))).toBe(false);
  });
});

const serviceJson = (spec: object, metadata: object = {}) => ({
  metadata: { namespace: 'shop', name: 'pay', ...metadata },
  spec,
});
const ported = { clusterIP: '10.96.0.1', ports: [{ name: 'http', port: 80 }] };
const sliceJson = (endpoints: object[], rest: object = {}) => ({
  metadata: { namespace: 'shop', name: 's', labels: { 'kubernetes.io/service-name': 'pay' } },
  addressType: 'IPv4',
  ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  endpoints,
  ...rest,
});
const joined = (...slices: object[]) =>
  joinEndpoints(
    projectService(serviceJson(ported)),
    slices.map((slice) => projectSlice(slice as never)!),
  );

describe('endpoints', () => {
  test('conditions that are not set read as the API says', () => {
    expect(joined(sliceJson([{ addresses: ['10.0.0.1'] }]))).toMatchObject([
      { ready: true, serving: true, terminating: false },
    ]);
    expect(joined(sliceJson([{ addresses: ['10.0.0.1'], conditions: { ready: false } }]))).toMatchObject([
      { ready: false, serving: false },
    ]);
    expect(joined(sliceJson([{ addresses: [] }, { addresses: ['10.0.0.2', '10.0.0.3'] }]))).toMatchObject([
      { address: '10.0.0.2' },
    ]);
  });

  test('a pod with both families counts once, with the family of the service', () => {
    const target = { targetRef: { kind: 'Pod', name: 'p' } };
    const four = sliceJson([{ addresses: ['10.0.0.1'], ...target }]);
    const six = sliceJson([{ addresses: ['fd00::1'], ...target }], { addressType: 'IPv6' });
    expect(joined(four, six).map((e) => e.address)).toEqual(['10.0.0.1']);
    expect(joined(six, four).map((e) => e.address)).toEqual(['10.0.0.1']);
    const v6 = projectService(serviceJson({ ...ported, ipFamilies: ['IPv6', 'IPv4'] }));
    expect(joinEndpoints(v6, [projectSlice(four)!, projectSlice(six)!]).map((e) => e.address)).toEqual(['fd00::1']);
  });

  test('ports match by name and transport; a slice port without a number stands for all', () => {
    const ports = [
      { name: 'http', port: null, protocol: 'TCP' },
      { name: 'dns', port: 5353, protocol: 'TCP' },
    ];
    const service = projectService(
      serviceJson({
        ports: [
          { name: 'http', port: 80 },
          { name: 'dns', port: 53, protocol: 'UDP' },
        ],
      }),
    );
    const [endpoint] = joinEndpoints(service, [projectSlice(sliceJson([{ addresses: ['10.0.0.1'] }], { ports }))!]);
    expect(endpoint?.ports).toEqual(new Map([[80, 80]]));
  });

  test('slices without an address, or of no service, are left out', () => {
    expect(projectSlice(sliceJson([{ addresses: ['a.example'] }], { addressType: 'FQDN' }))).toBeUndefined();
    expect(projectSlice({ ...sliceJson([]), metadata: { namespace: 'shop', name: 's' } })).toBeUndefined();
  });
});

describe('objects of any shape', () => {
  test('are read without throwing', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.constantFrom('metadata', 'spec', 'status', 'endpoints', 'ports', 'addressType'),
          fc.jsonValue(),
        ),
        (object) => {
          for (const project of [
            projectService,
            projectSlice,
            projectPod,
            projectNamespace,
            projectExport,
            projectRule,
            projectPolicy('PeerAuthentication'),
          ]) {
            project(object as never);
          }
        },
      ),
    );
  });

  test('a pod is called after what people deployed', () => {
    const pod = (owner: object, labels: object = {}) =>
      projectPod({ metadata: { name: 'pod', labels, ownerReferences: [owner] } }).workloadName;
    expect(pod({ kind: 'ReplicaSet', name: 'pay-7c9f', controller: true }, { 'pod-template-hash': '7c9f' })).toBe(
      'pay',
    );
    expect(pod({ kind: 'ReplicaSet', name: 'pay-7c9f', controller: true })).toBe('pay-7c9f');
    expect(pod({ kind: 'StatefulSet', name: 'db' })).toBe('db');
    expect(pod({ kind: 'Job', name: 'nightly-28950000' })).toBe('nightly');
    expect(projectPod({ metadata: { name: 'bare' } }).workloadName).toBe('bare');
  });
});

const rule = (host: string, trafficPolicy: object, more: object = {}, metadata: object = {}) =>
  projectRule({
    metadata: { namespace: 'shop', name: 'r', creationTimestamp: '2026-01-02T00:00:00Z', ...metadata },
    spec: { host, trafficPolicy, ...more },
  });

describe('DestinationRules', () => {
  test.each([
    ['pay', 'shop/pay'],
    ['pay.shop', 'shop/pay'],
    ['pay.shop.svc', 'shop/pay'],
    ['PAY.shop.svc.cluster.local', 'shop/pay'],
    ['pay.other.svc.cluster.local', undefined],
    ['pay.shop.svc.example.org', undefined],
    ['*.shop.svc.cluster.local', undefined],
    ['pay.example.com', undefined],
    ['', undefined],
  ])('host %s means %s', (host, target) => {
    expect(ruleTarget(rule(host, {})!, 'cluster.local')).toBe(target);
  });

  test.each([
    ['5m', 300_000],
    ['1m30s', 90_000],
    ['0.5s', 500],
    ['100ms', 100],
    ['10', undefined],
    ['-1s', undefined],
    ['s', undefined],
    ['1s 2s', undefined],
  ])('the duration %s is %s ms', (value, ms) => {
    expect(durationMs(value)).toBe(ms);
  });

  test('values that make no sense are left at the defaults', () => {
    const policy = rule('pay', {
      outlierDetection: { consecutive5xxErrors: -1, interval: 'soon', maxEjectionPercent: 200 },
      connectionPool: { tcp: { maxConnections: 1.5 } },
    })?.policy;
    expect(Object.values(policy ?? {}).filter((value) => value !== undefined)).toEqual([]);
    expect(rule('pay', {}, { workloadSelector: { matchLabels: {} } })).toBeUndefined();
  });
});

describe('the local cluster', () => {
  const state = () => {
    const made = createLocalState({ defaultMode: 'gateway', clusterDomain: 'cluster.local' });
    made.set('namespaces', 'shop', { ambient: true });
    made.set('services', 'shop/pay', projectService(serviceJson(ported, { labels: { 'istio.io/global': 'true' } })));
    made.flush();
    return made;
  };

  test('equal objects change nothing, and what cancels out reports nothing', () => {
    const local = state();
    expect(
      local.set('services', 'shop/pay', projectService(serviceJson(ported, { labels: { 'istio.io/global': 'true' } }))),
    ).toBe(false);
    expect(local.flush()).toBeUndefined();
    local.set('namespaces', 'shop', { ambient: false });
    local.set('namespaces', 'shop', { ambient: true });
    expect(local.flush()).toBeUndefined();
  });

  test('the annotation chooses the mode, other values do not', () => {
    const local = state();
    const mode = (value: string) => {
      local.set(
        'services',
        'shop/pay',
        projectService(serviceJson(ported, { annotations: { 'isthmus.dev/mode': value } })),
      );
      local.flush();
      return local.cluster.services.get('shop/pay')?.mode;
    };
    expect([mode('direct'), mode('sideways'), mode('gateway')]).toEqual(['direct', 'gateway', 'gateway']);
  });

  test('the oldest rule for a host wins, and the next one when it goes', () => {
    const local = state();
    const max = (n: number) => ({ connectionPool: { tcp: { maxConnections: n } } });
    local.set(
      'destinationrules',
      'shop/young',
      rule('pay', max(2), {}, { name: 'young', creationTimestamp: '2026-02-02T00:00:00Z' }),
    );
    local.set('destinationrules', 'shop/old', rule('pay.shop', max(1), {}, { name: 'old' }));
    local.set(
      'destinationrules',
      'shop/empty',
      rule('pay', {}, {}, { name: 'empty', creationTimestamp: '2025-02-02T00:00:00Z' }),
    );
    local.flush();
    expect(local.cluster.services.get('shop/pay')?.trafficPolicy?.maxConnections).toBe(1);
    local.set('destinationrules', 'shop/old', rule('other', max(1), {}, { name: 'old' }));
    expect(local.flush()?.services).toEqual(new Set(['shop/pay']));
    expect(local.cluster.services.get('shop/pay')?.trafficPolicy?.maxConnections).toBe(2);
  });

  test('an export that is being deleted exports no more', () => {
    const local = state();
    local.set('services', 'shop/pay', projectService(serviceJson(ported)));
    const object = (metadata: object) =>
      projectExport({ metadata: { namespace: 'shop', name: 'pay', uid: 'u', ...metadata } });
    local.set('serviceexports', 'shop/pay', object({ creationTimestamp: '2026-01-01T00:00:00Z' }));
    local.flush();
    expect(local.cluster.services.get('shop/pay')?.exported).toEqual({
      by: 'ServiceExport',
      sinceMs: Date.parse('2026-01-01T00:00:00Z'),
    });
    local.set('serviceexports', 'shop/pay', object({ deletionTimestamp: '2026-01-02T00:00:00Z' }));
    expect(local.flush()?.services).toEqual(new Set(['shop/pay']));
    expect(local.cluster.services.get('shop/pay')?.exported).toBeUndefined();
  });

  test('a slice that moves to another service leaves the first', () => {
    const local = state();
    local.set('services', 'shop/cart', { ...projectService(serviceJson(ported)), name: 'cart' });
    local.set('endpointslices', 'shop/s', projectSlice(sliceJson([{ addresses: ['10.0.0.1'] }])));
    local.flush();
    local.set('endpointslices', 'shop/s', {
      ...projectSlice(sliceJson([{ addresses: ['10.0.0.1'] }]))!,
      service: 'cart',
    });
    expect(local.flush()?.services).toEqual(new Set(['shop/pay', 'shop/cart']));
    expect(local.cluster.services.get('shop/pay')?.endpoints).toEqual([]);
    expect(local.cluster.services.get('shop/cart')?.endpoints.length).toBe(1);
  });
});

describe('conditions', () => {
  const of = (state: Partial<Parameters<typeof exportConditions>[0]>) =>
    exportConditions({ problem: undefined, conflicts: [], published: true, ...state }).map(
      (c) => `${c.type}=${c.status}:${c.reason}`,
    );
  test('follow the MCS types and reasons', () => {
    const problem = (code: 'service/headless' | 'service/external-name' | 'service/missing') => ({
      key: 'shop/pay',
      code,
      message: 'm',
    });
    expect(of({})).toEqual(['Valid=True:Valid', 'Ready=True:Exported', 'Conflict=False:NoConflicts']);
    expect(of({ published: false })[1]).toBe('Ready=False:Pending');
    expect(of({ problem: problem('service/headless') })).toEqual([
      'Valid=True:Valid',
      'Ready=False:HeadlessNotSupported',
      'Conflict=False:NoConflicts',
    ]);
    expect(of({ problem: problem('service/external-name') })[0]).toBe('Valid=False:InvalidServiceType');
    expect(of({ problem: problem('service/missing') })[0]).toBe('Valid=False:NoService');
    const conflict = (field: 'ports' | 'headless') => ({ field, winner: 'a', losers: ['b'], message: field });
    expect(of({ conflicts: [conflict('ports'), conflict('headless'), conflict('ports')] })[2]).toBe(
      'Conflict=True:PortConflict,TypeConflict',
    );
  });
});
