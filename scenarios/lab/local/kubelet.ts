/**
 * What the kubelets, the scheduler and the endpoint slice controller of one cluster would do, through the API: nodes, pods with a
 * status that follows their probes, endpoint slices that follow the pods, tokens bound to a pod and renewed.
 *
 * It knows pods, not what runs in them: whoever starts a pod brings its probe. Nothing is restarted by itself: in the lab
 * a dead process is a fault that somebody wants to look at, and lifting the fault starts it again.
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ApiClient, KubeObject } from './api-client.ts';
import type { Attached } from './network.ts';
import {
  nodeObject,
  type PodSpec,
  type PodState,
  podObject,
  podStatus,
  podsOf,
  type ServiceShape,
  sliceObject,
} from './objects.ts';

export interface NodeInfo {
  readonly name: string;
  readonly address: string;
  readonly region: string;
  readonly zone: string;
}

export interface KubeletOptions {
  readonly cluster: string;
  readonly client: ApiClient;
  /** Directory for the files of pods. */
  readonly dir: string;
  /** Called after endpoints changed, with every service and its ready pods. */
  readonly onEndpoints: (services: readonly { service: ServiceShape; ready: readonly PodState[] }[]) => Promise<void>;
  /** Called for what fails in the background. */
  readonly onError: (what: string, error: Error) => void;
}

export interface RunningPod {
  state: PodState;
  readonly attached: Attached;
  /** The pod's directory, for its files. */
  readonly dir: string;
}

/** A token that is kept fresh in a file of the pod's directory. */
export interface TokenRequest {
  readonly file: string;
  /** Undefined: the API server's own. */
  readonly audience?: string;
  readonly expirationSeconds: number;
}

const podKey = (namespace: string, name: string) => `${namespace}/${name}`;
const now = () => new Date().toISOString();

export class Kubelet {
  readonly #options: KubeletOptions;
  readonly #pods = new Map<string, RunningPod>();
  readonly #slices = new Map<string, string>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #syncing: Promise<void> | undefined;
  #again = false;
  #made = 0;
  #closed = false;

  constructor(options: KubeletOptions) {
    this.#options = options;
  }

  get pods(): readonly RunningPod[] {
    return [...this.#pods.values()];
  }

  pod(namespace: string, name: string): RunningPod {
    const pod = this.#pods.get(podKey(namespace, name));
    if (pod === undefined) throw new Error(`there is no pod ${namespace}/${name} in ${this.#options.cluster}`);
    return pod;
  }

  async ensureNode(node: NodeInfo): Promise<void> {
    const object = nodeObject(node.name, node.address, node.region, node.zone);
    await this.#options.client.ensure('/api/v1/nodes', object);
    await this.#options.client.merge(`/api/v1/nodes/${node.name}/status`, { status: object.status });
  }

  async ensureNamespace(name: string, labels: Readonly<Record<string, string>>): Promise<void> {
    const { client } = this.#options;
    await client.ensure('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } });
    if (Object.keys(labels).length > 0) await client.merge(`/api/v1/namespaces/${name}`, { metadata: { labels } });
  }

  async ensureServiceAccount(namespace: string, name: string): Promise<void> {
    const object = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } };
    await this.#options.client.ensure(`/api/v1/namespaces/${namespace}/serviceaccounts`, object);
  }

  /** Creates the pod on a node, not yet ready. Its tokens are in place when this returns. */
  async createPod(
    spec: PodSpec,
    node: NodeInfo,
    attached: Attached,
    tokens: readonly TokenRequest[],
  ): Promise<RunningPod> {
    const { client } = this.#options;
    const path = `/api/v1/namespaces/${spec.namespace}/pods`;
    const created = await client.call<KubeObject>('POST', path, podObject(spec, node.name));
    const state: PodState = {
      ...spec,
      uid: created.metadata.uid ?? '',
      node: node.name,
      nodeAddress: node.address,
      zone: node.zone,
      address: attached.address,
      ready: false,
      terminating: false,
    };
    // Short: paths of unix sockets end at 107 bytes.
    const dir = join(this.#options.dir, `${++this.#made}`);
    await mkdir(dir, { recursive: true });
    const pod: RunningPod = { state, attached, dir };
    this.#pods.set(podKey(spec.namespace, spec.name), pod);
    await Promise.all([this.#writeStatus(pod), ...tokens.map((token) => this.#keepToken(pod, token))]);
    this.sync();
    return pod;
  }

  /** Writes the pod's readiness, if it changed, and brings the endpoint slices after it. */
  async setReady(namespace: string, name: string, ready: boolean): Promise<void> {
    const pod = this.#pods.get(podKey(namespace, name));
    if (pod === undefined || pod.state.ready === ready) return;
    pod.state = { ...pod.state, ready };
    await this.#writeStatus(pod);
    this.sync();
    await this.settled();
  }

  /** Marks the pod as going: out of the endpoints, still serving. */
  async terminate(namespace: string, name: string): Promise<void> {
    const pod = this.pod(namespace, name);
    pod.state = { ...pod.state, terminating: true };
    this.sync();
    await this.settled();
  }

  /** Removes the pod from the API. Its namespace is the caller's. */
  async deletePod(namespace: string, name: string): Promise<void> {
    this.#pods.delete(podKey(namespace, name));
    this.sync();
    await this.settled();
    await this.#options.client.remove(`/api/v1/namespaces/${namespace}/pods/${name}`);
  }

  /** Brings the endpoint slices in line with services and pods, soon; many calls make one round. */
  sync(): void {
    if (this.#closed) return;
    if (this.#syncing !== undefined) {
      this.#again = true;
      return;
    }
    this.#syncing = this.#syncSlices()
      .catch((error: Error) => this.#options.onError('endpoint slices', error))
      .finally(() => {
        this.#syncing = undefined;
        if (this.#again) {
          this.#again = false;
          this.sync();
        }
      });
  }

  /** Resolves when no round of `sync` is under way. */
  async settled(): Promise<void> {
    while (this.#syncing !== undefined) await this.#syncing;
  }

  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#options.client.close();
  }

  async #writeStatus({ state }: RunningPod): Promise<void> {
    const path = `/api/v1/namespaces/${state.namespace}/pods/${state.name}/status`;
    await this.#options.client.merge(path, podStatus(state, now()));
  }

  async #syncSlices(): Promise<void> {
    const { client, onEndpoints } = this.#options;
    const { items } = await client.get<{ items: ServiceShape[] }>('/api/v1/services');
    const states = this.pods.map(({ state }) => state);
    const seen = new Set<string>();
    await Promise.all(
      items.map(async (service) => {
        const slice = sliceObject(service, states);
        if (slice === undefined) return;
        const base = `/apis/discovery.k8s.io/v1/namespaces/${service.metadata.namespace}/endpointslices`;
        const path = `${base}/${slice.metadata.name}`;
        const text = JSON.stringify(slice);
        seen.add(path);
        const before = this.#slices.get(path);
        if (before === text) return;
        if (before === undefined) await client.ensure(base, slice);
        else await client.call('PUT', path, slice);
        this.#slices.set(path, text);
      }),
    );
    for (const path of [...this.#slices.keys()].filter((path) => !seen.has(path))) {
      await client.remove(path);
      this.#slices.delete(path);
    }
    await onEndpoints(
      items.map((service) => ({
        service,
        ready: podsOf(service, states).filter((pod) => pod.ready && !pod.terminating),
      })),
    );
  }

  /** Asks for a token bound to the pod, writes it whole, and asks again at four fifths of its life. */
  async #keepToken(pod: RunningPod, token: TokenRequest): Promise<void> {
    const { namespace, name, uid, serviceAccount } = pod.state;
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`;
    const spec = {
      ...(token.audience === undefined ? {} : { audiences: [token.audience] }),
      expirationSeconds: token.expirationSeconds,
      boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
    };
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec };
    const issued = await this.#options.client.call<{ status: { token: string } }>('POST', path, body);
    const file = join(pod.dir, token.file);
    await writeFile(`${file}.new`, issued.status.token, { mode: 0o600 });
    await rename(`${file}.new`, file);
    this.#later(token.expirationSeconds * 800, pod, () => this.#keepToken(pod, token));
  }

  #later(ms: number, pod: RunningPod, work: () => Promise<void>): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      if (this.#closed || this.#pods.get(podKey(pod.state.namespace, pod.state.name)) !== pod) return;
      work().catch((error: Error) => {
        this.#options.onError(`token of ${pod.state.name}`, error);
        this.#later(2_000, pod, work);
      });
    }, ms);
    timer.unref();
    this.#timers.add(timer);
  }
}
