/** EgressPolicies of a cluster reach its gateways, the same from both replicas, and outlive mistakes and restarts. */
import { fromBinary } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StatusReport } from '../../../src/core/report.ts';
import { TypedExtensionConfigSchema } from '../../../src/gen/envoy/config/core/v3/extension_pb.ts';
import { RBACSchema } from '../../../src/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts';
import { AddressSchema } from '../../../src/gen/istio/workload/workload_pb.ts';
import { types } from '../../../src/xds/resource.ts';
import { eventually } from '../kube/objects.ts';
import type { TestCluster } from './cluster.ts';
import { Harness } from './harness.ts';
import { isthmus } from './isthmus.ts';
import { TestProxy } from './proxy.ts';
import type { Replica } from './replica.ts';
import { namespace, shareBoth } from './shop.ts';

const policies = '/apis/isthmus.dev/v1alpha1/egresspolicies';
const names = ['egress/deny', 'egress/allow', 'egress/limits'];
const from = [{ source: { serviceAccounts: ['shop/batch-*'] } }];
const deny = { action: 'DENY', rules: [{ from, to: [{ services: ['shop/checkout'] }] }] };
const object = (spec: unknown) => ({
  apiVersion: 'isthmus.dev/v1alpha1',
  kind: 'EgressPolicy',
  metadata: { name: 'night' },
  spec,
});

describe('an EgressPolicy', () => {
  let harness: Harness;
  let west: TestCluster;
  const gateways: TestProxy[] = [];
  let ztunnel: TestProxy;

  const portOf = (replica: Replica): number => replica.ports.gateway;
  beforeAll(async () => {
    harness = await Harness.start();
    west = harness.cluster('west');
    await shareBoth(harness, 'checkout', 2);
    await west.pod(namespace, 'client', 'client');
    ztunnel = await west.ztunnel(namespace, 'client', 'client');
    ztunnel.connect(west.first.ports.token);
    for (const replica of west.replicas) {
      const { options } = await west.gateway(replica);
      const proxy = new TestProxy({ ...options, extensions: names });
      proxy.connect(portOf(replica));
      gateways.push(proxy);
    }
    await eventually('all has come', () =>
      gateways.every((one) => names.every((name) => one.get(types.extension, name))),
    );
  });
  afterAll(async () => {
    for (const one of [...gateways, ztunnel]) one?.close();
    await harness?.stop();
  });

  const denied = (proxy: TestProxy): string[] => {
    const bytes = proxy.get(types.extension, 'egress/deny');
    const { typedConfig } = fromBinary(TypedExtensionConfigSchema, bytes ?? new Uint8Array());
    return Object.keys(anyUnpack(typedConfig!, RBACSchema)?.rules?.policies ?? {});
  };
  const everywhere = (what: string, rules: readonly string[]) =>
    eventually(what, () => gateways.every((one) => denied(one).join() === rules.join()));
  const status = async (): Promise<StatusReport> => west.first.status();
  const ready = async () => {
    const { status: of } = await west.api.call<{ status?: { conditions?: { type: string; reason: string }[] } }>(
      'GET',
      `${policies}/night`,
    );
    return of?.conditions?.find(({ type }) => type === 'Ready')?.reason;
  };
  /** How many remote workloads of checkout ztunnels have, and through whom. */
  const through = (): string[] =>
    ztunnel.names(types.address).flatMap((name) => {
      if (!name.includes('SplitHorizonWorkload') || !name.includes('checkout')) return [];
      const { type } = fromBinary(AddressSchema, ztunnel.get(types.address, name)!);
      return type.case === 'workload' ? [String(type.value.networkGateway?.hboneMtlsPort)] : [];
    });

  it('is in force at every gateway, the same from both replicas, and explained', async () => {
    await west.api.call('POST', policies, object(deny));
    await everywhere('the rule', ['night/0']);
    for (const name of names) {
      const [one, other] = gateways.map((each) => Buffer.from(each.get(types.extension, name)!).toString('hex'));
      expect(one, name).toBe(other);
    }
    await eventually('its condition', async () => (await ready()) === 'InForce');
    expect((await status()).egress).toMatchObject({ policies: 1, refused: 0, deniesByDefault: false, denied: [] });
    const { stdout } = await isthmus(['explain', 'shop/checkout', '--controller', west.first.admin]);
    expect(stdout).toContain('denied by night/0: shop/batch-*');
  });

  it('that holds for a service in direct mode takes it through the gateway, and lets it go again with its end', async () => {
    const path = `/api/v1/namespaces/${namespace}/services/checkout`;
    await west.objects.patch(path, { metadata: { annotations: { 'isthmus.dev/mode': 'direct' } } });
    await eventually('through our own gateway', () => through().join() === '15018');
    await west.api.call('DELETE', `${policies}/night`);
    await everywhere('no rule', []);
    await eventually('straight', () => through().join() === '15008');
    await west.api.call('POST', policies, object(deny));
    await everywhere('the rule', ['night/0']);
    await eventually('through our own gateway', () => through().join() === '15018');
  });

  it('that turns bad stays as it was, over a restart too, and says why', async () => {
    await eventually('it stands in the status', async () => (await ready()) === 'InForce');
    const bad = { action: 'DENY', rules: [{ from: [{ source: { namespaces: ['NO'] } }], to: deny.rules[0]!.to }] };
    await west.objects.patch(`${policies}/night`, { spec: bad });
    await eventually('its condition', async () => (await ready()) === 'LastGoodInForce');
    await west.first.until('it is shown', (s) => s.problems.some(({ message }) => message.includes('"NO"')));
    expect(gateways.map(denied)).toEqual([['night/0'], ['night/0']]);
    await west.first.stop('SIGKILL');
    west.first.start();
    await west.first.ready();
    gateways[0]!.connect(portOf(west.first));
    await eventually('it is served', async () =>
      (await status()).proxies.some(({ role, state }) => role === 'gateway' && state === 'acked'),
    );
    expect(gateways.map(denied)).toEqual([['night/0'], ['night/0']]);
    await west.objects.patch(`${policies}/night`, { spec: { ...deny, rules: [...deny.rules, ...deny.rules] } });
    await everywhere('the new rules', ['night/0', 'night/1']);
    await west.api.call('DELETE', `${policies}/night`);
    await everywhere('no rule', []);
  });
});
