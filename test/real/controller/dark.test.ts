/** What happens when something dies or goes dark: a writer, etcd, the API server, a controller with its state on disk. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { fetchCertificate } from '../../../src/ca/client.ts';
import { besideName } from '../../../src/controller/beside_store.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { isSealed } from '../../../src/records/sealed_state.ts';
import type { EtcdStore } from '../../../src/store/etcd.ts';
import { types } from '../../../src/xds/resource.ts';
import { eventually } from '../kube/objects.ts';
import { systemNamespace, type TestCluster } from './cluster.ts';
import { clusterset, Harness } from './harness.ts';
import { isthmus } from './isthmus.ts';
import type { TestProxy } from './proxy.ts';
import { fetchText, type Replica } from './replica.ts';
import { namespace, remoteWorkload, share, shareBoth } from './shop.ts';

const keys = storeKeys(clusterset);
let harness: Harness;
let east: TestCluster;
let west: TestCluster;
let root: EtcdStore;
const proxies: TestProxy[] = [];

beforeAll(async () => {
  harness = await Harness.start();
  east = harness.cluster('east');
  west = harness.cluster('west');
  root = await harness.rootStore();
  for (const name of ['checkout', 'cart', 'search']) await shareBoth(harness, name, 1);
  await share(west, 'mail', 1);
  await share(east, 'mail', 0);
  await west.pod(namespace, 'client', 'client');
});
afterAll(async () => {
  for (const proxy of proxies) proxy.close();
  await root?.close();
  await harness?.stop();
});

/** Starts what an earlier test left dead. */
const allRun = async (): Promise<void> => {
  for (const replica of west.replicas) if (!replica.running) replica.start();
  await Promise.all(west.replicas.map((r) => r.ready()));
};

/** Both kinds of proxy, connected to a replica and up to date. */
const connected = async (to: Replica): Promise<[TestProxy, TestProxy]> => {
  const pair: [TestProxy, TestProxy] = [
    await west.ztunnel(namespace, 'client', 'client'),
    await west.gateway(to, `${proxies.length}`),
  ];
  proxies.push(...pair);
  pair[0].connect(to.ports.token);
  pair[1].connect(to.ports.gateway);
  await eventually('they know the services', () => pair[0].names(types.address).includes(remoteWorkload('search')));
  await Promise.all(pair.map((p) => p.synced()));
  return pair;
};
const again = async (pair: readonly [TestProxy, TestProxy], to: Replica): Promise<void> => {
  pair[0].connect(to.ports.token);
  pair[1].connect(to.ports.gateway);
  await to.until('both are connected', (s) => s.proxies.filter((p) => p.state === 'acked').length >= 2);
  await Promise.all(pair.map((p) => p.quiet()));
};
/** Only what this cluster measured may have changed by itself: the way to the other one, on a busy machine. */
const measured = new Set(['Cluster probe/east', 'Cluster east']);
const nothingCame = async (pair: readonly TestProxy[], vantage: string | undefined): Promise<void> => {
  const trembled = (await records('west'))[keys.vantage('west')] !== vantage;
  for (const proxy of pair) {
    expect(proxy.resources.filter((name) => !(trembled && measured.has(name)))).toEqual([]);
    expect(proxy.received.flatMap((r) => r.removed)).toEqual([]);
  }
};
const vantageNow = async (): Promise<string | undefined> => (await records('west'))[keys.vantage('west')];
/** A member's records in etcd, without its manifest. */
const records = async (member: string): Promise<Record<string, string>> => {
  const { entries } = await root.list(keys.memberPrefix(member));
  return Object.fromEntries(
    entries
      // The state that is shipped says who ships it, and when.
      .filter(({ key }) => key !== keys.manifest(member) && !key.includes('/verdicts'))
      // Who has loaded which roots follows the proxies that come and go.
      .filter(({ key }) => key !== keys.loaded(member))
      .map(({ key, value }) => [key, Buffer.from(value).toString('base64')]),
  );
};
const epochOf = async (seenFrom: Replica, member: string): Promise<bigint> =>
  BigInt((await seenFrom.status()).peers.find((p) => p.member === member)?.control.epoch ?? 0);

describe('the writer is killed', () => {
  beforeEach(allRun);

  it('and the other one writes: no record is lost, nothing is sent again', async () => {
    const { writer, others } = await west.writer();
    const other = others[0]!;
    const stays = await connected(other);
    const moves = await connected(writer);
    await Promise.all([...stays, ...moves].map((p) => p.quiet()));
    const before = await records('west');
    expect(Object.keys(before)).toContain(keys.service('west', 'shop', 'mail'));
    const epoch = await epochOf(east.first, 'west');
    for (const proxy of stays) proxy.received = [];
    const held = moves.map((p) => p.snapshot());

    await writer.stop('SIGKILL');
    await again(moves, other);
    await other.until('it writes', (s) => s.writer);
    await east.first.until('east sees the new term', (s) => BigInt(s.peers[0]?.control.epoch ?? 0) > epoch);

    const vantage = before[keys.vantage('west')];
    await nothingCame([...stays, ...moves], vantage);
    const after = await records('west');
    if (after[keys.vantage('west')] === vantage) expect(moves.map((p) => p.snapshot())).toEqual(held);
    expect({ ...after, [keys.vantage('west')]: vantage }).toEqual(before);

    await share(west, 'late', 1);
    await eventually('the new writer publishes', async () =>
      Object.keys(await records('west')).includes(keys.service('west', 'shop', 'late')),
    );
    writer.start();
    await writer.ready();
    for (const proxy of [...stays, ...moves]) proxy.close();
  });

  it('and one that was only stopped is fenced when it wakes up', async () => {
    const { writer, others } = await west.writer();
    process.kill(writer.pid!, 'SIGSTOP');
    await others[0]!.until('the other writes', (s) => s.writer);
    process.kill(writer.pid!, 'SIGCONT');
    await writer.until('it does not', (s) => !s.writer);
    await share(west, 'later', 1);
    await eventually('the new writer publishes', async () =>
      Object.keys(await records('west')).includes(keys.service('west', 'shop', 'later')),
    );
  });
});

describe('a controller is restarted', () => {
  beforeEach(allRun);

  it('and its proxies get nothing again', async () => {
    const pair = await connected(west.first);
    const vantage = await vantageNow();
    expect(await west.first.stop()).toBe(0);
    west.first.start();
    await west.first.ready();
    await again(pair, west.first);
    await nothingCame(pair, vantage);
    for (const proxy of pair) proxy.close();
  });

  it('and what went meanwhile is gone afterwards', async () => {
    const [ztunnel, gateway] = await connected(west.first);
    gateway.close();
    const local = 'west//Pod/shop/mail-1';
    expect(ztunnel.names(types.address)).toContain(local);
    await west.first.stop('SIGKILL');
    // No kubelet will confirm its end.
    await west.objects.remove('/api/v1/namespaces/shop/pods/mail-1?gracePeriodSeconds=0');
    west.first.start();
    await west.first.ready();
    ztunnel.connect(west.first.ports.token);
    await eventually('the pod is gone', () => !ztunnel.names(types.address).includes(local));
    expect(ztunnel.names(types.address)).toContain(remoteWorkload('checkout'));
    ztunnel.close();
  });
});

describe('etcd is dark', () => {
  beforeAll(async () => {
    await allRun();
    await harness.etcd.members[0]!.stop('SIGKILL');
  });
  afterAll(async () => {
    await harness.etcd.members[0]!.start();
    for (const cluster of [east, west]) {
      for (const replica of cluster.replicas) await replica.until('etcd is back', (s) => s.store.connected, 60_000);
    }
  });

  it('and a controller that runs keeps serving, ready, and says so', async () => {
    const replica = west.second;
    const seen = await replica.until('it notices', (s) => !s.store.connected);
    expect(seen.store.reason).not.toBe('');
    expect(seen.services.map((s) => s.service)).toContain('shop/checkout');
    expect(await replica.isReady()).toBe(true);
    const pair = await connected(replica);
    for (const proxy of pair) proxy.close();
  });

  it('and peers are not taken to be silent', async () => {
    const seen = await west.second.until('the silence is unknown', (s) => s.peers[0]?.control.state === 'unknown');
    expect(seen.peers[0]?.control.ageSeconds).toBeGreaterThan(1);
  });

  it('and what the writer decides reaches the other replica through the API server, sealed', async () => {
    const { writer, others } = await west.writer();
    for (const kind of ['freeze', 'thaw']) {
      expect(await isthmus([kind, '--controller', writer.admin])).toMatchObject({ code: 0 });
      const frozen = kind === 'freeze';
      await others[0]!.until(`the other one knows of the ${kind}`, (s) => (s.failover?.frozen != null) === frozen);
    }
    const path = `/api/v1/namespaces/${systemNamespace}/configmaps/${besideName}`;
    const { binaryData } = await west.api.call<{ binaryData: Record<string, string> }>('GET', path);
    expect(isSealed(Buffer.from(binaryData.state!, 'base64'))).toBe(true);
  });

  it('and a controller that starts serves from its saved state, and says how old that is', async () => {
    const pair = await connected(west.first);
    await west.first.stop('SIGKILL');
    west.first.start();
    await west.first.ready();
    expect(west.first.lines.map((l) => l.msg)).toContain('serving from the last good state');
    await again(pair, west.first);
    expect(pair.flatMap((p) => p.resources)).toEqual([]);
    const { stdout, code } = await isthmus(['status', '--controller', west.first.admin]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/store +dark: .*serving what was last known/);
    expect(stdout).toMatch(/state +saved [\d.]+m?s ago, serving from it/);
    expect(stdout).toMatch(/^shop\/checkout .* east 1\/1 +east +-$/m);
    for (const proxy of pair) proxy.close();
  });

  it('and a saved state that is corrupt is set aside, with an error', async () => {
    const { stateDir } = west.second;
    await west.second.stop('SIGKILL');
    const file = (await readdir(stateDir)).find((name) => /^records/.test(name))!;
    const bytes = await readFile(join(stateDir, file));
    bytes[bytes.length >> 1]! ^= 0xff;
    await writeFile(join(stateDir, file), bytes);
    west.second.start();
    await eventually('it answers', async () => (await west.second.status().catch(() => undefined)) !== undefined);
    const seen = await west.second.until('it says so', (s) => s.problems.some((p) => p.code === 'state/corrupt'));
    expect(seen.saved.servingFromDisk).toBe(false);
    const kept = (await readdir(stateDir)).filter((name) => name !== file && name.startsWith(file));
    expect(kept.length).toBeGreaterThan(0);
    expect(await readFile(join(stateDir, kept[0]!))).toEqual(bytes);
    const { text } = await fetchText(west.second.ports.health, '/readyz?verbose');
    expect(text).toMatch(/records pending: no saved state, and the store is dark: /);
  });
});

describe('the API server is dark', () => {
  let tokenFile: string;
  let renewer: () => ReturnType<typeof fetchCertificate>;
  beforeAll(async () => {
    await allRun();
    tokenFile = await west.tokenFile(namespace, 'client', 'client');
    renewer = () => west.certificate(west.first, namespace, 'client', 'client', tokenFile);
    await renewer();
    await west.api.kill();
  });
  afterAll(async () => {
    await west.api.start();
    await west.first.until('it writes or follows again', (s) => s.kubernetes.staleSeconds < 20, 60_000);
  });

  it('and known workloads renew their certificates; an unknown token gets none', async () => {
    // Longer than a review is remembered for after a failure.
    const first = await renewer();
    expect(first.identity).toBe('spiffe://cluster.local/ns/shop/sa/client');
    const strange = join(harness.dir, 'strange.token');
    const parts = (await readFile(tokenFile, 'utf8')).split('.');
    await writeFile(strange, `${parts[0]}.${parts[1]}.${Buffer.alloc(256, 7).toString('base64url')}`);
    await expect(west.certificate(west.first, namespace, 'client', 'client', strange)).rejects.toThrow();
  });

  it('and what others change still arrives', async () => {
    const ztunnel = await zombie();
    await eventually('checkout is there', () => ztunnel.names(types.address).includes(remoteWorkload('checkout')));
    await east.objects.label('/api/v1/namespaces/shop/services/checkout', { 'istio.io/global': null });
    await eventually('checkout is gone', () => !ztunnel.names(types.address).includes(remoteWorkload('checkout')));
    expect(await west.first.isReady()).toBe(true);
  });

  it('and a writer goes on writing, for nobody else can begin', async () => {
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const seen = await east.first.status();
    expect(seen.peers[0]?.control.state).toBe('fresh');
  });

  it('and a controller that starts serves what it saved', async () => {
    await west.first.stop('SIGKILL');
    west.first.start();
    await west.first.ready();
    const ztunnel = await zombie();
    await eventually('cart is there', () => ztunnel.names(types.address).includes(remoteWorkload('cart')));
    expect((await renewer()).identity).toBe('spiffe://cluster.local/ns/shop/sa/client');
  });

  /** A proxy with the token that it has, for no new one can be had. */
  const zombie = async (): Promise<TestProxy> => {
    const { TestProxy } = await import('./proxy.ts');
    const proxy = new TestProxy({
      nodeId: 'ztunnel~10.0.0.1~client.shop~shop.svc.cluster.local',
      role: 'ztunnel',
      roots: await west.root,
      token: await readFile(tokenFile, 'utf8'),
    });
    proxies.push(proxy);
    proxy.connect(west.first.ports.token);
    await proxy.synced();
    return proxy;
  };
});
