/** One cluster of the harness: an API server with the objects that Isthmus finds in a cluster, and its controller replicas. */
import { mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fetchCertificate } from '../../../src/ca/client.ts';
import { realClock, realRng } from '../../../src/ops/clock.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { eventually, world } from '../kube/objects.ts';
import { FakeGatewayPod } from './gateway_pods.ts';
import { mustRun } from './isthmus.ts';
import { controllerName, TestProxy } from './proxy.ts';
import { Replica } from './replica.ts';

export const systemNamespace = 'isthmus-system';
export const trustDomain = 'cluster.local';

export interface TestClusterOptions {
  readonly name: string;
  /** First two numbers of the addresses of its pods. */
  readonly block: string;
  readonly dir: string;
  readonly set: readonly string[];
}

interface Secret {
  readonly data: Readonly<Record<string, string>>;
}

export class TestCluster {
  readonly name: string;
  readonly region: string;
  readonly podRange: string;
  readonly api: ApiServer;
  readonly objects: ReturnType<typeof world>;
  readonly replicas: Replica[] = [];
  readonly gatewayPods: FakeGatewayPod[] = [];
  readonly dir: string;
  /** Settings of all its controllers. */
  readonly set: readonly string[];
  readonly #block: string;
  #pods = 9;

  private constructor(o: TestClusterOptions, api: ApiServer) {
    this.name = o.name;
    this.region = `region-${o.name}`;
    this.podRange = `${o.block}.0.0/16`;
    this.#block = o.block;
    this.dir = o.dir;
    this.set = o.set;
    this.api = api;
    this.objects = world(api);
  }

  static async start(options: TestClusterOptions): Promise<TestCluster> {
    return new TestCluster(options, await startApiServer({ authorization: 'RBAC' }));
  }

  get root(): Promise<string> {
    return readFile(join(this.dir, 'cacerts', 'root-cert.pem'), 'utf8');
  }
  get kubeconfig(): string {
    return join(this.dir, 'admin.kubeconfig');
  }
  get memberDir(): string {
    return join(this.dir, 'member');
  }
  /** The first replica. */
  get first(): Replica {
    return this.replicas[0]!;
  }
  get second(): Replica {
    return this.replicas[1]!;
  }

  /** An address of a pod that nobody has yet. */
  address(): string {
    this.#pods++;
    return `${this.#block}.${Math.floor(this.#pods / 250)}.${(this.#pods % 250) + 1}`;
  }

  /** Joins as an operator does, makes what a cluster has anyway, and puts the Secrets where the pods' volumes would be. */
  async join(bundle: string, cacerts: string): Promise<void> {
    await mkdir(this.dir, { recursive: true });
    await writeFile(this.kubeconfig, this.api.kubeConfig.exportConfig(), { mode: 0o600 });
    await mustRun(['join', '--bundle', bundle, '--cacerts', cacerts, '--kubeconfig', this.kubeconfig]);
    await Promise.all([this.#mount('isthmus-member', this.memberDir), this.#mount('cacerts', `${this.dir}/cacerts`)]);
    for (const node of [1, 2]) {
      await this.objects.node(`${this.name}-node-${node}`, {
        'topology.kubernetes.io/region': this.region,
        'topology.kubernetes.io/zone': `${this.region}-${node}`,
      });
    }
    const { token } = await this.token(systemNamespace, 'isthmus-controller');
    await writeFile(join(this.dir, 'controller.kubeconfig'), this.api.configFor({ token }).exportConfig(), {
      mode: 0o600,
    });
  }

  /** Others in the Secret of the member, and where its volume would be. */
  async replaceMemberFiles(files: Readonly<Record<string, Buffer>>): Promise<void> {
    const path = `/api/v1/namespaces/${systemNamespace}/secrets/isthmus-member`;
    const secret = await this.api.call<Secret>('GET', path);
    const data = Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, bytes.toString('base64')]));
    await this.api.call('PUT', path, { ...secret, data: { ...secret.data, ...data } });
    await this.#mount('isthmus-member', this.memberDir);
  }

  async #mount(secret: string, dir: string): Promise<void> {
    const { data } = await this.api.call<Secret>('GET', `/api/v1/namespaces/${systemNamespace}/secrets/${secret}`);
    await mkdir(dir, { recursive: true });
    for (const [file, value] of Object.entries(data)) {
      await writeFile(join(dir, file), Buffer.from(value, 'base64'), { mode: 0o600 });
    }
  }

  /** A replica that is not started; with a kubeconfig as another account or through another port when told. */
  async replica(options: { name?: string; set?: readonly string[]; kubePort?: number } = {}): Promise<Replica> {
    const name = options.name ?? `isthmus-controller-${this.replicas.length}`;
    let kubeconfig = join(this.dir, 'controller.kubeconfig');
    if (options.kubePort !== undefined) {
      const { token } = await this.token(systemNamespace, 'isthmus-controller');
      kubeconfig = join(this.dir, `${name}.kubeconfig`);
      await writeFile(kubeconfig, this.api.configFor({ token, port: options.kubePort }).exportConfig(), {
        mode: 0o600,
      });
    }
    const made = await Replica.make({
      name,
      memberDir: this.memberDir,
      cacertsDir: join(this.dir, 'cacerts'),
      kubeconfig,
      stateDir: await mkdtemp(join(this.dir, `${name}-state-`)),
      set: [...this.set, ...(options.set ?? [])],
    });
    this.replicas.push(made);
    return made;
  }

  /** Starts so many replicas and waits until they are ready. */
  async start(count = 2): Promise<void> {
    while (this.replicas.length < count) await this.replica();
    for (const replica of this.replicas) replica.start();
    await Promise.all(this.replicas.map((r) => r.ready()));
  }

  /** The replica that writes, and the others. */
  async writer(): Promise<{ writer: Replica; others: Replica[] }> {
    let writer: Replica | undefined;
    await eventually(`a replica of ${this.name} writes`, async () => {
      for (const replica of this.replicas) {
        if ((await replica.status().catch(() => undefined))?.writer) writer = replica;
      }
      return writer !== undefined;
    });
    return { writer: writer!, others: this.replicas.filter((r) => r !== writer) };
  }

  async serviceAccount(namespace: string, name: string): Promise<void> {
    await this.api
      .call('POST', `/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } })
      .catch((error: Error) => {
        if (!error.message.includes(' 409 ')) throw error;
      });
  }

  /** A pod that runs and is ready. Returns its address. */
  async pod(
    namespace: string,
    name: string,
    account: string,
    labels: object = {},
    address = this.address(),
  ): Promise<string> {
    await this.serviceAccount(namespace, account);
    const node = `${this.name}-node-${(this.#pods % 2) + 1}`;
    await this.objects.pod(namespace, name, node, address, { labels, spec: { serviceAccountName: account } });
    return address;
  }

  /** A service account token, bound to a pod when one is named. */
  async token(namespace: string, account: string, pod?: string, audience?: string): Promise<{ token: string }> {
    await this.serviceAccount(namespace, account);
    const bound =
      pod === undefined
        ? undefined
        : await this.api.call<{ metadata: { uid: string } }>('GET', `/api/v1/namespaces/${namespace}/pods/${pod}`);
    const request = {
      spec: {
        ...(audience === undefined ? {} : { audiences: [audience] }),
        ...(bound === undefined
          ? {}
          : { boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: pod, uid: bound.metadata.uid } }),
      },
    };
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${account}/token`;
    const { status } = await this.api.call<{ status: { token: string } }>('POST', path, request);
    return { token: status.token };
  }

  /** Pods of the local gateway: objects, and something on loopback that answers for them. */
  async gateways(count = 2): Promise<void> {
    for (let i = 1; i <= count; i++) {
      const pod = new FakeGatewayPod(`${this.#block}.255.${i}`);
      this.gatewayPods.push(pod);
      await pod.start();
      await this.pod(
        systemNamespace,
        `isthmus-gateway-${i}`,
        'isthmus-gateway',
        { app: 'isthmus-gateway' },
        pod.address,
      );
    }
    await this.slice(
      systemNamespace,
      'isthmus-egress',
      this.gatewayPods.map((pod, i) => ({ pod: `isthmus-gateway-${i + 1}`, address: pod.address, ready: true })),
      15_018,
      'egress',
    );
  }

  /** The endpoint slice of a service, as its controller would write it; replaces what was there. */
  async slice(
    namespace: string,
    service: string,
    endpoints: readonly { readonly pod: string; readonly address: string; readonly ready: boolean }[],
    port = 8_080,
    portName = 'http',
  ): Promise<void> {
    const list = endpoints.map(({ pod, address, ready }) => ({
      addresses: [address],
      conditions: { ready, serving: ready, terminating: false },
      targetRef: { kind: 'Pod', name: pod, namespace },
    }));
    const path = `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices/${service}-1`;
    const ports = [{ name: portName, port, protocol: 'TCP' }];
    await this.objects.patch(path, { endpoints: list, ports }).catch((error: Error) => {
      if (!error.message.includes(': 404 ')) throw error;
      return this.objects.slice(namespace, `${service}-1`, service, list, { ports });
    });
  }

  /** A discovery client in a pod that exists, as its ztunnel. */
  async ztunnel(namespace: string, pod: string, account: string): Promise<TestProxy> {
    const { token } = await this.token(namespace, account, pod, 'istio-ca');
    const nodeId = `ztunnel~10.0.0.1~${pod}.${namespace}~${namespace}.svc.cluster.local`;
    return new TestProxy({ nodeId, role: 'ztunnel', roots: await this.root, token });
  }

  /** A gateway's Envoy, with the certificate that its runner would get: by its token, from the certificate service. */
  async gateway(from: Replica, suffix = '1', pod = 'isthmus-gateway-1'): Promise<TestProxy> {
    const { cert, key } = await this.certificate(from, systemNamespace, pod, 'isthmus-gateway');
    const nodeId = `${pod}~${suffix}`;
    return new TestProxy({ nodeId, role: 'gateway', roots: await this.root, certificate: { cert, key } });
  }

  async certificate(from: Replica, namespace: string, pod: string, account: string, tokenFile?: string) {
    const file = tokenFile ?? (await this.tokenFile(namespace, pod, account));
    return fetchCertificate({
      address: `127.0.0.1:${from.ports.token}`,
      serverName: controllerName,
      rootsFile: join(this.dir, 'cacerts', 'root-cert.pem'),
      tokenFile: file,
      identity: `spiffe://${trustDomain}/ns/${namespace}/sa/${account}`,
      ttlS: 0,
      clock: realClock,
      rng: realRng,
      onCertificate: () => {},
      onError: () => {},
    });
  }

  /** A file with a token of the pod, for those who read it from there. */
  async tokenFile(namespace: string, pod: string, account: string): Promise<string> {
    const { token } = await this.token(namespace, account, pod, 'istio-ca');
    const file = join(this.dir, `${namespace}-${pod}.token`);
    await writeFile(file, token, { mode: 0o600 });
    return file;
  }

  async stop(): Promise<void> {
    await Promise.all(this.replicas.map((r) => r.stop('SIGKILL')));
    await Promise.all(this.gatewayPods.map((p) => p.stop()));
    await this.api.stop();
  }
}
