/**
 * Long-running processes inside a network namespace, each with its log file. Detached into sessions of their own, so that a
 * Ctrl-C reaches the lab alone, which then stops them in order.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ProcessSpec {
  readonly namespace: string;
  readonly name: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Its stdin and stdout are pipes to us instead; only stderr goes to the log. */
  readonly talk?: boolean;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class LabProcess {
  readonly spec: ProcessSpec;
  readonly logFile: string;
  readonly child: ChildProcess;
  readonly exited: Promise<Exit>;
  #exit: Exit | undefined;

  constructor(spec: ProcessSpec, logDir: string) {
    this.spec = spec;
    this.logFile = join(logDir, spec.namespace, `${spec.name}.log`);
    mkdirSync(dirname(this.logFile), { recursive: true });
    const log = openSync(this.logFile, 'a');
    // `ip netns exec` replaces itself by the command: the pid is the command's.
    const argv = ['netns', 'exec', spec.namespace, ...spec.argv];
    this.child = spawn('ip', argv, {
      detached: true,
      cwd: spec.cwd ?? '/',
      env: { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin', HOME: homedir(), ...spec.env },
      stdio: spec.talk ? ['pipe', 'pipe', log] : ['ignore', log, log],
    });
    closeSync(log);
    this.exited = new Promise((resolve) => {
      const end = (exit: Exit) => {
        this.#exit = exit;
        resolve(exit);
      };
      this.child.once('error', () => end({ code: 127, signal: null }));
      this.child.once('exit', (code, signal) => end({ code, signal }));
    });
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }
  get name(): string {
    return this.spec.name;
  }
  get exit(): Exit | undefined {
    return this.#exit;
  }

  /** Signals the process if it still runs. */
  signal(signal: NodeJS.Signals): void {
    if (this.#exit === undefined && this.child.pid !== undefined) this.child.kill(signal);
  }

  /** Whether it has ended, or does so soon: one that was just killed takes a moment. */
  async endsWithin(ms: number): Promise<boolean> {
    return (await Promise.race([this.exited.then(() => true), sleep(ms, false)])) === true;
  }

  /** Asks it to end, and kills it when it has not after `graceMs`. */
  async stop(graceMs: number): Promise<Exit> {
    this.signal('SIGTERM');
    const ended = await Promise.race([this.exited, sleep(graceMs, undefined, { ref: false })]);
    if (ended === undefined) this.signal('SIGKILL');
    return await this.exited;
  }

  /** The end of its log, for messages about its failure. */
  tail(lines = 15): string {
    try {
      return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
    } catch {
      return '(no log)';
    }
  }
}

/**
 * Waits until `ready` answers true. Throws with the end of the log when the process ends before, or when `timeoutMs` pass.
 * A `ready` that throws counts as "not yet".
 */
export async function untilReady(
  subject: LabProcess,
  ready: () => Promise<boolean> | boolean,
  timeoutMs: number,
  everyMs = 50,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const exit = subject.exit;
    const where = `${subject.name} in ${subject.spec.namespace}`;
    if (exit !== undefined) {
      throw new Error(`${where} ended with ${exit.code ?? exit.signal} before it was ready:\n${subject.tail()}`);
    }
    try {
      if (await ready()) return;
    } catch {
      // Not yet.
    }
    if (performance.now() > deadline)
      throw new Error(`${where} is not ready after ${timeoutMs} ms:\n${subject.tail()}`);
    await sleep(everyMs);
  }
}
