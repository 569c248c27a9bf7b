/** Another gateway dies, hangs, or falls silent under 100 new connections a second. What callers see of it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Gateway } from './gateway.ts';
import { sleep, until } from './processes.ts';
import { line, startCallers, startThree, type Three } from './three.ts';

describe('a fault of the gateway that serves', () => {
  let stage: Three;
  let west: Gateway;
  beforeAll(async () => {
    stage = await startThree(['checkout']);
    west = stage.west;
  });
  afterAll(async () => stage?.rig.stop());

  const faults: Record<string, { inject: () => Promise<void>; lift: () => Promise<void> }> = {
    'killed (SIGKILL)': {
      inject: async () => west.signal('SIGKILL'),
      lift: async () => {
        west = await stage.rig.launch('us-west');
      },
    },
    'cut off without a word': { inject: () => stage.rig.cut('127.0.2.1'), lift: () => stage.rig.heal() },
    'hung (SIGSTOP)': {
      inject: async () => west.signal('SIGSTOP'),
      lift: async () => west.signal('SIGCONT'),
    },
  };

  it.each(Object.keys(faults))('%s: new connections go on elsewhere, and come back', async (name) => {
    const { rig } = stage;
    await startCallers(rig, name, 'checkout', { rate: 100, long: 20 });
    await faults[name]!.inject();
    await sleep(4_000);
    const during = await rig.callers.loadResult(name);
    console.log(line(name, during));
    // Lost is what was past its 200 when the gateway went.
    expect(during.failures.filter((failure) => !failure.startsWith('after 200'))).toEqual([]);
    expect(during.failures.length).toBeLessThanOrEqual(3);
    expect(during.servedBy['central-checkout']).toBeGreaterThan(300);
    // Without pings a silent cut stalls 7 s and more.
    expect(during.maxMs).toBeLessThan(2_000);
    expect(during.long.open).toBe(20);
    await rig.callers.loadMark(name);
    await faults[name]!.lift();
    await until('the first choice serves again', async () => {
      await rig.callers.loadMark(name);
      await sleep(500);
      const { servedBy } = await rig.callers.loadResult(name);
      return (servedBy['west-checkout'] ?? 0) > 30 && servedBy['central-checkout'] === undefined;
    });
    const after = await rig.callers.loadStop(name);
    expect(after.failures).toEqual([]);
  });

  it('a blip of the uplink of 0.5 s ejects everybody and refuses nobody afterwards', async () => {
    const { rig } = stage;
    await startCallers(rig, 'blip', 'checkout', { rate: 100, long: 20 });
    await rig.cut('127.0.2.1', '127.0.3.1');
    await sleep(500);
    await rig.heal();
    await sleep(2_500);
    const during = await rig.callers.loadResult('blip');
    console.log(line('blip', during));
    expect(during.failures.filter((failure) => !failure.startsWith('after 200'))).toEqual([]);
    expect(during.maxMs).toBeLessThan(2_000);
    await rig.callers.loadMark('blip');
    await sleep(2_000);
    const after = await rig.callers.loadStop('blip');
    expect(after.failures).toEqual([]);
    expect(after.long.open).toBe(20);
  });
});

describe('callers that give up while a gateway is silent', () => {
  let stage: Three;
  beforeAll(async () => {
    stage = await startThree(['checkout']);
  });
  afterAll(async () => stage?.rig.stop());

  it('do not set off the guards against rapid resets', async () => {
    const { rig, east } = stage;
    // Nobody answers at all, and each caller resets after 150 ms: more than 250 resets without an answer on a connection.
    await startCallers(rig, 'patient', 'checkout', { rate: 1, long: 10, streamsMax: 1_000 });
    await rig.cut('127.0.2.1', '127.0.3.1');
    const tls = await rig.caller();
    const spec = { address: '127.0.1.1', port: 15018, tls, authority: 'checkout.shop.svc.cluster.local:80' };
    await rig.callers.loadStart('hasty', { ...spec, rate: 200, long: 0, giveUpMs: 150, streamsMax: 1_000 });
    await sleep(3_500);
    const hasty = await rig.callers.loadStop('hasty');
    await rig.heal();
    console.log(line('hasty', hasty));
    expect(hasty.failures.length).toBeGreaterThan(500);
    expect(hasty.connectionsLost).toBe(0);
    const guards = await east.stats(/too_many_premature_resets|overload_close|rx_reset.*flood|_flood$/);
    expect(Object.entries(guards).filter(([, value]) => value > 0)).toEqual([]);
    await rig.callers.loadStop('patient');
  });

  it('set them off under the default guard, so that this test can fail', async () => {
    const { rig, east } = stage;
    await east.stop();
    const strict = await rig.launch('us-east', 'gw-2', (files) =>
      files.map((file) => {
        if (file.name !== 'bootstrap.json') return file;
        return { ...file, json: { ...(file.json as object), layered_runtime: { layers: [] } } };
      }),
    );
    await rig.cut('127.0.2.1', '127.0.3.1');
    const tls = await rig.caller();
    const spec = { address: '127.0.1.1', port: 15018, tls, authority: 'checkout.shop.svc.cluster.local:80' };
    await rig.callers.loadStart('hasty', { ...spec, rate: 200, long: 0, giveUpMs: 150, streamsMax: 1_000 });
    await sleep(3_500);
    const hasty = await rig.callers.loadStop('hasty');
    await rig.heal();
    console.log(line('default guard', hasty));
    const guards = await strict.stats(/http\.egress\.downstream_rq_too_many_premature_resets/);
    expect(Object.values(guards)).toEqual([expect.any(Number)]);
    expect(Object.values(guards)[0]).toBeGreaterThan(0);
    expect(hasty.connectionsLost).toBeGreaterThan(0);
  });
});
