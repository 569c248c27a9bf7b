/** The command tree: names, options and help. What a command does is in its own file, loaded when it is called. */
import { Command, CommanderError, Option } from 'commander';
import { IsthmusError } from '../core/errors.ts';
import { version } from '../version.ts';
import { auditCommands } from './audit_commands.ts';
import { journalCommands } from './journal_commands.ts';
import { membershipCommands } from './membership_commands.ts';
import { formats, reportFailure } from './output.ts';
import { trustCommands } from './trust_commands.ts';

const output = () => new Option('-o, --output <format>', 'output format').choices([...formats]).default('table');

const reach = (command: Command): Command =>
  command
    .addOption(
      new Option('--controller <url...>', 'admin address of a controller, instead of the Kubernetes API').env(
        'ISTHMUS_CONTROLLER',
      ),
    )
    .option('--kubeconfig <file>', 'kubeconfig of the cluster')
    .option('--context <name>', 'context in the kubeconfig')
    .option('-n, --namespace <name>', 'namespace that Isthmus runs in', 'isthmus-system');

const configured = (command: Command): Command =>
  command
    .option('--config <file>', 'configuration file (YAML)')
    .option('--set <key=value>', 'set one configuration key', (value: string, all: string[]) => [...all, value], []);

const collect = (value: string, all: string[]): string[] => [...all, value];

const setUpCommands = (program: Command): void => {
  const trust = program.command('trust').description('certificate authorities of the mesh');
  trust
    .command('init')
    .description('make a root and one intermediate per cluster, in Istio’s cacerts layout')
    .requiredOption('--out <dir>', 'directory to write')
    .requiredOption('--cluster <name>', 'a cluster (repeat)', collect, [])
    .option('--trust-domain <name>', 'SPIFFE trust domain', 'cluster.local')
    .option('--separate-roots', 'a root of its own for every cluster', false)
    .action(async (options) => (await import('./trust.ts')).trustInit(options));
  trust
    .command('import')
    .description('check an existing cacerts directory or secret, and install it into a cluster')
    .option('--from <dir>', 'cacerts directory')
    .option('--from-secret <namespace/name>', 'secret in the cluster, as Istio uses it')
    .option('--kubeconfig <file>', 'kubeconfig of the cluster')
    .option('--context <name>', 'context in the kubeconfig')
    .option('-n, --namespace <name>', 'namespace to install into', 'isthmus-system')
    .option('--dry-run', 'check only', false)
    .action(async (options) => (await import('./trust.ts')).trustImport(options));
  trustCommands(trust, reach, output);
};

const policyCommands = (program: Command): void => {
  const policy = program.command('policy').description('failover policies: see docs/FAILOVER-POLICY.md');
  policy
    .command('check')
    .description('read a FailoverPolicy, or the spec of one, and print what it sets (-o wide: everything)')
    .argument('<file>', 'YAML or JSON')
    .addOption(output())
    .action(async (file, options) => (await import('./policy.ts')).policyCheck(file, options));
  policy
    .command('set')
    .description('sign a spec as the default of the whole cluster set, and store it')
    .argument('<file>', 'the spec, YAML or JSON; {} goes back to the built-in default')
    .requiredOption('--clusterset <name>', 'name of the cluster set')
    .requiredOption('--authority <file>', 'the authority-key.pem that `isthmus init` wrote')
    .requiredOption('--etcd <url...>', 'etcd client URLs')
    .requiredOption('--etcd-ca <file>', 'CA certificate of etcd')
    .requiredOption('--etcd-cert <file>', 'client certificate of etcd’s root user')
    .requiredOption('--etcd-key <file>', 'its key')
    .option('--passphrase-file <file>', 'file with the passphrase of the authority’s key')
    .option('--allow-unsafe-etcd', 'accept an etcd with known authorization holes', false)
    .addOption(output())
    .action(async (file, options) => (await import('./policy.ts')).policySet(file, options));
};

const lookCommands = (program: Command): void => {
  reach(program.command('status'))
    .description('what a controller knows: store, peers, services, proxies')
    .addOption(output())
    .action(async (options) => (await import('./status.ts')).status(options));
  reach(program.command('trace'))
    .description('follow one connection hop by hop: identities, times, and where it broke')
    .argument('<from>', 'workload whose identity calls: <namespace>/<service account>')
    .argument('<service>', '<namespace>/<service>[:port]')
    .option('--timeout <ms>', 'longest time for the whole trace', '10000')
    .addOption(output())
    .action(async (from, service, options) => (await import('./trace.ts')).traceCommand(from, service, options));
  program
    .command('version')
    .description('print the version')
    .addOption(output())
    .action(async (options) => (await import('./version.ts')).printVersion(options));
  const config = program.command('config').description('configuration');
  config
    .command('schema')
    .description('print the JSON schema of the configuration')
    .option('--gateway', 'that of a gateway pod instead of a controller', false)
    .option('--store-gateway', 'that of a store gateway', false)
    .action(async (options) => (await import('./config.ts')).schema(options));
  configured(config.command('check'))
    .description('read and check a controller’s configuration, and print the result')
    .action(async (options) => (await import('./config.ts')).check(options));
};

const failoverCommands = (program: Command): void => {
  reach(program.command('explain'))
    .description('where a service’s traffic goes, why, and what would change it')
    .argument('<service>', '<namespace>/<service>')
    .option('--from <cluster>', 'the view of another cluster’s callers, as far as it can be told from here')
    .option('--at <time>', 'from the journal: 2026-11-21T14:32:05Z, 14:32 (UTC), or 5m (ago)')
    .addOption(output())
    .action(async (service, options) => (await import('./explain.ts')).explainCommand(service, options));
  for (const verb of ['drain', 'undrain'] as const) {
    reach(program.command(verb))
      .description(
        verb === 'drain'
          ? 'move traffic away from a cluster, a gateway or a service, in steps'
          : 'let traffic return to what was drained, in steps',
      )
      .argument('[what]', 'cluster, gateway or service')
      .argument('[name]', 'cluster, gateway pod, or <namespace>/<service>')
      .option('--region <name>', 'all clusters of a region')
      .option('--cluster <name>', 'where the gateway or service is; default: the cluster that is asked')
      .option('--over <time>', 'length of the ramp, as 30s; default: the policy’s')
      .option('--grace <time>', 'open connections may last so long after the ramp, as 2m; default: the policy’s')
      .option('--reason <text>', 'for the journal')
      .option('--dry-run', 'print what would move, how much, and onto whom; do nothing', false)
      .option('--yes', 'do it without asking for the name to be typed', false)
      .option('--wait [time]', 'follow the ramp to its end; 5m when no time is given')
      .addOption(output())
      .action(async (what, name, options) => (await import('./drain.ts')).drainCommand(verb, what, name, options));
  }
  for (const verb of ['freeze', 'thaw'] as const) {
    reach(program.command(verb))
      .description(verb === 'freeze' ? 'stop deciding, and go on serving what was decided' : 'decide again')
      .option('--reason <text>', 'for the journal')
      .addOption(output())
      .action(async (options) => (await import('./freeze.ts')).freezeCommand(verb, options));
  }
  reach(program.command('failback'))
    .description(
      'let a cluster that is healthy again have a service’s traffic back, where the policy waits for a person',
    )
    .argument('<service>', '<namespace>/<service>')
    .option('--cluster <name>', 'who gets it back; default: the cluster that is asked')
    .option('--reason <text>', 'for the journal')
    .addOption(output())
    .action(async (service, options) => (await import('./failback.ts')).failback(service, options));
  reach(program.command('confirm-withdrawal'))
    .description('believe at once that a cluster meant to withdraw as much as it did')
    .requiredOption('--cluster <name>', 'who withdrew it')
    .option('--reason <text>', 'for the journal')
    .option('--yes', 'do it without asking for the name to be typed', false)
    .addOption(output())
    .action(async (options) => (await import('./failback.ts')).confirmWithdrawal(options));
  reach(program.command('observe'))
    .description('day by day, what policies that only observe would have done')
    .option('--days <n>', 'today and so many days before it', '7')
    .addOption(output())
    .action(async (options) => (await import('./observe.ts')).observe(options));
};

const runCommands = (program: Command): void => {
  configured(program.command('controller'))
    .description('run a controller (in its pod)')
    .action(async (options) => (await import('./controller.ts')).controller(options));
  configured(program.command('gateway'))
    .description('run a gateway pod: two Envoys and their watchdog')
    .action(async (options) => (await import('./gateway.ts')).gateway(options));
};

const completionCommands = (program: Command): void => {
  program
    .command('completion')
    .description('print a script that completes commands in a shell')
    .argument('<shell>', 'bash, zsh or fish')
    .action(async (shell) => (await import('./completion.ts')).printCompletion(shell));
  program
    .command('__complete', { hidden: true })
    .argument('[words...]')
    .action(async (words) => (await import('./completion.ts')).completeCommand(program, words));
};

/** Runs one command; resolves to the exit code. */
export const run = async (argv: readonly string[]): Promise<number> => {
  const program = new Command('isthmus')
    .description('Federates ambient meshes across clusters: shared capacity, east-west gateways, regional failover.')
    .version(version)
    .exitOverride()
    .showHelpAfterError('(isthmus --help lists the commands)')
    .configureHelp({ sortSubcommands: true });
  membershipCommands(program, output);
  setUpCommands(program);
  policyCommands(program);
  lookCommands(program);
  failoverCommands(program);
  journalCommands(program, reach, output);
  auditCommands(program, reach, output);
  runCommands(program);
  completionCommands(program);
  const inherit = (command: Command): void => {
    for (const child of command.commands) {
      child.exitOverride();
      inherit(child);
    }
  };
  inherit(program);
  try {
    await program.parseAsync([...argv]);
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 64;
    if (error instanceof IsthmusError) return reportFailure(error);
    throw error;
  }
};
