/** The commands by which clusters get into a cluster set and out of it: names and options. */
import { type Command, Option } from 'commander';

const collect = (value: string, all: string[]): string[] => [...all, value];

const withPassphrase = (command: Command): Command =>
  command.option('--passphrase-file <file>', 'file with the passphrase of the authority’s key');

/** What runs at the authority's desk. */
const atDesk = (command: Command): Command =>
  withPassphrase(command).addOption(
    new Option('--authority-dir <dir>', 'directory that `isthmus init` wrote')
      .env('ISTHMUS_AUTHORITY_DIR')
      .default('.'),
  );

const withTerms = (command: Command): Command =>
  command
    .option('--region <name>', 'region of the cluster')
    .option('--zone <name>', 'its zone')
    .option('--network <name>', 'its network')
    .option('--address-range <cidr>', 'addresses that it may name as its own (repeat)', collect, [])
    .option('--export-namespace <name>', 'namespace that it may export, or * (repeat)', collect, [])
    .option('--service-account <namespace/name>', 'account that it may export; none: all (repeat)', collect, [])
    .option('--root <file>', 'root that its trust bundle may hold; none: those of its CA (repeat)', collect, []);

const inCluster = (command: Command): Command =>
  command
    .option('--kubeconfig <file>', 'kubeconfig of the cluster')
    .option('--context <name>', 'context in the kubeconfig')
    .option('-n, --namespace <name>', 'namespace that Isthmus runs in', 'isthmus-system');

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
    .option('--trust-dir <dir>', 'what `isthmus trust init` wrote: register each member’s roots')
    .option('--no-passphrase', 'leave the authority’s key open on the disk: for labs')
    .option('--restart-etcd <command>', 'how `isthmus revoke` ends the connections of one etcd member, {endpoint}')
    .option('--store-gateway <url...>', 'store gateways that take the members’ writes; none: etcd itself does')
    .option('--allow-unsafe-etcd', 'accept an etcd with known authorization holes', false)
    .action(async (options) => (await import('./init.ts')).init(options));
};

const storeCommands = (program: Command): void => {
  const store = program
    .command('store')
    .description('who writes to etcd: store gateways, and an etcd of a member’s own');
  store
    .command('serve')
    .description('run a store gateway: it takes the members’ writes, checks them, and is alone in writing them to etcd')
    .option('--config <file>', 'configuration file (YAML)')
    .option('--set <key=value>', 'set one configuration key', collect, [])
    .action(async (options) => (await import('./store_serve.ts')).storeServe(options));
  atDesk(store.command('gateway'))
    .description('make what store gateways need: their etcd user, certificates and configuration')
    .requiredOption('--url <url...>', 'where members reach them, https://<host>:15024')
    .option('--out <dir>', 'directory to write; default store-gateway in the authority’s')
    .action(async (options) => (await import('./store_gateway.ts')).storeGateway(options));
  store
    .command('init')
    .description('users and roles of an etcd that is one member’s own: it writes, the others read what is for them')
    .requiredOption('--clusterset <name>', 'name of the cluster set')
    .requiredOption('--member <name>', 'whose etcd it is')
    .option('--reader <name>', 'another member (repeat)', collect, [])
    .requiredOption('--etcd <url...>', 'etcd client URLs')
    .requiredOption('--etcd-ca <file>', 'CA certificate of etcd')
    .requiredOption('--etcd-cert <file>', 'client certificate of etcd’s root user')
    .requiredOption('--etcd-key <file>', 'its key')
    .option('--allow-unsafe-etcd', 'accept an etcd with known authorization holes', false)
    .action(async (options) => (await import('./store_init.ts')).storeInit(options));
};

const joinCommand = (program: Command): void => {
  atDesk(withTerms(inCluster(program.command('join'))))
    .description('make a cluster a member: by a token, with both contexts, or with a bundle')
    .option('--token-file <file>', 'token that `isthmus token create` made there; - is standard input')
    .option('--to-context <name>', 'context of a member: invite, approve and join in one, with the authority at hand')
    .option('--bundle <dir>', 'member bundle that `isthmus init` wrote')
    .option('--cacerts <dir>', 'intermediate CA of this cluster (see `isthmus trust init`), if it has none')
    .option('--cluster <name>', 'name of the cluster; default: the token’s, or the context’s')
    .option('--authority <fingerprint>', 'refuse a token by any other authority')
    .option('--out <dir>', 'write the bundle there, and touch no cluster')
    .option('--timeout <time>', 'longest wait for the authority', '10m')
    .option('--verify-for <time>', 'longest wait for the data path at the end', '20s')
    .option('--allow-unsafe-etcd', 'accept an etcd with known authorization holes', false)
    .option('--dry-run', 'with --bundle: print what would be written, write nothing', false)
    .action(async (options) => (await import('./join.ts')).join(options));
};

const tokenCommands = (program: Command, output: () => Option): void => {
  const token = program.command('token').description('invitations for clusters: each works once, for a while');
  atDesk(withTerms(token.command('create')))
    .description('make a token for one cluster')
    .requiredOption('--cluster <name>', 'the only name that it lets in')
    .option('--ttl <time>', 'how long it works, at most 168h', '1h')
    .addOption(
      new Option('-o, --output <form>', 'print it, or write it to a file').choices(['text', 'file']).default('text'),
    )
    .option('--file <path>', 'with -o file; default <cluster>.token')
    .option('--wait', 'stay, and approve when the cluster asks', false)
    .option('--accept-proposed', 'let the cluster say itself what the token leaves open', false)
    .action(async (options) => (await import('./token.ts')).tokenCreate(options));
  atDesk(token.command('list'))
    .description('tokens that were made here, and what became of them')
    .addOption(output())
    .action(async (options) => (await import('./token.ts')).tokenList(options));
  atDesk(token.command('delete'))
    .description('let nobody in by a token any more')
    .argument('<id>', 'see `isthmus token list`')
    .action(async (id, options) => (await import('./token.ts')).tokenDelete(id, options));
  atDesk(program.command('approve'))
    .description('answer the cluster that asks to join with a token')
    .argument('[token]', 'its id; default: the one that is open')
    .option('--accept-proposed', 'let the cluster say itself what the token leaves open', false)
    .option('--wait', 'stay until it asks', false)
    .action(async (id, options) => (await import('./approve.ts')).approve(id, options));
};

const leaveCommands = (program: Command): void => {
  atDesk(inCluster(program.command('leave')))
    .description('take a member out of the cluster set, and prove that nothing else changed')
    .option('--cluster <name>', 'the member; default: the context’s name')
    .option('--force', 'its cluster is dead: do not ask it', false)
    .option('--dry-run', 'only print what would change for everybody else', false)
    .option('--yes', 'do it without asking for the name to be typed', false)
    .action(async (options) => (await import('./leave.ts')).leave(options));
  atDesk(program.command('revoke'))
    .description('put a member out that is not trusted any more, at once')
    .argument('<member>', 'its name')
    .option('--reason <text>', 'for the mark and the audit', 'not given')
    .option('--restart-etcd <command>', 'ends the connections of one etcd member, {endpoint}: run for each in turn')
    .option('--etcd-crl <file>', 'etcd’s --client-crl-file')
    .option('--trust-dir <dir>', 'what `isthmus trust init` wrote: put its intermediate CA on the list there')
    .option('--keep-records', 'leave its records in etcd, unused', false)
    .option('--yes', 'do it without asking for the name to be typed', false)
    .action(async (member, options) => (await import('./revoke.ts')).revoke(member, options));
};

const authorityCommands = (program: Command): void => {
  const authority = program
    .command('authority')
    .description('the authority’s key: what to do when it is lost or stolen');
  atDesk(authority.command('replace'))
    .description('make a new key, and sign again with it what the old one signed')
    .option('--old <file>', 'the old authority.pem, as every member has it; default: the one in --authority-dir')
    .option('--no-passphrase', 'leave the new key open on the disk: for labs')
    .option('--yes', 'do it without asking for the name to be typed', false)
    .action(async (options) => (await import('./authority.ts')).authorityReplace(options));
  atDesk(authority.command('roles'))
    .description('bring every member’s role in etcd up to date: once all controllers are of this version, or newer')
    .addOption(
      new Option('--writes <through>', 'let members write by store gateways alone, or to etcd').choices([
        'gateways',
        'etcd',
      ]),
    )
    .action(async (options) => (await import('./roles.ts')).authorityRoles(options));
  atDesk(inCluster(authority.command('install')))
    .description('give a cluster the new public key')
    .action(async (options) => (await import('./authority.ts')).authorityInstall(options));
};

const keysCommands = (program: Command): void => {
  const keys = program
    .command('keys')
    .description('keys of a cluster: record key, federation CA, certificate for etcd');
  inCluster(keys.command('rotate'))
    .description('have its controllers replace both now, without a gap')
    .action(async (options) => (await import('./keys.ts')).keysRotate(options));
  atDesk(inCluster(keys.command('renew-etcd')))
    .description('give it a new client certificate for etcd')
    .requiredOption('--cluster <name>', 'the member')
    .action(async (options) => (await import('./keys.ts')).keysRenewEtcd(options));
};

export const membershipCommands = (program: Command, output: () => Option): void => {
  initCommand(program);
  storeCommands(program);
  joinCommand(program);
  tokenCommands(program, output);
  leaveCommands(program);
  authorityCommands(program);
  keysCommands(program);
};
