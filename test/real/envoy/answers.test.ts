/** What running gateways answer: who may come in, what a CONNECT must look like, and which hop says no. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Gateway } from './gateway.ts';
import type { CallerTls } from './load.ts';
import { until } from './processes.ts';
import { Rig } from './rig.ts';
import { authorityOf, sites } from './three.ts';

const pods = [{ name: 'west-checkout', address: '127.0.2.101' }];
const west = (ready: boolean) => ({
  ...sites['us-west'],
  services: [
    { key: 'shop/checkout', pods: [{ ...pods[0]!, ready }] },
    { key: 'shop/empty', pods: [{ name: 'none', address: '127.0.2.109', ready: false }] },
    { key: 'shop/private', pods: [{ name: 'own', address: '127.0.2.101' }], exported: false },
    {
      key: 'shop/ours',
      pods: [{ name: 'ours', address: '127.0.2.101' }],
      // More names than Envoy takes in one regular expression.
      exportedTo: ['eu-central', 'us-east', ...Array.from({ length: 40 }, (_, i) => `another-of-many-${i}`)],
    },
    { key: 'shop/theirs', pods: [{ name: 'theirs', address: '127.0.2.101' }], exportedTo: ['eu-central'] },
  ],
});

describe('running gateways', () => {
  let rig: Rig;
  let mesh: CallerTls;
  let peer: CallerTls;
  let gateways: Gateway[];
  const egress = (authority: string, headers: Record<string, string> = {}) =>
    rig.callers.call({ address: '127.0.1.1', port: 15018, tls: mesh, authority, headers });
  const federation = (authority: string, tls = peer, headers: Record<string, string> = {}) =>
    rig.callers.call({ address: '127.0.2.1', port: 15028, tls, authority, headers });

  beforeAll(async () => {
    rig = await Rig.start();
    await rig.world.podStart('west-checkout', '127.0.2.101', 15008);
    await rig.configure(west(true));
    const called = ['checkout', 'empty', 'private', 'ours', 'theirs'].map((name) => ({
      key: `shop/${name}`,
      tiers: [['us-west']],
    }));
    await rig.configure({ ...sites['us-east'], services: called });
    gateways = await Promise.all([rig.launch('us-west'), rig.launch('us-east')]);
    mesh = await rig.caller();
    peer = await rig.peer('us-east');
  });
  afterAll(async () => rig?.stop());

  it('takes all that it is given', async () => {
    expect(await rig.world.adsRefusals()).toEqual([]);
    expect((await Promise.all(gateways.map((gateway) => gateway.log()))).join('')).not.toMatch(/error|rejected/i);
  });

  it('leads a CONNECT over two gateways to the pod and says so, the near one first', async () => {
    const { status, hops } = await egress(authorityOf('checkout'));
    expect(status).toBe(200);
    expect(hops).toMatchObject([
      { role: 'egress', member: 'us-east', gateway: 'gw-1', to: 'us-west', peer: 'spiffe://demo/cluster/us-west' },
      { role: 'federation', member: 'us-west', gateway: 'gw-1', upstream: '127.0.2.101:15008' },
    ]);
  });

  it.each([
    ['an upper-case letter', 'Checkout.shop.svc.cluster.local:80'],
    ['a trailing dot', 'checkout.shop.svc.cluster.local.:80'],
    ['another port', 'checkout.shop.svc.cluster.local:81'],
    ['no port', 'checkout.shop.svc.cluster.local'],
    ['an unknown service', 'nobody.shop.svc.cluster.local:80'],
    ['a pod address', '127.0.2.101:15008'],
  ])('refuses %s at once, on the egress and on the federation listener', async (_, authority) => {
    const answers = [await egress(authority), await federation(authority)];
    expect(answers.map(({ status }) => status)).toEqual([404, 404]);
    expect(answers.map(({ hops }) => hops[0]?.flags)).toEqual(['NR', 'NR']);
  });

  it('refuses a service that is not exported, wherever it is asked for', async () => {
    expect((await federation(authorityOf('private'))).status).toBe(404);
    const { status, hops } = await egress(authorityOf('private'));
    expect(status).toBe(404);
    expect(hops[1]).toMatchObject({ role: 'federation', details: 'route_not_found' });
  });

  it('leads to a service that is for some members alone those members, and others nowhere', async () => {
    expect((await federation(authorityOf('ours'))).status).toBe(200);
    const { status, hops } = await egress(authorityOf('ours'));
    expect([status, hops[1]?.upstream]).toEqual([200, '127.0.2.101:15008']);
    // As if it did not exist, whatever the caller says of itself.
    const nobody = await federation(authorityOf('nobody'));
    for (const headers of [{}, { 'x-isthmus-peer': 'eu-central' }]) {
      const answer = await federation(authorityOf('theirs'), peer, headers);
      expect({ status: answer.status, hops: answer.hops }).toEqual({ status: nobody.status, hops: nobody.hops });
    }
    expect((await federation(authorityOf('ours'), peer, { 'x-isthmus-peer': 'mars' })).status).toBe(200);
    const central = await rig.peer('eu-central');
    expect((await federation(authorityOf('theirs'), central)).status).toBe(200);
  });

  it('answers plain requests with 404', async () => {
    const plain = { address: '127.0.1.1', port: 15018, tls: mesh, authority: authorityOf('checkout'), path: '/' };
    expect((await rig.callers.call(plain)).status).toBe(404);
  });

  it('answers health checks of peers before anything can refuse them', async () => {
    const check = { address: '127.0.2.1', port: 15028, tls: peer, authority: 'healthz', path: '/healthz' };
    expect((await rig.callers.call(check)).status).toBe(200);
  });

  it('lets nothing that has been through a gateway leave through the egress, and no second hop in', async () => {
    const checkout = authorityOf('checkout');
    const looped = await egress(checkout, { 'x-isthmus-hops': '1' });
    expect(looped.status).toBe(403);
    expect(looped.hops).toMatchObject([{ role: 'egress', details: expect.stringContaining('loop') }]);
    const statuses = [];
    for (const hops of ['1', '2', '1,1', '01', '']) {
      statuses.push((await federation(checkout, peer, { 'x-isthmus-hops': hops })).status);
    }
    expect(statuses).toEqual([200, 403, 403, 403, 403]);
  });

  it('knows each member by its own CA and its exact name', async () => {
    const checkout = authorityOf('checkout');
    const sni = 'us-east.demo.federation.isthmus';
    const refused: [string, CallerTls][] = [
      ['right name, CA of another member', await rig.peer('us-east', 'eu-central')],
      ['name of another member, right CA', { ...(await rig.peer('eu-central', 'us-east')), servername: sni }],
      ['right certificate, SNI of another member', { ...peer, servername: 'eu-central.demo.federation.isthmus' }],
      ['SNI of nobody', { ...peer, servername: 'nobody.demo.federation.isthmus' }],
      ['mesh certificate', { ...mesh, ca: peer.ca, servername: sni }],
      ['the gateway itself', { ...(await rig.peer('us-west')), servername: 'us-west.demo.federation.isthmus' }],
    ];
    for (const [what, tls] of refused) {
      const { status, error } = await federation(checkout, tls);
      expect([what, status], what).toEqual([what, undefined]);
      expect(error, what).toMatch(/alert|ECONNRESET|disconnected|closed/i);
    }
    expect((await federation(checkout)).status).toBe(200);
  });

  it('takes only mesh certificates on the egress and the direct listener', async () => {
    for (const at of [
      { address: '127.0.1.1', port: 15018 },
      { address: '127.0.2.1', port: 15008 },
    ]) {
      const spec = { ...at, authority: authorityOf('checkout') };
      expect((await rig.callers.call({ ...spec, tls: { ...peer, ca: mesh.ca } })).error).toMatch(/alert/);
      expect((await rig.callers.call({ ...spec, tls: mesh })).status).toBe(200);
    }
    const { hops } = await rig.callers.call({
      address: '127.0.2.1',
      port: 15008,
      tls: mesh,
      authority: authorityOf('checkout'),
    });
    expect(hops).toMatchObject([{ role: 'hbone', member: 'us-west' }]);
  });

  it('refuses with 503 when nothing is ready, and serves again when something is', async () => {
    const { status, hops } = await egress(authorityOf('empty'));
    expect(status).toBe(503);
    expect(hops[1]).toMatchObject({
      role: 'federation',
      member: 'us-west',
      flags: 'UH',
      details: 'no_healthy_upstream',
    });
    await rig.configure(west(false));
    await until('readiness empties the endpoints', async () => (await egress(authorityOf('checkout'))).status === 503);
    await rig.configure(west(true));
    await until('readiness fills them', async () => (await egress(authorityOf('checkout'))).status === 200);
  });
});
