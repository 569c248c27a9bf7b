/**
 * `make sim`: runs seeds until they are done or the time is over; a failing one prints itself, shrunk.
 *
 *   test/sim/main.ts --seeds 100              that many, new ones each time
 *   test/sim/main.ts --seconds 60             as many as fit
 *   test/sim/main.ts --seed 123               that one, with all that it says
 *   test/sim/main.ts --clusters 200 --seeds 1 of that size
 *   test/sim/main.ts --scenario file.json     one that was kept
 *
 * Each worker is a process of its own. Regressions (test/sim/regressions) are run first.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { shownScenario, shownViolation } from './report.ts';
import { type Outcome, runScenario } from './run.ts';
import { shrink } from './shrink.ts';
import { drawScenario } from './world/draw-scenario.ts';
import { manyClusters, type Scenario } from './world/scenario.ts';

const shrinkMs = 120_000;
/** Of one run, on a busy machine; of a large one ten times as long. */
const runMaxMs = 300_000;
const seedMax = 2 ** 31;
const regressions = join(import.meta.dirname, 'regressions');

/** From a worker. */
export interface Done {
  readonly name: string;
  readonly violation: Outcome['violation'];
  readonly simulatedMs: number;
  readonly convergedMs: number | undefined;
  readonly requests: number;
  readonly steps: number;
  readonly shifts: number;
}
interface Task {
  readonly name: string;
  readonly seed: number | undefined;
  readonly size: number | undefined;
  readonly file: string | undefined;
}

const scenarioOf = ({ seed, size, file }: Task): Scenario =>
  file === undefined ? drawScenario(seed!, { clusters: size }) : (JSON.parse(readFileSync(file, 'utf8')) as Scenario);

const work = async (task: Task): Promise<Done> => {
  const { violation, simulatedMs, convergedMs, requests, steps, shifts } = await runScenario(scenarioOf(task));
  return { name: task.name, violation, simulatedMs, convergedMs, requests, steps, shifts };
};

const asWorker = (): void => {
  process.on('message', (task: Task) => {
    void work(task).then((done) => process.send!(done));
  });
  process.on('disconnect', () => process.exit(0));
};

/** Everything about one. @returns whether it held */
const tell = async (task: Task, smaller: boolean): Promise<boolean> => {
  const scenario = scenarioOf(task);
  process.stdout.write(`${shownScenario(scenario)}\n`);
  const outcome = await runScenario(scenario);
  const { violation, simulatedMs, convergedMs, requests, steps, shifts } = outcome;
  const converged = convergedMs === undefined ? '' : `, converged within ${convergedMs / 1_000} s`;
  process.stdout.write(
    `${shownViolation(outcome)} (${Math.round(simulatedMs / 1_000)} s simulated, ${requests} requests, ${steps} steps, ${shifts} shifts${converged})\n`,
  );
  if (violation === undefined) return true;
  if (!smaller) return false;
  const shrunk = await shrink(scenario, violation.invariant, shrinkMs);
  mkdirSync('out', { recursive: true });
  const file = `out/sim-${task.name}.json`;
  writeFileSync(file, `${JSON.stringify(shrunk.scenario, null, 2)}\n`);
  process.stdout.write(
    `\nafter shrinking (${shrunk.runs} runs):\n${shownScenario(shrunk.scenario)}\n${shownViolation(await runScenario(shrunk.scenario))}\n` +
      `rerun: make sim SEED=${scenario.seed}, or the smaller one: make sim SCENARIO=${file} (kept, it goes to test/sim/regressions)\n`,
  );
  return false;
};

class Batch {
  readonly failed: Task[] = [];
  /** Those that never answered: running them here would not end either. */
  readonly dead = new Set<string>();
  readonly #tasks: Iterator<Task>;
  readonly #endMs: number;
  count = 0;
  simulatedMs = 0;
  requests = 0;
  shifts = 0;

  constructor(tasks: Iterator<Task>, endMs: number) {
    this.#tasks = tasks;
    this.#endMs = endMs;
  }

  async run(workers: number): Promise<void> {
    await Promise.all(Array.from({ length: workers }, () => this.#worker()));
  }

  async #worker(): Promise<void> {
    let child: ChildProcess | undefined;
    try {
      for (;;) {
        if (performance.now() > this.#endMs) return;
        const next = this.#tasks.next();
        if (next.done === true) return;
        if (child === undefined || child.exitCode !== null || child.signalCode !== null) {
          child = fork(import.meta.filename, ['--worker'], { execArgv: process.execArgv });
        }
        this.#note(next.value, await answer(child, next.value));
      }
    } finally {
      if (child?.connected === true) child.disconnect();
    }
  }

  #note(task: Task, done: Done): void {
    this.count++;
    this.simulatedMs += done.simulatedMs;
    this.requests += done.requests;
    this.shifts += done.shifts;
    if (done.violation === undefined) {
      if (this.count % 25 === 0) process.stderr.write(`sim: ${this.count} done, the last one seed ${task.name}\n`);
      return;
    }
    this.failed.push(task);
    if (done.simulatedMs === 0) this.dead.add(task.name);
    process.stdout.write(`sim: ${task.name}: ${done.violation.invariant}: ${done.violation.detail.split('\n')[0]}\n`);
  }
}

/** A worker that dies, or is at it for ever, has failed at its task. */
const answer = (child: ChildProcess, task: Task): Promise<Done> =>
  new Promise((resolve) => {
    const maxMs = (task.size ?? 0) > manyClusters ? 10 * runMaxMs : runMaxMs;
    const tooLong = setTimeout(() => child.kill('SIGKILL'), maxMs);
    const gone = (code: number | null): void => {
      clearTimeout(tooLong);
      const detail = code === null ? `no end after ${maxMs / 1_000} s` : `its process ended with ${code}`;
      const nothing = { simulatedMs: 0, convergedMs: undefined, requests: 0, steps: 0, shifts: 0 };
      resolve({ name: task.name, violation: { invariant: 'no-crash', atMs: 0, detail }, ...nothing });
    };
    child.once('exit', gone);
    child.once('message', (done) => {
      clearTimeout(tooLong);
      child.off('exit', gone);
      resolve(done as Done);
    });
    child.send(task);
  });

function* tasksOf(base: number, seeds: number, size: number | undefined): Generator<Task> {
  for (const name of readdirSync(regressions).filter((n) => n.endsWith('.json'))) {
    yield { name, seed: undefined, size: undefined, file: join(regressions, name) };
  }
  for (let i = 0; i < seeds; i++) {
    const seed = (base + i) % seedMax;
    yield { name: String(seed), seed, size, file: undefined };
  }
}

const batch = async (values: Readonly<Record<string, string | undefined>>): Promise<boolean> => {
  const base = values['from'] === undefined ? randomInt(seedMax) : Number(values['from']);
  const seconds = values['seconds'] === undefined ? Number.POSITIVE_INFINITY : Number(values['seconds']);
  const seeds = values['seeds'] === undefined ? (Number.isFinite(seconds) ? seedMax : 20) : Number(values['seeds']);
  const size = values['clusters'] === undefined ? undefined : Number(values['clusters']);
  const startMs = performance.now();
  process.stdout.write(`sim: seeds from ${base}\n`);
  const all = new Batch(tasksOf(base, seeds, size), startMs + seconds * 1_000);
  await all.run(Math.max(1, Math.min(seeds, availableParallelism())));
  const told = all.failed.find(({ name }) => !all.dead.has(name));
  if (told !== undefined) await tell(told, values['no-shrink'] === undefined);
  const wallS = (performance.now() - startMs) / 1_000;
  const failed = all.failed.map(({ name }) => name).join(' ');
  process.stdout.write(
    `sim: ${all.count} runs from seed ${base}, ${all.failed.length} failed${failed === '' ? '' : ` (${failed})`}; ` +
      `${Math.round(all.simulatedMs / 60_000)} simulated minutes in ${wallS.toFixed(0)} s, ${all.requests} requests, ${all.shifts} steps that moved something\n`,
  );
  return all.failed.length === 0;
};

const number = (text: string): number => {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 0) return value;
  process.stderr.write(`sim: "${text}" is not a whole number\n`);
  process.exit(64);
};

if (process.argv.includes('--worker')) asWorker();
else {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string' },
      from: { type: 'string' },
      seconds: { type: 'string' },
      seed: { type: 'string' },
      clusters: { type: 'string' },
      scenario: { type: 'string' },
      'no-shrink': { type: 'boolean' },
    },
  });
  for (const name of ['seeds', 'from', 'seconds', 'seed', 'clusters'] as const) {
    if (values[name] !== undefined) number(values[name]);
  }
  const { seed, scenario, clusters } = values;
  const size = clusters === undefined ? undefined : number(clusters);
  const smaller = values['no-shrink'] !== true;
  let held: boolean;
  if (scenario !== undefined) held = await tell({ name: 'kept', seed: undefined, size, file: scenario }, smaller);
  else if (seed !== undefined) held = await tell({ name: seed, seed: number(seed), size, file: undefined }, smaller);
  else {
    const { seeds, from, seconds } = values;
    held = await batch({ seeds, from, seconds, clusters, 'no-shrink': smaller ? undefined : 'yes' });
  }
  process.exit(held ? 0 : 1);
}
