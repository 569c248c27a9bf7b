/** What one cluster exports reaches the proxies of another, is withdrawn again, and looks the same from both replicas. */
import { fromBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { StatusReport } from '../../../src/core/report.ts';
import { ClusterLoadAssignmentSchema } from '../../../src/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import { AddressSchema } from '../../../src/gen/istio/workload/workload_pb.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { types } from '../../../src/xds/resource.ts';
import { eventually, serviceExportPath } from '../kube/objects.ts';
import type { TestCluster } from './cluster.ts';
import { clusterset, Harness } from './harness.ts';
import { isthmus } from './isthmus.ts';
import type { TestProxy } from './proxy.ts';
import { exported, hostnameOf, namespace, remoteWorkload, share, shareBoth } from './shop.ts';

let harness: Harness;
let east: TestCluster;
let west: TestCluster;
let ztunnel: TestProxy;
let gateway: TestProxy;

beforeAll(async () => {
  harness = await Harness.start({ namespaces: ['shop', 'private'] });
  east = harness.cluster('east');
  west = harness.cluster('west');
  await west.pod(namespace, 'client', 'client');
  ztunnel = await west.ztunnel(namespace, 'client', 'client');
  ztunnel.connect(west.first.ports.token);
  gateway = await west.gateway(west.first);
  gateway.connect(west.first.ports.gateway);
  await Promise.all([ztunnel.synced(), gateway.synced()]);
});
afterAll(async () => {
  ztunnel?.close();
  gateway?.close();
  await harness?.stop();
});

const workload = (name: string) => {
  const bytes = ztunnel.get(types.address, remoteWorkload(name));
  const { type } = fromBinary(AddressSchema, bytes ?? new Uint8Array());
  return type.case === 'workload' ? type.value : undefined;
};
const service = (name: string) => {
  const bytes = ztunnel.get(types.address, `shop/${hostnameOf(name)}`);
  const { type } = fromBinary(AddressSchema, bytes ?? new Uint8Array());
  return type.case === 'service' ? type.value : undefined;
};
const egressDomains = (): string[] =>
  fromBinary(RouteConfigurationSchema, gateway.get(types.routes, 'egress') ?? new Uint8Array()).virtualHosts.flatMap(
    (host) => host.domains,
  );
const endpointsOf = (cluster: string): string[] =>
  fromBinary(ClusterLoadAssignmentSchema, gateway.get(types.endpoints, cluster) ?? new Uint8Array())
    .endpoints.flatMap((locality) => locality.lbEndpoints)
    .map(({ hostIdentifier }) => {
      const address = hostIdentifier.case === 'endpoint' ? hostIdentifier.value.address?.address : undefined;
      return address?.case === 'socketAddress' ? address.value.address : '';
    });
const status = async (args: readonly string[]) => isthmus(['status', '--controller', west.first.admin, ...args]);

describe('an exported service', () => {
  it('reaches the other cluster’s ztunnels and gateways', async () => {
    await shareBoth(harness, 'checkout');
    await eventually('the remote workload of two pods', () => workload('checkout')?.capacity === 2);
    expect(workload('checkout')?.networkGateway).toMatchObject({ hboneMtlsPort: 15_018 });
    expect(service('checkout')?.subjectAltNames).toContain('spiffe://cluster.local/ns/shop/sa/checkout');
    await eventually('a route to it', () => egressDomains().some((d) => d.startsWith(hostnameOf('checkout'))));
    await eventually('gateways to send it to', () => endpointsOf('east').length === 2);
    expect(endpointsOf('east').sort()).toEqual(east.gatewayPods.map((pod) => pod.address).sort());
  });

  it('follows readiness', async () => {
    const pods = await east.api.call<{ items: { metadata: { name: string }; status: { podIP: string } }[] }>(
      'GET',
      `/api/v1/namespaces/${namespace}/pods?labelSelector=app%3Dcheckout`,
    );
    const list = pods.items.map(({ metadata, status: { podIP } }, i) => ({
      pod: metadata.name,
      address: podIP,
      ready: i === 0,
    }));
    await east.slice(namespace, 'checkout', list);
    await eventually('one ready pod', () => workload('checkout')?.capacity === 1);
  });

  it('goes when its label goes, and comes back with a ServiceExport', async () => {
    await exported(east, 'checkout', false);
    await eventually('the remote workload is gone', () => workload('checkout') === undefined);
    await eventually('its route is gone', () => !egressDomains().some((d) => d.startsWith(hostnameOf('checkout'))));
    await eventually(
      'the cluster of a class that nobody uses is gone',
      () => !gateway.names(types.cluster).includes('east'),
    );
    await east.objects.serviceExport(namespace, 'checkout');
    await eventually('the remote workload is back', () => workload('checkout') !== undefined);
    await eventually('its route is back', () => egressDomains().some((d) => d.startsWith(hostnameOf('checkout'))));
    await east.objects.remove(`${serviceExportPath(namespace)}/checkout`);
    await eventually('the remote workload is gone again', () => workload('checkout') === undefined);
    await exported(east, 'checkout', true);
    await eventually('the remote workload is back for good', () => workload('checkout') !== undefined);
  });

  it('is not taken where the name is not exported too', async () => {
    await share(east, 'lonely', 1);
    await west.objects.service(namespace, 'lonely');
    await eventually('it is a local service', () => service('lonely') !== undefined);
    expect(workload('lonely')).toBeUndefined();
    await eventually('no route leads there', () => !egressDomains().some((d) => d.startsWith('lonely.')));
    expect(workload('lonely')).toBeUndefined();
  });

  it('looks the same from both replicas, byte by byte', async () => {
    const others = [await west.ztunnel(namespace, 'client', 'client'), await west.gateway(west.first, '2')] as const;
    others[0].connect(west.second.ports.token);
    others[1].connect(west.second.ports.gateway);
    await Promise.all(others.map((p) => p.synced()));
    await Promise.all([ztunnel.quiet(), gateway.quiet()]);
    expect(Object.keys(ztunnel.snapshot()).length).toBeGreaterThan(0);
    expect(Object.keys(gateway.snapshot()).length).toBe(5);
    expect(others[0].snapshot()).toEqual(ztunnel.snapshot());
    expect(others[1].snapshot()).toEqual(gateway.snapshot());
    for (const other of others) other.close();
  });
});

describe('a proxy that rejects a resource', () => {
  it('is shown with its reason, keeps what it had, and is not asked again and again', async () => {
    gateway.refuse = (_type, name) => (name === 'local/shop/bad/80' ? 'no such thing as bad' : undefined);
    await share(west, 'bad', 1);
    const seen = await west.first.until('the rejection is shown', (s) => s.proxies.some((p) => p.rejected.length > 0));
    const shown = seen.proxies.find((p) => p.rejected.length > 0);
    expect(shown).toMatchObject({ node: 'isthmus-gateway-1~1', state: 'rejected' });
    expect(shown?.rejected[0]).toMatchObject({ resource: 'local/shop/bad/80' });
    expect(shown?.rejected[0]?.reason).toContain('no such thing as bad');
    const sent = () => gateway.resources.filter((r) => r === 'Cluster local/shop/bad/80').length;
    await gateway.quiet(1_000);
    expect(sent()).toBeLessThanOrEqual(2);
    expect((await status([])).stdout).toContain('rejected local/shop/bad/80');
    gateway.refuse = undefined;
    await west.objects.remove(`/api/v1/namespaces/${namespace}/services/bad`);
    await west.first.until('the rejection is over', (s) => s.proxies.every((p) => p.state === 'acked'));
  });
});

describe('a ServiceExport', () => {
  interface Export {
    status?: { conditions?: { type: string; status: string; reason: string; message: string }[] };
  }
  const conditions = async (cluster: TestCluster, name: string) => {
    const found = await cluster.api.call<Export>('GET', `${serviceExportPath(namespace)}/${name}`);
    return Object.fromEntries((found.status?.conditions ?? []).map((c) => [c.type, `${c.status} ${c.reason}`]));
  };
  const becomes = async (cluster: TestCluster, name: string, wanted: Record<string, string>) => {
    let last: Record<string, string> = {};
    await eventually(`conditions of ${name}`, async () => {
      last = await conditions(cluster, name);
      return Object.entries(wanted).every(([type, value]) => last[type] === value);
    }).catch((error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(last)}`);
    });
  };

  it('says that it works, once the others can read it', async () => {
    await west.objects.service(namespace, 'plain');
    await west.objects.serviceExport(namespace, 'plain');
    await becomes(west, 'plain', { Valid: 'True Valid', Ready: 'True Exported', Conflict: 'False NoConflicts' });
  });

  it.each([
    ['nothing', undefined, { Valid: 'False NoService' }],
    ['headless', { clusterIP: 'None' }, { Valid: 'True Valid', Ready: 'False HeadlessNotSupported' }],
    [
      'elsewhere',
      { type: 'ExternalName', externalName: 'example.com', ports: [] },
      { Valid: 'False InvalidServiceType', Ready: 'False InvalidServiceType' },
    ],
    ['portless', { clusterIP: 'None', ports: [] }, { Ready: 'False NoPorts' }],
    ['sticky', { sessionAffinity: 'ClientIP' }, { Ready: 'False SessionAffinityNotSupported' }],
  ])('says why %s cannot be exported', async (name, spec, wanted) => {
    if (spec !== undefined) await west.objects.service(namespace, name, spec);
    await west.objects.serviceExport(namespace, name);
    await becomes(west, name, wanted as Record<string, string>);
  });

  it('reaches the members that it names, says which there are not, and nobody else can read it', async () => {
    const { root, partPrefix, publicPrefix } = storeKeys(clusterset);
    await share(east, 'discreet', 1);
    await exported(east, 'discreet', false);
    await share(west, 'discreet', 0);
    const named = (members: string) => ({ 'isthmus.dev/export-to': members });
    await east.objects.serviceExport(namespace, 'discreet', named('west, mars'));
    await becomes(east, 'discreet', { Valid: 'True Valid', Ready: 'True UnknownReader' });
    await eventually('west has it', () => workload('discreet')?.capacity === 1);
    const store = await harness.rootStore();
    const { entries } = await store.list(root);
    const at = entries.filter(({ key, value }) =>
      `${key} ${Buffer.from(value).toString('latin1')}`.includes('discreet'),
    );
    const part = partPrefix('west', 'east');
    expect(at.map(({ key }) => key).filter((key) => !key.includes('/west/services/'))).toEqual([
      `${part}services/shop/discreet`,
    ]);
    expect(entries.some(({ key }) => key === `${publicPrefix}east/readers`)).toBe(true);
    await store.close();
    // A name that cannot be read exports it to nobody; nothing else is touched.
    const annotations = named('west mars');
    await east.objects.patch(`${serviceExportPath(namespace)}/discreet`, { metadata: { annotations } });
    await becomes(east, 'discreet', { Valid: 'False InvalidExportTo' });
    await eventually('it is gone there', async () => {
      const root = await harness.rootStore();
      const left = (await root.list(part)).entries;
      await root.close();
      return left.length === 0;
    });
  });

  it('says in both clusters that they disagree, and that the older one wins', async () => {
    await share(east, 'quarrel', 1);
    await east.objects.serviceExport(namespace, 'quarrel');
    await west.first.until('west knows it', (s) => s.services.some((x) => x.service === 'shop/quarrel'));
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await west.objects.service(namespace, 'quarrel', { ports: [{ name: 'http', port: 81 }] });
    await west.objects.serviceExport(namespace, 'quarrel');
    await becomes(west, 'quarrel', { Conflict: 'True PortConflict' });
    await becomes(east, 'quarrel', { Conflict: 'True PortConflict' });
    const found = await west.api.call<Export>('GET', `${serviceExportPath(namespace)}/quarrel`);
    expect(found.status?.conditions?.find((c) => c.type === 'Conflict')?.message).toMatch(/east.*http 80/);
  });
});

describe('isthmus status', () => {
  it('prints a table', async () => {
    const { code, stdout } = await status([]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^west in cluster set test, replica isthmus-controller-0/);
    expect(stdout).toMatch(/^east +region-east +fresh \S+ +fresh \S+ +reachable [\d.]+ms +2 /m);
    expect(stdout).toMatch(/^shop\/checkout +gateway +yes +0\/0 +east 1\/2 +east +-$/m);
    expect(stdout).toMatch(/^ztunnel~10\.0\.0\.1~client\.shop~\S+ +ztunnel +acked/m);
    expect(stdout).not.toContain('TYPES (SENT/ACKED)');
  });

  it('prints more, and for machines', async () => {
    const [wide, json, yaml] = await Promise.all([
      status(['-o', 'wide']),
      status(['-o', 'json']),
      status(['-o', 'yaml']),
    ]);
    expect([wide.code, json.code, yaml.code]).toEqual([0, 0, 0]);
    expect(wide.stdout).toContain('TYPES (SENT/ACKED)');
    const report = JSON.parse(json.stdout) as StatusReport;
    expect(report).toMatchObject({ apiVersion: 'isthmus.dev/v1', kind: 'Status', member: 'west' });
    expect((parse(yaml.stdout) as StatusReport).peers[0]?.member).toBe('east');
  });

  it('shows both replicas, of which one writes', async () => {
    const args = ['--controller', west.first.admin, '--controller', west.second.admin, '-o', 'json'];
    const { stdout } = await isthmus(['status', ...args]);
    const list = JSON.parse(stdout) as { kind: string; items: StatusReport[] };
    expect(list.kind).toBe('StatusList');
    expect(list.items.map((r) => r.replica)).toEqual(['isthmus-controller-0', 'isthmus-controller-1']);
    expect(list.items.filter((r) => r.writer)).toHaveLength(1);
  });

  it('fails with a code that says what is wrong', async () => {
    const bad = await status(['-o', 'xml']);
    expect(bad.code).toBe(64);
    const nobody = await isthmus(['status', '--controller', 'http://127.0.0.1:1']);
    expect(nobody.code).toBe(75);
    expect(nobody.stderr).toContain('controller/unreachable');
    const trace = await isthmus(['trace', 'shop/client', 'shop/nothing', '--controller', west.first.admin]);
    expect(trace.code).toBe(64);
    expect(trace.stderr).toContain('shop/nothing');
  });
});
