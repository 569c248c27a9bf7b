/** A store gateway as an operator runs it: `isthmus store serve` as a child process, on ports of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { boundToLife } from '../../../src/gateway/orphans.ts';
import { eventually } from '../kube/objects.ts';
import { freePorts } from '../ports.ts';
import { cleanEnvironment, program } from './isthmus.ts';
import { fetchText, type LogLine } from './replica.ts';

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export class StoreGatewayProcess {
  readonly lines: LogLine[] = [];
  readonly #dir: string;
  readonly #ports: { readonly write: number; readonly metrics: number; readonly health: number };
  #child: ChildProcess | undefined;
  #raw = '';
  #exit: Promise<unknown> = Promise.resolve();

  private constructor(dir: string, [write, metrics, health]: readonly number[]) {
    this.#dir = dir;
    this.#ports = { write: write!, metrics: metrics!, health: health! };
  }

  /** Not started yet. @param dir - what `isthmus init` will have written by then */
  static async make(dir: string): Promise<StoreGatewayProcess> {
    return new StoreGatewayProcess(dir, await freePorts(3));
  }

  get url(): string {
    return `https://127.0.0.1:${this.#ports.write}`;
  }

  async start(set: readonly string[] = []): Promise<void> {
    const { write, metrics, health } = this.#ports;
    const settings = [
      `dir=${this.#dir}`,
      `listen.address=127.0.0.1:${write}`,
      `listen.metricsAddress=127.0.0.1:${metrics}`,
      `listen.healthAddress=127.0.0.1:${health}`,
      ...set,
    ];
    const args = [program, 'store', 'serve', ...settings.flatMap((value) => ['--set', value])];
    const bound = boundToLife(process.execPath, args);
    const child = spawn(bound.command, bound.args, { env: cleanEnvironment(), stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    running.add(child);
    child.stderr!.setEncoding('utf8').on('data', (part: string) => this.#take(part));
    this.#exit = new Promise((resolve) => {
      child.once('close', () => {
        running.delete(child);
        resolve(undefined);
      });
    });
    const ready = async () => (await fetchText(health, '/readyz').catch(() => undefined))?.status === 200;
    await eventually(`the store gateway is ready: ${this.#raw.slice(-500)}`, ready, 60_000);
  }

  /** Ends it and waits. Harmless when it does not run. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#child?.kill(signal);
    await this.#exit;
  }

  /** The value of a metric with these labels; 0 when there is none. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const { text } = await fetchText(this.#ports.metrics, '/metrics');
    const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
    const line = text.split('\n').find((one) => one.startsWith(name) && wanted.every((label) => one.includes(label)));
    return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(' ') + 1));
  }

  #take(part: string): void {
    this.#raw += part;
    const lines = this.#raw.split('\n');
    this.#raw = lines.pop() ?? '';
    for (const line of lines) {
      try {
        this.lines.push(JSON.parse(line) as LogLine);
      } catch {
        // What node itself says.
      }
    }
  }
}
