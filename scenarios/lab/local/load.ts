/** A running load client: commands over its pipes, calls read from its log. */
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Load, LoadSpec } from '../lab.ts';
import type { CallRecord } from '../outcome.ts';
import type { LabProcess } from './process.ts';

type Reply = Record<string, unknown>;
const replyTimeoutMs = 10_000;

/** Sends a command line at a time and hands back the line that answers it. */
class Conversation {
  readonly #process: LabProcess;
  readonly #waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void }[] = [];

  constructor(process: LabProcess) {
    this.#process = process;
    createInterface({ input: process.child.stdout! }).on('line', (line) => {
      this.#waiting.shift()?.resolve(JSON.parse(line) as Reply);
    });
    process.child.stdin!.on('error', () => {});
    void process.exited.then(() => {
      const error = new Error(`the load client ended:\n${process.tail()}`);
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    });
  }

  /** The next line, after `command` if one is given. */
  next(command?: Reply): Promise<Reply> {
    if (this.#process.exit !== undefined) {
      return Promise.reject(new Error(`the load client ended:\n${this.#process.tail()}`));
    }
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the load client does not answer')), replyTimeoutMs);
      const done =
        <T>(then: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer);
          then(value);
        };
      this.#waiting.push({ resolve: done(resolve), reject: done(reject) });
      if (command !== undefined) this.#process.child.stdin!.write(`${JSON.stringify(command)}\n`);
    });
  }
}

export class LocalLoad implements Load {
  readonly spec: LoadSpec;
  readonly #process: LabProcess;
  readonly #log: string;
  readonly #talk: Conversation;
  #stopped: CallRecord[] | undefined;

  private constructor(spec: LoadSpec, process: LabProcess, log: string) {
    this.spec = spec;
    this.#process = process;
    this.#log = log;
    this.#talk = new Conversation(process);
  }

  static async start(spec: LoadSpec, process: LabProcess, log: string): Promise<LocalLoad> {
    const load = new LocalLoad(spec, process, log);
    await load.#talk.next();
    await load.#talk.next({ cmd: 'start' });
    return load;
  }

  async calls(): Promise<CallRecord[]> {
    if (this.#stopped !== undefined) return this.#stopped;
    await this.#talk.next({ cmd: 'flush' });
    return await this.#read();
  }

  async lagMs(): Promise<number> {
    const { lagMs } = await this.#talk.next({ cmd: 'mark' });
    return Number(lagMs);
  }

  async stop(): Promise<CallRecord[]> {
    if (this.#stopped !== undefined) return this.#stopped;
    await this.#talk.next({ cmd: 'stop' });
    const deadline = performance.now() + (this.spec.timeoutMs ?? 15_000) + 1_000;
    while (performance.now() < deadline) {
      const { inFlight } = await this.#talk.next({ cmd: 'stats' });
      if (Number(inFlight) === 0) break;
      await sleep(50);
    }
    await this.#talk.next({ cmd: 'flush' });
    this.#stopped = await this.#read();
    await this.#process.stop(1_000);
    return this.#stopped;
  }

  async #read(): Promise<CallRecord[]> {
    const text = await readFile(this.#log, 'utf8').catch(() => '');
    // A line that is still being written is not there yet.
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    return whole
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as CallRecord);
  }
}
