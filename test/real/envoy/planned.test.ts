/** A gateway that goes on purpose, and the local gateway's two Envoys on one port. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sleep, until } from './processes.ts';
import { line, startCallers, startThree, type Three } from './three.ts';

describe('an end that is planned, and one that is not', () => {
  let stage: Three;
  beforeAll(async () => {
    stage = await startThree(['checkout']);
  });
  afterAll(async () => stage?.rig.stop());

  it('a gateway that fails its health check is left, and its end then fails no new connection', async () => {
    const { rig, west } = stage;
    await startCallers(rig, 'planned', 'checkout', { rate: 100, long: 5 });
    await west.admin('/healthcheck/fail', 'POST');
    await until('us-west is left', async () => {
      await rig.callers.loadMark('planned');
      await sleep(300);
      const { servedBy } = await rig.callers.loadResult('planned');
      return servedBy['west-checkout'] === undefined && (servedBy['central-checkout'] ?? 0) > 10;
    });
    const { long } = await rig.callers.loadResult('planned');
    expect(long.broken).toBe(0);
    west.signal('SIGKILL');
    await sleep(1_500);
    const after = await rig.callers.loadStop('planned');
    console.log(line('planned end', after));
    expect(after.failures).toEqual([]);
    expect(after.maxMs).toBeLessThan(1_000);
  });

  it('both serve, and the crash of one costs what it had in flight', async () => {
    const { rig, east } = stage;
    const second = await rig.launch('us-east', 'gw-2');
    // Callers' connections are spread by the kernel; several, so that both get some.
    await startCallers(rig, 'pair', 'checkout', { rate: 100, long: 20, streamsMax: 2 });
    const handled = async () => {
      const counts = await Promise.all(
        [east, second].map((envoy) => envoy.stats(/^http\.egress\.downstream_cx_total$/)),
      );
      return counts.map((count) => count['http.egress.downstream_cx_total'] ?? 0);
    };
    expect(Math.min(...(await handled()))).toBeGreaterThan(0);
    second.signal('SIGKILL');
    await sleep(2_000);
    const crash = await rig.callers.loadStop('pair');
    console.log(line('crash of one of two', crash));
    expect(crash.failures.length).toBeLessThanOrEqual(3);
    expect(crash.long.open).toBe(20);
    expect(crash.ok).toBeGreaterThan(180);
  });
});
