/**
 * Two clusters whose controllers write through store gateways, set up by the commands that an operator types. What they share arrives; a
 * gateway that dies costs nothing while there is another; with none, nobody publishes, and nothing else changes.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { storeKeys } from '../../../src/records/keys.ts';
import type { EtcdStore } from '../../../src/store/etcd.ts';
import { storeOf } from '../../attacks/stage.ts';
import { eventually } from '../kube/objects.ts';
import type { TestCluster } from './cluster.ts';
import { clusterset, Harness } from './harness.ts';
import { mustRun } from './isthmus.ts';
import { share, shareBoth } from './shop.ts';

const keys = storeKeys(clusterset);
let harness: Harness;
let east: TestCluster;
let west: TestCluster;
let root: EtcdStore;

beforeAll(async () => {
  harness = await Harness.start({ replicas: 1, storeGateways: 2 });
  east = harness.cluster('east');
  west = harness.cluster('west');
  root = await harness.rootStore();
});
afterAll(async () => {
  await root?.close();
  await harness?.stop();
});

const problems = async (cluster: TestCluster) => (await cluster.first.status()).problems;
const writesOf = (member: string) =>
  Promise.all(
    harness.storeGateways.map((one) =>
      one.metric('isthmus_store_gateway_writes_total', { member, result: 'written' }).catch(() => 0),
    ),
  ).then((counts) => counts.reduce((sum, count) => sum + count, 0));

describe('controllers behind store gateways', () => {
  it('share what they export, and nobody has a problem', async () => {
    await shareBoth(harness, 'checkout');
    await west.first.until('west knows what east has', (s) =>
      s.services.some(
        (x) => x.service === 'shop/checkout' && x.remotes.some((r) => r.member === 'east' && r.ready === 2),
      ),
    );
    await east.first.until('east knows that west exports it', (s) => s.peers.some((p) => p.services === 1));
    expect([await problems(east), await problems(west)]).toEqual([[], []]);
    expect(await writesOf('east')).toBeGreaterThan(0);
    const notes = (await root.list(keys.writeNotesPrefix)).entries.map(({ key }) => key);
    expect(notes).toEqual([keys.writeNote('east'), keys.writeNote('west')]);
  });

  it('are let write in etcd by nobody but the gateways', async () => {
    const direct = await storeOf(harness, 'east');
    const put = { compare: [], puts: [{ key: `${keys.memberPrefix('east')}x`, value: Buffer.from('x') }], deletes: [] };
    await expect(direct.commit(put)).rejects.toMatchObject({ code: 'store/denied' });
    await direct.close();
  });

  it('go on by the other gateway when one dies', async () => {
    const [first, second] = harness.storeGateways;
    await first!.stop('SIGKILL');
    await share(east, 'second', 1);
    await west.first.until('west hears of it', (s) => s.peers.some((p) => p.member === 'east' && p.services === 2));
    await second!.stop('SIGKILL');
  });

  it('publish nothing while there is none, keep what they know, and go on by themselves', async () => {
    const dark = await east.first.until('east says that it cannot write', (s) =>
      s.problems.some(({ code, message }) => code === 'store/unavailable' && /127\.0\.0\.1/.test(message)),
    );
    expect(dark.store.connected).toBe(true);
    await share(east, 'third', 1);
    expect((await west.first.status()).peers.find(({ member }) => member === 'east')?.services).toBe(2);
    expect(
      (await west.first.status()).services.find(({ service }) => service === 'shop/checkout')?.remotes,
    ).toHaveLength(1);
    await harness.storeGateways[1]!.start();
    await west.first.until('west hears of what came meanwhile', (s) =>
      s.peers.some((p) => p.member === 'east' && p.services === 3),
    );
    await eventually(
      'nothing is wrong any more',
      async () => [...(await problems(east)), ...(await problems(west))].length === 0,
    );
  });

  it('are told what is refused, and what to do', async () => {
    await harness.storeGateways[1]!.stop();
    // Fewer than a member with services and heartbeats needs.
    await harness.storeGateways[1]!.start(['quota.bytesPerSecond=16384', 'quota.keys=100', 'quota.bytes=4718592']);
    await Promise.all(Array.from({ length: 100 }, (_, i) => share(east, `many-${i}`, 0)));
    const told = await east.first.until('east says what is refused', (s) =>
      s.problems.some(({ code }) => code === 'store/quota'),
    );
    const problem = told.problems.find(({ code }) => code === 'store/quota');
    expect(problem?.message).toMatch(/would fill 1\d\d keys of the store, quota\.keys is 100/);
    expect(problem?.hint).toContain('export less');
    expect(
      await harness.storeGateways[1]!.metric('isthmus_store_gateway_refused_total', {
        member: 'east',
        code: 'store/quota',
      }),
    ).toBeGreaterThan(0);
    expect(
      harness.storeGateways[1]!.lines.some(
        (l) => l.msg === 'write refused' && l['code'] === 'store/quota' && l['member'] === 'east',
      ),
    ).toBe(true);
    // Nobody else is concerned.
    expect((await problems(west)).filter(({ code }) => code.startsWith('store/'))).toEqual([]);
  });

  it('get a new certificate for etcd before theirs ends, and go on with it when the old one has', async () => {
    const [gateway] = harness.storeGateways;
    await harness.storeGateways[1]!.stop();
    await gateway!.start([`issue.caKeyFile=${harness.etcdFiles.caKey}`]);
    await east.first.stop();
    // So short a life that it is due at once, and over soon.
    const lifeMs = 20_000;
    const short = await harness.etcd.ca.issue({ commonName: 'east', notBeforeMs: -60_000, notAfterMs: lifeMs });
    const endsMs = Date.now() + lifeMs;
    await east.replaceMemberFiles({ 'etcd-client.pem': short.cert, 'etcd-client-key.pem': short.key });
    east.first.start();
    const renewed = await east.first.until('east has a new one', (s) => {
      const left = s.membership?.keys.etcdCertificateEndsInSeconds ?? 0;
      return left > 3_600 && !s.membership!.keys.etcdCertificateEndsSoon;
    });
    expect(renewed.problems.filter(({ code }) => code === 'keys/late')).toEqual([]);
    expect(await gateway!.metric('isthmus_store_gateway_certificates_total', { member: 'east' })).toBe(1);
    expect((await root.list(keys.issuedPrefix('east'))).entries).toHaveLength(1);
    await eventually('the old one is over', () => Date.now() > endsMs + 1_000, lifeMs + 20_000);
    // New connections, to etcd and to the gateway, are made with the new one.
    await harness.etcd.members[0]!.stop();
    await harness.etcd.members[0]!.start();
    await gateway!.stop();
    await gateway!.start();
    await share(east, 'fresh', 1);
    await west.first.until('west hears of what came since', (seen) =>
      seen.services.some(({ service, remotes }) => service === 'shop/fresh' && remotes.length === 1),
    );
    await eventually('nothing is wrong any more', async () => (await problems(east)).length === 0);
  });

  it('can be let write to etcd again, at the desk', async () => {
    const bundles = `${harness.dir}/bundles`;
    await mustRun(['authority', 'roles', '--authority-dir', bundles, '--writes', 'etcd']);
    const direct = await storeOf(harness, 'west');
    const put = { compare: [], puts: [{ key: `${keys.memberPrefix('west')}x`, value: Buffer.from('x') }], deletes: [] };
    expect((await direct.commit(put)).ok).toBe(true);
    await mustRun(['authority', 'roles', '--authority-dir', bundles, '--writes', 'gateways']);
    await expect(direct.commit(put)).rejects.toMatchObject({ code: 'store/denied' });
    await direct.close();
  });
});
