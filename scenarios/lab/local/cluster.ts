/** One cluster of the local lab: what a scenario may ask of it, over the kubelet part and its pods. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { askAdmin } from '../../../src/gateway/envoy_admin.ts';
import { checkedPaths } from '../../../src/gateway/envoy_process.ts';
import type { ClusterHandle, ClusterSpec, ExecResult, Load, LoadSpec, PodInfo, WorkloadSpec } from '../lab.ts';
import type { ClusterAddresses } from './addresses.ts';
import { type ApiClient, type KubeObject, KubeStatusError } from './api-client.ts';
import { ask } from './dial.ts';
import type { Kubelet } from './kubelet.ts';
import { LocalLoad } from './load.ts';
import type { ServiceShape } from './objects.ts';
import type { ClusterNode, LivePod, Pods } from './pods.ts';
import { LabProcess } from './process.ts';
import {
  adminSocket,
  clientProgram,
  deskProgram,
  isthmusProgram,
  nodeEnvironment,
  type PodContext,
  type PodTemplate,
  systemNamespace,
  workloadTemplate,
} from './programs.ts';
import type { Run } from './run.ts';
import { capture } from './shell.ts';

export interface ClusterParts {
  readonly spec: ClusterSpec;
  readonly addresses: ClusterAddresses;
  readonly run: Run;
  readonly client: ApiClient;
  readonly kubelet: Kubelet;
  readonly pods: Pods;
  readonly nodes: readonly ClusterNode[];
  readonly kubeconfig: string;
  /** Namespace of the operator's desk. */
  readonly desk: string;
  readonly note: (what: string) => void;
}

/** Commands that ask a controller. */
export const asksControllers: ReadonlySet<string> = new Set(
  'status trace explain observe journal audit drain undrain freeze thaw failback confirm-withdrawal'.split(' '),
);
const readyTimeoutMs = 60_000;

export class LocalCluster implements ClusterHandle {
  readonly parts: ClusterParts;
  /** Known once the controllers' Service exists. */
  context: PodContext | undefined;
  readonly #templates = new Map<string, PodTemplate>();
  readonly #loads = new Set<LocalLoad>();
  #count = 0;

  constructor(parts: ClusterParts) {
    this.parts = parts;
  }

  get name(): string {
    return this.parts.spec.name;
  }
  get region(): string {
    return this.parts.spec.region;
  }
  get kubeconfig(): string {
    return this.parts.kubeconfig;
  }

  api<T = Record<string, unknown>>(method: string, path: string, body?: unknown, contentType?: string): Promise<T> {
    return this.parts.client.call<T>(method, path, body, contentType);
  }

  async deploy(spec: WorkloadSpec): Promise<void> {
    const { kubelet, note } = this.parts;
    if (this.context === undefined) throw new Error(`cluster ${this.name} is not up`);
    const { namespace, name, kind = 'server', serviceAccount = name } = spec;
    await kubelet.ensureNamespace(namespace, { 'istio.io/dataplane-mode': 'ambient' });
    await kubelet.ensureServiceAccount(namespace, serviceAccount);
    if (kind === 'server') await this.#ensureService(spec);
    this.#templates.set(
      `${namespace}/${name}`,
      workloadTemplate(this.context, { namespace, name, serviceAccount, kind }),
    );
    note(`${this.name}: deploy ${namespace}/${name}, ${spec.replicas} pods`);
    await this.#fit(namespace, name, spec.replicas);
  }

  /** Lets `scale` know how to make pods of this name. */
  define(namespace: string, name: string, template: PodTemplate): void {
    this.#templates.set(`${namespace}/${name}`, template);
  }

  /** `scale` without a word in the timeline. */
  async start(namespace: string, name: string, replicas: number): Promise<void> {
    await this.#fit(namespace, name, replicas);
  }

  async scale(namespace: string, name: string, replicas: number): Promise<void> {
    this.parts.note(`${this.name}: scale ${namespace}/${name} to ${replicas}`);
    await this.#fit(namespace, name, replicas);
  }

  async restartPod(namespace: string, name: string): Promise<void> {
    const { pods, note } = this.parts;
    note(`${this.name}: planned restart of ${namespace}/${name}`);
    const { template, node } = pods.find(namespace, name);
    await pods.stop(pods.find(namespace, name));
    await pods.untilReady(await pods.start(template, name, node), readyTimeoutMs);
  }

  pods(namespace?: string): PodInfo[] {
    return this.parts.pods.all
      .map(({ pod: { state } }) => state)
      .filter((state) => namespace === undefined || state.namespace === namespace)
      .map(({ namespace, name, address, node, ready }) => ({ namespace, name, address, node, ready }));
  }

  async load(spec: LoadSpec): Promise<Load> {
    const caller = this.#podsOf(spec.namespace, spec.client)[0];
    if (caller === undefined)
      throw new Error(`no client ${spec.namespace}/${spec.client} in ${this.name}: deploy it first`);
    const [namespace, name] = spec.service.split('/') as [string, string];
    const service = await this.parts.client.get<ServiceShape & { spec: { clusterIP: string } }>(
      `/api/v1/namespaces/${namespace}/services/${name}`,
    );
    const port = spec.port ?? service.spec.ports?.[0]?.port ?? 80;
    const id = `load-${++this.#count}`;
    const log = join(caller.pod.dir, `${id}.jsonl`);
    const flag = (key: string, value: string | number) => [`--${key}`, `${value}`];
    const argv = [
      process.execPath,
      clientProgram,
      ...flag('target', `${service.spec.clusterIP}:${port}`),
      ...flag('name', `${name}.${namespace}`),
      ...flag('rate', spec.perSecond),
      ...flag('keep', spec.keep ?? 0),
      ...flag('every', spec.everyMs ?? 100),
      ...flag('timeout', spec.timeoutMs ?? 15_000),
      ...flag('log', log),
    ];
    const { attached } = caller.pod;
    const client = new LabProcess(
      { namespace: attached.namespace, name: id, argv, talk: true, env: nodeEnvironment() },
      join(this.parts.run.dir, 'logs'),
    );
    const load = await LocalLoad.start(spec, client, log);
    this.#loads.add(load);
    return load;
  }

  exec(argv: readonly string[], timeoutMs = 60_000): Promise<ExecResult> {
    return this.#in(this.parts.desk, argv, timeoutMs);
  }

  async isthmus(args: readonly string[], timeoutMs = 60_000): Promise<ExecResult> {
    const [command = ''] = args;
    const asks = asksControllers.has(command) || (command === 'trust' && args[1] === 'rotate' && args[2] !== 'start');
    if (!asks || args.includes('--controller') || args.includes('--file'))
      return await this.exec([process.execPath, isthmusProgram, ...args], timeoutMs);
    // There is no kubelet to forward a port: the desk has the controllers' admin sockets instead.
    const up = this.#podsOf(systemNamespace, 'isthmus-controller').filter(({ pod }) => pod.state.ready);
    const sockets = up.map(({ pod }) => join(pod.dir, adminSocket));
    return await this.exec([process.execPath, deskProgram, ...sockets, '--', ...args], timeoutMs);
  }

  async http(namespace: string, pod: string, port: number, path: string): Promise<{ status: number; body: string }> {
    const live = this.parts.pods.find(namespace, pod);
    return await ask(live.node.portal, live.pod.state.address, port, path, { timeoutMs: 5_000 });
  }

  async envoy(pod: string, index: number, path: string): Promise<string> {
    const { dir } = this.parts.pods.find(systemNamespace, pod).pod;
    // A unix socket knows no network namespaces.
    const { status, body } = await askAdmin(checkedPaths(join(dir, 'run'), index).adminPath, 'GET', path, 5_000);
    if (status !== 200)
      throw new Error(`envoy ${index} of ${pod} in ${this.name} answers ${status} to ${path}: ${body}`);
    return body;
  }

  async log(namespace: string, pod: string, program: string): Promise<string> {
    const process = this.parts.pods.find(namespace, pod).processes.get(program);
    if (process === undefined) throw new Error(`pod ${namespace}/${pod} in ${this.name} has no process "${program}"`);
    return await readFile(process.logFile, 'utf8');
  }

  async #in(namespace: string, argv: readonly string[], timeoutMs: number): Promise<ExecResult> {
    const env = Object.entries({ ...nodeEnvironment(), KUBECONFIG: this.kubeconfig, TERM: 'dumb' });
    const assignments = env.map(([key, value]) => `${key}=${value}`);
    return await capture(['ip', 'netns', 'exec', namespace, 'env', ...assignments, ...argv], '', timeoutMs);
  }

  #podsOf(namespace: string, app: string): LivePod[] {
    return this.parts.pods.all
      .filter(({ pod: { state } }) => state.namespace === namespace && state.labels.app === app)
      .sort((a, b) => a.pod.state.name.localeCompare(b.pod.state.name, 'en', { numeric: true }));
  }

  /** Makes or ends pods until there are `replicas`, one after the other over the nodes. */
  async #fit(namespace: string, name: string, replicas: number): Promise<void> {
    const { pods, nodes } = this.parts;
    const template = this.#templates.get(`${namespace}/${name}`);
    if (template === undefined) throw new Error(`nothing called ${namespace}/${name} was deployed in ${this.name}`);
    const there = this.#podsOf(namespace, name);
    await Promise.all(there.slice(replicas).map((live) => pods.stop(live)));
    const names = new Set(there.slice(0, replicas).map(({ pod }) => pod.state.name));
    const made: Promise<LivePod>[] = [];
    for (let i = 0; names.size < replicas; i++) {
      const podName = `${name}-${i}`;
      if (names.has(podName)) continue;
      names.add(podName);
      made.push(pods.start(template, podName, nodes[i % nodes.length]!));
    }
    const started = await Promise.all(made);
    await Promise.all([...there.slice(0, replicas), ...started].map((live) => pods.untilReady(live, readyTimeoutMs)));
    // Endpoint slices say the same as the pods now, also where nothing had to change.
    this.parts.kubelet.sync();
    await this.parts.kubelet.settled();
  }

  async #ensureService({ namespace, name, port = 80, exported, annotations = {} }: WorkloadSpec): Promise<void> {
    const { client } = this.parts;
    const labels = exported === 'label' ? { 'istio.io/global': 'true' } : { 'istio.io/global': null };
    const base = `/api/v1/namespaces/${namespace}/services`;
    await client.ensure(base, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace, labels: exported === 'label' ? labels : {}, annotations },
      spec: { selector: { app: name }, ports: [{ name: 'http', port, targetPort: 8_080 }] },
    });
    await client.merge(`${base}/${name}`, { metadata: { labels, annotations } });
    const exports = `/apis/multicluster.x-k8s.io/v1beta1/namespaces/${namespace}/serviceexports`;
    if (exported === 'export') {
      const object = {
        apiVersion: 'multicluster.x-k8s.io/v1beta1',
        kind: 'ServiceExport',
        metadata: { name, namespace },
      };
      await this.#whenServed(() => client.ensure(exports, object));
    } else {
      await client.remove(`${exports}/${name}`);
    }
  }

  /** A custom resource is served a moment after its definition was created. */
  async #whenServed(work: () => Promise<void>): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof KubeStatusError) || error.status !== 404 || attempt >= 50) throw error;
        await sleep(100);
      }
    }
  }

  /** What kubelets do a while after a Secret or a ConfigMap changed: the files of the pods that have it. */
  async remount(): Promise<void> {
    await Promise.all(this.parts.pods.all.map((live) => this.parts.pods.remount(live)));
  }

  async readSecret(namespace: string, name: string): Promise<KubeObject> {
    return await this.parts.client.get(`/api/v1/namespaces/${namespace}/secrets/${name}`);
  }
}
