/**
 * Network namespaces and the processes in them. All of it goes when the test process does, however that ends.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Operations } from './agent.ts';

const run = promisify(execFile);
const prefix = 'envt-';

const children = new Set<ChildProcess>();
const dirs = new Set<string>();
const namespaces = new Set<string>();

/** Also the way out when a test process is interrupted, so nothing here may wait. */
export const sweep = (): void => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  for (const name of namespaces) {
    try {
      execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' });
    } catch {
      // Gone already.
    }
  }
  namespaces.clear();
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
  dirs.clear();
};
process.once('exit', sweep);

const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** A namespace of this process, loopback up. Those of processes that were killed are cleared away first. */
export const newNamespace = async (suffix: string): Promise<string> => {
  const { stdout } = await run('ip', ['netns', 'list']);
  for (const [name, pid] of stdout.matchAll(new RegExp(`^${prefix}(\\d+)-\\S+`, 'gm'))) {
    if (!alive(Number(pid))) await run('ip', ['netns', 'del', name]).catch(() => undefined);
  }
  const name = `${prefix}${process.pid}-${suffix}`;
  await run('ip', ['netns', 'add', name]);
  namespaces.add(name);
  await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  return name;
};

export const newDirectory = async (): Promise<string> => {
  const dir = await mkdtemp(join(tmpdir(), 'isthmus-envoy-'));
  dirs.add(dir);
  return dir;
};

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export const until = async (what: string, check: () => Promise<boolean>, timeoutMs = 15_000): Promise<void> => {
  const end = performance.now() + timeoutMs;
  for (;;) {
    if (await check().catch(() => false)) return;
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await sleep(50);
  }
};

/** Starts a program in a namespace; it dies with this process, even if that is killed. */
export const inside = (namespace: string, file: string, args: readonly string[], options: object): ChildProcess => {
  const command = ['--pdeathsig', 'KILL', 'ip', 'netns', 'exec', namespace, file, ...args];
  const child = spawn('setpriv', command, options);
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
};

export type Agent = {
  [K in keyof Operations]: (...args: Parameters<Operations[K]>) => Promise<Awaited<ReturnType<Operations[K]>>>;
};

export const startAgent = async (namespace: string): Promise<Agent> => {
  const child = inside(namespace, process.execPath, [join(import.meta.dirname, 'agent.ts')], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  });
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let next = 0;
  const ready = new Promise<void>((resolve) => {
    child.on('message', ({ id, value, error }: { id: number; value?: unknown; error?: string }) => {
      if (id === -1) return resolve();
      const call = waiting.get(id);
      waiting.delete(id);
      if (error === undefined) call?.resolve(value);
      else call?.reject(new Error(error));
    });
  });
  child.once('exit', () => {
    for (const { reject } of waiting.values()) reject(new Error('the agent ended'));
  });
  await ready;
  return new Proxy({} as Agent, {
    get: (_, name) => {
      // Not a promise itself.
      if (name === 'then') return undefined;
      return (...args: unknown[]) =>
        new Promise((resolve, reject) => {
          const id = next++;
          waiting.set(id, { resolve, reject });
          child.send({ id, name, args });
        });
    },
  });
};
