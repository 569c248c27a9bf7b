/** What running Envoys tell of connections over the border, as the audit keeps it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sourceHeader } from '../../../src/core/hop.ts';
import type { ConnectionEvent } from '../../../src/telemetry/connections.ts';
import { Rig } from './rig.ts';
import { authorityOf, calling, podOf, serving, sites } from './three.ts';
import { Told } from './told.ts';

const mesh = (account: string): string => `spiffe://cluster.local/ns/shop/sa/${account}`;

describe('the access logs of a pair of clusters', () => {
  let rig: Rig;
  let seen: readonly ConnectionEvent[];
  let told: Told['first'];
  const east = { address: sites['us-east'].address, port: 15018 };
  const west = { address: sites['us-west'].address, port: 15028 };

  beforeAll(async () => {
    rig = await Rig.start(['us-east', 'us-west']);
    const reader = new Told(rig);
    seen = reader.seen;
    told = (what, like) => reader.first(what, like);
    const pod = podOf('west', 'checkout', 0);
    await rig.world.podStart(pod.name, pod.address, 15008);
    const grants = [{ reader: 'us-east', service: 'shop/cart', perSecond: 0 }];
    await rig.configure({ ...sites['us-west'], services: serving('west', ['checkout', 'cart']), grants });
    await rig.configure({
      ...sites['us-east'],
      services: calling(['checkout', 'cart', 'gone']).map((spec) => ({ ...spec, tiers: [['us-west']] })),
    });
    await rig.launch('us-west');
    await rig.launch('us-east');
  });
  afterAll(async () => rig?.stop());

  it('tell who, to what, which member answered, when, how long and how many bytes, on both sides', async () => {
    const before = Date.now();
    const call = { ...east, tls: await rig.caller(), authority: authorityOf('checkout'), say: 'x'.repeat(1_000) };
    const forged = { [sourceHeader]: mesh('admin') };
    expect(await rig.callers.call({ ...call, headers: forged })).toMatchObject({ status: 200 });
    const out = await told('the end at the egress', { side: 'egress', result: 'closed' });
    expect(out).toMatchObject({
      source: mesh('client'),
      authority: authorityOf('checkout'),
      service: 'shop/checkout',
      member: 'us-west',
      to: '127.0.2.1:15028',
      status: 200,
      sent: 1_000,
      received: 'west-checkout\n'.length,
      gateway: 'us-east',
    });
    expect(out.startMs).toBeGreaterThanOrEqual(before - 1);
    expect(out.startMs + out.durationMs).toBeLessThanOrEqual(Date.now() + 1);
    expect(out.from).toMatch(/^127\.0\.\d+\.\d+:\d+$/);
    const arrived = await told('the end at the ingress', { side: 'ingress', result: 'closed' });
    expect(arrived).toMatchObject({
      source: 'us-east',
      claim: mesh('client'),
      service: 'shop/checkout',
      to: `${podOf('west', 'checkout', 0).address}:15008`,
      status: 200,
      sent: 1_000,
      received: 'west-checkout\n'.length,
    });
    // Each was told when it began, too, and is known again by its end.
    for (const { key, connection } of seen.filter(({ begins }) => !begins)) {
      expect(
        seen.filter((one) => one.key === key).map(({ begins }) => begins),
        connection.side,
      ).toEqual([true, false]);
    }
  });

  it('tell what was refused, and why', async () => {
    const tls = await rig.caller();
    await rig.callers.call({ ...east, tls, authority: 'nobody.shop.svc.cluster.local:80' });
    expect(await told('404', { side: 'egress', status: 404 })).toMatchObject({
      result: 'denied',
      reason: 'not-exported',
      source: mesh('client'),
      authority: 'nobody.shop.svc.cluster.local:80',
    });
    await rig.callers.call({ ...east, tls, authority: authorityOf('checkout'), headers: { 'x-isthmus-hops': '1' } });
    expect(await told('a loop', { side: 'egress', status: 403 })).toMatchObject({ result: 'denied', reason: 'loop' });
    const peer = await rig.peer('us-east');
    // What another member says of its workload is its claim.
    const claimed = { [sourceHeader]: 'anybody' };
    await rig.callers.call({ ...west, tls: peer, authority: authorityOf('gone'), headers: claimed });
    expect(await told('404 at the border', { side: 'ingress', status: 404 })).toMatchObject({
      result: 'denied',
      reason: 'not-exported',
      source: 'us-east',
      claim: 'anybody',
    });
    const refused = { ...west, tls: peer, authority: authorityOf('cart') };
    let answer = await rig.callers.call(refused);
    for (let i = 0; i < 5 && answer.status !== 429; i++) answer = await rig.callers.call(refused);
    expect(answer).toMatchObject({ status: 429, refused: 'grant' });
    expect(await told('429 at the border', { side: 'ingress', status: 429 })).toMatchObject({
      result: 'denied',
      reason: 'grant',
      service: 'shop/cart',
    });
    await rig.callers.call({ ...east, tls, authority: authorityOf('cart') });
    expect(await told('429 at the egress', { side: 'egress', status: 429 })).toMatchObject({
      result: 'denied',
      reason: 'grant',
      member: 'us-west',
    });
    // A claim that is no text takes nobody's log away.
    await rig.callers.call({ ...refused, headers: { [sourceHeader]: 'anyb\u00f6dy\u00ff' } });
    await rig.callers.call({ ...west, tls: peer, authority: authorityOf('after') });
    await told('what comes after it', { side: 'ingress', authority: authorityOf('after') });
  });

  it('tell of callers whose handshake failed, or who ask for a name that no member has', async () => {
    const refused = { ...west, authority: authorityOf('checkout') };
    const impostor = await rig.peer('us-east', 'us-west');
    expect((await rig.callers.call({ ...refused, tls: impostor })).status).toBeUndefined();
    const peer = await rig.peer('us-east');
    const nobody = { ...peer, servername: 'nobody.invalid' };
    expect((await rig.callers.call({ ...refused, tls: nobody })).status).toBeUndefined();
    expect(await told('the impostor', { side: 'ingress', reason: 'handshake' })).toMatchObject({
      result: 'denied',
      source: '',
      authority: 'us-east.demo.federation.isthmus',
    });
    expect(await told('the unknown name', { side: 'ingress', reason: 'no-member' })).toMatchObject({
      authority: 'nobody.invalid',
    });
    const stranger = { ...(await rig.caller()), cert: peer.cert, key: peer.key };
    const call = { ...east, tls: stranger, authority: authorityOf('checkout') };
    expect((await rig.callers.call(call)).status).toBeUndefined();
    expect(await told('the stranger', { side: 'egress', reason: 'handshake' })).toMatchObject({ result: 'denied' });
  });

  it('tell of ztunnels at the hbone listener, and nothing of health checks', async () => {
    const call = { ...west, port: 15008, tls: await rig.caller('shop/other'), authority: authorityOf('checkout') };
    expect(await rig.callers.call({ ...call, say: 'hello' })).toMatchObject({ status: 200 });
    expect(await told('direct', { side: 'direct', result: 'closed' })).toMatchObject({
      source: mesh('other'),
      service: 'shop/checkout',
      sent: 5,
    });
    // Health checks come every second: they would be here.
    const others = seen.filter(({ connection }) => connection.status === 200 && connection.service === undefined);
    expect(others).toEqual([]);
  });
});
