/** A gateway at the right address that is not who it should be. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Rig } from './rig.ts';
import { calling, line, podOf, serving, sites, startCallers } from './three.ts';

describe('a gateway with the right name, by the CA of another member', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await Rig.start();
    for (const site of ['west', 'central'] as const) {
      const pod = podOf(site, 'checkout', 0);
      await rig.world.podStart(pod.name, pod.address, 15008);
    }
    rig.useSecrets('us-west', await rig.secretsFor('us-west', 'eu-central'));
    await rig.configure({ ...sites['us-west'], services: serving('west', ['checkout']) });
    await rig.configure({ ...sites['eu-central'], services: serving('central', ['checkout']) });
    await rig.configure({ ...sites['us-east'], services: calling(['checkout']) });
    await Promise.all(['us-west', 'eu-central', 'us-east'].map((name) => rig.launch(name)));
  });
  afterAll(async () => rig?.stop());

  it('gets nothing; the calls go to the next', async () => {
    await startCallers(rig, 'impostor', 'checkout', { rate: 100, long: 5 });
    const result = await rig.callers.loadStop('impostor');
    console.log(line('impostor', result));
    const more = await rig.callers.call({
      address: '127.0.1.1',
      port: 15018,
      tls: await rig.caller(),
      authority: 'checkout.shop.svc.cluster.local:80',
    });
    expect(more.hops[0]).toMatchObject({ to: 'eu-central' });
    expect(result.failures).toEqual([]);
    expect(await rig.world.podOpen('west-checkout')).toBe(0);
  });
});
