/** The commands under `isthmus trust` beyond `init` and `import`: names and options. */
import { type Command, Option } from 'commander';

const collect = (value: string, all: string[]): string[] => [...all, value];
const withPassphrase = (command: Command): Command =>
  command.option('--passphrase-file <file>', 'file with the passphrase of the authority’s key');

const registerCommand = (trust: Command): void => {
  withPassphrase(trust.command('register'))
    .description('at the authority’s desk: which roots a member’s trust bundle may hold')
    .requiredOption('--cluster <name>', 'the member')
    .requiredOption('--root <file>', 'PEM with its roots, or a SHA-256 in hexadecimal (repeat)', collect, [])
    .option('--remove', 'these may not be in it any more', false)
    .addOption(
      new Option('--authority-dir <dir>', 'directory that `isthmus init` wrote')
        .env('ISTHMUS_AUTHORITY_DIR')
        .default('.'),
    )
    .action(async (options) => (await import('./trust_register.ts')).trustRegister(options));
};

export const trustCommands = (trust: Command, reach: (command: Command) => Command, output: () => Option): void => {
  registerCommand(trust);
  const rotate = trust.command('rotate').description('exchange a root of the mesh, in stages that are proven');
  const common = (command: Command): Command =>
    reach(command)
      .option('--trust-dir <dir>', 'directory that `isthmus trust init` wrote', '.')
      .option('--install <cluster=context>', 'write the cluster’s Secret, too (repeat)', collect, []);
  const forced = (command: Command): Command =>
    common(command)
      .option('--force <cluster>', 'go on although this member has not proven it (repeat)', collect, [])
      .option('--wait [time]', 'stay until it is proven, at most so long');
  withPassphrase(common(rotate.command('start')))
    .description('trust a new root beside the old one; nothing is issued under it yet')
    .option('--cluster <name>', 'only this cluster, under a root of its own (repeat); default: all', collect, [])
    .option('--material <dir>', 'CAs under the new root, a cacerts directory for each cluster; default: made in next/')
    .option('--trust-domain <name>', 'SPIFFE trust domain', 'cluster.local')
    .option('--authority-dir <dir>', 'register the new root, with the authority’s key at hand')
    .action(async (options) => (await import('./trust_rotate.ts')).rotateStart(options));
  common(rotate.command('status'))
    .description('who has loaded what, and who is missing; exit 79 while somebody is')
    .addOption(output())
    .action(async (options) => (await import('./trust_rotate.ts')).rotateStatus(options));
  forced(rotate.command('continue'))
    .description('the next stage: issue under the new root, then remove the old one; refused until it is proven')
    .action(async (options) => (await import('./trust_rotate.ts')).rotateContinue(options));
  forced(rotate.command('abort'))
    .description('go back, stage by stage, to the old root alone')
    .action(async (options) => (await import('./trust_rotate.ts')).rotateAbort(options));
};
