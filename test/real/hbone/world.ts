/** Network namespaces around one bridge, processes in them, and everything gone afterwards, also after a failure. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ip = (...args: string[]): Promise<unknown> => run('ip', args);

/** A process that talks JSON lines. */
export interface Talker {
  readonly child: ChildProcess;
  readonly lines: readonly Record<string, unknown>[];
  send(message: Record<string, unknown>): void;
  /** The first line after `from` that fits; waits for it. */
  find(
    fits: (line: Record<string, unknown>) => boolean,
    from?: number,
    timeoutMs?: number,
  ): Promise<Record<string, unknown>>;
}

export class World {
  readonly #prefix = `zr-${process.pid}`;
  readonly #namespaces: string[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #stops: (() => Promise<void>)[] = [];
  dir = '';

  async open(): Promise<void> {
    this.dir = await mkdtemp(join(tmpdir(), 'zr-'));
    const hub = await this.#namespace('hub');
    // A fixed address: by default a bridge takes the lowest of its ports', and changes it under its neighbours' feet.
    await ip('-n', hub, 'link', 'add', 'br0', 'address', '02:00:00:77:00:01', 'type', 'bridge');
    await ip('-n', hub, 'link', 'set', 'br0', 'up');
  }

  async #namespace(name: string): Promise<string> {
    const full = `${this.#prefix}-${name}`;
    await ip('netns', 'add', full);
    this.#namespaces.push(full);
    await ip('-n', full, 'link', 'set', 'lo', 'up');
    return full;
  }

  get hub(): string {
    return `${this.#prefix}-hub`;
  }

  /** An address on the hub's own bridge. */
  async hubAddress(address: string): Promise<void> {
    await ip('-n', this.hub, 'addr', 'add', `${address}/24`, 'dev', 'br0');
  }

  /** A pod: a namespace with one address, linked to the hub. */
  async pod(name: string, address: string): Promise<string> {
    const netns = await this.#namespace(name);
    await ip('-n', this.hub, 'link', 'add', `v-${name}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', netns);
    await ip('-n', this.hub, 'link', 'set', `v-${name}`, 'master', 'br0', 'up');
    await ip('-n', netns, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
    await ip('-n', netns, 'link', 'set', 'eth0', 'up');
    await ip('-n', netns, 'route', 'add', 'default', 'dev', 'eth0');
    return netns;
  }

  talker(netns: string, script: string, ...args: string[]): Talker {
    const child = spawn('ip', ['netns', 'exec', netns, process.execPath, script, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#children.push(child);
    child.stdin.on('error', () => {});
    const lines: Record<string, unknown>[] = [];
    const waiting = new Set<() => void>();
    createInterface({ input: child.stdout }).on('line', (line) => {
      lines.push(JSON.parse(line) as Record<string, unknown>);
      for (const look of waiting) look();
    });
    return {
      child,
      lines,
      send: (message) => child.stdin.write(`${JSON.stringify(message)}\n`),
      find: (fits, from = 0, timeoutMs = 15_000) =>
        new Promise((resolve, reject) => {
          const timer = setTimeout(() => {
            waiting.delete(look);
            reject(new Error(`nothing of the kind; last lines: ${JSON.stringify(lines.slice(-5))}`));
          }, timeoutMs);
          const look = (): void => {
            const found = lines.slice(from).find(fits);
            if (found === undefined) return;
            clearTimeout(timer);
            waiting.delete(look);
            resolve(found);
          };
          waiting.add(look);
          look();
        }),
    };
  }

  onClose(stop: () => Promise<void>): void {
    this.#stops.push(stop);
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) await stop().catch(() => {});
    await Promise.all(
      this.#children.map(
        (child) =>
          new Promise<void>((resolve) => {
            if (child.exitCode !== null || child.signalCode !== null) resolve();
            else child.once('close', () => resolve());
            child.kill('SIGKILL');
          }),
      ),
    );
    for (const name of this.#namespaces.reverse()) await ip('netns', 'del', name).catch(() => {});
    if (this.dir !== '') await rm(this.dir, { recursive: true, force: true });
  }
}
