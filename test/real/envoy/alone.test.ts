/** A cluster whose last partner leaves: a real Envoy takes what it is given, shuts the door and keeps serving. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Gateway } from './gateway.ts';
import { until } from './processes.ts';
import { Rig } from './rig.ts';
import { podOf, serving, sites } from './three.ts';

describe('a cluster set of one', () => {
  let rig: Rig;
  let west: Gateway;
  const spec = { ...sites['us-west'], services: serving('west', ['checkout']) };
  const door = { address: sites['us-west'].address, port: 15028, authority: 'checkout.shop.svc.cluster.local:80' };
  const rejected = async (): Promise<number> => {
    const stats = await west.stats(/^listener_manager\.lds\.update_rejected$/);
    return stats['listener_manager.lds.update_rejected']!;
  };

  beforeAll(async () => {
    rig = await Rig.start(['us-west', 'us-east']);
    const pod = podOf('west', 'checkout', 0);
    await rig.world.podStart(pod.name, pod.address, 15008);
    await rig.configure(spec);
    await rig.configure({ ...sites['us-east'], services: [] });
    west = await rig.launch('us-west');
  });
  afterAll(async () => rig?.stop());

  it('lets nobody in who was let in before, and the gateway stays ready', async () => {
    const tls = await rig.peer('us-east');
    expect(await rig.callers.call({ ...door, tls })).toMatchObject({ status: 200 });
    rig.removeMember('us-east');
    await rig.configure(spec);
    await until('shut', async () => (await rig.callers.call({ ...door, tls })).status === undefined);
    expect(await rejected()).toBe(0);
    expect((await west.admin('/ready')).trim()).toBe('LIVE');
    const nobody = await rig.callers.call({ ...door, tls: { ...tls, servername: 'nobody.invalid' } });
    expect(nobody.status).toBeUndefined();
    const direct = { ...door, port: 15008, tls: await rig.caller() };
    expect(await rig.callers.call(direct)).toMatchObject({ status: 200 });
  });

  it('starts, and is ready', async () => {
    await west.stop();
    west = await rig.launch('us-west', 'gw-2');
    expect(await rejected()).toBe(0);
  });
});
