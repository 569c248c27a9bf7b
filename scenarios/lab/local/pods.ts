/**
 * Runs the pods of one cluster: a namespace, files and processes behind what the kubelet part tells the API, and probes that
 * turn into readiness as a kubelet's would.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { redirect } from '../ztunnel-rig.ts';
import type { KubeObject } from './api-client.ts';
import { ask } from './dial.ts';
import { writeFiles } from './files.ts';
import type { Kubelet, NodeInfo, RunningPod } from './kubelet.ts';
import type { Network } from './network.ts';
import { LabProcess } from './process.ts';
import { meshRootFile, type PodTemplate, type Probe, type Program } from './programs.ts';
import { processesInNamespace, type Run, signalAll } from './run.ts';
import { ipBatch, nftLoad } from './shell.ts';

export interface ClusterNode extends NodeInfo {
  /** 1, 2…: its number in the address plan. */
  readonly number: number;
  /** Socket of its portal. */
  readonly portal: string;
}

export interface LivePod {
  readonly template: PodTemplate;
  readonly pod: RunningPod;
  readonly node: ClusterNode;
  readonly programs: ReadonlyMap<string, Program>;
  readonly processes: Map<string, LabProcess>;
  /** Set once it is being ended on purpose: what ends then is no news. */
  ending: boolean;
}

export interface PodsOptions {
  readonly cluster: string;
  readonly index: number;
  readonly run: Run;
  readonly network: Network;
  readonly kubelet: Kubelet;
  readonly serviceCidr: string;
  readonly secret: (namespace: string, name: string) => Promise<KubeObject>;
  /** The rules for a new pod's namespace, so that it can reach the system's services from its first packet. */
  readonly proxyRules: () => string;
  readonly onError: (what: string, error: Error) => void;
}

const probeFirstMs = 40;
const probeEveryMs = 1_000;
const probeTimeoutMs = 1_000;
const probeFailuresMax = 2;
const noticeMs = 1_000;

export class Pods {
  readonly #options: PodsOptions;
  readonly #live = new Map<string, LivePod>();
  #closed = false;

  constructor(options: PodsOptions) {
    this.#options = options;
  }

  get all(): readonly LivePod[] {
    return [...this.#live.values()];
  }

  find(namespace: string, name: string): LivePod {
    const live = this.#live.get(`${namespace}/${name}`);
    if (live === undefined) throw new Error(`there is no pod ${namespace}/${name} in ${this.#options.cluster}`);
    return live;
  }

  /** Makes the pod and starts what runs in it. Resolves before it is ready. */
  async start(template: PodTemplate, name: string, node: ClusterNode): Promise<LivePod> {
    const { cluster, index, network, kubelet, serviceCidr } = this.#options;
    const attached = await network.attach(cluster, index, node.number, `${template.spec.namespace}-${name}`);
    const spec = { ...template.spec, name };
    const [pod] = await Promise.all([
      kubelet.createPod(spec, node, attached, template.tokens),
      nftLoad(attached.namespace, this.#options.proxyRules()),
      template.mesh
        ? redirect({ netns: attached.namespace, podIp: attached.address, serviceCidrs: [serviceCidr] })
        : Promise.resolve(),
    ]);
    await this.#mount(template, pod);
    const programs = new Map(template.programs(pod).map((program) => [program.name, program]));
    const live: LivePod = { template, pod, node, programs, processes: new Map(), ending: false };
    this.#live.set(`${spec.namespace}/${name}`, live);
    for (const program of programs.keys()) this.launch(live, program);
    void this.#watch(live);
    return live;
  }

  /** Starts a program of the pod (again). */
  launch(live: LivePod, name: string): void {
    const program = live.programs.get(name);
    if (program === undefined) throw new Error(`pod ${live.pod.state.name} has no program "${name}"`);
    const spec = { namespace: live.pod.attached.namespace, name, argv: program.argv, env: program.env };
    const process = new LabProcess(spec, join(this.#options.run.dir, 'logs'));
    live.processes.set(name, process);
    void process.exited.then(() => this.#ended(live, process));
  }

  /** A program of the pod ended by itself: what a kubelet would see of it. At the end of a lab all of them do. */
  async #ended(live: LivePod, process: LabProcess): Promise<void> {
    await sleep(noticeMs, undefined, { ref: false });
    const gone = () => this.#closed || live.ending || live.processes.get(process.name) !== process;
    if (gone()) return;
    await this.#setReady(live, false).catch((error: Error) => {
      if (!gone()) this.#options.onError(`status of ${live.pod.state.name}`, error);
    });
  }

  async untilReady(live: LivePod, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    const { name, namespace } = live.pod.state;
    while (!live.pod.state.ready) {
      if (performance.now() > deadline || live.ending) {
        throw new Error(`pod ${namespace}/${name} in ${this.#options.cluster} is not ready:\n${this.#tails(live)}`);
      }
      for (const process of live.processes.values()) {
        if (process.exit !== undefined) {
          throw new Error(`${process.name} of ${name} in ${this.#options.cluster} ended:\n${process.tail()}`);
        }
      }
      await sleep(20);
    }
    // Readiness shows in the pod a moment before it does in the endpoints.
    this.#options.kubelet.sync();
    await this.#options.kubelet.settled();
  }

  /**
   * Ends a pod as planned: out of the endpoints, a moment for everybody to hear of it (what a preStop hook is for), SIGTERM, then
   * out of the API. Its ztunnel ends last: on a node it would outlive the pod.
   */
  async stop(live: LivePod): Promise<void> {
    const { namespace, name } = live.pod.state;
    live.ending = true;
    await this.#options.kubelet.terminate(namespace, name);
    await sleep(live.template.preStopMs);
    const end = (process: LabProcess) => process.stop(live.template.graceMs);
    const processes = [...live.processes.values()];
    await Promise.all(processes.filter((process) => process.name !== 'ztunnel').map(end));
    await Promise.all(processes.filter((process) => process.name === 'ztunnel').map(end));
    await this.#remove(live);
  }

  /** Kills all that runs in the pod. `silent`: its link is gone as well. The API learns of it with `forget`. */
  async kill(live: LivePod, silent: boolean): Promise<void> {
    live.ending = true;
    if (silent) await ipBatch(live.pod.attached.namespace, ['link set eth0 down']);
    for (let round = 0; round < 50; round++) {
      const pids = processesInNamespace(live.pod.attached.namespace);
      if (pids.length === 0) return;
      signalAll(pids, 'SIGKILL');
      await sleep(5);
    }
  }

  /** What a kubelet does once it saw that a pod is dead: not ready, and gone. */
  async forget(live: LivePod): Promise<void> {
    await this.#setReady(live, false);
    await this.#remove(live);
  }

  /** Secrets and roots as they are now, into the files of a pod that runs. */
  async remount({ template, pod }: LivePod): Promise<void> {
    const now = await this.#files(template, pod);
    for (const dir of Object.keys(template.secrets)) {
      const there = await readdir(join(pod.dir, dir));
      const gone = there.filter((file) => now[`${dir}/${file}`] === undefined);
      await Promise.all(gone.map((file) => rm(join(pod.dir, dir, file))));
    }
    const mounted = (file: string) => file === meshRootFile || file.includes('/');
    await writeFiles(pod.dir, Object.fromEntries(Object.entries(now).filter(([file]) => mounted(file))));
  }

  close(): void {
    this.#closed = true;
  }

  async #remove(live: LivePod): Promise<void> {
    const { namespace, name } = live.pod.state;
    this.#live.delete(`${namespace}/${name}`);
    await this.#options.kubelet.deletePod(namespace, name);
    await this.#options.network.detach(live.pod.attached);
  }

  async #mount(template: PodTemplate, pod: RunningPod): Promise<void> {
    await writeFiles(pod.dir, await this.#files(template, pod));
    await Promise.all(['state', 'run'].map((dir) => mkdir(join(pod.dir, dir), { recursive: true })));
  }

  async #files(template: PodTemplate, pod: RunningPod): Promise<Record<string, string | Uint8Array>> {
    const files: Record<string, string | Uint8Array> = { ...template.files(pod) };
    for (const [dir, reference] of Object.entries(template.secrets)) {
      const [namespace, name] = reference.split('/') as [string, string];
      const { data } = await this.#options.secret(namespace, name);
      for (const [key, value] of Object.entries((data ?? {}) as Record<string, string>)) {
        files[`${dir}/${key}`] = Buffer.from(value, 'base64');
      }
    }
    return files;
  }

  /** Probes: quickly until ready for the first time, then at a kubelet's pace. */
  async #watch(live: LivePod): Promise<void> {
    let failures = 0;
    let seen = false;
    while (!this.#closed && !live.ending) {
      const healthy = (await Promise.all(live.template.probes.map((probe) => this.#probe(live, probe)))).every(Boolean);
      failures = healthy ? 0 : failures + 1;
      try {
        if (healthy) await this.#setReady(live, true);
        else if (failures >= probeFailuresMax) await this.#setReady(live, false);
      } catch (error) {
        if (!this.#closed && !live.ending) this.#options.onError(`status of ${live.pod.state.name}`, error as Error);
      }
      seen ||= healthy;
      await sleep(seen ? probeEveryMs : probeFirstMs, undefined, { ref: false });
    }
  }

  async #probe(live: LivePod, { port, path }: Probe): Promise<boolean> {
    try {
      const { status } = await ask(live.node.portal, live.pod.state.address, port, path, { timeoutMs: probeTimeoutMs });
      return status >= 200 && status < 400;
    } catch {
      return false;
    }
  }

  async #setReady(live: LivePod, ready: boolean): Promise<void> {
    if (live.ending && ready) return;
    await this.#options.kubelet.setReady(live.pod.state.namespace, live.pod.state.name, ready);
  }

  #tails(live: LivePod): string {
    return [...live.processes.values()].map((process) => `--- ${process.name}\n${process.tail()}`).join('\n');
  }
}
