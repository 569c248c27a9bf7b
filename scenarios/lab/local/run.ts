/**
 * A run of the lab and what it must leave behind: nothing.
 *
 * Everything a run makes is found again by its prefix: network namespaces, the processes in them (and their children,
 * which recorded pids would miss, while a reused pid could never be hit), their files under /etc/netns, and one directory. So
 * cleaning needs no list that a crash could leave half written; the state file only tells who owned the run.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ipBatch } from './shell.ts';

const netnsDir = '/run/netns';
const dirPrefix = 'isthmus-lab-';

export interface Run {
  readonly id: string;
  readonly dir: string;
  /** The start of the name of every namespace of this run. */
  readonly prefix: string;
}

interface State {
  readonly version: 1;
  readonly ownerPid: number;
  /** The owner's start time in clock ticks since boot: tells it from a later process with its pid. */
  readonly ownerStart: string;
}

const runOf = (id: string): Run => ({ id, dir: join(tmpdir(), dirPrefix + id), prefix: `ist-${id}-` });

/** Field 22 of /proc/<pid>/stat, or undefined when there is no such process. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** Makes the directory of a new run, owned by this process. */
export async function createRun(): Promise<Run> {
  const run = runOf(randomBytes(3).toString('hex'));
  await mkdir(join(run.dir, 'logs'), { recursive: true, mode: 0o700 });
  await writeState(run);
  return run;
}

/** Writes who owns the run: this process. */
export async function writeState(run: Run): Promise<void> {
  const state: State = { version: 1, ownerPid: process.pid, ownerStart: startTime(process.pid) ?? '' };
  const file = join(run.dir, 'state.json');
  await writeFile(`${file}.new`, `${JSON.stringify(state)}\n`);
  await rename(`${file}.new`, file);
}

function readState(run: Run): State | undefined {
  try {
    const state = JSON.parse(readFileSync(join(run.dir, 'state.json'), 'utf8')) as State;
    return typeof state.ownerPid === 'number' ? state : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Every run of which something is left on this machine, with its owner if that still lives.
 *
 * A run without a directory is found by its namespaces: somebody emptied the temporary files, or keeps them elsewhere. As long
 * as a process lives in one of its namespaces it may be another user's lab, and is not listed.
 */
export function listRuns(): readonly { run: Run; owner: number | undefined }[] {
  const ids = new Set<string>();
  for (const name of readdirSync(tmpdir())) if (name.startsWith(dirPrefix)) ids.add(name.slice(dirPrefix.length));
  const orphans = new Set<string>();
  for (const name of existsSync(netnsDir) ? readdirSync(netnsDir) : []) {
    const id = /^ist-([0-9a-f]{6})-/.exec(name)?.[1];
    if (id !== undefined && !ids.has(id)) orphans.add(id);
  }
  for (const id of orphans) {
    if (processesIn(new Set(namespacesOf(runOf(id)).values())).length === 0) ids.add(id);
  }
  return [...ids].map((id) => {
    const run = runOf(id);
    const state = readState(run);
    const alive = state !== undefined && startTime(state.ownerPid) === state.ownerStart;
    return { run, owner: alive ? state.ownerPid : undefined };
  });
}

/** The namespaces of a run, by name, with the inode that tells their processes. */
function namespacesOf(run: Run): Map<string, string> {
  const found = new Map<string, string>();
  if (!existsSync(netnsDir)) return found;
  for (const name of readdirSync(netnsDir)) {
    if (name.startsWith(run.prefix)) found.set(name, String(statSync(join(netnsDir, name)).ino));
  }
  return found;
}

/** All processes whose network namespace has one of these inodes. */
function processesIn(inodes: ReadonlySet<string>): number[] {
  const pids: number[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const inode = /\[(\d+)\]/.exec(readlinkSync(`/proc/${name}/ns/net`))?.[1];
      if (inode !== undefined && inodes.has(inode)) pids.push(Number(name));
    } catch {
      // It ended while we looked.
    }
  }
  return pids;
}

/** The processes in one namespace, children and grandchildren included. */
export const processesInNamespace = (namespace: string): number[] => {
  const path = join(netnsDir, namespace);
  return existsSync(path) ? processesIn(new Set([String(statSync(path).ino)])) : [];
};

export function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It ended before us.
    }
  }
}

/** Kills what runs in these namespaces until nothing does: a process may fork while it is being killed. */
async function killIn(inodes: ReadonlySet<string>): Promise<void> {
  for (let round = 0; round < 200; round++) {
    const pids = processesIn(inodes).filter((pid) => pid !== process.pid);
    if (pids.length === 0) return;
    signalAll(pids, 'SIGKILL');
    await sleep(round < 5 ? 10 : 50);
  }
  throw new Error('processes in the namespaces of the run do not end');
}

export async function removeNamespaces(names: readonly string[]): Promise<void> {
  const there = names.filter((name) => existsSync(join(netnsDir, name)));
  const inodes = new Set(there.map((name) => String(statSync(join(netnsDir, name)).ino)));
  await killIn(inodes);
  if (there.length > 0)
    await ipBatch(
      undefined,
      there.map((name) => `netns del ${name}`),
    );
  for (const name of names) rmSync(join('/etc/netns', name), { recursive: true, force: true });
}

/** Removes all that a run left. Safe to call again, and by another process than the owner. */
export async function cleanRun(run: Run): Promise<void> {
  // Twice, because an owner that is still dying may add a namespace between the list and the end.
  for (let round = 0; round < 2; round++) await removeNamespaces([...namespacesOf(run).keys()]);
  if (existsSync('/etc/netns')) {
    for (const name of readdirSync('/etc/netns')) {
      if (name.startsWith(run.prefix)) rmSync(join('/etc/netns', name), { recursive: true, force: true });
    }
  }
  await rm(run.dir, { recursive: true, force: true, maxRetries: 5 });
}

/** Cleans every run whose owner is dead. Returns their ids. */
export async function cleanDeadRuns(): Promise<string[]> {
  const dead = listRuns().filter(({ owner }) => owner === undefined);
  for (const { run } of dead) await cleanRun(run);
  return dead.map(({ run }) => run.id);
}

/** The run with this id, or an error that lists those that exist. */
export function findRun(id: string): Run {
  const run = runOf(id);
  if (!existsSync(run.dir) && namespacesOf(run).size === 0) {
    const ids = listRuns().map(({ run: { id } }) => id);
    throw new Error(`there is no run "${id}" (there ${ids.length === 0 ? 'is none' : `are: ${ids.join(', ')}`})`);
  }
  return run;
}
