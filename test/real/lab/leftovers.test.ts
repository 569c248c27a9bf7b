/** Nothing stays behind when the owner of a run dies without a word. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { cleanDeadRuns, listRuns, processesInNamespace, signalAll } from '../../../scenarios/lab/local/run.ts';

const owner = fileURLToPath(new URL('owner.ts', import.meta.url));

const owners: ChildProcess[] = [];
afterEach(() => {
  // A test that fails half-way must not leave its owner, and with it the run.
  for (const child of owners.splice(0)) child.kill('SIGKILL');
});

async function ownedRun(args: readonly string[]): Promise<{ id: string; pid: number; kill(): Promise<void> }> {
  const child = spawn(process.execPath, [owner, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  owners.push(child);
  const line = await new Promise<string>((resolve) => child.stdout.once('data', (chunk) => resolve(chunk.toString())));
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  return {
    ...(JSON.parse(line) as { id: string; pid: number }),
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

const left = (id: string) => [
  ...readdirSync('/run/netns').filter((name) => name.startsWith(`ist-${id}-`)),
  ...readdirSync(tmpdir()).filter((name) => name === `isthmus-lab-${id}`),
];

test('the reaper cleans when the owner is killed', async () => {
  const run = await ownedRun([]);
  const inside = () => processesInNamespace(`ist-${run.id}-c1-pod`).length;
  await expect.poll(inside, { timeout: 5_000 }).toBe(3);
  await run.kill();
  await expect.poll(() => left(run.id), { timeout: 15_000, interval: 100 }).toEqual([]);
  await expect.poll(() => existsSync(join('/proc', String(run.pid))), { timeout: 5_000 }).toBe(false);
});

test('the next start cleans what a run without a living reaper left, and no living run', async () => {
  const dead = await ownedRun(['without-reaper']);
  const alive = await ownedRun([]);
  await dead.kill();
  expect(listRuns().find(({ run }) => run.id === dead.id)?.owner).toBeUndefined();
  expect(await cleanDeadRuns()).toContain(dead.id);
  expect(left(dead.id)).toEqual([]);
  expect(left(alive.id).length).toBeGreaterThan(2);
  await alive.kill();
  await expect.poll(() => left(alive.id), { timeout: 15_000, interval: 100 }).toEqual([]);
});

test('namespaces of a run whose files are gone are found, once nothing lives in them', async () => {
  const dead = await ownedRun(['without-reaper']);
  await dead.kill();
  rmSync(join(tmpdir(), `isthmus-lab-${dead.id}`), { recursive: true });
  const listed = () => listRuns().some(({ run }) => run.id === dead.id);
  const inside = () => left(dead.id).flatMap(processesInNamespace);
  expect(inside().length).toBeGreaterThan(0);
  expect(listed()).toBe(false);
  signalAll(inside(), 'SIGKILL');
  await expect.poll(inside, { timeout: 5_000 }).toEqual([]);
  expect(listed()).toBe(true);
  expect(await cleanDeadRuns()).toContain(dead.id);
  expect(left(dead.id)).toEqual([]);
});
