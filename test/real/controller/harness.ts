/**
 * Clusters of one federation, as real as they get without a network: an API server each, one etcd with TLS and users, and
 * controllers as child processes, all set up by the commands that a user would type.
 */
import { rmSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EtcdStore } from '../../../src/store/etcd.ts';
import { startEtcd, type TestEtcd } from '../etcd.ts';
import { TestCluster } from './cluster.ts';
import { mustRun } from './isthmus.ts';
import { StoreGatewayProcess } from './store_gateway.ts';

export const hasty = ['lease.ttlMs=2000', 'lease.renewMs=400', 'state.saveIntervalMs=100'];

export const clusterset = 'test';

export interface HarnessOptions {
  readonly clusters?: readonly string[];
  /** Namespaces that each member may export. */
  readonly namespaces?: readonly string[];
  readonly etcdMembers?: 1 | 3;
  /** Store gateways, through which alone members write; default: none. */
  readonly storeGateways?: 1 | 2;
  /** Controllers in each cluster; default 2. None: no gateway pods either. */
  readonly replicas?: 0 | 1 | 2;
  /** Settings of all controllers. Default: leases and saves so short that a test need not wait for them. */
  readonly set?: readonly string[];
}

export interface EtcdFiles {
  readonly ca: string;
  readonly caKey: string;
  readonly cert: string;
  readonly key: string;
}

export class Harness {
  readonly dir: string;
  readonly etcd: TestEtcd;
  readonly etcdFiles: EtcdFiles;
  readonly clusters: ReadonlyMap<string, TestCluster>;
  storeGateways: readonly StoreGatewayProcess[] = [];

  private constructor(dir: string, etcd: TestEtcd, files: EtcdFiles, clusters: readonly TestCluster[]) {
    this.dir = dir;
    this.etcd = etcd;
    this.etcdFiles = files;
    this.clusters = new Map(clusters.map((c) => [c.name, c]));
  }

  static async start(options: HarnessOptions = {}): Promise<Harness> {
    const names = options.clusters ?? ['east', 'west'];
    const dir = await mkdtemp(join(tmpdir(), 'isthmus-controller-'));
    const onExit = () => rmSync(dir, { recursive: true, force: true });
    process.once('exit', onExit);
    // Two runs on one machine must not share addresses.
    const blocks = 200 + (process.pid % 10) * 5;
    const starting = [
      startEtcd({ members: options.etcdMembers ?? 1 }),
      ...names.map((name, i) =>
        TestCluster.start({ name, block: `10.${blocks + i}`, dir: join(dir, name), set: options.set ?? hasty }),
      ),
    ] as const;
    const started = await Promise.allSettled(starting);
    if (started.some(({ status }) => status === 'rejected')) {
      await Promise.all(started.map((part) => (part.status === 'fulfilled' ? part.value.stop() : undefined)));
      await rm(dir, { recursive: true, force: true });
    }
    const [etcd, ...clusters] = await Promise.all(starting);
    const root = await etcd.ca.issue({ commonName: 'root' });
    const files = {
      ca: join(dir, 'etcd-ca.pem'),
      caKey: join(dir, 'etcd-ca-key.pem'),
      cert: join(dir, 'etcd-root.pem'),
      key: join(dir, 'etcd-root-key.pem'),
    };
    await Promise.all([
      writeFile(files.ca, etcd.ca.cert),
      writeFile(files.caKey, etcd.ca.key, { mode: 0o600 }),
      writeFile(files.cert, root.cert),
      writeFile(files.key, root.key, { mode: 0o600 }),
    ]);
    const harness = new Harness(dir, etcd, files, clusters);
    try {
      await harness.#setUp(options);
    } catch (error) {
      await harness.stop();
      throw error;
    }
    return harness;
  }

  cluster(name: string): TestCluster {
    const cluster = this.clusters.get(name);
    if (cluster === undefined) throw new Error(`there is no cluster ${name}`);
    return cluster;
  }

  /** What `isthmus init` takes besides members. */
  initArgs(out: string, set = clusterset): string[] {
    const { ca, caKey, cert, key } = this.etcdFiles;
    return [
      ...['init', '--no-passphrase', '--clusterset', set, '--out', out, '--etcd', ...this.etcd.endpoints],
      ...['--etcd-ca', ca, '--etcd-ca-key', caKey, '--etcd-cert', cert, '--etcd-key', key],
    ];
  }

  /** A store with root's rights: what an attacker with write access, or an operator, could do. */
  rootStore(): Promise<EtcdStore> {
    return this.etcd.store('root');
  }

  async #setUp(options: HarnessOptions): Promise<void> {
    const { namespaces = ['shop'], replicas = 2 } = options;
    const clusters = [...this.clusters.values()];
    const trust = join(this.dir, 'trust');
    const bundles = join(this.dir, 'bundles');
    await mustRun(['trust', 'init', '--out', trust, ...clusters.flatMap((c) => ['--cluster', c.name])]);
    const members = clusters.flatMap((c) => [
      '--member',
      `${c.name},region=${c.region},network=net-${c.name},range=${c.podRange},namespaces=${namespaces.join('+')}`,
    ]);
    this.storeGateways = await Promise.all(
      Array.from({ length: options.storeGateways ?? 0 }, () =>
        StoreGatewayProcess.make(join(bundles, 'store-gateway')),
      ),
    );
    const urls = this.storeGateways.map(({ url }) => url);
    await mustRun([...this.initArgs(bundles), ...(urls.length > 0 ? ['--store-gateway', ...urls] : []), ...members]);
    await Promise.all(this.storeGateways.map((gateway) => gateway.start()));
    await Promise.all(
      clusters.map(async (cluster) => {
        await cluster.join(join(bundles, cluster.name), join(trust, cluster.name));
        for (const name of namespaces) {
          await cluster.objects.namespace(name, { 'istio.io/dataplane-mode': 'ambient' });
        }
        if (replicas > 0) await cluster.gateways();
      }),
    );
    await Promise.all(clusters.map((cluster) => cluster.start(replicas)));
  }

  async stop(): Promise<void> {
    await Promise.all([...this.clusters.values(), ...this.storeGateways].map((one) => one.stop()));
    await this.etcd.stop();
    await rm(this.dir, { recursive: true, force: true });
  }
}
