/** The runner against real Envoys: what a crash, a hang and a planned end cost those who call. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { migrationSetting } from '../../../src/gateway/migration.ts';
import { type Call, call, GatewayRig, keepMigrationSetting, sleep, until } from './gateway_rig.ts';

let rig: GatewayRig | undefined;
const start = async (drainMs?: number): Promise<GatewayRig> => {
  rig = await GatewayRig.start(drainMs);
  return rig;
};
keepMigrationSetting();
afterEach(async () => {
  await rig?.close();
  rig = undefined;
});

const failed = (calls: readonly Call[]): number => calls.filter((c) => c.status !== 200).length;
const slowest = (calls: readonly Call[]): number => Math.max(...calls.map((c) => c.ms));

describe('two Envoys on one port', () => {
  it('lose at most the connection in flight when one is killed, and it comes back', async () => {
    const gateway = await start();
    for (const index of [0, 1]) {
      const before = gateway.pid(index);
      const calls = await gateway.load(100, 1_500, () => {
        process.kill(before!, 'SIGKILL');
      });
      expect(failed(calls)).toBeLessThanOrEqual(1);
      await until('both serve again', async () => (await gateway.serving()) === 2);
      expect(gateway.pid(index)).not.toBe(before);
    }
    expect(gateway.log).toContain('envoy ended');
  });

  it('a hung one is ended and stalls nobody for long', async () => {
    const gateway = await start();
    const hung = gateway.pid(1)!;
    const calls = await gateway.load(100, 3_000, () => {
      process.kill(hung, 'SIGSTOP');
    });
    expect(slowest(calls)).toBeLessThan(1_500);
    // What waited in its queue moved to the sibling.
    if (readFileSync(migrationSetting, 'utf8').trim() === '1') expect(failed(calls)).toBeLessThanOrEqual(1);
    await until('it was ended', () => !gateway.runs(hung));
    await until('both serve again', async () => (await gateway.serving()) === 2);
    expect(gateway.log).toContain('envoy hangs');
  });

  it('are not ended when both hang; unready meanwhile; the first that goes on serves', async () => {
    const gateway = await start();
    const pids = [gateway.pid(0)!, gateway.pid(1)!];
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    await until('unready', async () => (await gateway.ready()) === 503);
    await sleep(3_000);
    expect(pids.map((pid) => gateway.runs(pid))).toEqual([true, true]);
    process.kill(pids[0]!, 'SIGCONT');
    await until('ready', async () => (await gateway.ready()) === 200);
    await until('the other one was ended', () => !gateway.runs(pids[1]));
    expect(gateway.runs(pids[0])).toBe(true);
    await until('both serve again', async () => (await gateway.serving()) === 2);
    expect((await call(gateway.port)).status).toBe(200);
  });

  it('survive a pause of the whole pod', async () => {
    const gateway = await start();
    const pids = [gateway.pid(0)!, gateway.pid(1)!];
    const everybody = [gateway.runner.pid!, ...pids];
    for (let i = 0; i < 3; i++) {
      for (const pid of everybody) process.kill(pid, 'SIGSTOP');
      await sleep(1_000);
      for (const pid of everybody) process.kill(pid, 'SIGCONT');
      await sleep(500);
    }
    expect([gateway.pid(0), gateway.pid(1)]).toEqual(pids);
    expect(gateway.log).not.toContain('envoy hangs');
  });
});

describe('the end of a runner', () => {
  it('that is planned: unready first, health checks fail, calls served until the end, exit code 0', async () => {
    const gateway = await start(1_000);
    const pids = [gateway.pid(0)!, gateway.pid(1)!];
    const exited = once(gateway.runner, 'exit');
    gateway.runner.kill('SIGTERM');
    await until('unready', async () => (await gateway.ready()) === 503, 500);
    await until('health checks fail', async () => (await call(gateway.port, '/healthz')).status === 503, 500);
    const calls = await Promise.all(Array.from({ length: 20 }, () => call(gateway.port)));
    expect(failed(calls)).toBe(0);
    expect(await exited).toEqual([0, null]);
    expect(pids.map((pid) => gateway.runs(pid))).toEqual([false, false]);
  });

  it('asked for twice skips what is left of the drain', async () => {
    const gateway = await start(60_000);
    const exited = once(gateway.runner, 'exit');
    gateway.runner.kill('SIGTERM');
    await until('unready', async () => (await gateway.ready()) === 503);
    gateway.runner.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
  });

  it('by SIGKILL leaves no Envoy, not even a stopped one', async () => {
    const gateway = await start();
    const pids = [gateway.pid(0)!, gateway.pid(1)!];
    process.kill(pids[0]!, 'SIGSTOP');
    gateway.runner.kill('SIGKILL');
    await until('no Envoy runs', () => !pids.some((pid) => gateway.runs(pid)), 5_000);
  });
});
