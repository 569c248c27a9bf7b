/** Appends to a journal until it is killed, and prints the number of each entry once it is durable. Run by journal.test.ts. */
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { seededRng } from '../../../src/core/rng.ts';
import { Journal } from '../../../src/journal/journal.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { DiskJournalFiles } from '../../../src/store/journal_files.ts';

const [, , dir, keyFile, count] = process.argv;
const journal = new Journal({
  member: 'us-east',
  replica: 'r0',
  key: createPrivateKey(readFileSync(keyFile!)),
  files: new DiskJournalFiles({ dir: dir!, clock: realClock }),
  clock: realClock,
  rng: seededRng(process.pid),
  version: '0',
  epoch: () => 1n,
  whenUnwritable: 'refuse',
  onEvent: () => {},
});
for (let i = 0; i < Number(count); i++) {
  const bodies = [{ author: 'controller', text: `move ${i} ${'x'.repeat(i % 700)}` }];
  const outcome = await journal.append(bodies, { step: i, noise: [...Array(i % 50).keys()] });
  process.stdout.write(outcome.durable ? `${outcome.last}\n` : 'spooled\n');
}
process.exit(0);
