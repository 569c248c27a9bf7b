/** The prober against processes and a real network: dead, gone without a word, planned, and our own fault. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Clock } from '../../../src/core/clock.ts';
import { GatewayLiveness } from '../../../src/gateway/liveness.ts';
import { sleep, until } from './gateway_rig.ts';

const clock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

const tag = `gwl${process.pid}`;
const ip = (...args: string[]): void => {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
};
const canMakeNamespaces = process.getuid?.() === 0;

interface Pod {
  readonly name: string;
  readonly address: string;
  readonly link: string;
  process: ChildProcess | undefined;
}

/** A pod in a network namespace of its own, so that it can vanish without a word. Noted in `pods` before anything is made. */
const makePod = async (index: number, pods: Pod[]): Promise<void> => {
  const namespace = `${tag}-${index}`;
  const subnet = `10.199.${process.pid % 250}`;
  const pod: Pod = {
    name: `pod-${index}`,
    address: `${subnet}.${index * 4 + 2}`,
    link: `${tag}${index}`,
    process: undefined,
  };
  pods.push(pod);
  ip('netns', 'add', namespace);
  ip('link', 'add', pod.link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
  ip('addr', 'add', `${subnet}.${index * 4 + 1}/30`, 'dev', pod.link);
  ip('link', 'set', pod.link, 'up');
  ip('-n', namespace, 'addr', 'add', `${pod.address}/30`, 'dev', 'eth0');
  ip('-n', namespace, 'link', 'set', 'eth0', 'up');
  await run(pod, namespace);
};

const run = async (pod: Pod, namespace: string): Promise<void> => {
  const script = join(import.meta.dirname, 'pod_main.ts');
  const args = ['netns', 'exec', namespace, process.execPath, script, pod.address, '15018', '15021'];
  pod.process = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(pod.process!.stdout!, 'data');
};

const remove = async (pod: Pod, index: number): Promise<void> => {
  const child = pod.process;
  if (child !== undefined && child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  // By itself the link would go with its namespace, but some time later.
  for (const args of [
    ['link', 'del', pod.link],
    ['netns', 'del', `${tag}-${index}`],
  ]) {
    try {
      ip(...args);
    } catch {
      // It was never made.
    }
  }
};

describe.runIf(canMakeNamespaces)('two gateway pods', () => {
  let pods: Pod[] = [];
  let liveness: GatewayLiveness;
  let changes: { readonly atMs: number; readonly health: Record<string, boolean> }[];

  beforeEach(async () => {
    pods = [];
    changes = [];
    for (const index of [0, 1]) await makePod(index, pods);
    liveness = new GatewayLiveness({
      clock,
      rng: Math.random,
      log: () => {},
      changed: (health) => changes.push({ atMs: performance.now(), health: Object.fromEntries(health) }),
    });
    liveness.setPods(pods);
    await sleep(500);
  });
  afterEach(async () => {
    liveness?.close();
    for (const [index, pod] of pods.entries()) await remove(pod, index);
  });

  const unhealthyWithin = async (pod: Pod, since: number, limitMs: number): Promise<number> => {
    await until(`${pod.name} unhealthy`, () => liveness.health.get(pod.name) === false, 5_000);
    const tookMs = changes.at(-1)!.atMs - since;
    expect(tookMs).toBeLessThan(limitMs);
    return tookMs;
  };

  it('stay healthy while nothing happens, and while we ourselves stall', async () => {
    for (let i = 0; i < 3; i++) {
      const until = performance.now() + 500;
      while (performance.now() < until);
      await sleep(200);
    }
    expect(changes).toEqual([]);
  });

  it('one that is killed is noticed at once', async () => {
    const since = performance.now();
    pods[0]!.process!.kill('SIGKILL');
    await unhealthyWithin(pods[0]!, since, 1_000);
    expect(liveness.health.get('pod-1')).toBe(true);
  });

  it('one that is cut off without a word is noticed, and returns', async () => {
    const since = performance.now();
    ip('link', 'set', pods[0]!.link, 'down');
    await unhealthyWithin(pods[0]!, since, 1_000);
    ip('link', 'set', pods[0]!.link, 'up');
    await until('healthy again', () => liveness.health.get('pod-0') === true);
  });

  it('one that announces its end is out at once, while it still takes connections', async () => {
    const since = performance.now();
    pods[1]!.process!.kill('SIGUSR2');
    await unhealthyWithin(pods[1]!, since, 1_000);
    pods[1]!.process!.kill('SIGUSR2');
    await until('healthy again', () => liveness.health.get('pod-1') === true);
  });

  it('are never both unhealthy', async () => {
    for (const pod of pods) pod.process!.kill('SIGKILL');
    await until('one is unhealthy', () => changes.length > 0);
    await sleep(1_500);
    for (const { health } of changes) expect(Object.values(health)).toContain(true);
    expect(Object.values(Object.fromEntries(liveness.health)).filter(Boolean)).toHaveLength(1);
  });
});
