/** The lab's network and its faults, alone: no controllers, only echo servers behind the addresses. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { clusterAddresses } from '../../../scenarios/lab/local/addresses.ts';
import { type Attached, Network } from '../../../scenarios/lab/local/network.ts';
import { type End, PathFaults } from '../../../scenarios/lab/local/path-faults.ts';
import { LabProcess, untilReady } from '../../../scenarios/lab/local/process.ts';
import { type Reaper, startReaper } from '../../../scenarios/lab/local/reaper.ts';
import { cleanRun, createRun, processesInNamespace, type Run, signalAll } from '../../../scenarios/lab/local/run.ts';
import { capture } from '../../../scenarios/lab/local/shell.ts';
import { ensureCommands } from '../../../scenarios/lab/packages.ts';

const echo = fileURLToPath(new URL('echo.ts', import.meta.url));
const port = 7_000;

let run: Run;
let reaper: Reaper;
let network: Network;
let faults: PathFaults;
const pods: Record<string, Attached> = {};

const clusters = [1, 2].map((i) => ({ name: `c${i}`, addresses: clusterAddresses(i), nodes: 2 }));
const pod = (name: string): End => {
  const cluster = name.slice(0, 2);
  return { cidrs: [`${pods[name]!.address}/32`], nodes: [1, 2].map((n) => network.node(cluster, n)) };
};
const cluster = (name: string): End => ({
  cidrs: [clusters.find((c) => c.name === name)!.addresses.podCidr],
  nodes: [0, 1, 2].map((n) => network.node(name, n)),
});

async function serve(name: string, verb = 'serve', on = port): Promise<void> {
  const argv = [process.execPath, echo, verb, `${on}`];
  const server = new LabProcess({ namespace: pods[name]!.namespace, name: verb, argv }, `${run.dir}/logs`);
  await untilReady(server, () => server.tail().includes('ready'), 20_000);
}

async function calls(from: string, to: string, count = 1, timeoutMs = 600): Promise<{ ms: number; result: string }[]> {
  const argv = [process.execPath, echo, 'call', pods[to]!.address, `${port}`, `${count}`, `${timeoutMs}`];
  const { stdout, stderr } = await capture(['ip', 'netns', 'exec', pods[from]!.namespace, ...argv]);
  if (stdout === '') throw new Error(stderr);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { ms: number; result: string });
}
const result = async (from: string, to: string) => (await calls(from, to))[0]!.result;

beforeAll(async () => {
  await ensureCommands(['ip', 'nft', 'flock'], console.log);
  run = await createRun();
  reaper = startReaper(run);
  network = new Network(run);
  faults = new PathFaults(run, network);
  await network.create(clusters);
  for (const [name, index, node] of [
    ['c1-a', 1, 1],
    ['c1-b', 1, 2],
    ['c2-a', 2, 1],
    ['c2-b', 2, 1],
  ] as const) {
    pods[name] = await network.attach(name.slice(0, 2), index, node, name.slice(3));
  }
  await Promise.all(Object.keys(pods).map((name) => serve(name)));
});

afterAll(async () => {
  await cleanRun(run);
  reaper.release();
});

test('pods reach each other on a node, across nodes and across clusters, and nothing outside', async () => {
  expect(await result('c2-a', 'c2-b')).toBe('ok');
  expect(await result('c1-a', 'c1-b')).toBe('ok');
  expect(await result('c1-a', 'c2-b')).toBe('ok');
  const outside = await capture(['ip', 'netns', 'exec', pods['c1-a']!.namespace, 'ip', 'route', 'get', '192.0.2.1']);
  expect(outside.stdout).toContain('via 10.81.1.1');
  const beyond = await capture(['ip', 'netns', 'exec', network.wan, 'ip', 'route', 'get', '192.0.2.1']);
  expect(beyond.stderr).toContain('unreachable');
});

test('a partition drops in silence, both ways, only where it is', async () => {
  const lift = await faults.apply({ kind: 'partition', oneWay: false }, pod('c1-a'), pod('c2-a'));
  expect(await result('c1-a', 'c2-a')).toBe('timeout');
  expect(await result('c2-a', 'c1-a')).toBe('timeout');
  expect(await result('c1-a', 'c2-b')).toBe('ok');
  expect(await result('c1-b', 'c2-a')).toBe('ok');
  await lift();
  expect(await result('c1-a', 'c2-a')).toBe('ok');
});

test('a cluster is cut off from the rest and whole inside', async () => {
  const lift = await faults.apply({ kind: 'partition', oneWay: false }, cluster('c2'), undefined);
  expect(await result('c1-a', 'c2-a')).toBe('timeout');
  expect(await result('c2-a', 'c1-a')).toBe('timeout');
  expect(await result('c2-a', 'c2-b')).toBe('ok');
  await lift();
  expect(await result('c1-a', 'c2-a')).toBe('ok');
});

test('a one-way partition lets the other direction through', async () => {
  await serve('c2-b', 'reflect', 7_001);
  const flood = async () => {
    const argv = [process.execPath, echo, 'flood', pods['c2-b']!.address, '7001', '100', '0.3'];
    const out = await capture(['ip', 'netns', 'exec', pods['c1-a']!.namespace, ...argv]);
    return JSON.parse(out.stdout) as { sent: number; received: number };
  };
  const counted = async (): Promise<number> => {
    const out = await capture(['ip', 'netns', 'exec', pods['c2-b']!.namespace, 'cat', '/proc/net/snmp']);
    return Number(/Udp: (\d+)/.exec(out.stdout)![1]);
  };
  const before = await counted();
  const lift = await faults.apply({ kind: 'partition', oneWay: true }, pod('c2-b'), pod('c1-a'));
  const { sent, received } = await flood();
  expect(received).toBe(0);
  expect((await counted()) - before).toBe(sent);
  await lift();
  expect((await flood()).received).toBeGreaterThan(0);
});

test('a refused path answers with a reset at once', async () => {
  const lift = await faults.apply({ kind: 'refuse' }, pod('c1-a'), pod('c2-a'));
  const [call] = await calls('c1-a', 'c2-a', 1, 5_000);
  expect(call!.result).toBe('ECONNREFUSED');
  expect(call!.ms).toBeLessThan(2_000);
  await lift();
  expect(await result('c1-a', 'c2-a')).toBe('ok');
});

test('loss loses about as much as it says', async () => {
  await serve('c2-a', 'reflect', 7_001);
  const lift = await faults.apply({ kind: 'loss', perMyriad: 2_000 }, pod('c1-b'), pod('c2-a'));
  const argv = [process.execPath, echo, 'flood', pods['c2-a']!.address, '7001', '2000', '1'];
  const out = await capture(['ip', 'netns', 'exec', pods['c1-b']!.namespace, ...argv]);
  const { sent, received } = JSON.parse(out.stdout) as { sent: number; received: number };
  await lift();
  // Lost with 20 % on each of two ways: 64 % come back.
  expect(received / sent).toBeGreaterThan(0.58);
  expect(received / sent).toBeLessThan(0.7);
});

test('a delayed path takes 80 ms there and back, and carries many packets', async () => {
  const lift = await faults.delay(cluster('c1'), cluster('c2'), 40, 0);
  // A call is two round trips: the handshake, and the byte.
  const times = (await calls('c1-a', 'c2-a', 10, 5_000)).map(({ ms }) => ms).sort((a, b) => a - b);
  expect(times[0]).toBeGreaterThanOrEqual(159);
  // The quickest tells the path, the others the machine.
  expect(times[0]).toBeLessThan(240);
  const near = await calls('c1-a', 'c1-b', 3, 5_000);
  expect(Math.min(...near.map(({ ms }) => ms))).toBeLessThan(80);
  await serve('c2-b', 'reflect', 7_002);
  const argv = [process.execPath, echo, 'flood', pods['c2-b']!.address, '7002', '3000', '2'];
  const out = await capture(['ip', 'netns', 'exec', pods['c1-a']!.namespace, ...argv]);
  const { sent, received, slowest } = JSON.parse(out.stdout) as { sent: number; received: number; slowest: number };
  console.log(`delayed flood: ${received} of ${sent} came back, slowest ${slowest.toFixed(1)} ms`);
  expect(received / sent).toBeGreaterThan(0.9);
  await lift();
  expect(Math.min(...(await calls('c1-a', 'c2-a', 3, 5_000)).map(({ ms }) => ms))).toBeLessThan(80);
});

test('a pod dies: its processes end, its port refuses; gone altogether, nobody answers', async () => {
  signalAll(processesInNamespace(pods['c2-b']!.namespace), 'SIGKILL');
  await expect.poll(() => result('c1-a', 'c2-b'), { timeout: 5_000 }).toBe('ECONNREFUSED');
  await network.detach(pods['c2-b']!);
  expect(['EHOSTUNREACH', 'ENETUNREACH', 'timeout']).toContain(await result('c1-a', 'c2-b'));
});
