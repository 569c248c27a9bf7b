/**
 * `make sim-mutants`: for every invariant at least one deliberately broken variant of the code, and the seed at which the simulation
 * catches it. A mutant that gets away, an invariant without one, or a patch that no longer fits: exit 1.
 */
import { fork } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { table } from '../../../src/cli/output.ts';
import { invariants } from '../invariants/all.ts';
import type { Hunted } from './hunter.ts';
import { type Mutant, mutants } from './table.ts';

const seedsMax = 60;
/** A mutant may loop for ever. */
const huntMaxMs = 180_000;

const hunt = (mutant: Mutant, from: number): Promise<Hunted> =>
  new Promise((resolve, reject) => {
    const child = fork(join(import.meta.dirname, 'hunter.ts'), [], {
      execArgv: ['--import', join(import.meta.dirname, 'hook.ts')],
      env: { ...process.env, ISTHMUS_SIM_MUTANT: mutant.name },
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    let said = '';
    const end = setTimeout(() => child.kill('SIGKILL'), huntMaxMs);
    child.stderr!.on('data', (text) => {
      said += String(text);
    });
    child.once('message', (hunted) => {
      clearTimeout(end);
      child.disconnect();
      resolve(hunted as Hunted);
    });
    child.once('exit', (code) => {
      clearTimeout(end);
      reject(new Error(`its process ended with ${code}: ${said.slice(0, 500)}`));
    });
    child.send({ name: mutant.name, from, seedsMax });
  });

const wanted = process.argv.slice(2);
const chosen = wanted.length === 0 ? mutants : mutants.filter(({ name }) => wanted.includes(name));
const waiting = [...chosen];
const rows: string[][] = [];
let away = 0;
const worker = async (): Promise<void> => {
  for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
    const from = randomInt(2 ** 30);
    let hunted: Hunted;
    try {
      hunted = await hunt(mutant, from);
    } catch (error) {
      hunted = { seed: undefined, runs: 0, detail: (error as Error).message, others: [] };
    }
    const { seed, runs, detail } = hunted;
    if (seed === undefined) away++;
    process.stderr.write(
      `${mutant.name}: ${seed === undefined ? `NOT CAUGHT (${detail}; ${hunted.others.join(', ')})` : detail}\n`,
    );
    rows.push([mutant.invariant, mutant.name, seed === undefined ? 'NOT CAUGHT' : `seed ${seed}`, `${runs}`]);
  }
};
await Promise.all(Array.from({ length: availableParallelism() }, worker));
rows.sort(([a], [b]) => (a! < b! ? -1 : 1));
process.stdout.write(`${table(['INVARIANT', 'MUTANT', 'CAUGHT AT', 'RUNS'], rows)}\n`);
const bare = wanted.length > 0 ? [] : invariants.filter(({ name }) => !mutants.some((m) => m.invariant === name));
for (const { name } of bare) process.stdout.write(`no mutant for ${name}\n`);
process.stdout.write(
  `sim-mutants: ${chosen.length - away} of ${chosen.length} caught, ${invariants.length - bare.length} of ${invariants.length} invariants have one\n`,
);
process.exit(away + bare.length > 0 ? 1 : 0);
