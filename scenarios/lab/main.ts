/**
 * A lab to play with: `up` leaves it running in the background until `down`.
 *
 *   node scenarios/lab/main.ts up | down | status
 *   node scenarios/lab/main.ts exec <cluster> <program> [arguments]       at the cluster's operator's desk
 *   node scenarios/lab/main.ts isthmus <cluster> <command> [arguments]    such as: isthmus us-east status
 *   node scenarios/lab/main.ts curl <cluster>                             one call of checkout.shop by the cluster's client
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, globSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type LabOptions, threeClusters } from './lab.ts';
import { asksControllers } from './local/cluster.ts';
import { adminSocket, deskProgram } from './local/programs.ts';
import { cleanRun, listRuns, type Run } from './local/run.ts';

const self = fileURLToPath(import.meta.url);
const isthmusProgram = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const say = (line: string) => process.stderr.write(`${line}\n`);

type Message = { readonly line: string } | { readonly ready: string } | { readonly failed: string };

/** Starts the process that owns the lab, shows its progress, and leaves it when the lab is up. */
async function up(): Promise<number> {
  const running = listRuns().find(({ owner }) => owner !== undefined);
  if (running !== undefined) {
    say(`a lab is up already (run ${running.run.id}); end it with: make lab-down`);
    return 1;
  }
  say('bringing up three clusters: about half a minute, longer the first time');
  const child = spawn(process.execPath, [self, 'serve'], {
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  return await new Promise((resolve) => {
    child.on('message', (message: Message) => {
      if ('line' in message) say(`  ${message.line}`);
      else if ('ready' in message) {
        say(message.ready);
        child.disconnect();
        child.unref();
        resolve(0);
      } else {
        say(message.failed);
        resolve(1);
      }
    });
    child.on('exit', (code) => resolve(code ?? 1));
    // Ctrl-C while it comes up: the lab has a session of its own, and must be told.
    process.once('SIGINT', () => child.kill('SIGTERM'));
  });
}

/** Owns the lab until SIGTERM. */
async function serve(): Promise<void> {
  const tell = (message: Message) => {
    if (process.connected) process.send?.(message, () => {});
  };
  const options: LabOptions = { clusters: threeClusters, storeLeader: 'us-west', report: (line) => tell({ line }) };
  try {
    const { openLab } = await import('./open.ts');
    const lab = await openLab(options);
    tell({ line: 'workloads: shop/checkout in every cluster, shop/client to call it' });
    await Promise.all(
      lab.clusters.flatMap((cluster) => [
        cluster.deploy({ namespace: 'shop', name: 'checkout', replicas: 1, exported: 'export' }),
        cluster.deploy({ namespace: 'shop', name: 'client', replicas: 1, kind: 'client' }),
      ]),
    );
    tell({
      ready:
        'the lab is up. Try:\n' +
        '  node scenarios/lab/main.ts isthmus us-east status\n' +
        '  node scenarios/lab/main.ts curl us-east\n' +
        'and end it with: make lab-down',
    });
    // Held open by the lab's own timers and pipes; said here so that it does not hang on them.
    setInterval(() => {}, 60_000);
  } catch (error) {
    tell({ failed: (error as Error).stack ?? String(error) });
    await sleep(100);
    process.exit(1);
  }
}

async function down(): Promise<number> {
  const runs = listRuns();
  if (runs.length === 0) say('there is no lab');
  for (const { run, owner } of runs) {
    if (owner === undefined) await cleanRun(run);
    else {
      process.kill(owner, 'SIGTERM');
      const deadline = Date.now() + 30_000;
      while (existsSync(run.dir) && Date.now() < deadline) await sleep(100);
      if (existsSync(run.dir)) {
        process.kill(owner, 'SIGKILL');
        await cleanRun(run);
      }
    }
    say(`run ${run.id} is down`);
  }
  return 0;
}

function status(): number {
  const runs = listRuns();
  if (runs.length === 0) say('there is no lab');
  for (const { run, owner } of runs) {
    process.stdout.write(
      `run ${run.id}: ${owner === undefined ? 'its owner is dead, clean it with make lab-down' : `up (pid ${owner})`}\n`,
    );
    for (const name of readdirSync('/run/netns')
      .filter((name) => name.startsWith(run.prefix))
      .sort()) {
      process.stdout.write(`  ${name.slice(run.prefix.length)}\n`);
    }
    process.stdout.write(`  logs: ${join(run.dir, 'logs')}\n`);
  }
  return 0;
}

function theRun(): Run {
  const found = listRuns().find(({ owner }) => owner !== undefined);
  if (found === undefined) throw new Error('there is no lab: make lab-up');
  return found.run;
}

/** Runs a program in a place of the lab, with our own terminal. */
function inside(place: string, cluster: string, argv: readonly string[]): number {
  const run = theRun();
  const namespace = `${run.prefix}${cluster}-${place}`;
  if (!existsSync(join('/run/netns', namespace)))
    throw new Error(`there is no "${cluster}" in the lab, or no ${place} in it`);
  const env = { ...process.env, KUBECONFIG: join(run.dir, 'kube', cluster, 'kubeconfig') };
  return spawnSync('ip', ['netns', 'exec', namespace, ...argv], { stdio: 'inherit', env }).status ?? 1;
}

function isthmus(cluster: string, args: readonly string[]): number {
  if (!asksControllers.has(args[0] ?? '') || args.includes('--controller'))
    return inside('operator', cluster, [process.execPath, isthmusProgram, ...args]);
  return inside('operator', cluster, [process.execPath, deskProgram, ...adminSockets(cluster), '--', ...args]);
}

/** Of the cluster's controllers. Clusters are numbered from 1, and so are the directories of their pods. */
function adminSockets(cluster: string): string[] {
  const number = threeClusters.findIndex(({ name }) => name === cluster) + 1;
  return globSync(join(theRun().dir, 'p', `${number}`, '*', adminSocket));
}

/** Where checkout.shop is, asked of the API server, then called from the client's pod. */
function curl(cluster: string): number {
  const run = theRun();
  const kubeconfig = join(run.dir, 'kube', cluster, 'kubeconfig');
  const find = `import { readFileSync } from 'node:fs'; import { get } from 'node:https';
    const { clusters, users } = JSON.parse(readFileSync('${kubeconfig}', 'utf8'));
    const pem = (text) => Buffer.from(text, 'base64'); const { user } = users[0];
    get(clusters[0].cluster.server + '/api/v1/namespaces/shop/services/checkout', {
      ca: pem(clusters[0].cluster['certificate-authority-data']), agent: false,
      cert: pem(user['client-certificate-data']), key: pem(user['client-key-data']) }, (r) => {
        let text = ''; r.on('data', (part) => { text += part; }); r.on('end', () => console.log(JSON.parse(text).spec.clusterIP)); });`;
  const node = [process.execPath, '--input-type=module', '-e'];
  const asked = spawnSync('ip', ['netns', 'exec', `${run.prefix}${cluster}-operator`, ...node, find], {
    encoding: 'utf8',
  });
  const address = asked.stdout.trim();
  if (address === '') throw new Error(`checkout.shop is not in ${cluster}: ${asked.stderr.trim()}`);
  const call = `const r = await fetch('http://${address}/'); console.log(r.status, (await r.text()).trim());`;
  return inside('shop-client-0', cluster, [...node, call]);
}

async function main(args: readonly string[]): Promise<number> {
  const [verb, cluster = '', ...rest] = args;
  switch (verb) {
    case 'up':
      return await up();
    case 'down':
      return await down();
    case 'status':
      return status();
    case 'exec':
      return inside('operator', cluster, rest);
    case 'isthmus':
      return isthmus(cluster, rest);
    case 'curl':
      return curl(cluster);
    default:
      say(
        'usage: node scenarios/lab/main.ts up | down | status | exec <cluster> … | isthmus <cluster> … | curl <cluster>',
      );
      return 64;
  }
}

if (process.argv[2] === 'serve') void serve();
else {
  main(process.argv.slice(2)).then(
    (code) => process.exit(code),
    (error: Error) => {
      say(error.message);
      process.exit(1);
    },
  );
}
