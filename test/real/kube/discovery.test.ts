/** Discovery against a real kube-apiserver: what is exported, and what a service consists of. */
import { readFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { LocalChange } from '../../../src/federation/local.ts';
import { type Discovery, startDiscovery } from '../../../src/kube/discovery.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { eventually, openCrd, serviceExportPath, world } from './objects.ts';

let api: ApiServer;
let make: ReturnType<typeof world>;
const opened: { close(): unknown }[] = [];

interface Seen {
  readonly discovery: Discovery;
  readonly changes: LocalChange[];
  readonly problems: string[];
}

const discover = (port?: number): Seen => {
  const changes: LocalChange[] = [];
  const problems: string[] = [];
  const discovery = startDiscovery({
    kubeConfig: api.configFor(port === undefined ? {} : { port }),
    clock: realClock,
    log: () => {},
    defaultMode: 'gateway',
    onChange: (change) => changes.push(change),
    onProblem: (kind, error) => problems.push(`${kind}: ${error.code} ${error.message}`),
  });
  opened.push(discovery);
  return { discovery, changes, problems };
};
const complete = async (seen: Seen): Promise<Seen> => {
  await eventually(
    'discovery is complete',
    () => seen.discovery.synced().pending.length === 0 && seen.changes.length > 0,
  );
  return seen;
};
const exported = (seen: Seen, key: string) => seen.discovery.cluster.services.get(key)?.exported;
const endpoints = (seen: Seen, key: string) => seen.discovery.cluster.services.get(key)?.endpoints ?? [];
const slicePath = (name: string) => `/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/${name}`;

beforeAll(async () => {
  api = await startApiServer();
  make = world(api);
  await make.create(
    '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
    parse(await readFile(new URL('../../../deploy/crd-serviceexports.yaml', import.meta.url), 'utf8')),
  );
  await make.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
  await make.namespace('plain');
  await make.node('n1', {
    'topology.kubernetes.io/region': 'us-east',
    'topology.kubernetes.io/zone': 'us-east-a',
    'topology.istio.io/subzone': 'rack1',
  });
  await eventually('the ServiceExport kind is served', () =>
    api.call('GET', serviceExportPath('shop')).then(
      () => true,
      () => false,
    ),
  );
});
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});
afterAll(async () => {
  await api?.stop();
});

describe('what is exported', () => {
  test('a ServiceExport exports, its removal withdraws', async () => {
    await make.service('shop', 'checkout');
    const seen = await complete(discover());
    expect(exported(seen, 'shop/checkout')).toBeUndefined();
    await make.serviceExport('shop', 'checkout');
    await eventually('exported', () => exported(seen, 'shop/checkout')?.by === 'ServiceExport');
    expect(seen.changes.at(-1)?.services).toEqual(new Set(['shop/checkout']));
    expect(exported(seen, 'shop/checkout')?.sinceMs).toBeGreaterThan(Date.now() - 60_000);
    await make.remove(`${serviceExportPath('shop')}/checkout`);
    await eventually('withdrawn', () => exported(seen, 'shop/checkout') === undefined);
  });

  test('the label exports, without it not; both count once and each alone suffices', async () => {
    await make.service('shop', 'cart', {}, { labels: { 'istio.io/global': 'true' } });
    const seen = await complete(discover());
    expect(exported(seen, 'shop/cart')?.by).toBe('label');
    await make.serviceExport('shop', 'cart');
    await eventually('by the export', () => exported(seen, 'shop/cart')?.by === 'ServiceExport');
    await make.label('/api/v1/namespaces/shop/services/cart', { 'istio.io/global': null });
    await make.remove(`${serviceExportPath('shop')}/cart`);
    await eventually('withdrawn', () => exported(seen, 'shop/cart') === undefined);
    await make.label('/api/v1/namespaces/shop/services/cart', { 'istio.io/global': 'false' });
    await eventually(
      'label seen',
      () => seen.discovery.cluster.services.get('shop/cart')?.labels['istio.io/global'] === 'false',
    );
    expect(exported(seen, 'shop/cart')).toBeUndefined();
  });

  test('only in a namespace of the mesh, and a flip of its label counts at once for services and pods', async () => {
    await make.service('plain', 'web', {}, { labels: { 'istio.io/global': 'true' } });
    await make.pod('plain', 'web-1', 'n1', '10.9.0.1');
    const seen = await complete(discover());
    expect(exported(seen, 'plain/web')).toBeUndefined();
    expect(seen.discovery.cluster.problems.get('plain/web')?.code).toBe('service/not-ambient');
    expect(seen.discovery.cluster.pods.get('plain/web-1')?.hbone).toBe(false);
    await make.label('/api/v1/namespaces/plain', { 'istio.io/dataplane-mode': 'ambient' });
    await eventually('exported', () => exported(seen, 'plain/web') !== undefined);
    expect(seen.discovery.cluster.pods.get('plain/web-1')?.hbone).toBe(true);
    expect(seen.discovery.cluster.problems.has('plain/web')).toBe(false);
    await make.label('/api/v1/namespaces/plain', { 'istio.io/dataplane-mode': null });
    await eventually('withdrawn', () => exported(seen, 'plain/web') === undefined);
    expect(seen.discovery.cluster.pods.get('plain/web-1')?.hbone).toBe(false);
  });

  test('services that cannot work have a typed problem', async () => {
    const labels = { 'istio.io/global': 'true' };
    await make.service('shop', 'headless', { clusterIP: 'None' }, { labels });
    await make.service('shop', 'portless', { clusterIP: 'None', ports: undefined }, { labels });
    await make.service(
      'shop',
      'elsewhere',
      { type: 'ExternalName', externalName: 'x.example', ports: undefined },
      { labels },
    );
    await make.service('shop', 'sticky', { sessionAffinity: 'ClientIP' }, { labels });
    await make.serviceExport('shop', 'nothing');
    const seen = await complete(discover());
    const { problems } = seen.discovery.cluster;
    expect(problems.get('shop/headless')?.code).toBe('service/headless');
    expect(problems.get('shop/portless')?.code).toBe('service/no-ports');
    expect(problems.get('shop/elsewhere')?.code).toBe('service/external-name');
    expect(problems.get('shop/sticky')?.code).toBe('service/session-affinity');
    expect(problems.get('shop/nothing')?.code).toBe('service/missing');
    expect(exported(seen, 'shop/portless')).toBeUndefined();
    expect(exported(seen, 'shop/elsewhere')).toBeUndefined();
    await make.service('shop', 'nothing');
    await eventually(
      'the export finds its Service',
      () => !problems.has('shop/nothing') && !!exported(seen, 'shop/nothing'),
    );
    await make.remove('/api/v1/namespaces/shop/services/nothing');
    await eventually('gone again', () => problems.get('shop/nothing')?.code === 'service/missing');
    expect(seen.discovery.cluster.services.has('shop/nothing')).toBe(false);
    await make.remove(`${serviceExportPath('shop')}/nothing`);
    await eventually('no trace', () => !problems.has('shop/nothing'));
  });
});

describe('what a service consists of', () => {
  test('pods have localities, accounts and names; endpoints follow their slices', async () => {
    await make.service('shop', 'pay', {
      ports: [
        { name: 'http', port: 80, targetPort: 'web', appProtocol: 'http' },
        { name: 'dns', port: 53, protocol: 'UDP' },
      ],
    });
    await make.pod('shop', 'pay-1', 'n1', '10.1.0.1', { spec: { serviceAccountName: 'payer' } });
    await make.pod('shop', 'pay-host', 'n1', '10.1.0.9', { spec: { hostNetwork: true } });
    await make.pod('shop', 'pay-out', 'n1', '10.1.0.8', { labels: { 'istio.io/dataplane-mode': 'none' } });
    await make.slice('shop', 'pay-a', 'pay', [
      {
        addresses: ['10.1.0.1'],
        targetRef: { kind: 'Pod', name: 'pay-1', namespace: 'shop' },
        conditions: { ready: true },
      },
    ]);
    const seen = await complete(discover());
    const { cluster } = seen.discovery;
    expect(cluster.pods.get('shop/pay-1')).toMatchObject({
      addresses: ['10.1.0.1'],
      node: 'n1',
      serviceAccount: 'payer',
      ready: true,
      hbone: true,
      workloadName: 'pay-1',
      locality: { region: 'us-east', zone: 'us-east-a', subzone: 'rack1' },
    });
    expect(cluster.pods.get('shop/pay-host')?.hbone).toBe(false);
    expect(cluster.pods.get('shop/pay-out')?.hbone).toBe(false);
    expect(cluster.services.get('shop/pay')?.ports).toEqual([
      { name: 'http', port: 80, protocol: 'http' },
      { name: 'dns', port: 53, protocol: 'UDP' },
    ]);
    expect(endpoints(seen, 'shop/pay')).toEqual([
      {
        address: '10.1.0.1',
        pod: 'shop/pay-1',
        ready: true,
        serving: true,
        terminating: false,
        ports: new Map([[80, 8080]]),
      },
    ]);
    // A second slice has a duplicate that is not ready and one of its own, with another target port.
    await make.slice(
      'shop',
      'pay-b',
      'pay',
      [
        {
          addresses: ['10.1.0.1'],
          targetRef: { kind: 'Pod', name: 'pay-1', namespace: 'shop' },
          conditions: { ready: false },
        },
        { addresses: ['10.1.0.2'], conditions: { ready: false, serving: true, terminating: true } },
      ],
      { ports: [{ name: 'http', port: 9090, protocol: 'TCP' }] },
    );
    await eventually('two endpoints', () => endpoints(seen, 'shop/pay').length === 2);
    expect(endpoints(seen, 'shop/pay')[0]).toMatchObject({ address: '10.1.0.1', ready: true });
    expect(endpoints(seen, 'shop/pay')[1]).toMatchObject({
      ready: false,
      serving: true,
      terminating: true,
      ports: new Map([[80, 9090]]),
    });
    await make.remove(slicePath('pay-a'));
    await eventually('not ready', () => endpoints(seen, 'shop/pay')[0]?.ready === false);
    // The node moves: so do its pods.
    await make.label('/api/v1/nodes/n1', { 'topology.kubernetes.io/zone': 'us-east-b' });
    await eventually('moved', () => cluster.pods.get('shop/pay-1')?.locality.zone === 'us-east-b');
    expect(seen.changes.at(-1)?.pods.has('shop/pay-1')).toBe(true);
    await make.remove('/api/v1/namespaces/shop/pods/pay-1?gracePeriodSeconds=0');
    await eventually('gone', () => !cluster.pods.has('shop/pay-1'));
  });

  test('a change that means nothing here is no change', async () => {
    const seen = await complete(discover());
    const before = seen.changes.length;
    await make.patch('/api/v1/nodes/n1', { metadata: { annotations: { heartbeat: '1' } } });
    await make.patch('/api/v1/namespaces/shop/services/checkout', {
      metadata: { annotations: { 'kubectl.kubernetes.io/x': 'y' } },
    });
    await make.label('/api/v1/namespaces/shop/services/checkout', { marker: '1' });
    await eventually('the marker', () => seen.discovery.cluster.services.get('shop/checkout')?.labels.marker === '1');
    expect(seen.changes.length).toBe(before + 1);
  });

  test('kinds that appear later are picked up: DestinationRules and policies', async () => {
    await make.service('shop', 'rated');
    const seen = await complete(discover());
    expect(seen.discovery.cluster.policies).toEqual([]);
    const crds = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
    // An older Istio: v1 is not served.
    await make.create(crds, openCrd('networking.istio.io', 'DestinationRule', 'destinationrules', ['v1beta1']));
    await make.create(crds, openCrd('security.istio.io', 'AuthorizationPolicy', 'authorizationpolicies', ['v1']));
    await make.create(crds, openCrd('security.istio.io', 'PeerAuthentication', 'peerauthentications', ['v1']));
    const rules = '/apis/networking.istio.io/v1beta1/namespaces/shop/destinationrules';
    const created = () =>
      make
        .create(rules, {
          apiVersion: 'networking.istio.io/v1beta1',
          kind: 'DestinationRule',
          metadata: { name: 'rated' },
          spec: {
            host: 'rated.shop.svc.cluster.local',
            trafficPolicy: {
              outlierDetection: {
                consecutive5xxErrors: 3,
                interval: '1m30s',
                baseEjectionTime: '500ms',
                maxEjectionPercent: 40,
              },
              connectionPool: { tcp: { maxConnections: 17 } },
            },
          },
        })
        .then(
          () => true,
          () => false,
        );
    await eventually('the rule is accepted', created);
    await eventually(
      'the rule is seen',
      () => seen.discovery.cluster.services.get('shop/rated')?.trafficPolicy !== undefined,
    );
    expect(seen.discovery.cluster.services.get('shop/rated')?.trafficPolicy).toEqual({
      consecutive5xxErrors: 3,
      consecutiveGatewayErrors: undefined,
      intervalMs: 90_000,
      baseEjectionTimeMs: 500,
      maxEjectionPercent: 40,
      maxConnections: 17,
    });
    const security = '/apis/security.istio.io/v1/namespaces/shop';
    const of = (kind: string, name: string, spec: object) => ({
      apiVersion: 'security.istio.io/v1',
      kind,
      metadata: { name },
      spec,
    });
    await make.create(`${security}/authorizationpolicies`, of('AuthorizationPolicy', 'deny', { action: 'DENY' }));
    await make.create(
      `${security}/peerauthentications`,
      of('PeerAuthentication', 'open', { mtls: { mode: 'PERMISSIVE' } }),
    );
    await make.create(
      `${security}/peerauthentications`,
      of('PeerAuthentication', 'strict', { mtls: { mode: 'STRICT' } }),
    );
    await eventually('both are seen', () => seen.discovery.cluster.policies.length === 2);
    expect(seen.discovery.cluster.policies.map((policy) => policy.name).sort()).toEqual(['deny', 'strict']);
    expect(seen.changes.at(-1)?.policies).toBe(true);
    await make.remove(`${rules}/rated`);
    await eventually(
      'defaults again',
      () => seen.discovery.cluster.services.get('shop/rated')?.trafficPolicy === undefined,
    );
    for (const name of [
      'destinationrules.networking.istio.io',
      'authorizationpolicies.security.istio.io',
      'peerauthentications.security.istio.io',
    ]) {
      await make.remove(`${crds}/${name}`);
    }
    await eventually('the kinds are gone, and what they held', () => seen.discovery.cluster.policies.length === 0);
  });

  test('more objects than a page holds', async () => {
    await make.namespace('many');
    const names = Array.from({ length: 1_100 }, (_, index) => `s${index}`);
    for (let at = 0; at < names.length; at += 100) {
      await Promise.all(
        names
          .slice(at, at + 100)
          .map((name) =>
            make.slice('many', name, 'big', [
              { addresses: [`10.2.${Math.floor(Number(name.slice(1)) / 250)}.${(Number(name.slice(1)) % 250) + 1}`] },
            ]),
          ),
      );
    }
    await make.service('many', 'big');
    const seen = await complete(discover());
    expect(endpoints(seen, 'many/big').length).toBe(1_100);
    await Promise.all(
      names.slice(0, 50).map((name) => make.remove(`/apis/discovery.k8s.io/v1/namespaces/many/endpointslices/${name}`)),
    );
    await eventually('50 fewer', () => endpoints(seen, 'many/big').length === 1_050);
  });
});
