/** One running Envoy, and its admin interface. */
import type { ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';

/** One running Envoy. */
export class Gateway {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #dir: string;

  constructor(name: string, child: ChildProcess, dir: string) {
    this.name = name;
    this.#child = child;
    this.#dir = dir;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** One of the admin interface's pages. */
  admin(path: string, method = 'GET'): Promise<string> {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: join(this.#dir, 'admin.sock'), path, method, timeout: 3_000 }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (part) => {
          text += part;
        });
        answer.on('end', () => (answer.statusCode === 200 ? resolve(text) : reject(new Error(text))));
      });
      asked
        .on('timeout', () => asked.destroy(new Error('timeout')))
        .on('error', reject)
        .end();
    });
  }

  /** Counters and gauges whose name matches, those at zero included. */
  async stats(filter: RegExp): Promise<Record<string, number>> {
    const text = await this.admin('/stats?format=text');
    const lines = text.split('\n').flatMap((line) => {
      const at = line.lastIndexOf(': ');
      const name = line.slice(0, at);
      return at > 0 && filter.test(name) ? [[name, Number(line.slice(at + 2))] as const] : [];
    });
    return Object.fromEntries(lines);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async log(): Promise<string> {
    return readFile(join(this.#dir, 'envoy.log'), 'utf8').catch(() => '');
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGCONT');
    this.#child.kill('SIGKILL');
    await gone;
  }
}
