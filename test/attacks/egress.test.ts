/**
 * A hostile workload of our own mesh, with its own valid certificate, and whoever can reach the egress at all: it wants what its rules
 * deny it, and more than its limit. What each attack meets is told by the gateway's access log, which feeds the audit and
 * `isthmus_border_denied_total`.
 */

import { create } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { hopHeader, refusedHeader, sourceHeader } from '../../src/core/hop.ts';
import { probeGatewayHeader, probeHeader, probeSni } from '../../src/core/probing.ts';
import { TypedExtensionConfigSchema } from '../../src/gen/envoy/config/core/v3/extension_pb.ts';
import { LocalRateLimitSchema } from '../../src/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts';
import { limitsName } from '../../src/translate/envoy/egress_limits.ts';
import { type Encoded, encode, packed, typeUrls } from '../../src/translate/envoy/encoded.ts';
import type { EgressRules } from '../../src/trust/egress_rules.ts';
import type { CallerTls } from '../real/envoy/load.ts';
import { until } from '../real/envoy/processes.ts';
import { authorityOf, calling, sites, startThree, type Three } from '../real/envoy/three.ts';
import { Told } from '../real/envoy/told.ts';
import { newTestCa } from '../real/pki.ts';
import { decoded, unpacked } from '../unit/translate-envoy/fixture.ts';
import { accounts, rulesOf, to } from '../unit/trust/egress_rules_of.ts';

const services = ['checkout', 'cart'];
const at = { address: sites['us-east'].address, port: 15_018 };
const id = (account: string): string => `spiffe://cluster.local/ns/shop/sa/${account}`;

describe('a hostile workload', () => {
  let stage: Three;
  let told: Told;
  let hostile: CallerTls;
  let honest: CallerTls;

  const allowed = { action: 'ALLOW', rules: [{ from: accounts('shop/honest'), to: to('shop/*') }] };
  const mayCart = { action: 'ALLOW', rules: [{ from: accounts('shop/hostile'), to: to('shop/cart') }] };
  const give = (egress: EgressRules, change?: (all: Encoded[]) => Encoded[]) =>
    stage.rig.configure({ ...sites['us-east'], services: calling(services), egress }, change);
  const call = (tls: CallerTls, authority: string, headers: Record<string, string> = {}) =>
    stage.rig.callers.call({ ...at, tls, authority, headers });
  const checkout = authorityOf('checkout');
  const cart = authorityOf('cart');
  const othersGoOn = async (): Promise<void> => expect(await call(honest, checkout)).toMatchObject({ status: 200 });

  beforeAll(async () => {
    stage = await startThree(services);
    told = new Told(stage.rig);
    hostile = await stage.rig.caller('shop/hostile');
    honest = await stage.rig.caller('shop/honest');
    await give(rulesOf({ allowed, mayCart }));
    await until('the rules are there', async () => (await call(hostile, checkout)).status === 403);
  });
  afterEach(async () => {
    expect((await stage.east.admin('/ready')).trim()).toBe('LIVE');
    await stage.rig.callers.stormEnd();
  });
  afterAll(async () => stage?.rig.stop());

  it('does not get through by headers: forged, doubled, in another case, a hop’s, a peer’s, a probe’s', async () => {
    const forged: Record<string, string>[] = [
      { [sourceHeader]: id('honest') },
      { [sourceHeader]: `${id('hostile')},${id('honest')}` },
      { 'X-Isthmus-Source': id('honest') },
      { 'x-isthmus-peer': 'us-west' },
      { 'x-forwarded-client-cert': `By=x;URI=${id('honest')}` },
      { [probeHeader]: 'us-west', [probeGatewayHeader]: '127.0.2.1:15028' },
      { [refusedHeader]: 'grant', [hopHeader]: 'egress;member=us-east' },
      { 'x-envoy-original-path': '/healthz', 'x-envoy-internal': 'true' },
    ];
    for (const headers of forged)
      expect((await call(hostile, checkout, headers)).status, JSON.stringify(headers)).toBe(403);
    // It reached the rules, and they say who it was.
    const seen = await told.first('the denials', {
      side: 'egress',
      reason: 'policy',
      source: id('hostile'),
      service: 'shop/checkout',
    });
    expect(seen).toMatchObject({ result: 'denied', rule: 'none' });
    await until('all of them', async () => {
      await told.read();
      return told.like({ reason: 'policy', source: id('hostile') }).length >= forged.length;
    });
    expect(told.like({ side: 'egress', source: id('honest') }).filter(({ result }) => result === 'denied')).toEqual([]);
  });

  it('does not get through by other spellings of what it may not call', async () => {
    const host = 'checkout.shop.svc.cluster.local';
    const spellings = [
      `CHECKOUT.shop.svc.cluster.local:80`,
      `${host}.:80`,
      `${host}:080`,
      host,
      `${host}:81`,
      `cart.shop.svc.cluster.local@${host}:80`,
    ];
    for (const authority of [
      ...spellings,
      `${host}:80.shop.svc.cluster.local:80`,
      `cart.shop.svc.cluster.local:80,${host}:80`,
    ]) {
      const { status } = await call(hostile, authority);
      expect(
        status === 403 || status === 404 || status === 400 || status === undefined,
        `${authority}: ${status}`,
      ).toBe(true);
    }
    // Not even where a rule lets it call one service whose name is in it.
    expect((await call(hostile, cart)).status).toBe(200);
  });

  it('does not get in as the prober, under another’s name from another CA, or without TLS names', async () => {
    const prober = { ...hostile, servername: probeSni('demo') };
    expect(
      (await call(prober, checkout, { [probeHeader]: 'us-west', [probeGatewayHeader]: '127.0.2.1:15028' })).status,
    ).toBeUndefined();
    const ca = await newTestCa('hostile');
    const made = await ca.issue({ commonName: 'honest', uris: [id('honest')] });
    const impostor = { ...hostile, cert: made.cert.toString(), key: made.key.toString() };
    expect((await call(impostor, checkout)).status).toBeUndefined();
    expect(await told.first('both', { side: 'egress', reason: 'handshake' })).toMatchObject({
      result: 'denied',
      source: '',
    });
    await othersGoOn();
  });

  it('gets its limit and no more: by many connections, by resets, by names in headers; others notice nothing', async () => {
    const slow = { action: 'LIMIT', rules: [{ from: accounts('shop/hostile'), connectsPerSecond: 20 }] };
    await give(rulesOf({ allowed, mayCart, slow }));
    await until('the limit is there', async () => {
      const some = await Promise.all(Array.from({ length: 30 }, () => call(hostile, cart)));
      return some.some(({ status }) => status === 429);
    });
    await stage.rig.callers.stormConnections({ ...at, tls: hostile, authority: cart }, 300);
    const from = performance.now();
    const storm = stage.rig.callers.stormResets({ ...at, tls: hostile, authority: cart }, 5_000);
    let through = 0;
    for (let i = 0; i < 8; i++) {
      const some = Array.from({ length: 10 }, (_, j) => call(hostile, cart, { [sourceHeader]: id(`n-${i}-${j}`) }));
      through += (await Promise.all(some)).filter(({ status }) => status === 200).length;
      await othersGoOn();
    }
    const sent = await storm;
    const seconds = (performance.now() - from) / 1_000;
    expect(sent).toBeGreaterThan(1_000);
    expect(through).toBeLessThanOrEqual(20 * seconds + 21);
    expect(await told.first('the limit', { side: 'egress', reason: 'source' })).toMatchObject({
      source: id('hostile'),
      status: 429,
    });
    const counters = await stage.east.stats(/border_source.*rate_limited$/);
    expect(Object.values(counters).reduce((sum, n) => sum + n, 0)).toBeGreaterThan(sent / 4);
  });

  it('that has many identities pushes others out of the table of buckets, and takes nothing from them by that', async () => {
    const small = (all: Encoded[]): Encoded[] =>
      all.map((one) => {
        if (one.name !== limitsName) return one;
        const limit = unpacked(decoded(all, TypedExtensionConfigSchema, limitsName).typedConfig, LocalRateLimitSchema);
        const typedConfig = packed(LocalRateLimitSchema, { ...limit, maxDynamicDescriptors: 3 });
        const config = create(TypedExtensionConfigSchema, { name: limitsName, typedConfig });
        return encode(typeUrls.extension, limitsName, TypedExtensionConfigSchema, config);
      });
    const each = { action: 'LIMIT', rules: [{ from: [{ source: { namespaces: ['*'] } }], connectsPerSecond: 3 }] };
    const all = { action: 'ALLOW', rules: [{ from: [{ source: { namespaces: ['shop'] } }], to: to('*') }] };
    await give(rulesOf({ all, each }), small);
    const crowd = await Promise.all(Array.from({ length: 8 }, (_, i) => stage.rig.caller(`shop/crowd-${i}`)));
    await until('the limit is there', async () => {
      const some = await Promise.all(Array.from({ length: 8 }, () => call(hostile, cart)));
      return some.some(({ status }) => status === 429);
    });
    // Its bucket is empty. Others come, more than the table holds: each is served, and so is one that was pushed out.
    for (const tls of [...crowd, honest, ...crowd]) expect((await call(tls, cart)).status).toBe(200);
    // It is forgotten too, and begins anew: with one bucket, as any of its identities has.
    const again = await Promise.all(Array.from({ length: 12 }, () => call(hostile, cart)));
    expect(again.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(3 + 2);
    await othersGoOn();
  });
});
