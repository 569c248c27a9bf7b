import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Gateway, Rig } from './rig.ts';

const authority = 'checkout.shop.svc.cluster.local:80';

describe('a CONNECT on running gateways', () => {
  let rig: Rig;
  let east: Gateway;
  beforeAll(async () => {
    rig = await Rig.start();
    await rig.world.podStart('west-1', '127.0.2.101', 15008);
    const west = {
      name: 'us-west',
      address: '127.0.2.1',
      services: [{ key: 'shop/checkout', pods: [{ name: 'west-1', address: '127.0.2.101' }] }],
    };
    await rig.configure(west);
    await rig.configure({
      name: 'us-east',
      address: '127.0.1.1',
      services: [{ key: 'shop/checkout', tiers: [['us-west']] }],
    });
    await Promise.all([
      rig.launch('us-west'),
      rig.launch('us-east').then((g) => {
        east = g;
      }),
    ]);
  });
  afterAll(async () => rig?.stop());

  it('passes two gateways and reaches the pod', async () => {
    expect(await rig.world.adsRefusals()).toEqual([]);
    const tls = await rig.caller();
    await rig.callers.loadStart('a', { address: '127.0.1.1', port: 15018, tls, authority, rate: 50, long: 2 });
    await new Promise((r) => setTimeout(r, 2000));
    const result = await rig.callers.loadStop('a');
    console.log(result, await east.log());
    expect(result.failures).toEqual([]);
  });
});
