/** Makes the cluster set with the commands that a user would give: `isthmus trust init`, `isthmus init`, `isthmus join`. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ClusterSpec } from '../lab.ts';
import type { ClusterAddresses } from './addresses.ts';
import type { EtcdFiles } from './federation-etcd.ts';
import { isthmusProgram, nodeEnvironment } from './programs.ts';
import type { Run } from './run.ts';
import { shell } from './shell.ts';

export const clusterset = 'lab';

interface Member {
  readonly spec: ClusterSpec;
  readonly addresses: ClusterAddresses;
}

export class Bootstrap {
  readonly #run: Run;
  readonly #members: readonly Member[];

  constructor(run: Run, members: readonly Member[]) {
    this.#run = run;
    this.#members = members;
  }

  get trustDir(): string {
    return join(this.#run.dir, 'trust');
  }
  get bundlesDir(): string {
    return join(this.#run.dir, 'bundles');
  }

  /** A root and an intermediate per cluster. Needs no network. */
  async trust(separateRoots: boolean): Promise<void> {
    const clusters = this.#members.flatMap(({ spec }) => ['--cluster', spec.name]);
    await this.#isthmus(undefined, [
      ...['trust', 'init', '--out', this.trustDir, ...clusters],
      ...(separateRoots ? ['--separate-roots'] : []),
    ]);
  }

  meshRoot(cluster: string): string {
    return readFileSync(join(this.trustDir, cluster, 'root-cert.pem'), 'utf8');
  }

  /** The cluster set: authority, members, their users in etcd. Run at an operator's desk, for it talks to etcd. */
  async init(
    desk: string,
    endpoints: readonly string[],
    files: EtcdFiles,
    namespaces: readonly string[],
  ): Promise<void> {
    const members = this.#members.flatMap(({ spec, addresses }) => [
      '--member',
      [
        spec.name,
        `region=${spec.region}`,
        `zone=${spec.zones[0] ?? spec.region}`,
        `network=${spec.name}`,
        `range=${addresses.podCidr}`,
        `namespaces=${namespaces.join('+')}`,
      ].join(','),
    ]);
    await this.#isthmus(desk, [
      ...['init', '--no-passphrase', '--clusterset', clusterset, '--out', this.bundlesDir],
      ...['--trust-dir', this.trustDir],
      ...['--etcd', ...endpoints, '--etcd-ca', files.ca, '--etcd-ca-key', files.caKey],
      ...['--etcd-cert', files.rootCert, '--etcd-key', files.rootKey, ...members],
    ]);
  }

  async join(cluster: string, desk: string, kubeconfig: string): Promise<void> {
    const bundle = join(this.bundlesDir, cluster);
    const cacerts = join(this.trustDir, cluster);
    await this.#isthmus(desk, ['join', '--bundle', bundle, '--cacerts', cacerts, '--kubeconfig', kubeconfig]);
  }

  async #isthmus(desk: string | undefined, args: readonly string[]): Promise<void> {
    const env = Object.entries(nodeEnvironment()).map(([key, value]) => `${key}=${value}`);
    const inside = desk === undefined ? [] : ['ip', 'netns', 'exec', desk];
    await shell([...inside, 'env', ...env, process.execPath, isthmusProgram, ...args]);
  }
}
