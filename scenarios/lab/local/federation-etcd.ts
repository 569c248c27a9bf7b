/**
 * The federation's etcd: a member in each region, on the regions' own network, so that a region that is lost takes its member
 * along. TLS with client certificates everywhere; users and roles are made by `isthmus init`. It syncs to disk as it would
 * in earnest. The lab talks to the members beside the data path, to see and to place the leader.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { newAuthority } from '../pki.ts';
import { toolPath } from '../tools.ts';
import type { ClusterAddresses } from './addresses.ts';
import { type EtcdMaintenance, etcdMaintenance } from './etcd-maintenance.ts';
import { writeFiles } from './files.ts';
import type { Network } from './network.ts';
import { LabProcess, untilReady } from './process.ts';
import type { Run } from './run.ts';

interface Member {
  readonly cluster: string;
  readonly namespace: string;
  readonly argv: readonly string[];
  readonly maintenance: EtcdMaintenance;
  process: LabProcess;
}

export const etcdPorts = { client: 2379, peer: 2380 } as const;
const managementAddress = (index: number) => `10.80.0.${20 + index}`;
const socketOf = (run: Run, cluster: string) => join(run.dir, `etcd-${cluster}.sock`);

/** What the portal must join: a socket for each member. */
export const etcdPortals = (run: Run, clusters: readonly { name: string; addresses: ClusterAddresses }[]): string[] =>
  clusters.map(
    ({ name, addresses }) => `${socketOf(run, name)}=${managementAddress(addresses.index)}:${etcdPorts.client}`,
  );

export interface EtcdFiles {
  readonly ca: string;
  readonly caKey: string;
  readonly rootCert: string;
  readonly rootKey: string;
}

export class FederationEtcd {
  readonly endpoints: readonly string[];
  /** Paths, for `isthmus init`. */
  readonly files: EtcdFiles;
  readonly #run: Run;
  readonly #members: Map<string, Member>;

  private constructor(run: Run, files: EtcdFiles, members: Map<string, Member>, endpoints: readonly string[]) {
    this.#run = run;
    this.files = files;
    this.#members = members;
    this.endpoints = endpoints;
  }

  static async start(
    run: Run,
    network: Network,
    clusters: readonly { readonly name: string; readonly addresses: ClusterAddresses }[],
  ): Promise<FederationEtcd> {
    const authority = await newAuthority('federation etcd');
    const root = await authority.issue({ commonName: 'root' });
    const dir = join(run.dir, 'etcd');
    const files = await writeFiles(dir, {
      'ca.pem': authority.cert,
      'ca-key.pem': authority.key,
      'root.pem': root.cert,
      'root-key.pem': root.key,
    });
    const peerUrl = (addresses: ClusterAddresses) => `https://${addresses.etcd}:${etcdPorts.peer}`;
    const clientUrl = (addresses: ClusterAddresses) => `https://${addresses.etcd}:${etcdPorts.client}`;
    const initial = clusters.map((c) => `${c.name}=${peerUrl(c.addresses)}`).join(',');
    const binary = await toolPath('etcd');
    const members = new Map<string, Member>();
    await Promise.all(
      clusters.map(async ({ name, addresses }) => {
        const { namespace } = await network.attach(name, addresses.index, 0, 'etcd', 20);
        const management = managementAddress(addresses.index);
        const [server] = await Promise.all([
          authority.issue({
            commonName: 'etcd',
            dns: ['etcd', 'localhost'],
            ips: [addresses.etcd, management, '127.0.0.1'],
          }),
          network.attachManagement(namespace, management),
          mkdir(join(dir, name), { recursive: true }),
        ]);
        const own = await writeFiles(join(dir, name), { 'server.pem': server.cert, 'server-key.pem': server.key });
        const pair = [own['server.pem'], own['server-key.pem']] as const;
        const argv = [
          binary,
          ...['--name', name, '--data-dir', join(dir, name, 'data'), '--log-level', 'warn'],
          ...[
            '--listen-client-urls',
            `https://0.0.0.0:${etcdPorts.client}`,
            '--advertise-client-urls',
            clientUrl(addresses),
          ],
          ...['--listen-peer-urls', peerUrl(addresses), '--initial-advertise-peer-urls', peerUrl(addresses)],
          ...['--initial-cluster', initial, '--initial-cluster-state', 'new', '--client-cert-auth'],
          ...['--cert-file', pair[0], '--key-file', pair[1], '--trusted-ca-file', files['ca.pem']],
          ...['--peer-cert-file', pair[0], '--peer-key-file', pair[1], '--peer-trusted-ca-file', files['ca.pem']],
          // Ten heartbeats to an election, and a heartbeat longer than the longest round trip the scenarios make (80 ms).
          ...['--peer-client-cert-auth', '--heartbeat-interval', '100', '--election-timeout', '1000'],
          ...['--auto-compaction-mode', 'periodic', '--auto-compaction-retention', '10m'],
        ];
        const process = new LabProcess({ namespace, name: 'etcd', argv }, `${run.dir}/logs`);
        const maintenance = etcdMaintenance(socketOf(run, name), authority.cert, root);
        members.set(name, { cluster: name, namespace, argv, process, maintenance });
      }),
    );
    const paths = {
      ca: files['ca.pem'],
      caKey: files['ca-key.pem'],
      rootCert: files['root.pem'],
      rootKey: files['root-key.pem'],
    };
    return new FederationEtcd(
      run,
      paths,
      members,
      clusters.map((c) => clientUrl(c.addresses)),
    );
  }

  /** Waits until every member knows one leader. */
  async ready(timeoutMs = 30_000): Promise<void> {
    const know = ({ maintenance }: Member) => maintenance.status().then(({ leader }) => leader !== 0n);
    await Promise.all([...this.#members.values()].map((m) => untilReady(m.process, () => know(m), timeoutMs)));
  }

  /** The cluster whose member leads, as the member of `seenFrom` has it; undefined while there is none. */
  async leader(seenFrom?: string): Promise<string | undefined> {
    const ids = new Map<bigint, string>();
    let leader = 0n;
    for (const member of this.#members.values()) {
      const status = await member.maintenance.status().catch(() => undefined);
      if (status === undefined) continue;
      ids.set(status.header?.memberId ?? 0n, member.cluster);
      if (status.leader !== 0n && (seenFrom === undefined || seenFrom === member.cluster)) leader = status.leader;
    }
    return ids.get(leader);
  }

  /** Makes the member of a cluster the leader. */
  async moveLeader(cluster: string): Promise<void> {
    const target = this.member(cluster);
    const deadline = performance.now() + 20_000;
    let last: unknown;
    while (performance.now() < deadline) {
      try {
        const { header, leader } = await target.maintenance.status();
        const id = header?.memberId ?? 0n;
        if (leader === id) return;
        const holder = await this.leader();
        // Only the leader itself hands over.
        if (holder !== undefined) await this.member(holder).maintenance.moveLeader(id);
      } catch (error) {
        last = error;
      }
      await sleep(100);
    }
    throw new Error(
      `the etcd leader did not move to ${cluster}: ${(last as Error | undefined)?.message ?? 'no reason given'}`,
    );
  }

  member(cluster: string): Member {
    const member = this.#members.get(cluster);
    if (member === undefined) throw new Error(`there is no etcd member in "${cluster}"`);
    return member;
  }

  /** Starts a member again, after it was killed, over the data it left. */
  async restart(cluster: string): Promise<void> {
    const member = this.member(cluster);
    if (!(await member.process.endsWithin(1_000))) return;
    member.process = new LabProcess(
      { namespace: member.namespace, name: 'etcd', argv: member.argv },
      `${this.#run.dir}/logs`,
    );
  }

  close(): void {
    for (const { maintenance } of this.#members.values()) maintenance.close();
  }
}
