/** `make demo`: the main job, end to end, on one machine. Progress on stderr, the result on stdout and in out/demo.json. */
import { InvalidRun } from '../lab/control-window.ts';
import { threeClusters } from '../lab/lab.ts';
import { openLab } from '../lab/open.ts';
import { type Row, resultTable, timelineTable, writeDemo } from './report.ts';
import { tellStory } from './story.ts';

const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

const started = Date.now();
say('demo: three clusters, one federation, a region lost; about three minutes');
const lab = await openLab({ clusters: threeClusters, storeLeader: 'us-west', report: (line) => say(`  ${line}`) });
let code = 0;
const rows: Row[] = [];
try {
  say(`demo: the lab is up after ${((Date.now() - started) / 1000).toFixed(0)} s`);
  const shown = setInterval(() => {
    for (const event of lab.timeline.slice(told))
      say(`  ${((event.at - started) / 1000).toFixed(1).padStart(6)} s  ${event.what}`);
    told = lab.timeline.length;
  }, 200);
  let told = 0;
  const result = await tellStory(lab, rows).finally(() => clearInterval(shown));
  const out = (text: string): void => {
    process.stdout.write(`${text}\n`);
  };
  out('\nWho spoke to whom while us-west answered (its ztunnel’s log):');
  for (const line of result.identities) out(`  ${line}`);
  out(`\nOne such call, hop by hop:\n${result.trace}`);
  out(`\nStatus of us-east at the end:\n\n${result.status}`);
  out(`\nTimeline:\n${timelineTable(lab.timeline, started)}`);
  out(`\n${resultTable(rows)}`);
  out(
    '\ngateway: through the local gateway. direct: ztunnel to the remote gateway, as stock ambient does. Same faults, same time, same load.',
  );
  writeDemo(rows);
} catch (error) {
  code = error instanceof InvalidRun ? 75 : 1;
  say(
    error instanceof InvalidRun
      ? `demo: invalid run, not a failed one: ${error.message}`
      : `demo: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  );
  if (rows.length > 0) say(resultTable(rows));
} finally {
  await lab.down();
}
process.exit(code);
