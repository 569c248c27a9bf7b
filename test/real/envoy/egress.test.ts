/** Rights and limits of workloads at the egress: what running Envoys make of them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sourceHeader } from '../../../src/core/hop.ts';
import type { EgressRules } from '../../../src/trust/egress_rules.ts';
import { accounts, rulesOf, spaces, to } from '../../unit/trust/egress_rules_of.ts';
import type { CallerTls } from './load.ts';
import { until } from './processes.ts';
import { authorityOf, calling, judge, line, sites, startCallers, startThree, type Three } from './three.ts';
import { Told } from './told.ts';

const services = ['checkout', 'cart'];
const at = { address: sites['us-east'].address, port: 15_018 };
const id = (account: string): string => `spiffe://cluster.local/ns/shop/sa/${account}`;

describe('the egress', () => {
  let stage: Three;
  let told: Told;
  const certificates = new Map<string, CallerTls>();

  beforeAll(async () => {
    stage = await startThree(services);
    told = new Told(stage.rig);
    for (const account of ['client', 'web', 'batch-1', 'noisy', 'quiet', 'pinned'])
      certificates.set(account, await stage.rig.caller(`shop/${account}`));
  });
  afterAll(async () => stage?.rig.stop());

  const call = (account: string, service: string, headers: Record<string, string> = {}) =>
    stage.rig.callers.call({ ...at, tls: certificates.get(account)!, authority: authorityOf(service), headers });
  const status = async (account: string, service: string) => (await call(account, service)).status;
  const give = (egress?: EgressRules, identityConnectsPerSecond?: number) =>
    stage.rig.configure({
      ...sites['us-east'],
      services: calling(services),
      ...(egress && { egress }),
      ...(identityConnectsPerSecond && { identityConnectsPerSecond }),
    });
  const becomes = (account: string, service: string, wanted: number) =>
    until(`${account} gets ${wanted} of ${service}`, async () => (await status(account, service)) === wanted);

  it('lets everybody call everything without a rule, and whom a rule allows with one; a denial names its rule', async () => {
    expect(await status('client', 'checkout')).toBe(200);
    await give(
      rulesOf({
        web: { action: 'ALLOW', rules: [{ from: accounts('shop/web', 'shop/batch-*'), to: to('shop/checkout') }] },
        night: { action: 'DENY', rules: [{ from: accounts('shop/batch-*'), to: to('shop/*') }] },
      }),
    );
    await becomes('client', 'checkout', 403);
    await becomes('batch-1', 'checkout', 403);
    expect(await status('web', 'checkout')).toBe(200);
    expect(await status('web', 'cart')).toBe(403);
    const { hops } = await call('batch-1', 'checkout');
    expect(hops).toMatchObject([{ role: 'egress', details: 'rbac_access_denied_matched_policy[night/0]' }]);
    expect(await told.first('whom no rule allows', { side: 'egress', rule: 'none' })).toMatchObject({
      result: 'denied',
      reason: 'policy',
      source: id('client'),
      service: 'shop/checkout',
      status: 403,
    });
    expect(await told.first('whom a rule denies', { side: 'egress', rule: 'night/0' })).toMatchObject({
      reason: 'policy',
      source: id('batch-1'),
    });
    expect(told.telemetry.totals).toMatchObject({ lostTried: 0, lostUntried: 0 });
    expect(told.telemetry.totals.denied).toBeGreaterThan(1);
  });

  it('goes by the certificate, whatever the caller writes', async () => {
    for (const headers of [{ [sourceHeader]: id('web') }, { [sourceHeader.toUpperCase()]: id('web') }]) {
      expect((await call('client', 'checkout', headers)).status).toBe(403);
    }
    expect((await call('web', 'checkout', { [sourceHeader]: id('nobody') })).status).toBe(200);
  });

  it('takes other rules without touching a tunnel that stands', async (context) => {
    const { rig } = stage;
    await give();
    await becomes('client', 'checkout', 200);
    await startCallers(rig, 'standing', 'checkout', { rate: 0, long: 10 });
    const deny = (n: number) =>
      rulesOf({ no: { action: 'DENY', rules: [{ from: spaces('shop', `n-${n}`), to: to('*') }] } });
    for (let n = 0; n < 4; n++) {
      await give(deny(n));
      await becomes('client', 'checkout', 403);
      await give();
      await becomes('client', 'checkout', 200);
    }
    await give(deny(9), 100);
    await becomes('client', 'checkout', 403);
    const standing = await rig.callers.loadStop('standing');
    judge(context, standing, () => {
      expect(standing.long).toMatchObject({ broken: 0, open: 10 });
      expect(standing.connectionsLost).toBe(0);
    });
    expect(await rig.world.adsRefusals()).toEqual([]);
  });

  it('bounds what one identity opens, over all its connections, and nobody else notices', async () => {
    await give(
      rulesOf({ slow: { action: 'LIMIT', rules: [{ from: accounts('shop/noisy'), connectsPerSecond: 5 }] } }),
      1_000,
    );
    await becomes('client', 'checkout', 200);
    await until('the limit is there', async () => {
      const some = await Promise.all(Array.from({ length: 12 }, () => call('noisy', 'checkout')));
      return some.some((one) => one.status === 429);
    });
    const from = performance.now();
    const quiet: (number | undefined)[] = [];
    const noisy: (number | undefined)[] = [];
    for (let i = 0; i < 10; i++) {
      // A connection each, and another name in the header each time.
      const all = await Promise.all([
        call('quiet', 'checkout'),
        ...Array.from({ length: 8 }, (_, j) => call('noisy', 'checkout', { [sourceHeader]: id(`other-${i}-${j}`) })),
      ]);
      quiet.push(all[0]!.status);
      noisy.push(...all.slice(1).map((one) => one.status));
    }
    const seconds = (performance.now() - from) / 1_000;
    expect(quiet).toEqual(Array(10).fill(200));
    const through = noisy.filter((one) => one === 200).length;
    console.log(`limit 5/s: ${through} of 80 in ${seconds.toFixed(1)} s`);
    expect(noisy.filter((one) => one !== 200 && one !== 429)).toEqual([]);
    expect(through).toBeLessThanOrEqual(5 * seconds + 6);
    expect(await told.first('the limit', { side: 'egress', reason: 'source' })).toMatchObject({
      result: 'denied',
      status: 429,
      source: id('noisy'),
    });
  });

  it('gives each identity of a namespace a bucket of its own, and one that is named another', async () => {
    const egress = rulesOf({
      slow: {
        action: 'LIMIT',
        rules: [
          { from: spaces('shop'), connectsPerSecond: 2 },
          { from: accounts('shop/quiet'), connectsPerSecond: 500 },
        ],
      },
    });
    await give(egress, 1_000);
    const burst = async (account: string): Promise<number> => {
      const all = await Promise.all(Array.from({ length: 12 }, () => call(account, 'cart')));
      return all.filter((one) => one.status === 200).length;
    };
    await until('the limit is there', async () => (await burst('client')) < 12);
    expect(await burst('web')).toBeLessThan(12);
    expect(await burst('web')).toBeLessThan(6);
    expect(await burst('quiet')).toBe(12);
    // It had none taken by the others.
    expect((await call('batch-1', 'cart')).status).toBe(200);
  });

  it('sends callers to the members that may answer them, and to no others', async () => {
    const pinned = { from: accounts('shop/pinned'), to: to('shop/checkout') };
    const rest = { from: accounts('shop/web'), to: to('*') };
    await give(rulesOf({ a: { action: 'ALLOW', rules: [{ ...pinned, members: ['eu-central'] }, rest] } }));
    const answering = async (account: string) => (await call(account, 'checkout')).hops.map(({ member }) => member);
    await until('pinned', async () => (await answering('pinned'))[1] === 'eu-central');
    for (let i = 0; i < 5; i++) expect(await answering('pinned')).toEqual(['us-east', 'eu-central']);
    expect(await answering('web')).toEqual(['us-east', 'us-west']);
    await give(rulesOf({ a: { action: 'ALLOW', rules: [{ ...pinned, members: ['ap-south'] }, rest] } }));
    await becomes('pinned', 'checkout', 503);
    expect(await answering('web')).toEqual(['us-east', 'us-west']);
  });

  it('stays quick with a thousand rules and ten thousand identities', async () => {
    const rules = (n: number) =>
      Array.from({ length: 250 }, (_, i) => ({
        from: accounts(...Array.from({ length: 10 }, (_, j) => `ns-${n}-${i}/account-${j}`)),
        to: to('shop/*'),
      }));
    const many = Object.fromEntries([0, 1, 2, 3].map((n) => [`p${n}`, { action: 'ALLOW', rules: rules(n) }]));
    const last = { action: 'ALLOW', rules: [{ from: accounts('shop/web'), to: to('shop/*') }] };
    const timed = async (): Promise<number> => {
      const spec = { ...at, tls: certificates.get('web')!, authority: authorityOf('checkout') };
      await stage.rig.callers.loadStart('timed', { ...spec, rate: 50, long: 0 });
      await until('calls', async () => (await stage.rig.callers.loadResult('timed')).ok > 60);
      const result = await stage.rig.callers.loadStop('timed');
      expect(result.failures).toEqual([]);
      console.log(line('50/s', result), `p50 ${result.p50Ms.toFixed(2)} ms`);
      return result.p50Ms;
    };
    await give();
    await becomes('client', 'cart', 200);
    const without = await timed();
    await give(rulesOf({ ...many, z: last }));
    await becomes('client', 'cart', 403);
    const withRules = await timed();
    const denied = Object.fromEntries([0, 1, 2, 3].map((n) => [`d${n}`, { action: 'DENY', rules: rules(n) }]));
    await give(rulesOf({ ...denied, z: last }));
    await becomes('client', 'cart', 403);
    const withDenials = await timed();
    console.log(`with 1,000 that deny ${withDenials.toFixed(2)} ms`);
    console.log(`a tunnel opens in ${without.toFixed(2)} ms without rules, ${withRules.toFixed(2)} ms with 1,001`);
    expect(await stage.rig.world.adsRefusals()).toEqual([]);
  });
});
