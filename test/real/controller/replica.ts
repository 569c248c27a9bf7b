/** One controller replica: `isthmus controller` as a child process on loopback ports of its own. */

import { type ChildProcess, spawn } from 'node:child_process';
import { get } from 'node:http';
import type { StatusReport } from '../../../src/core/report.ts';
import { boundToLife } from '../../../src/gateway/orphans.ts';
import { eventually } from '../kube/objects.ts';
import { freePorts } from '../ports.ts';
import { cleanEnvironment, program } from './isthmus.ts';

export interface ReplicaOptions {
  readonly name: string;
  readonly memberDir: string;
  readonly cacertsDir: string;
  readonly kubeconfig: string;
  readonly stateDir: string;
  /** More `--set` values; they win. */
  readonly set?: readonly string[];
}

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** One GET over plain HTTP; rejects when nobody listens. */
export const fetchText = (port: number, path: string): Promise<{ status: number; text: string }> =>
  new Promise((resolve, reject) => {
    const call = get({ host: '127.0.0.1', port, path, agent: false, timeout: 5_000 }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', reject);
    });
    call.on('timeout', () => call.destroy(new Error('no answer')));
    call.on('error', reject);
  });

export class Replica {
  readonly name: string;
  readonly lines: LogLine[] = [];
  readonly ports: { token: number; gateway: number; admin: number; metrics: number; health: number };
  readonly #o: ReplicaOptions;
  #set: readonly string[];
  #child: ChildProcess | undefined;
  #raw = '';
  #exit: Promise<number | null> = Promise.resolve(null);

  private constructor(options: ReplicaOptions, ports: readonly number[]) {
    this.#o = options;
    this.name = options.name;
    this.#set = options.set ?? [];
    const [token, gateway, admin, metrics, health] = ports as [number, number, number, number, number];
    this.ports = { token, gateway, admin, metrics, health };
  }

  /** Not started yet. */
  static async make(options: ReplicaOptions): Promise<Replica> {
    return new Replica(options, await freePorts(5));
  }

  get stateDir(): string {
    return this.#o.stateDir;
  }
  /** What `--controller` takes. */
  get admin(): string {
    return `http://127.0.0.1:${this.ports.admin}`;
  }
  get pid(): number | undefined {
    return this.#child?.pid;
  }
  get running(): boolean {
    return this.#child !== undefined && running.has(this.#child);
  }

  /** Starts the process. `set`: further settings from now on. */
  start(set?: readonly string[]): void {
    if (set !== undefined) this.#set = set;
    const { token, gateway, admin, metrics, health } = this.ports;
    const { name, memberDir, cacertsDir, kubeconfig, stateDir } = this.#o;
    const settings = [
      `memberDir=${memberDir}`,
      `mesh.cacertsDir=${cacertsDir}`,
      `kube.kubeconfig=${kubeconfig}`,
      `state.dir=${stateDir}`,
      `replica=${name}`,
      `listen.tokenAddress=127.0.0.1:${token}`,
      `listen.gatewayAddress=127.0.0.1:${gateway}`,
      `listen.adminAddress=127.0.0.1:${admin}`,
      `listen.metricsAddress=127.0.0.1:${metrics}`,
      `listen.healthAddress=127.0.0.1:${health}`,
      ...this.#set,
    ];
    this.lines.length = 0;
    this.#raw = '';
    const args = [...this.#flags(), program, 'controller', ...settings.flatMap((value) => ['--set', value])];
    const bound = boundToLife(process.execPath, args);
    const child = spawn(bound.command, bound.args, { env: cleanEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    running.add(child);
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', this.#take);
    this.#exit = new Promise((resolve) => {
      child.once('close', (code) => {
        running.delete(child);
        resolve(code);
      });
    });
  }

  /** Flags of node for the next start, for profiles. */
  nodeFlags: readonly string[] = [];

  /** Ends it and waits. Harmless when it does not run. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.#child?.kill(signal);
    return this.#exit;
  }

  /** Its exit code, once it has ended by itself. */
  ended(): Promise<number | null> {
    return this.#exit;
  }

  async status(): Promise<StatusReport> {
    const { status, text } = await fetchText(this.ports.admin, '/v1/status');
    if (status !== 200) throw new Error(`status of ${this.name}: ${status} ${text}`);
    return JSON.parse(text) as StatusReport;
  }

  async isReady(): Promise<boolean> {
    return (await fetchText(this.ports.health, '/readyz').catch(() => undefined))?.status === 200;
  }

  /** Waits until it is ready; says why not when it does not become so. */
  async ready(withinMs = 60_000): Promise<void> {
    await this.#explained(() => eventually(`${this.name} is ready`, () => this.isReady(), withinMs));
  }

  /** Waits until its status is as wanted. */
  async until(what: string, wanted: (status: StatusReport) => boolean, withinMs = 30_000): Promise<StatusReport> {
    let last: StatusReport | undefined;
    await this.#explained(() =>
      eventually(
        `${this.name}: ${what}`,
        async () => {
          last = await this.status().catch(() => undefined);
          return last !== undefined && wanted(last);
        },
        withinMs,
      ),
    ).catch((error: Error) => {
      throw new Error(`${error.message}\nlast status: ${JSON.stringify(last, null, 1)?.slice(0, 6_000)}`);
    });
    return last!;
  }

  /** Everything it wrote, for failures. */
  log(): string {
    return this.#raw.slice(-6_000);
  }

  readonly #take = (part: string): void => {
    this.#raw += part;
    if (this.#raw.length > 4_000_000) this.#raw = this.#raw.slice(-2_000_000);
    for (const line of part.split('\n')) {
      if (!line.startsWith('{')) continue;
      try {
        this.lines.push(JSON.parse(line) as LogLine);
      } catch {
        // A line that was cut between two chunks: it is in the raw text.
      }
    }
  };

  #flags(): readonly string[] {
    return this.nodeFlags;
  }

  async #explained(wait: () => Promise<void>): Promise<void> {
    try {
      await wait();
    } catch (error) {
      const readyz = await fetchText(this.ports.health, '/readyz?verbose').catch(() => undefined);
      throw new Error(`${(error as Error).message}\n${readyz?.text ?? 'no /readyz'}\n${this.log()}`);
    }
  }
}
