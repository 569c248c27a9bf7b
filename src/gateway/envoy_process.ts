/**
 * One Envoy, kept running: started, asked whether it serves, started again when it ends.
 *
 * The first restart comes at once, the next ones with growing pauses, so that a bootstrap that Envoy refuses does not spin;
 * after a while of serving the pauses are forgotten.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { clustersTarget } from './ejections.ts';
import { type AdminReply, activeListeners, askAdmin } from './envoy_admin.ts';
import type { GatewayLog } from './log.ts';
import { boundToLife, endOrphan, notePid } from './orphans.ts';
import { withOwnParts } from './own_bootstrap.ts';

/** A file to put beside the bootstrap, and what it holds. `bootstrap.json` is what Envoy starts with. */
export interface BootstrapFile {
  readonly name: string;
  readonly json: unknown;
}

export interface EnvoyPaths {
  readonly directory: string;
  readonly adminPath: string;
  readonly echoPath: string;
}

export interface EnvoyOptions {
  readonly index: number;
  readonly binary: string;
  readonly concurrency: number;
  readonly paths: EnvoyPaths;
  readonly environment: Readonly<Record<string, string>>;
  /** Names of the listeners without which it serves nothing. */
  readonly listeners: readonly string[];
  /** Asked again before each start. */
  readonly bootstrap: () => readonly BootstrapFile[];
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: GatewayLog;
  /** It began or ceased to serve. */
  readonly changed: () => void;
}

const times = {
  askStartingMs: 50,
  askServingMs: 1_000,
  adminTimeoutMs: 2_000,
  /** An admin interface that is silent for so long: a start that failed, or a main thread that hangs. */
  adminSilentMs: 10_000,
  steadyMs: 10_000,
  firstPauseMs: 20,
  pauseMaxMs: 10_000,
} as const;

const tailLines = 5;
const lineLengthMax = 500;
const linesPerSecondMax = 20;

const envoyPaths = (runDir: string, index: number): EnvoyPaths => {
  const directory = join(runDir, `envoy-${index}`);
  return { directory, adminPath: join(directory, 'admin.sock'), echoPath: join(directory, 'echo.sock') };
};

/** Longest path of a unix socket, its ending zero left out. */
const socketPathMax = 107;

/** Where an Envoy's files lie. Throws 'config/invalid' when the directory is too deep for a unix socket. */
export const checkedPaths = (runDir: string, index: number): EnvoyPaths => {
  const paths = envoyPaths(runDir, index);
  if (Buffer.byteLength(paths.adminPath) > socketPathMax) {
    throw new IsthmusError('config/invalid', `runDir "${runDir}" is too long for the sockets in it`, {
      hint: 'choose a directory whose path has fewer than 80 characters',
      subject: { key: 'runDir' },
    });
  }
  return paths;
};

export class EnvoyProcess {
  readonly #o: EnvoyOptions;
  #child: ChildProcess | undefined;
  #timer: Timer | undefined;
  #startedMs = 0;
  #servedMs: number | undefined;
  #answeredMs = 0;
  #failures = 0;
  #serving = false;
  #stopped = false;
  #draining = false;
  #tail: string[] = [];
  #lines = { secondMs: 0, count: 0 };
  #exited: (() => void) | undefined;

  constructor(options: EnvoyOptions) {
    this.#o = options;
  }

  /** Initialized, with every listener that it needs. */
  get serving(): boolean {
    return this.#serving;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Silence of the main thread, in ms: the workers may well go on without it. */
  silentMs(nowMs: number): number {
    return this.#child === undefined ? 0 : nowMs - this.#answeredMs;
  }

  start(): void {
    if (this.#stopped || this.#child !== undefined) return;
    const { paths, binary, concurrency, index, log, clock } = this.#o;
    try {
      this.#writeFiles();
    } catch (error) {
      log('error', 'envoy cannot be started', { envoy: index, error });
      this.#again();
      return;
    }
    const bootstrap = join(paths.directory, 'bootstrap.json');
    const pidFile = join(paths.directory, 'pid');
    if (endOrphan(pidFile, bootstrap)) log('warn', 'ended an envoy of an earlier runner', { envoy: index });
    const { command, args } = boundToLife(binary, [
      ...['-c', bootstrap, '--concurrency', String(concurrency), '--log-level', 'warning'],
      ...['--disable-hot-restart', '--log-format', '%l %n %v'],
    ]);
    const child = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      // A process group of its own: a Ctrl-C on a terminal is the runner's to handle.
      detached: true,
      env: { ...process.env, ...this.#o.environment },
    });
    this.#child = child;
    this.#startedMs = this.#answeredMs = clock.monotonicMs();
    this.#servedMs = undefined;
    if (child.pid !== undefined) notePid(pidFile, child.pid);
    createInterface({ input: child.stderr! }).on('line', (line) => this.#line(line));
    child.on('error', (error) => this.#ended(child, error.message));
    child.on('exit', (code, signal) => this.#ended(child, signal ?? `exit code ${code}`));
    this.#ask(times.askStartingMs);
  }

  /** Its list of hosts towards peers; undefined while it cannot tell. */
  async hosts(): Promise<string | undefined> {
    if (!this.#serving) return undefined;
    const reply = await this.#admin('GET', clustersTarget).catch(() => undefined);
    return reply?.status === 200 ? reply.body : undefined;
  }

  /** Ends it the hard way; it is started again. */
  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  /** Makes its health checks fail, so that other clusters' gateways turn away. */
  async drain(): Promise<void> {
    this.#draining = true;
    if (this.#child === undefined) return;
    await this.#admin('POST', '/healthcheck/fail').catch(() => {});
  }

  /** Ends it for good: asks, and after `graceMs` insists. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    const child = this.#child;
    if (child === undefined) return;
    const gone = new Promise<void>((resolve) => {
      this.#exited = resolve;
    });
    child.kill('SIGTERM');
    const insist = this.#o.clock.after(graceMs, () => child.kill('SIGKILL'));
    await gone;
    insist.cancel();
  }

  #writeFiles(): void {
    const { paths, bootstrap, concurrency } = this.#o;
    mkdirSync(paths.directory, { recursive: true, mode: 0o700 });
    for (const path of [paths.adminPath, paths.echoPath]) rmSync(path, { force: true });
    for (const { name, json } of bootstrap()) {
      const content = name === 'bootstrap.json' ? withOwnParts(json, paths, concurrency) : json;
      const file = join(paths.directory, name);
      writeFileSync(`${file}.new`, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 });
      renameSync(`${file}.new`, file);
    }
  }

  #admin(method: 'GET' | 'POST', target: string): Promise<AdminReply> {
    return askAdmin(this.#o.paths.adminPath, method, target, times.adminTimeoutMs);
  }

  #ask(afterMs: number): void {
    this.#timer?.cancel();
    const child = this.#child;
    this.#timer = this.#o.clock.after(afterMs, () => {
      this.#look(child).catch(() => {
        if (child === this.#child) this.#unanswered();
      });
    });
  }

  async #look(child: ChildProcess | undefined): Promise<void> {
    const ready = await this.#admin('GET', '/ready');
    const active =
      ready.status === 200 ? activeListeners((await this.#admin('GET', '/listeners?format=json')).body) : [];
    if (child !== this.#child || this.#stopped) return;
    this.#answeredMs = this.#o.clock.monotonicMs();
    const serving = ready.status === 200 && this.#o.listeners.every((name) => active.includes(name));
    // While draining, /ready says no by our own wish.
    if (serving !== this.#serving && !(this.#draining && this.#serving)) this.#serve(serving);
    this.#ask(this.#serving ? times.askServingMs : times.askStartingMs);
  }

  #serve(serving: boolean): void {
    const nowMs = this.#o.clock.monotonicMs();
    this.#serving = serving;
    if (serving) {
      this.#servedMs ??= nowMs;
      this.#o.log('info', 'envoy serves', { envoy: this.#o.index, afterMs: Math.round(nowMs - this.#startedMs) });
    }
    this.#o.changed();
  }

  #unanswered(): void {
    if (this.#stopped || this.#child === undefined) return;
    const silentMs = this.silentMs(this.#o.clock.monotonicMs());
    if (!this.#serving && silentMs > times.adminSilentMs) {
      this.#o.log('error', 'envoy does not come up', { envoy: this.#o.index, silentMs: Math.round(silentMs) });
      this.kill();
      return;
    }
    this.#ask(this.#serving ? times.askServingMs : times.askStartingMs);
  }

  #line(line: string): void {
    this.#tail = [...this.#tail, line.slice(0, lineLengthMax)].slice(-tailLines);
    const second = Math.floor(this.#o.clock.monotonicMs() / 1_000);
    if (this.#lines.secondMs !== second) this.#lines = { secondMs: second, count: 0 };
    if (++this.#lines.count > linesPerSecondMax) return;
    this.#o.log('debug', 'envoy says', { envoy: this.#o.index, line: line.slice(0, lineLengthMax) });
  }

  #ended(child: ChildProcess, how: string): void {
    if (child !== this.#child) return;
    this.#child = undefined;
    this.#timer?.cancel();
    const nowMs = this.#o.clock.monotonicMs();
    if (this.#servedMs !== undefined && nowMs - this.#servedMs > times.steadyMs) this.#failures = 0;
    if (!this.#stopped) {
      const error = new IsthmusError('gateway/envoy-exit', `Envoy ${this.#o.index} ended: ${how}`, {
        hint: this.#tail.at(-1) ?? 'it said nothing',
        subject: { envoy: this.#o.index, servedMs: Math.round(nowMs - (this.#servedMs ?? nowMs)) },
      });
      this.#o.log('error', 'envoy ended', { error, tail: this.#tail });
    }
    this.#tail = [];
    if (this.#serving) this.#serve(false);
    this.#exited?.();
    this.#again();
  }

  #again(): void {
    if (this.#stopped) return;
    const pauseMs = Math.min(times.pauseMaxMs, times.firstPauseMs * 2 ** this.#failures);
    this.#failures += 1;
    this.#timer = this.#o.clock.after(pauseMs * (0.75 + this.#o.rng() / 2), () => this.start());
  }
}
