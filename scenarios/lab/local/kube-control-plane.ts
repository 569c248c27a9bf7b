/**
 * Kubernetes as far as the lab needs it: one etcd for all clusters (told apart by prefix) on the management network, and a
 * real kube-apiserver per cluster in a namespace of its own. A cut through the data path never parts an API server from
 * its etcd, as it would not in a region of its own.
 */
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { newAuthority, type Pair } from '../pki.ts';
import { toolPath } from '../tools.ts';
import { type ClusterAddresses, kubeEtcdAddress } from './addresses.ts';
import { ApiClient } from './api-client.ts';
import { writeFiles } from './files.ts';
import type { Network } from './network.ts';
import { LabProcess, untilReady } from './process.ts';
import type { Run } from './run.ts';

const portalProgram = fileURLToPath(new URL('portal.ts', import.meta.url));
const etcdUrl = `http://${kubeEtcdAddress}:2379`;
export const apiserverPort = 6443;
export const issuer = 'https://kubernetes.default.svc.cluster.local';

export interface ControlPlane {
  /** The process that runs now. */
  readonly process: LabProcess;
  /** Starts it again after it was killed, and waits until it answers. */
  restart(): Promise<void>;
  ready(): Promise<void>;
  readonly namespace: string;
  readonly client: ApiClient;
  readonly ca: string;
  /** Of the cluster's administrator, for programs inside the lab's network. */
  readonly kubeconfigFile: string;
}

/** Starts Kubernetes' etcd. It keeps nothing past a crash of the machine: it is not what is being tested. */
export async function startKubeEtcd(run: Run, network: Network): Promise<LabProcess> {
  const argv = [
    await toolPath('etcd'),
    ...['--name=kubernetes', `--data-dir=${join(run.dir, 'kube-etcd')}`, '--unsafe-no-fsync', '--log-level=warn'],
    ...[`--listen-client-urls=${etcdUrl}`, `--advertise-client-urls=${etcdUrl}`],
    ...['--listen-peer-urls=http://127.0.0.1:2380', '--initial-advertise-peer-urls=http://127.0.0.1:2380'],
    ...['--initial-cluster=kubernetes=http://127.0.0.1:2380', '--auto-compaction-mode=periodic'],
    ...['--auto-compaction-retention=10m', `--socket-reuse-address=true`],
  ];
  return new LabProcess({ namespace: network.management, name: 'kube-etcd', argv }, `${run.dir}/logs`);
}

const socketOf = (run: Run, cluster: string) => join(run.dir, `api-${cluster}.sock`);

/** Starts the process that lets the lab itself talk to the API servers, and to `more` (`<socket>=<host>:<port>`). */
export function startPortal(
  run: Run,
  network: Network,
  clusters: readonly { name: string; addresses: ClusterAddresses }[],
  more: readonly string[] = [],
): LabProcess {
  const targets = clusters.map((c) => `${socketOf(run, c.name)}=${c.addresses.apiserverManagement}:${apiserverPort}`);
  const argv = [process.execPath, portalProgram, ...targets, ...more];
  return new LabProcess({ namespace: network.management, name: 'portal', argv }, `${run.dir}/logs`);
}

const kubeconfig = (cluster: string, server: string, ca: string, client: Pair): string => {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  return JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: cluster, cluster: { server, 'certificate-authority-data': base64(ca) } }],
      users: [
        {
          name: 'admin',
          user: { 'client-certificate-data': base64(client.cert), 'client-key-data': base64(client.key) },
        },
      ],
      contexts: [{ name: cluster, context: { cluster, user: 'admin' } }],
      'current-context': cluster,
    },
    undefined,
    2,
  );
};

/** Admission plugins that only need work done that nobody here does, or whose API groups are off. */
const withoutPlugins = [
  ...['PersistentVolumeClaimResize', 'StorageObjectInUseProtection', 'DefaultStorageClass', 'RuntimeClass', 'Priority'],
  ...['TaintNodesByCondition', 'DefaultIngressClass', 'PodTopologyLabels', 'NodeDeclaredFeatureValidator'],
  ...['MutatingAdmissionPolicy', 'ValidatingAdmissionPolicy', 'MutatingAdmissionWebhook', 'ValidatingAdmissionWebhook'],
  ...['CertificateApproval', 'CertificateSigning', 'CertificateSubjectRestriction', 'ClusterTrustBundleAttest'],
];

const apiGroups = [
  'storage.k8s.io/v1',
  'flowcontrol.apiserver.k8s.io/v1',
  'autoscaling/v1',
  'autoscaling/v2',
  'batch/v1',
];

/** Makes the namespace, the certificates and the process of a cluster's API server. `ready` waits until it answers. */
export async function startApiServer(
  run: Run,
  network: Network,
  cluster: { readonly name: string; readonly addresses: ClusterAddresses },
): Promise<ControlPlane> {
  const { name, addresses } = cluster;
  const dir = join(run.dir, 'kube', name);
  const [attached, authority] = await Promise.all([
    network.attach(name, addresses.index, 0, 'apiserver', 10),
    newAuthority(`kubernetes ${name}`),
  ]);
  const serviceIp = addresses.serviceCidr.replace('.0.0/16', '.0.1');
  const [server, admin] = await Promise.all([
    authority.issue({
      commonName: 'kube-apiserver',
      dns: ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'localhost'],
      ips: [addresses.apiserver, addresses.apiserverManagement, serviceIp, '127.0.0.1'],
    }),
    authority.issue({ commonName: 'admin', organization: 'system:masters' }),
    network.attachManagement(attached.namespace, addresses.apiserverManagement),
  ]);
  const account = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const url = `https://${addresses.apiserver}:${apiserverPort}`;
  const files = await writeFiles(dir, {
    'ca.pem': authority.cert,
    'server.pem': server.cert,
    'server-key.pem': server.key,
    'sa.key': account.privateKey.export({ type: 'sec1', format: 'pem' }),
    'sa.pub': account.publicKey.export({ type: 'spki', format: 'pem' }),
    kubeconfig: kubeconfig(name, url, authority.cert, admin),
  });
  const argv = [
    await toolPath('kube-apiserver'),
    ...[`--etcd-servers=${etcdUrl}`, `--etcd-prefix=/kubernetes/${name}`, `--secure-port=${apiserverPort}`],
    ...['--bind-address=0.0.0.0', `--advertise-address=${addresses.apiserver}`, '--endpoint-reconciler-type=none'],
    ...[`--tls-cert-file=${files['server.pem']}`, `--tls-private-key-file=${files['server-key.pem']}`],
    ...[`--client-ca-file=${files['ca.pem']}`, '--authorization-mode=RBAC', '--profiling=false'],
    ...[`--service-account-issuer=${issuer}`, `--service-account-signing-key-file=${files['sa.key']}`],
    ...[`--service-account-key-file=${files['sa.pub']}`, `--service-cluster-ip-range=${addresses.serviceCidr}`],
    ...[`--disable-admission-plugins=${withoutPlugins.join(',')}`, '--enable-priority-and-fairness=false'],
    ...[`--runtime-config=${apiGroups.map((group) => `${group}=false`).join(',')}`, '--watch-cache-sizes='],
    ...['--v=1'],
  ];
  const spec = { namespace: attached.namespace, name: 'kube-apiserver', argv, env: { GOGC: '200' } };
  const launch = () => new LabProcess(spec, `${run.dir}/logs`);
  const client = new ApiClient({ socketPath: socketOf(run, name), ca: authority.cert, client: admin });
  let current = launch();
  const ready = () => untilReady(current, async () => (await client.get<string>('/readyz')) === 'ok', 60_000);
  return {
    get process() {
      return current;
    },
    restart: async () => {
      if (!(await current.endsWithin(1_000))) return;
      current = launch();
      await ready();
    },
    ready,
    namespace: attached.namespace,
    client,
    ca: authority.cert,
    kubeconfigFile: files.kubeconfig,
  };
}
