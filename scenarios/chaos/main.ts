/**
 * `make scenarios`: every scenario file, or those whose name contains an argument, on one lab, one after another.
 *
 *   node scenarios/chaos/main.ts [--list] [--patience N] [part of a name…]
 *
 * With --patience, for machines that others use too: times may be N times as long, a few more calls may fail, and what fails is
 * run once more; what a limit missed is still shown, and out/scenarios.json judges by the file's own aims.
 *
 * Results: a table on stdout, out/scenarios.json, out/scenarios.xml (JUnit), out/scenarios.html. Exit 1 when one failed, 75 when
 * one had no valid run.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { writeFigures } from '../../bench/report.ts';
import { table } from '../../src/cli/output.ts';
import { InvalidRun } from '../lab/control-window.ts';
import { type Lab, threeClusters } from '../lab/lab.ts';
import { openLab } from '../lab/open.ts';
import { judge } from './expectations.ts';
import { htmlReport } from './html.ts';
import { junit } from './junit.ts';
import { figuresOf, type Result, verdictOf } from './result.ts';
import { runScenario } from './runner.ts';
import { readScenario, type Scenario } from './spec.ts';

const dir = join(import.meta.dirname, '..');
const attempts = 3;
const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { list: { type: 'boolean' }, patience: { type: 'string', default: '1' } },
});
const patience = Number(options.patience);
if (!(patience >= 1 && patience <= 10)) {
  say(`scenarios: --patience ${options.patience}: a number from 1 to 10`);
  process.exit(64);
}
const files = readdirSync(dir)
  .filter((f) => f.endsWith('.scenario.yaml'))
  .filter((f) => wanted.length === 0 || wanted.some((part) => f.includes(part)))
  .sort();
if (files.length === 0) {
  say(`scenarios: no file scenarios/*.scenario.yaml has "${wanted.join('" or "')}" in its name; see --list`);
  process.exit(64);
}
const scenarios = files.map((file) => readScenario(join(dir, file)));
if (options.list) {
  process.stdout.write(
    `${table(
      ['SCENARIO', 'WHAT'],
      scenarios.map(({ name, title }) => [name, title]),
    )}\n`,
  );
  process.exit(0);
}

const runOne = async (lab: Lab, scenario: Scenario): Promise<Result> => {
  const began = lab.now();
  const seconds = (): number => (lab.now() - began) / 1000;
  let invalid = '';
  for (let attempt = 1; attempt <= attempts; attempt++) {
    try {
      const observed = await runScenario(lab, scenario, patience);
      const judged = scenario.expect.map((e) => judge(e, observed, patience));
      return { scenario, observed, judged, invalid: undefined, error: undefined, seconds: seconds() };
    } catch (error) {
      if (!(error instanceof InvalidRun)) {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        return { scenario, observed: undefined, judged: [], invalid: undefined, error: text, seconds: seconds() };
      }
      invalid = error.message;
      say(`  invalid run (${attempt} of ${attempts}): ${invalid}`);
    }
  }
  return { scenario, observed: undefined, judged: [], invalid, error: undefined, seconds: seconds() };
};

const tell = (result: Result): void => {
  for (const { what, met, late, seen } of result.judged)
    say(`   ${met ? (late ? 'late' : 'ok  ') : 'FAIL'} ${what}: ${seen}`);
  if (result.error !== undefined) say(`   ERROR ${result.error}`);
  say(`   ${verdictOf(result)}, ${result.seconds.toFixed(0)} s`);
};

const about = scenarios.reduce((sum, { until, control }) => sum + until + control.forS + 15, 40);
say(`scenarios: ${scenarios.length} on a lab of three clusters; about ${Math.ceil(about / 60)} minutes`);
const results: Result[] = [];
const runOn = async (certificateTtlS: number | undefined, those: readonly Scenario[]): Promise<void> => {
  if (those.length === 0) return;
  const lab = await openLab({
    ...{ clusters: threeClusters, storeLeader: 'us-west', report: (line: string) => say(`  ${line}`) },
    ...(certificateTtlS !== undefined && { controllerConfig: { mesh: { certificateTtlS } } }),
  });
  try {
    await runAll(lab, those);
  } finally {
    await lab.down();
  }
};
const runAll = async (lab: Lab, those: readonly Scenario[]): Promise<void> => {
  for (const scenario of those) {
    say(`\n== ${scenario.name}: ${scenario.title}`);
    let result = await runOne(lab, scenario);
    tell(result);
    if (patience > 1 && ['failed', 'error'].includes(verdictOf(result))) {
      say('   once more');
      result = await runOne(lab, scenario);
      tell(result);
    }
    results.push(result);
  }
};
for (const [ttl, those] of Map.groupBy(scenarios, ({ setup }) => setup.certificateTtlS)) await runOn(ttl, those);
mkdirSync('out', { recursive: true });
writeFigures('out/scenarios.json', figuresOf(results));
writeFileSync('out/scenarios.xml', junit(results));
writeFileSync('out/scenarios.html', htmlReport(results));
process.stdout.write(
  `\n${table(
    ['SCENARIO', 'RESULT', 'MET', 'SECONDS', 'FIRST MISSED'],
    results.map((r) => [
      r.scenario.name,
      verdictOf(r),
      `${r.judged.filter(({ met }) => met).length}/${r.judged.length}`,
      r.seconds.toFixed(0),
      r.error?.split('\n')[0] ?? r.invalid ?? r.judged.find(({ met }) => !met)?.seen ?? '',
    ]),
  )}\n\nout/scenarios.html shows the curves; out/scenarios.xml is JUnit\n`,
);
const verdicts = new Set(results.map(verdictOf));
process.exit(verdicts.has('failed') || verdicts.has('error') ? 1 : verdicts.has('invalid') ? 75 : 0);
