/** A gateway's runner as a process, the way the command line runs it. Reads its options from the first argument, as JSON. */
import { readFileSync } from 'node:fs';
import type { Clock } from '../../../src/core/clock.ts';
import { runGateway } from '../../../src/gateway/runner.ts';

export interface RunnerArguments {
  readonly envoy: string;
  readonly runDir: string;
  readonly healthAddress: string;
  readonly drainMs: number;
  readonly bootstrapFile: string;
  readonly listeners: readonly string[];
}

const clock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

const options = JSON.parse(process.argv[2]!) as RunnerArguments;
const runner = await runGateway({
  ...options,
  envoys: 2,
  concurrency: 1,
  bootstrap: () => [{ name: 'bootstrap.json', json: JSON.parse(readFileSync(options.bootstrapFile, 'utf8')) }],
  clock,
  rng: Math.random,
  log: (level, message, fields = {}) => {
    const plain = Object.entries(fields).map(([k, v]) => [k, v instanceof Error ? v.message : v]);
    process.stderr.write(`${JSON.stringify({ level, message, ...Object.fromEntries(plain) })}\n`);
  },
});
process.stdout.write(`${runner.healthAddress}\n`);
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    runner.stop().then(() => process.exit(0));
  });
}
