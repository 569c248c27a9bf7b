/** East has an etcd of its own beside the shared one: set up by the command, named in the configuration, read by west. */
import { appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { storeKeys } from '../../../src/records/keys.ts';
import { startEtcd, type TestEtcd } from '../etcd.ts';
import { eventually } from '../kube/objects.ts';
import type { TestCluster } from './cluster.ts';
import { clusterset, Harness } from './harness.ts';
import { mustRun } from './isthmus.ts';
import { fetchText } from './replica.ts';
import { share, shareBoth } from './shop.ts';

const keys = storeKeys(clusterset);
let harness: Harness;
let easts: TestEtcd;
let east: TestCluster;
let west: TestCluster;

/** The certificates of a client of east's etcd, as files. */
const filesOf = async (name: string, dir: string) => {
  const client = await easts.client(name);
  const files = { ca: join(dir, 'easts-ca.pem'), cert: join(dir, 'easts.pem'), key: join(dir, 'easts-key.pem') };
  for (const part of ['ca', 'cert', 'key'] as const) await writeFile(files[part], client[part], { mode: 0o600 });
  return files;
};

beforeAll(async () => {
  [harness, easts] = await Promise.all([Harness.start({ replicas: 0 }), startEtcd()]);
  east = harness.cluster('east');
  west = harness.cluster('west');
  const root = await filesOf('root', harness.dir);
  await mustRun([
    ...['store', 'init', '--clusterset', clusterset, '--member', 'east', '--reader', 'west'],
    ...['--etcd', ...easts.endpoints, '--etcd-ca', root.ca, '--etcd-cert', root.cert, '--etcd-key', root.key],
  ]);
  for (const cluster of [east, west]) {
    const { ca, cert, key } = await filesOf(cluster.name, cluster.dir);
    const entry = { endpoints: easts.endpoints, caFile: ca, certFile: cert, keyFile: key };
    await appendFile(join(cluster.memberDir, 'member.yaml'), `  members: ${JSON.stringify({ east: entry })}\n`);
  }
  await Promise.all([east, west].map((cluster) => cluster.gateways().then(() => cluster.start(1))));
});
afterAll(async () => {
  await harness?.stop();
  await easts?.stop();
});

const problems = async (cluster: TestCluster) => (await cluster.first.status()).problems.map(({ message }) => message);

describe('a member with an etcd of its own', () => {
  it('writes there alone and is read there; the other one stays in the shared etcd', async () => {
    await shareBoth(harness, 'checkout');
    await west.first.until('west knows what east has', (s) =>
      s.services.some(
        (x) => x.service === 'shop/checkout' && x.remotes.some((r) => r.member === 'east' && r.ready === 2),
      ),
    );
    await east.first.until('east knows that west exports it', (s) => s.peers.some((p) => p.services === 1));
    const [shared, own] = await Promise.all([harness.rootStore(), easts.store('root')]);
    const members = async (store: typeof shared) =>
      new Set((await store.list(keys.publicPrefix)).entries.map(({ key }) => key.split('/')[5]));
    expect([await members(shared), await members(own)]).toEqual([new Set(['west']), new Set(['east'])]);
    await Promise.all([shared.close(), own.close()]);
    expect([await problems(east), await problems(west)]).toEqual([[], []]);
  });

  it('stays as it was for the others while its etcd is dark, is not silent for that, and is followed again', async () => {
    await easts.members[0]!.stop('SIGKILL');
    const dark = await west.first.until('west says that it cannot reach it', (s) =>
      s.problems.some(({ message }) => message.includes('the store of east cannot be reached')),
    );
    expect(dark.store.connected).toBe(true);
    expect(dark.peers.find(({ member }) => member === 'east')?.services).toBe(1);
    const { text } = await fetchText(west.first.ports.metrics, '/metrics');
    expect(text).toMatch(/^isthmus_peer_store_connected\{[^}]*peer="east"[^}]*\} 0$/m);
    await share(east, 'late', 1);
    await easts.members[0]!.start();
    await west.first.until('west follows again', (s) =>
      s.peers.some(({ member, services }) => member === 'east' && services === 2),
    );
    await eventually('nothing is wrong any more', async () => (await problems(west)).length === 0);
  });
});
