/** Starts a runner with real Envoys in front of a static answer, calls it, and cleans up whatever happened. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { toolPath } from '../../../scenarios/lab/tools.ts';
import { migrationSetting } from '../../../src/gateway/migration.ts';

export const freePort = async (): Promise<number> => {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
};

/** The runner changes a setting of the network namespace, which in these tests is the machine's: puts it back at the end. */
export const keepMigrationSetting = (): void => {
  const before = readFileSync(migrationSetting, 'utf8');
  afterAll(() => {
    if (readFileSync(migrationSetting, 'utf8') !== before) writeFileSync(migrationSetting, before);
  });
};

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export const until = async (
  what: string,
  holds: () => boolean | Promise<boolean>,
  withinMs = 20_000,
): Promise<void> => {
  for (const end = Date.now() + withinMs; !(await holds()); ) {
    if (Date.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await sleep(20);
  }
};

const staticAnswer = (port: number) => ({
  static_resources: {
    listeners: [
      {
        name: 'egress',
        address: { socket_address: { address: '127.0.0.1', port_value: port } },
        filter_chains: [
          {
            filters: [
              {
                name: 'envoy.filters.network.http_connection_manager',
                typed_config: {
                  '@type':
                    'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
                  stat_prefix: 'egress',
                  route_config: {
                    virtual_hosts: [
                      {
                        name: 'all',
                        domains: ['*'],
                        routes: [
                          { match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'ok' } } },
                        ],
                      },
                    ],
                  },
                  http_filters: [
                    {
                      name: 'envoy.filters.http.health_check',
                      typed_config: {
                        '@type': 'type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck',
                        pass_through_mode: false,
                        headers: [{ name: ':path', string_match: { exact: '/healthz' } }],
                      },
                    },
                    {
                      name: 'envoy.filters.http.router',
                      typed_config: {
                        '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router',
                      },
                    },
                  ],
                },
              },
            ],
          },
        ],
      },
    ],
  },
});

export interface Call {
  readonly status: number;
  readonly ms: number;
}

/** One request over a new connection. Status 0: it failed. */
export const call = (port: number, path = '/', timeoutMs = 10_000): Promise<Call> =>
  new Promise((resolve) => {
    const startMs = performance.now();
    let got = '';
    const end = (status: number) => {
      socket.destroy();
      resolve({ status, ms: performance.now() - startMs });
    };
    const socket = connect({ host: '127.0.0.1', port, timeout: timeoutMs }, () => {
      socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    });
    socket.on('data', (bytes) => {
      got += bytes.toString('latin1');
      const status = /^HTTP\/1\.1 (\d+)/.exec(got)?.[1];
      if (status !== undefined) end(Number(status));
    });
    socket.on('timeout', () => end(0));
    socket.on('error', () => end(0));
    socket.on('close', () => end(0));
  });

export class GatewayRig {
  readonly port: number;
  readonly healthPort: number;
  readonly runner: ChildProcess;
  readonly #dir: string;
  readonly #log: string[] = [];
  readonly #seen = new Set<number>();

  private constructor(dir: string, port: number, healthPort: number, runner: ChildProcess) {
    this.#dir = dir;
    this.port = port;
    this.healthPort = healthPort;
    this.runner = runner;
    runner.stderr!.on('data', (bytes: Buffer) => this.#log.push(bytes.toString()));
  }

  static async start(drainMs = 300): Promise<GatewayRig> {
    const envoy = await toolPath('envoy');
    const dir = mkdtempSync(join(tmpdir(), 'isthmus-gw-'));
    const [port, healthPort] = [await freePort(), await freePort()];
    const bootstrapFile = join(dir, 'given.json');
    writeFileSync(bootstrapFile, JSON.stringify(staticAnswer(port)));
    const options = {
      ...{ envoy, runDir: join(dir, 'run'), healthAddress: `127.0.0.1:${healthPort}`, drainMs, bootstrapFile },
      listeners: ['egress'],
    };
    const runner = spawn(process.execPath, [join(import.meta.dirname, 'runner_main.ts'), JSON.stringify(options)], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const rig = new GatewayRig(dir, port, healthPort, runner);
    await until('both envoys serve', async () => (await rig.serving()) === 2).catch(async (error) => {
      await rig.close();
      throw new Error(`${error.message}\n${rig.log}`);
    });
    return rig;
  }

  get log(): string {
    return this.#log.join('');
  }

  pid(index: number): number | undefined {
    const file = join(this.#dir, 'run', `envoy-${index}`, 'pid');
    const pid = existsSync(file) ? Number(readFileSync(file, 'utf8')) : undefined;
    if (pid !== undefined) this.#seen.add(pid);
    return pid;
  }

  /** Whether the process is an Envoy of this rig that still runs (a zombie does not). */
  runs(pid: number | undefined): boolean {
    try {
      return pid !== undefined && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(this.#dir);
    } catch {
      return false;
    }
  }

  /** How many Envoys the runner says are serving. */
  async serving(): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.healthPort}/readyz`).catch(() => undefined);
    this.pid(0);
    this.pid(1);
    return [...((await response?.text()) ?? '').matchAll(/: serves/g)].length;
  }

  async ready(): Promise<number> {
    return (await fetch(`http://127.0.0.1:${this.healthPort}/readyz`).catch(() => undefined))?.status ?? 0;
  }

  /** `perSecond` calls over new connections for `ms`, with `fault` in the middle. */
  async load(perSecond: number, ms: number, fault: () => void | Promise<void>): Promise<Call[]> {
    const calls: Promise<Call>[] = [];
    const startMs = performance.now();
    let faulted: Promise<void> | undefined;
    while (performance.now() - startMs < ms) {
      if (performance.now() - startMs > ms / 3) faulted ??= Promise.resolve(fault());
      calls.push(call(this.port));
      await sleep(Math.max(0, startMs + (calls.length * 1_000) / perSecond - performance.now()));
    }
    await faulted;
    return Promise.all(calls);
  }

  async close(): Promise<void> {
    this.runner.kill('SIGKILL');
    if (this.runner.exitCode === null && this.runner.signalCode === null) await once(this.runner, 'exit');
    for (const index of [0, 1]) this.pid(index);
    for (const pid of this.#seen) if (this.runs(pid)) process.kill(pid, 'SIGKILL');
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
