/**
 * `make bench`: every figure of docs/BENCHMARKS.md, or those named on the command line.
 *
 * Each bench is a module of its own that takes nothing and gives figures; they run one after another, so that none is measured in
 * another's noise. A bench that cannot run says so and is counted as not met; the others go on.
 */
import { type Figure, figureTable, writeFigures } from './report.ts';

interface Bench {
  run(): Promise<readonly Figure[]>;
}

const benches: Record<string, { readonly what: string; load(): Promise<Bench> }> = {
  propagation: {
    what: 'an endpoint changed in one cluster → received by a proxy in another',
    load: () => import('./propagation.ts'),
  },
  fanout: { what: 'one change to 1, 100, 1,000 streams', load: () => import('./fanout.ts') },
  scale: { what: '100 members × 1,000 services', load: () => import('./scale.ts') },
  sim: { what: 'how fast the simulation is', load: () => import('./sim.ts') },
  faults: { what: 'new connections failed and longest stall, per fault', load: () => import('./faults.ts') },
  step: { what: 'a decision for 100 clusters × 1,000 services', load: () => import('./step.ts') },
  hop: { what: 'what the egress hop costs', load: () => import('./hop.ts') },
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in benches));
if (unknown.length > 0) {
  process.stderr.write(`bench: "${unknown[0]}" is not a bench; there are ${Object.keys(benches).join(', ')}\n`);
  process.exit(64);
}

const figures: Figure[] = [];
let broken = 0;
for (const [name, bench] of Object.entries(benches)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  process.stderr.write(`\n== ${name}: ${bench.what}\n`);
  const start = performance.now();
  try {
    const found = await (await bench.load()).run();
    figures.push(...found);
    process.stdout.write(`${figureTable(found)}\n`);
  } catch (error) {
    broken++;
    process.stderr.write(
      `bench ${name} could not run: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
  }
  process.stderr.write(`   ${((performance.now() - start) / 1000).toFixed(0)} s\n`);
}
writeFigures('out/bench.json', figures);
const missed = figures.filter((f) => f.met === false);
process.stdout.write(
  `\n${figures.filter((f) => f.met).length} aims met, ${missed.length} missed${missed.length > 0 ? `: ${missed.map((f) => f.name).join(', ')}` : ''}; all figures in out/bench.json\n`,
);
process.exit(broken > 0 ? 1 : 0);
