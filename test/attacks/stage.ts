/**
 * West, a real cluster that is attacked; east, whose bundle, keys and CA the attacker has, with its controller gone; and north, a
 * member that does nothing wrong and must not notice. An attacker of etcd itself has root's rights there.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { StatusReport } from '../../src/core/report.ts';
import type { GatewaysRecord, ServiceRecord } from '../../src/gen/isthmus/v1/records_pb.ts';
import { realClock } from '../../src/ops/clock.ts';
import { codec } from '../../src/records/codec.ts';
import { connectStore, type EtcdStore } from '../../src/store/etcd.ts';
import { types } from '../../src/xds/resource.ts';
import type { TestCluster } from '../real/controller/cluster.ts';
import { Harness, hasty } from '../real/controller/harness.ts';
import { mustRun } from '../real/controller/isthmus.ts';
import type { TestProxy } from '../real/controller/proxy.ts';
import { fetchText, type Replica } from '../real/controller/replica.ts';
import { namespace, remoteWorkload, shareBoth } from '../real/controller/shop.ts';
import { eventually } from '../real/kube/objects.ts';
import { Forger, recordKeyOf, serviceFrom, value } from './forger.ts';

export const checkoutKey = 'services/shop/checkout';

export class Stage {
  readonly harness: Harness;
  readonly west: TestCluster;
  readonly ztunnel: TestProxy;
  /** Whoever may write everything in etcd. */
  readonly root: EtcdStore;
  /** With the credentials of east's own bundle, at etcd too. */
  readonly east: Forger;
  readonly eastStore: EtcdStore;
  /** East's key, and root's rights in etcd. */
  readonly etcd: Forger;
  readonly north: Forger;
  /** East's records as east wrote them. */
  readonly good: ReadonlyMap<string, Uint8Array>;
  readonly #stores: readonly EtcdStore[];
  #northCapacity = 1;

  private constructor(parts: {
    harness: Harness;
    ztunnel: TestProxy;
    stores: Record<'root' | 'east' | 'north', EtcdStore>;
    forgers: Record<'east' | 'etcd' | 'north', Forger>;
  }) {
    this.harness = parts.harness;
    this.west = parts.harness.cluster('west');
    this.ztunnel = parts.ztunnel;
    this.root = parts.stores.root;
    this.eastStore = parts.stores.east;
    this.east = parts.forgers.east;
    this.etcd = parts.forgers.etcd;
    this.north = parts.forgers.north;
    this.good = new Map(this.east.records);
    this.#stores = Object.values(parts.stores);
  }

  /** @param set - settings of the controllers besides the tests' own */
  static async start(set: readonly string[] = []): Promise<Stage> {
    const harness = await Harness.start({ replicas: 1, set: [...hasty, ...set] });
    try {
      return await Stage.#make(harness);
    } catch (error) {
      await harness.stop();
      throw error;
    }
  }

  static async #make(harness: Harness): Promise<Stage> {
    const { dir } = harness;
    const west = harness.cluster('west');
    const north = 'north,region=region-north,network=n-north,range=10.250.0.0/16,namespaces=shop+north';
    await mustRun([...harness.initArgs(join(dir, 'bundles')), '--member', north]);
    await shareBoth(harness, 'checkout', 2);
    await west.pod(namespace, 'client', 'client');
    const ztunnel = await west.ztunnel(namespace, 'client', 'client');
    ztunnel.connect(west.first.ports.token);
    await eventually('checkout is there', () => ztunnel.names(types.address).includes(remoteWorkload('checkout')));
    // Its own controller would put everything right at once.
    await harness.cluster('east').first.stop();
    const stores = {
      root: await harness.rootStore(),
      east: await storeOf(harness, 'east'),
      north: await storeOf(harness, 'north'),
    };
    const [eastKey, northKey] = [await recordKeyOf(dir, 'east'), await recordKeyOf(dir, 'north')];
    const forgers = {
      east: new Forger('east', stores.east, eastKey),
      etcd: new Forger('east', stores.root, eastKey),
      north: new Forger('north', stores.north, northKey),
    };
    await forgers.east.read();
    const stage = new Stage({ harness, ztunnel, stores, forgers });
    await stage.north.tick({
      gateways: value(codec.gateways.encode(gatewaysAt('10.250.255.1'))),
      'services/north/alone': stage.northRecord(1),
    });
    await west.first.until('north is there', (s) => northOf(s)?.services === 1);
    return stage;
  }

  get replica(): Replica {
    return this.west.first;
  }

  /** East's record of checkout, changed. */
  service(change: Partial<ServiceRecord>): Uint8Array {
    return serviceFrom(this.good.get(checkoutKey)!, change);
  }

  northRecord(ready: number): Uint8Array {
    const capacity = [{ $typeName: 'isthmus.v1.Capacity' as const, ready, total: ready }];
    return this.service({ namespace: 'north', name: 'alone', accounts: [], capacity });
  }

  /** What west tells its ztunnels of checkout. */
  workload(): string {
    return Buffer.from(this.ztunnel.get(types.address, remoteWorkload('checkout')) ?? []).toString('base64');
  }

  /** North changes something, and west follows: whatever is attacked, it is not held up. */
  async northGoesOn(): Promise<void> {
    const ready = ++this.#northCapacity;
    await this.north.tick({ 'services/north/alone': this.northRecord(ready) });
    await this.replica.until('north is followed', (s) => northOf(s)?.capacity.ready === ready);
    expect(northOf(await this.replica.status())?.problems).toEqual([]);
  }

  /** Runs the attack, which must be shown in status, counted and logged anew. `codes`: one, or several with `|` between. */
  async noticed(codes: string, about: RegExp, attack: () => Promise<void>, peer = 'east'): Promise<void> {
    const among = codes.split('|');
    const count = async (): Promise<number> => {
      const counts = await Promise.all(among.map((code) => this.#refused(peer, code)));
      return counts.reduce((sum, n) => sum + n, 0);
    };
    const logged = () =>
      this.replica.lines.filter((l) => l.msg === 'record refused' && among.includes(String(l['code']))).length;
    const before = { counted: await count(), logged: logged() };
    await attack();
    await this.replica.until(`${codes} about ${about} is shown`, (s) => {
      const problems = [...s.problems, ...s.peers.flatMap((p) => p.problems)];
      return problems.some((p) => among.includes(p.code) && about.test(p.message));
    });
    await eventually(`${codes} is counted`, async () => (await count()) > before.counted, 5_000);
    await eventually(`${codes} is logged`, () => logged() > before.logged, 5_000);
  }

  async #refused(peer: string, code: string): Promise<number> {
    return this.metric(`isthmus_record_refused_total{peer="${peer}",code="${code}"}`);
  }

  async metric(name: string): Promise<number> {
    const { text } = await fetchText(this.replica.ports.metrics, '/metrics');
    const line = text.split('\n').find((l) => l.startsWith(`${name} `));
    return line === undefined ? 0 : Number(line.slice(name.length));
  }

  /** Puts back what was good, in east's name. */
  async putBack(): Promise<void> {
    // Part by part: an attack may have left more than one list holds, and more than one transaction takes.
    for (;;) {
      const { entries } = await this.root.list(this.east.prefix);
      const extra = entries.map(({ key }) => key).filter((key) => !key.endsWith('/manifest'));
      if (extra.length === 0) break;
      for (let at = 0; at < extra.length; at += 100) {
        await this.root.commit({ compare: [], puts: [], deletes: extra.slice(at, at + 100) });
      }
    }
    this.east.records.clear();
    this.etcd.records.clear();
    await this.east.tick(Object.fromEntries(this.good));
    for (const [key, bytes] of this.good) this.etcd.records.set(key, bytes);
  }

  /** The same, and waits until west has forgotten. */
  async restore(): Promise<void> {
    await this.putBack();
    await this.replica.until(
      'nothing is wrong any more',
      (s) => s.peers.every((p) => p.problems.length === 0) && s.problems.length === 0,
    );
    // What is refused is looked for so often: the next attack may be of the same kind.
    await new Promise((resolve) => setTimeout(resolve, 200));
  }

  /** West's controller dies and comes back. */
  async restart(): Promise<void> {
    await this.replica.stop('SIGKILL');
    this.replica.start();
    await this.replica.ready();
    this.ztunnel.connect(this.replica.ports.token);
    await eventually('checkout is served', () =>
      this.ztunnel.names(types.address).includes(remoteWorkload('checkout')),
    );
  }

  async stop(): Promise<void> {
    this.ztunnel.close();
    await Promise.all(this.#stores.map((store) => store.close()));
    await this.harness.stop();
  }
}

export const eastOf = (status: StatusReport) => status.peers.find((p) => p.member === 'east');
export const northOf = (status: StatusReport) => status.peers.find((p) => p.member === 'north');

/** A store with the etcd certificate of the member's own bundle. */
export const storeOf = async (harness: Harness, member: string): Promise<EtcdStore> => {
  const read = (file: string) => readFile(join(harness.dir, 'bundles', member, file));
  const [ca, cert, key] = await Promise.all([
    read('etcd-ca.pem'),
    read('etcd-client.pem'),
    read('etcd-client-key.pem'),
  ]);
  return connectStore({ endpoints: harness.etcd.endpoints, ca, cert, key, clock: realClock, log: () => {} });
};

export const gatewaysAt = (address: string): GatewaysRecord => ({
  $typeName: 'isthmus.v1.GatewaysRecord',
  account: 'isthmus-system/isthmus-gateway',
  gateways: [
    {
      $typeName: 'isthmus.v1.Gateway',
      id: 'gw-1',
      address,
      federationPort: 15_028,
      hbonePort: 15_008,
      draining: false,
    },
  ],
  critical: [],
});
