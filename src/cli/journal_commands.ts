/** The commands under `isthmus journal`: names and options. */
import { type Command, Option } from 'commander';

export const journalCommands = (program: Command, reach: (command: Command) => Command, output: () => Option): void => {
  const journal = program
    .command('journal')
    .description('what was decided, why and by whom; signed, and checked offline');
  const from = (command: Command): Command =>
    reach(command).option('--replica <name>', 'of this replica alone').option('--chain <id>', 'of this chain alone');
  const range = (command: Command): Command =>
    from(command)
      .option('--since <time>', '2026-11-21T14:32:05Z, 14:32 (UTC) or 15m (ago)')
      .option('--until <time>', 'likewise');
  const file = (): Option => new Option('--file <file>', 'an export, instead of a controller; - is standard input');
  range(journal.command('list'))
    .description('entries, oldest first')
    .option('--service <namespace/name>', 'about this service')
    .option('--member <name>', 'about this cluster')
    .option('--kind <kind>', 'shift, failback, ramp, state, hold, drain, … or gap, torn, …')
    .option('--rule <rule>', 'by this rule, as GrayFailure')
    .option('--author <name>', 'by this person, drill or controller')
    .option('--limit <n>', 'at most so many, the newest', '50')
    .addOption(file())
    .addOption(output())
    .action(async (options) => (await import('./journal.ts')).list(options));
  from(journal.command('show'))
    .description('one entry: what moved, from where to where, why, which guards held, who')
    .argument('<entry>', 'its number')
    .addOption(file())
    .addOption(output())
    .action(async (entry, options) => (await import('./journal.ts')).show(entry, options));
  range(journal.command('verify'))
    .description('find what was changed, removed or reordered (exit code 79)')
    .addOption(file())
    .option('--key <key>', 'the member’s record key, in hexadecimal, or its fingerprint sha256:…')
    .option('--anchors <file>', 'what a peer remembers: isthmus journal anchors -o json')
    .addOption(output())
    .action(async (options) => (await import('./journal.ts')).verify(options));
  range(journal.command('export'))
    .description('write the journal to standard output, to be verified, shown and replayed anywhere')
    .option('--no-inputs', 'leave out what a replay needs: much smaller')
    .action(async (options) => (await import('./journal.ts')).exportJournal(options));
  from(journal.command('replay'))
    .description('run the inputs of an entry through the decision again, and compare (exit code 79)')
    .argument('<entry>', 'its number')
    .addOption(file())
    .addOption(output())
    .action(async (entry, options) => (await import('./journal.ts')).replay(entry, options));
  reach(journal.command('anchors'))
    .description('newest entries of all journals and border audits, as this cluster saw them published')
    .addOption(output())
    .action(async (options) => (await import('./journal.ts')).anchors(options));
};
