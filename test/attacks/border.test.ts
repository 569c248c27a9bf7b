/**
 * The gateways of a hostile member, with their own valid certificates, and whoever can reach the port at all: they ask for more than
 * they should, and the gateway goes on answering another member. Who may come in, and for what, is in test/real/envoy/answers.test.ts.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../src/core/limits.ts';
import type { Gateway } from '../real/envoy/gateway.ts';
import type { CallerTls } from '../real/envoy/load.ts';
import { until } from '../real/envoy/processes.ts';
import { Rig } from '../real/envoy/rig.ts';
import { authorityOf, podOf, serving, sites } from '../real/envoy/three.ts';

const at = { address: sites['us-west'].address, port: 15_028, authority: authorityOf('checkout') };

describe('a hostile peer', () => {
  let rig: Rig;
  let gateway: Gateway;
  let hostile: CallerTls;
  let other: CallerTls;

  beforeAll(async () => {
    rig = await Rig.start();
    const pod = podOf('west', 'checkout', 0);
    await rig.world.podStart(pod.name, pod.address, 15_008);
    await rig.configure({ ...sites['us-west'], services: serving('west', ['checkout']) });
    gateway = await rig.launch('us-west');
    hostile = await rig.peer('us-east');
    other = await rig.peer('eu-central');
  });
  afterEach(async () => {
    await rig.callers.stormEnd();
    expect((await gateway.admin('/ready')).trim()).toBe('LIVE');
  });
  afterAll(async () => rig?.stop());

  const spec = (tls: CallerTls) => ({ ...at, tls });
  /** Another member’s call through the same Envoy. */
  const othersGoOn = async (): Promise<void> => {
    expect(await rig.world.call({ ...at, tls: other })).toMatchObject({ status: 200 });
  };

  it('gets so many connections and no more; another member is let in', async () => {
    const asked = limits.memberConnectionsMax + 150;
    const stood = await rig.callers.stormConnections(spec(hostile), asked);
    expect(stood).toBeGreaterThan(limits.memberConnectionsMax * 0.95);
    await until('the rest is refused', async () => (await rig.callers.stormStanding()) <= limits.memberConnectionsMax);
    await othersGoOn();
    const counters = await gateway.stats(/limited_connections/);
    expect(Object.values(counters).reduce((sum, n) => sum + n, 0)).toBeGreaterThan(0);
  });

  it('that resets what it opens, in a loop, is cut off or slowed; another member is served', async () => {
    const storm = rig.callers.stormResets(spec(hostile), 30_000);
    for (let i = 0; i < 5; i++) await othersGoOn();
    const sent = await storm;
    expect(sent).toBeGreaterThan(1_000);
    await othersGoOn();
    // Connections to the pod that nobody waited for stay ready for the next tunnels; there are few of them.
    expect(await rig.world.podOpen('west-checkout')).toBeLessThan(500);
    const counters = await gateway.stats(/border_rate.*rate_limited$/);
    expect(Object.values(counters).reduce((sum, n) => sum + n, 0)).toBeGreaterThan(sent / 4);
  });

  it.each([100_000, 4_000_000])('with %i bytes of headers gets nothing', async (bytes) => {
    const status = await rig.callers.stormHeaders(spec(hostile), bytes);
    expect(status === undefined || status === 431).toBe(true);
    await othersGoOn();
  });

  it('that connects and says nothing is sent away, whoever it is', async () => {
    await rig.callers.stormSilence(spec(hostile), 1_000);
    await othersGoOn();
    await until('all of them are closed', async () => (await rig.callers.stormSilent()) === 0, 20_000);
    await othersGoOn();
  });
});
