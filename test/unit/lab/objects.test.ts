import { expect, test } from 'vitest';
import { clusterAddresses, hostAddress } from '../../../scenarios/lab/local/addresses.ts';
import { type PodState, podStatus, sliceObject } from '../../../scenarios/lab/local/objects.ts';
import { faultRuleset } from '../../../scenarios/lab/local/path-faults.ts';
import { proxyRules } from '../../../scenarios/lab/local/proxy.ts';

const pod = (name: string, over: Partial<PodState> = {}): PodState => ({
  namespace: 'shop',
  name,
  serviceAccount: 'checkout',
  labels: { app: 'checkout' },
  ports: [{ name: 'http', port: 8_080 }],
  uid: `uid-${name}`,
  node: 'n1',
  nodeAddress: '10.81.1.1',
  zone: 'z1',
  address: '10.81.1.40',
  ready: true,
  terminating: false,
  ...over,
});
const service = {
  metadata: { name: 'checkout', namespace: 'shop', uid: 'u' },
  spec: {
    clusterIP: '10.91.0.5',
    selector: { app: 'checkout' },
    ports: [{ name: 'http', port: 80, targetPort: 'http' }],
  },
};

test('a slice holds the selected pods of its namespace, with a named port resolved', () => {
  const others = [pod('x', { namespace: 'other' }), pod('y', { labels: { app: 'cart' } })];
  const slice = sliceObject(service, [pod('a'), ...others])!;
  expect(slice.endpoints.map(({ targetRef }) => targetRef.name)).toEqual(['a']);
  expect(slice.ports).toEqual([{ name: 'http', port: 8_080, protocol: 'TCP' }]);
  expect(slice.metadata.labels['kubernetes.io/service-name']).toBe('checkout');
});

test('a pod that is not ready or is going is listed, and not ready', () => {
  const slice = sliceObject(service, [pod('a', { ready: false }), pod('b', { terminating: true })])!;
  expect(slice.endpoints.map(({ conditions }) => conditions)).toEqual([
    { ready: false, serving: false, terminating: false },
    { ready: false, serving: true, terminating: true },
  ]);
});

test('a service without a selector gets no slice from us', () => {
  expect(sliceObject({ ...service, spec: { ports: service.spec.ports } }, [pod('a')])).toBeUndefined();
  expect(sliceObject({ ...service, spec: { selector: {} } }, [pod('a')])).toBeUndefined();
});

test('the status tells the address and the readiness', () => {
  const { status } = podStatus(pod('a', { ready: false }), '2026-01-01T00:00:00Z');
  expect(status.podIP).toBe('10.81.1.40');
  expect(status.conditions.find(({ type }) => type === 'Ready')?.status).toBe('False');
});

test('the proxy spreads over ready pods, and leaves a service without any alone', () => {
  const numbered = { ...service, spec: { ...service.spec, ports: [{ name: 'd', port: 15_012 }] } };
  const rules = proxyRules([{ service: numbered, ready: [pod('a'), pod('b', { address: '10.81.2.40' })] }]);
  expect(rules).toContain('ip daddr 10.91.0.5 tcp dport 15012 dnat ip to numgen random mod 2');
  expect(rules).toContain('0 : 10.81.1.40, 1 : 10.81.2.40');
  expect(proxyRules([{ service: numbered, ready: [] }])).not.toContain('dnat');
});

test('a fault matches both directions at the pods’ links, or one when asked', () => {
  const from = { cidrs: ['10.82.0.0/16'], nodes: ['n'] };
  const both = faultRuleset('t', { kind: 'partition', oneWay: false }, from, undefined);
  expect(both.match(/ drop$/gm)).toHaveLength(2);
  expect(both).toContain('ip daddr != { 10.82.0.0/16 }');
  const one = faultRuleset('t', { kind: 'partition', oneWay: true }, from, { cidrs: ['10.81.0.0/16'], nodes: [] });
  expect(one.match(/ drop$/gm)).toHaveLength(1);
  expect(one).toContain('ip saddr { 10.82.0.0/16 } ip daddr { 10.81.0.0/16 } drop');
});

test('the address plan refuses what it cannot hold', () => {
  expect(clusterAddresses(3)).toMatchObject({ podCidr: '10.83.0.0/16', serviceCidr: '10.93.0.0/16' });
  expect(() => clusterAddresses(0)).toThrow('cluster index 0');
  expect(() => clusterAddresses(10)).toThrow('cluster index 10');
  expect(() => hostAddress(1, 1, 255)).toThrow('no address left');
});
