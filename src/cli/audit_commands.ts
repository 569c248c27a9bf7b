/** The commands under `isthmus audit`: names and options. */
import { type Command, Option } from 'commander';

export const auditCommands = (program: Command, reach: (command: Command) => Command, output: () => Option): void => {
  const audit = program
    .command('audit')
    .description('who connected across the border, to what, and what was denied; signed, and checked offline');
  const from = (command: Command): Command =>
    reach(command)
      .option('--replica <name>', 'of this replica alone')
      .option('--since <time>', '2026-11-21T14:32:05Z, 14:32 (UTC) or 15m (ago)')
      .option('--until <time>', 'likewise');
  const file = (): Option => new Option('--file <file>', 'an export, instead of a controller; - is standard input');
  from(audit.command('list'))
    .description('connections, oldest first')
    .option('--denied', 'those that got no tunnel, with the reason')
    .option('--side <side>', 'egress, ingress or direct')
    .option('--source <name>', 'from this workload (SPIFFE id, or its end) or member')
    .option('--service <namespace/name>', 'to this service')
    .option('--member <name>', 'to, or from, this cluster')
    .option('--result <result>', 'open, closed, cut, denied, failed or left')
    .option('--reason <reason>', 'as not-exported, grant, loop, unreachable')
    .option('--limit <n>', 'at most so many, the newest', '50')
    .addOption(file())
    .addOption(output())
    .action(async (options) => (await import('./audit.ts')).list(options));
  from(audit.command('verify'))
    .description('find what was changed, removed or reordered (exit code 79)')
    .addOption(file())
    .option('--key <key>', 'the member’s record key, in hexadecimal, or its fingerprint sha256:…')
    .option('--anchors <file>', 'what a peer remembers: isthmus journal anchors -o json')
    .addOption(output())
    .action(async (options) => (await import('./audit.ts')).verify(options));
  from(audit.command('export'))
    .description('write the audit to standard output, to be verified and listed anywhere')
    .action(async (options) => (await import('./audit.ts')).exportAudit(options));
};
