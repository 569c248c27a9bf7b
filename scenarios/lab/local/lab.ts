/**
 * The local backend: brings a whole lab up on this machine, side by side where nothing waits for anything, and says where the
 * time went.
 */

import { existsSync } from 'node:fs';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ClusterSpec, ExecResult, Fault, FaultHandle, Lab, LabOptions, TimelineEvent } from '../lab.ts';
import { ensureCommands } from '../packages.ts';
import { toolPath } from '../tools.ts';
import { type ClusterAddresses, clusterAddresses, nodeAddress } from './addresses.ts';
import { Bootstrap, clusterset } from './bootstrap.ts';
import { LocalCluster } from './cluster.ts';
import { etcdPortals, FederationEtcd } from './federation-etcd.ts';
import { describeFault, type Injectable, Injector } from './inject.ts';
import { apiserverPort, type ControlPlane, startApiServer, startKubeEtcd, startPortal } from './kube-control-plane.ts';
import { Kubelet } from './kubelet.ts';
import { Network } from './network.ts';
import { PathFaults } from './path-faults.ts';
import { type ClusterNode, Pods } from './pods.ts';
import { LabProcess, untilReady } from './process.ts';
import { controllerPorts, controllerTemplate, gatewayTemplate, nodeEnvironment, systemNamespace } from './programs.ts';
import { type ProxiedService, proxyRules } from './proxy.ts';
import { type Reaper, startReaper } from './reaper.ts';
import { cleanDeadRuns, cleanRun, createRun, type Run } from './run.ts';
import { nftLoad } from './shell.ts';

const portalProgram = fileURLToPath(new URL('portal.ts', import.meta.url));
const now = () => performance.timeOrigin + performance.now();

interface Plan {
  readonly name: string;
  readonly spec: ClusterSpec;
  readonly addresses: ClusterAddresses;
  readonly nodes: number;
}

export class LocalLab implements Lab, Injectable {
  readonly run: Run;
  readonly network: Network;
  readonly paths: PathFaults;
  readonly timeline: TimelineEvent[] = [];
  etcd!: FederationEtcd;
  readonly #options: LabOptions;
  readonly #plans: readonly Plan[];
  readonly #reaper: Reaper;
  readonly #report: (line: string) => void;
  readonly #clusters = new Map<string, LocalCluster>();
  readonly #controlPlanes = new Map<string, ControlPlane>();
  readonly #injector: Injector;
  #down: Promise<void> | undefined;

  private constructor(options: LabOptions, run: Run) {
    this.#options = options;
    this.#report = options.report ?? (() => {});
    this.run = run;
    this.#reaper = startReaper(run);
    this.network = new Network(run);
    this.paths = new PathFaults(run, this.network);
    this.#injector = new Injector(this);
    this.#plans = options.clusters.map((spec, i) => ({
      name: spec.name,
      spec,
      addresses: clusterAddresses(i + 1),
      nodes: spec.zones.length,
    }));
  }

  /** Brings a lab up. When that fails, everything that was made is gone again when this rejects. */
  static async start(options: LabOptions): Promise<LocalLab> {
    const report = options.report ?? (() => {});
    if (process.getuid?.() !== 0)
      throw new Error('the lab makes network namespaces, which only root may do: run it as root');
    await ensureCommands(['ip', 'nft', 'flock'], report);
    for (const name of ['netdelay', 'envoy', 'etcd', 'kube-apiserver'] as const) await toolPath(name, report);
    const dead = await cleanDeadRuns();
    if (dead.length > 0) report(`cleaned what ${dead.length} earlier run(s) left`);
    const lab = new LocalLab(options, await createRun());
    try {
      await lab.#up();
      return lab;
    } catch (error) {
      await lab.down();
      throw error;
    }
  }

  get clusters(): readonly LocalCluster[] {
    return [...this.#clusters.values()];
  }

  cluster(name: string): LocalCluster {
    const cluster = this.#clusters.get(name);
    if (cluster === undefined)
      throw new Error(`there is no cluster "${name}" (${[...this.#clusters.keys()].join(', ')})`);
    return cluster;
  }

  controlPlane(cluster: string): ControlPlane {
    const plane = this.#controlPlanes.get(cluster);
    if (plane === undefined) throw new Error(`there is no cluster "${cluster}"`);
    return plane;
  }

  async restartApiserver(cluster: string): Promise<void> {
    await this.controlPlane(cluster).restart();
  }

  now(): number {
    return now();
  }

  note(what: string): void {
    this.timeline.push({ at: now(), what });
  }

  async inject(fault: Fault): Promise<FaultHandle> {
    const what = describeFault(fault);
    const lift = await this.#injector.inject(fault);
    this.note(what);
    let lifted: Promise<void> | undefined;
    return {
      fault,
      at: now(),
      lift: () => {
        lifted ??= lift().then(() => this.note(`over: ${what}`));
        return lifted;
      },
    };
  }

  /**
   * `isthmus trust rotate …` at a cluster's desk, with the authority at hand; then what a person does for each cluster with what it
   * wrote, and what its kubelets do with that.
   */
  async rotateTrust(cluster: string, args: readonly string[], timeoutMs = 600_000): Promise<ExecResult> {
    const { trustDir, bundlesDir } = this.#bootstrap!;
    const [verb = ''] = args;
    const authority = verb === 'start' ? ['--authority-dir', bundlesDir] : [];
    const all = ['trust', 'rotate', ...args, '--trust-dir', trustDir, ...authority];
    const result = await this.cluster(cluster).isthmus(all, timeoutMs);
    if (result.code !== 0) return result;
    for (const one of this.clusters) {
      const imported = await one.isthmus(['trust', 'import', '--from', join(trustDir, one.name)]);
      if (imported.code !== 0) return imported;
      await one.remount();
    }
    this.note(`isthmus trust rotate ${args.join(' ')}`);
    return result;
  }

  storeLeader(): Promise<string | undefined> {
    return this.etcd.leader();
  }

  moveStoreLeader(cluster: string): Promise<void> {
    return this.etcd.moveLeader(cluster);
  }

  down(): Promise<void> {
    this.#down ??= this.#end();
    return this.#down;
  }

  async #end(): Promise<void> {
    for (const { parts } of this.#clusters.values()) {
      parts.pods.close();
      parts.kubelet.close();
    }
    this.etcd?.close();
    const keep = process.env.ISTHMUS_LAB_LOGS;
    if (keep && existsSync(this.run.dir)) await cp(join(this.run.dir, 'logs'), keep, { recursive: true });
    await cleanRun(this.run);
    this.#reaper.release();
  }

  async #up(): Promise<void> {
    const began = now();
    const timed = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
      const start = now();
      const result = await work();
      const seconds = (ms: number) => (ms / 1_000).toFixed(1);
      this.#report(`${seconds(now() - began).padStart(5)} s  ${what} (took ${seconds(now() - start)} s)`);
      return result;
    };
    const plans = this.#plans;
    const bootstrap = new Bootstrap(this.run, plans);
    this.#bootstrap = bootstrap;
    const install = this.#options.isthmus !== false;
    const trust = install
      ? timed('isthmus trust init', () => bootstrap.trust(this.#options.separateRoots === true))
      : Promise.resolve();
    // Awaited below; a failure before that must not end the process.
    trust.catch(() => {});
    await timed('network', () => this.network.create(plans));
    await startKubeEtcd(this.run, this.network);
    startPortal(this.run, this.network, plans, etcdPortals(this.run, plans));
    const leader = this.#options.storeLeader ?? plans[1]?.name ?? plans[0]!.name;
    const store = timed('federation etcd', async () => {
      this.etcd = await FederationEtcd.start(this.run, this.network, plans);
      await this.etcd.ready();
    });
    const initialized = store.then(async () => {
      await trust;
      const desk = await this.#desk(plans[0]!);
      const namespaces = this.#options.namespaces ?? ['shop'];
      if (install)
        await timed('isthmus init', () => bootstrap.init(desk, this.etcd.endpoints, this.etcd.files, namespaces));
      await this.etcd.moveLeader(leader);
    });
    initialized.catch(() => {});
    const made = await Promise.all(plans.map((plan) => this.#makeCluster(plan, timed)));
    await Promise.all([trust, initialized]);
    if (install) await Promise.all(made.map((cluster) => this.#startIsthmus(cluster, bootstrap, timed)));
    this.note('the lab is up');
  }

  #bootstrap: Bootstrap | undefined;
  readonly #desks = new Map<string, Promise<string>>();

  #desk({ name, addresses }: Plan): Promise<string> {
    let desk = this.#desks.get(name);
    if (desk === undefined) {
      desk = this.network.attach(name, addresses.index, 0, 'operator', 30).then(({ namespace }) => namespace);
      this.#desks.set(name, desk);
    }
    return desk;
  }

  /** API server, nodes and the operator's desk. */
  async #makeCluster(
    plan: Plan,
    timed: <T>(what: string, work: () => Promise<T>) => Promise<T>,
  ): Promise<LocalCluster> {
    const { name, spec, addresses } = plan;
    const plane = await startApiServer(this.run, this.network, plan);
    this.#controlPlanes.set(name, plane);
    const nodes = spec.zones.map((zone, i): ClusterNode => {
      const number = i + 1;
      const portal = join(this.run.dir, `node-${addresses.index}-${number}.sock`);
      const address = nodeAddress(addresses.index, number);
      return { name: `${name}-node-${number}`, number, portal, address, region: spec.region, zone };
    });
    const portals = nodes.map(({ number, portal }) => {
      const argv = [process.execPath, portalProgram, portal];
      const namespace = this.network.node(name, number);
      return {
        portal,
        process: new LabProcess({ namespace, name: 'portal', argv, env: nodeEnvironment() }, this.#logs),
      };
    });
    const desk = await this.#desk(plan);
    let rules = proxyRules([]);
    const kubelet = new Kubelet({
      cluster: name,
      client: plane.client,
      dir: join(this.run.dir, 'p', String(addresses.index)),
      onEndpoints: async (services) => {
        const own = services.filter(({ service }) => service.metadata.namespace === systemNamespace);
        const next = proxyRules(own as ProxiedService[]);
        if (next === rules) return;
        rules = next;
        await Promise.all(pods.all.map(({ pod }) => nftLoad(pod.attached.namespace, next).catch(() => {})));
      },
      onError: (what, error) => this.note(`${name}: ${what}: ${error.message}`),
    });
    const pods = new Pods({
      cluster: name,
      index: addresses.index,
      run: this.run,
      network: this.network,
      kubelet,
      serviceCidr: addresses.serviceCidr,
      secret: (namespace, secret) => cluster.readSecret(namespace, secret),
      proxyRules: () => rules,
      onError: (what, error) => this.note(`${name}: ${what}: ${error.message}`),
    });
    const note = (what: string) => this.note(what);
    const cluster = new LocalCluster({
      ...{ spec, addresses, run: this.run, client: plane.client, kubelet, pods, nodes, desk, note },
      kubeconfig: plane.kubeconfigFile,
    });
    this.#clusters.set(name, cluster);
    await mkdir(join(this.run.dir, 'p'), { recursive: true });
    await timed(`${name}: API server`, plane.ready);
    await Promise.all([
      ...nodes.map((node) => kubelet.ensureNode(node)),
      ...portals.map(({ portal, process }) => untilReady(process, () => existsSync(portal), 20_000, 20)),
    ]);
    return cluster;
  }

  get #logs(): string {
    return join(this.run.dir, 'logs');
  }

  /** `isthmus join`, then controllers and gateways. */
  async #startIsthmus(
    cluster: LocalCluster,
    bootstrap: Bootstrap,
    timed: <T>(what: string, work: () => Promise<T>) => Promise<T>,
  ): Promise<void> {
    const { name, parts } = cluster;
    await timed(`${name}: isthmus join`, () => bootstrap.join(name, parts.desk, cluster.kubeconfig));
    const controllerAddress = await this.#controllerService(cluster);
    const plane = this.controlPlane(name);
    cluster.context = {
      cluster: name,
      region: cluster.region,
      network: name,
      clusterset,
      serviceCidr: parts.addresses.serviceCidr,
      apiserverUrl: `https://${parts.addresses.apiserver}:${apiserverPort}`,
      apiserverCa: plane.ca,
      controllerAddress,
      meshRoot: () => bootstrap.meshRoot(name),
      envoy: await toolPath('envoy'),
      controllerConfig: {
        failover: { order: this.#plans.map((plan) => plan.name) },
        ...this.#options.controllerConfig,
      },
    };
    cluster.define(systemNamespace, 'isthmus-controller', controllerTemplate(cluster.context));
    cluster.define(systemNamespace, 'isthmus-gateway', gatewayTemplate(cluster.context));
    const { controllers = 2, gateways = 2 } = this.#options;
    // At once: a gateway waits for its certificate, and what it does before that costs the controllers nothing.
    await Promise.all([
      timed(`${name}: controllers`, () => cluster.start(systemNamespace, 'isthmus-controller', controllers)),
      timed(`${name}: gateways`, () => cluster.start(systemNamespace, 'isthmus-gateway', gateways)),
    ]);
  }

  /** The Service in front of the controllers. Returns its address. */
  async #controllerService(cluster: LocalCluster): Promise<string> {
    const base = `/api/v1/namespaces/${systemNamespace}/services`;
    const name = 'isthmus-controller';
    const port = (portName: string, port: number) => ({ name: portName, port, targetPort: port });
    await cluster.parts.client.ensure(base, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: systemNamespace, labels: { app: name } },
      spec: {
        selector: { app: name },
        ports: [port('discovery', controllerPorts.discovery), port('gateways', controllerPorts.gateways)],
      },
    });
    const service = await cluster.api<{ spec: { clusterIP: string } }>('GET', `${base}/${name}`);
    return service.spec.clusterIP;
  }
}
