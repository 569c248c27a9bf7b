/** Record key and federation CA of a cluster are replaced while everything runs: no peer refuses anything, and a restart goes on with the new. */
import { fromBinary } from '@bufbuild/protobuf';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { StatusReport } from '../../../src/core/report.ts';
import { SecretSchema } from '../../../src/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts';
import { secretNames } from '../../../src/translate/envoy/resource_names.ts';
import { types } from '../../../src/xds/resource.ts';
import type { TestCluster } from '../controller/cluster.ts';
import { Harness } from '../controller/harness.ts';
import { mustRun } from '../controller/isthmus.ts';
import type { TestProxy } from '../controller/proxy.ts';
import { share, shareBoth } from '../controller/shop.ts';
import { eventually } from '../kube/objects.ts';

let harness: Harness;
let east: TestCluster;
let west: TestCluster;
let gateway: TestProxy;
beforeAll(async () => {
  const hasty = ['lease.ttlMs=2000', 'lease.renewMs=400', 'state.saveIntervalMs=100'];
  harness = await Harness.start({ replicas: 1, set: [...hasty, 'keys.overlapS=10'] });
  east = harness.cluster('east');
  west = harness.cluster('west');
  await shareBoth(harness, 'checkout', 1);
  gateway = await west.gateway(west.first);
  gateway.connect(west.first.ports.gateway);
  await gateway.synced();
  await west.first.until('east is there', (s) => eastOf(s)?.services === 1 && eastOf(s)?.control.state === 'fresh');
});
afterAll(async () => {
  gateway?.close();
  await harness?.stop();
});

const eastOf = (status: StatusReport) => status.peers.find(({ member }) => member === 'east');
const refusals = () =>
  [...west.first.lines, ...east.first.lines].filter(
    ({ msg }) => msg === 'record refused' || msg.startsWith('keys not'),
  );
const secretOf = async () => {
  const path = '/api/v1/namespaces/isthmus-system/secrets/isthmus-member';
  return (await east.api.call<{ data: Record<string, string> }>('GET', path)).data;
};
/** Federation CAs by which west's gateways take those of east. */
const accepted = (): number => {
  const { type } = fromBinary(SecretSchema, gateway.get(types.secret, secretNames.member('east')) ?? new Uint8Array());
  const { specifier } = type.case === 'validationContext' ? (type.value.trustedCa ?? {}) : {};
  const pem = specifier?.case === 'inlineString' ? specifier.value : '';
  return pem.match(/BEGIN CERTIFICATE/g)?.length ?? 0;
};

it('keys are replaced on request, announced before they are used, and the old ones end', async () => {
  const before = await secretOf();
  expect(accepted()).toBe(1);
  const seen: string[] = [];
  let over = false;
  const watching = (async () => {
    while (!over) {
      const status = await west.first.status();
      const peer = eastOf(status);
      if (peer?.control.state !== 'fresh' || peer.services !== 1) seen.push(JSON.stringify(peer));
      for (const { code } of [...status.problems, ...(peer?.problems ?? [])]) seen.push(code);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  await mustRun(['keys', 'rotate', '--kubeconfig', east.kubeconfig]);
  await east.first.until(
    'new keys are in use',
    ({ membership: m }) => m?.keys.number === 1 && m.keys.stage === 'overlap',
  );
  await eventually('both federation CAs are accepted', () => accepted() === 2);
  const after = await secretOf();
  for (const file of ['record-key.pem', 'federation-ca.pem', 'federation-ca-key.pem'])
    expect(after[file]).not.toBe(before[file]);
  expect(Object.keys(after).filter((file) => file.startsWith('next-') || file === 'rotate-keys')).toEqual([]);
  for (const file of ['etcd-client.pem', 'authority.pem', 'member.yaml']) expect(after[file]).toBe(before[file]);
  await east.first.until('the old ones have ended', ({ membership: m }) => m?.keys.stage === 'current');
  await eventually('the new federation CA alone is accepted', () => accepted() === 1);
  over = true;
  await watching;
  expect(seen).toEqual([]);
  expect(refusals()).toEqual([]);
});

it('a controller that starts from an old bundle signs by the keys in the Secret', async () => {
  await east.first.stop('SIGKILL');
  east.first.start();
  await east.first.ready();
  await share(east, 'late', 1);
  await west.first.until('what it writes is taken', (s) => eastOf(s)?.services === 2);
  expect((await east.first.status()).membership?.keys.number).toBe(1);
  expect(refusals()).toEqual([]);
});
