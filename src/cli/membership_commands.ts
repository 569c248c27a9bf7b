/** The commands by which clusters get into a cluster set and out of it. */
import type { Command } from 'commander';

const collect = (value: string, all: string[]): string[] => [...all, value];

const withPassphrase = (command: Command): Command =>
  command.option('--passphrase-file <file>', 'file with the passphrase of the authority’s key');

const initCommand = (program: Command): void => {
  withPassphrase(program.command('init'))
    .description('make a cluster set: its authority, each member’s keys and etcd user')
    .requiredOption('--clusterset <name>', 'name of the cluster set')
    .requiredOption('--out <dir>', 'directory for the authority and one bundle per member')
    .requiredOption('--etcd <url...>', 'etcd client URLs')
    .requiredOption('--etcd-ca <file>', 'CA certificate of etcd')
    .requiredOption('--etcd-ca-key <file>', 'key of that CA, to issue the members’ client certificates')
    .requiredOption('--etcd-cert <file>', 'client certificate of etcd’s root user')
    .requiredOption('--etcd-key <file>', 'its key')
    .option(
      '--member <spec>',
      'name,region=R,zone=Z,network=N,range=CIDR[+CIDR],namespaces=NS[+NS] (repeat); none: clusters join by token',
      collect,
      [],
    )
    .option('--no-passphrase', 'leave the authority’s key open on the disk: for labs')
    .option('--allow-unsafe-etcd', 'accept an etcd with known authorization holes', false)
    .action(async (options) => (await import('./init.ts')).init(options));
};

const joinCommand = (program: Command): void => {
  program
    .command('join')
    .description('install a member’s bundle, its CA and the objects Isthmus needs into a cluster')
    .requiredOption('--bundle <dir>', 'member bundle that `isthmus init` wrote')
    .requiredOption('--cacerts <dir>', 'intermediate CA of this cluster (see `isthmus trust init`)')
    .option('--kubeconfig <file>', 'kubeconfig of the cluster')
    .option('--context <name>', 'context in the kubeconfig')
    .option('-n, --namespace <name>', 'namespace to install into', 'isthmus-system')
    .option('--dry-run', 'print what would be written, write nothing', false)
    .action(async (options) => (await import('./join.ts')).join(options));
};

export const membershipCommands = (program: Command): void => {
  initCommand(program);
  joinCommand(program);
};
