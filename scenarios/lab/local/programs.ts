/** What runs in each kind of pod: commands, environment, files and probes. Data only; `pods.ts` runs it. */

import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ztunnelCommand } from '../ztunnel-rig.ts';
import type { RunningPod, TokenRequest } from './kubelet.ts';
import type { PodSpec } from './objects.ts';

export interface Probe {
  readonly port: number;
  readonly path: string;
}

export interface Program {
  readonly name: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface PodTemplate {
  readonly spec: Omit<PodSpec, 'name'>;
  readonly tokens: readonly TokenRequest[];
  /** In the mesh: its traffic is redirected into a ztunnel of its own. */
  readonly mesh: boolean;
  /** Secrets whose keys become files: directory in the pod's directory to `namespace/name`. */
  readonly secrets: Readonly<Record<string, string>>;
  /** Further files in the pod's directory. */
  readonly files: (pod: RunningPod) => Readonly<Record<string, string>>;
  readonly programs: (pod: RunningPod) => readonly Program[];
  readonly probes: readonly Probe[];
  /** Between leaving the endpoints and SIGTERM, ms. */
  readonly preStopMs: number;
  /** How long SIGTERM may take, ms. */
  readonly graceMs: number;
}

/** What all pods of a cluster share. */
export interface PodContext {
  readonly cluster: string;
  readonly region: string;
  readonly network: string;
  readonly clusterset: string;
  readonly serviceCidr: string;
  readonly apiserverUrl: string;
  readonly apiserverCa: string;
  /** Cluster address of the controllers' Service. */
  readonly controllerAddress: string;
  /** Roots of this cluster's mesh as they are now, PEM. */
  readonly meshRoot: () => string;
  readonly envoy: string;
  readonly controllerConfig: Readonly<Record<string, unknown>>;
}

export const systemNamespace = 'isthmus-system';
export const controllerPorts = { discovery: 15_012, gateways: 15_013, health: 15_021, admin: 15_000 } as const;
const controllerName = 'isthmus-controller.isthmus-system.svc';
const appPort = 8_080;

const at = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
export const isthmusProgram = at('../../../src/main.ts');
export const deskProgram = at('desk.ts');
const portalProgram = at('portal.ts');
/** In a controller's pod directory: leads to its admin port, which listens on the pod's own loopback. */
export const adminSocket = 'admin.sock';
const serverProgram = at('../apps/server.ts');
export const clientProgram = at('../apps/client.ts');
const skewHook = at('clock-skew.ts');

/** Shared by all node processes of all runs, so that each file is compiled once on this machine. */
export const nodeEnvironment = (): Record<string, string> => ({
  NODE_COMPILE_CACHE: join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'isthmus', 'node'),
});

/** Our own node programs see a clock that a fault can shift. */
const skewable = (pod: RunningPod): Record<string, string> => ({
  ...nodeEnvironment(),
  ISTHMUS_LAB_CLOCK_FILE: join(pod.dir, 'clock'),
});
/**
 * How controllers are to be started. V8 sizes its room for young objects by the machine; 100 members × 1,000 services then leave 430 MiB
 * resident, most of it garbage of the start. With 8 MiB it is 320, for a quarter more of start-up time.
 */
export const controllerNodeFlags = ['--max-semi-space-size=8'] as const;
const node = [process.execPath, '--import', skewHook] as const;

/** What a pod checks its controller with: a ConfigMap's file, which follows the cluster's roots. */
export const meshRootFile = 'mesh-root.pem';
const meshToken: TokenRequest = { file: 'istio-token', audience: 'istio-ca', expirationSeconds: 3_600 };

const ztunnel = (context: PodContext, pod: RunningPod): Program => {
  const { state } = pod;
  const { command, args, env } = ztunnelCommand({
    netns: pod.attached.namespace,
    podIp: state.address,
    serviceCidrs: [context.serviceCidr],
    namespace: state.namespace,
    name: state.name,
    serviceAccount: state.serviceAccount,
    network: context.network,
    clusterId: context.cluster,
    nodeName: state.node,
    xdsAddress: `https://${context.controllerAddress}:${controllerPorts.discovery}`,
    caAddress: `https://${context.controllerAddress}:${controllerPorts.discovery}`,
    rootCa: join(pod.dir, meshRootFile),
    token: join(pod.dir, meshToken.file),
    serverName: controllerName,
  });
  return { name: 'ztunnel', argv: [command, ...args], env: { ...nodeEnvironment(), ...env } };
};

export interface Workload {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly kind: 'server' | 'client';
}

export const workloadTemplate = (context: PodContext, workload: Workload): PodTemplate => {
  const server = workload.kind === 'server';
  return {
    spec: {
      namespace: workload.namespace,
      serviceAccount: workload.serviceAccount,
      labels: { app: workload.name },
      ports: server ? [{ name: 'http', port: appPort }] : [],
    },
    tokens: [meshToken],
    mesh: true,
    secrets: {},
    files: () => ({ [meshRootFile]: context.meshRoot() }),
    programs: (pod) => {
      const { address, name } = pod.state;
      const flags = ['--host', address, '--port', `${appPort}`, '--cluster', context.cluster, '--pod', name];
      const app = { name: 'app', argv: [process.execPath, serverProgram, ...flags], env: nodeEnvironment() };
      return [...(server ? [app] : []), ztunnel(context, pod)];
    },
    probes: [{ port: 15_021, path: '/healthz/ready' }, ...(server ? [{ port: appPort, path: '/-/ready' }] : [])],
    preStopMs: server ? 1_000 : 0,
    graceMs: 1_000,
  };
};

/** A kubeconfig that reads the pod's token from its file each time, as a client inside a cluster does. */
const inClusterConfig = (context: PodContext, tokenFile: string): string =>
  JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'cluster',
        cluster: {
          server: context.apiserverUrl,
          'certificate-authority-data': Buffer.from(context.apiserverCa).toString('base64'),
        },
      },
    ],
    users: [{ name: 'pod', user: { 'auth-provider': { name: 'tokenFile', config: { tokenFile } } } }],
    contexts: [{ name: 'pod', context: { cluster: 'cluster', user: 'pod' } }],
    'current-context': 'pod',
  });

export const controllerTemplate = (context: PodContext): PodTemplate => {
  const { mesh: meshConfig, ...controllerConfig } = context.controllerConfig as { mesh?: object };
  return {
    spec: {
      namespace: systemNamespace,
      serviceAccount: 'isthmus-controller',
      labels: { app: 'isthmus-controller' },
      ports: [
        { name: 'discovery', port: controllerPorts.discovery },
        { name: 'gateways', port: controllerPorts.gateways },
      ],
    },
    tokens: [{ file: 'api-token', expirationSeconds: 3_600 }],
    mesh: false,
    secrets: { member: `${systemNamespace}/isthmus-member`, cacerts: `${systemNamespace}/cacerts` },
    files: (pod) => ({
      kubeconfig: inClusterConfig(context, join(pod.dir, 'api-token')),
      // JSON is YAML.
      'config.yaml': JSON.stringify(
        {
          replica: pod.state.name,
          memberDir: join(pod.dir, 'member'),
          mesh: { cacertsDir: join(pod.dir, 'cacerts'), ...meshConfig },
          kube: { kubeconfig: join(pod.dir, 'kubeconfig') },
          state: { dir: join(pod.dir, 'state') },
          ...controllerConfig,
        },
        undefined,
        2,
      ),
    }),
    programs: (pod) => [
      {
        name: 'controller',
        argv: [
          process.execPath,
          ...controllerNodeFlags,
          ...node.slice(1),
          isthmusProgram,
          'controller',
          '--config',
          join(pod.dir, 'config.yaml'),
        ],
        env: { ...skewable(pod), POD_NAME: pod.state.name },
      },
      {
        name: 'admin',
        argv: [process.execPath, portalProgram, `${join(pod.dir, adminSocket)}=127.0.0.1:${controllerPorts.admin}`],
        env: nodeEnvironment(),
      },
    ],
    probes: [{ port: controllerPorts.health, path: '/readyz' }],
    preStopMs: 0,
    graceMs: 5_000,
  };
};

export const gatewayTemplate = (context: PodContext): PodTemplate => ({
  spec: {
    namespace: systemNamespace,
    serviceAccount: 'isthmus-gateway',
    labels: { app: 'isthmus-gateway' },
    ports: [
      { name: 'egress', port: 15_018 },
      { name: 'federation', port: 15_028 },
      { name: 'hbone', port: 15_008 },
    ],
  },
  tokens: [meshToken],
  mesh: false,
  secrets: {},
  files: (pod) => ({
    [meshRootFile]: context.meshRoot(),
    'config.yaml': JSON.stringify(
      {
        member: context.cluster,
        clusterset: context.clusterset,
        pod: pod.state.name,
        controllers: [`${context.controllerAddress}:${controllerPorts.gateways}`],
        certificates: [`${context.controllerAddress}:${controllerPorts.discovery}`],
        tokenFile: join(pod.dir, meshToken.file),
        rootFile: join(pod.dir, meshRootFile),
        envoy: context.envoy,
        runDir: join(pod.dir, 'run'),
      },
      undefined,
      2,
    ),
  }),
  programs: (pod) => [
    {
      name: 'gateway',
      argv: [...node, isthmusProgram, 'gateway', '--config', join(pod.dir, 'config.yaml')],
      env: { ...skewable(pod), POD_NAME: pod.state.name },
    },
  ],
  probes: [{ port: 15_021, path: '/readyz' }],
  // Its own drain announces the end.
  preStopMs: 0,
  graceMs: 15_000,
});
