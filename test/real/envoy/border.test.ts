/** Grants and bounds at the federation listener, and the age of tunnels: what running Envoys make of them. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { anyPack, anyUnpack } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ListenerSchema } from '../../../src/gen/envoy/config/listener/v3/listener_pb.ts';
import { LocalRateLimitSchema } from '../../../src/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts';
import { HttpConnectionManagerSchema } from '../../../src/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { type Encoded, typeUrls } from '../../../src/translate/envoy/encoded.ts';
import type { ServiceSpec } from '../../unit/translate-envoy/fixture.ts';
import { sleep } from './processes.ts';
import { authorityOf, calling, judge, line, serving, sites, startCallers, startThree, type Three } from './three.ts';

const services = ['checkout', 'cart', 'picky'];
const picky: ServiceSpec = {
  ...calling(['picky'])[0]!,
  trafficPolicy: { consecutive5xxErrors: 1, consecutiveGatewayErrors: 1, baseEjectionTimeMs: 20_000 },
};
const east = [...calling(['checkout', 'cart']), picky];

describe('at the border', () => {
  let stage: Three;
  beforeAll(async () => {
    stage = await startThree(services);
    await stage.rig.configure({ ...sites['us-east'], services: east });
  });
  afterAll(async () => stage?.rig.stop());

  const grant = async (grants: Readonly<Record<string, number>>): Promise<void> => {
    const list = Object.entries(grants).map(([service, perSecond]) => ({
      reader: 'us-east',
      service: `shop/${service}`,
      perSecond,
    }));
    await stage.rig.configure({ ...sites['us-west'], services: serving('west', services), grants: list });
  };
  const ejections = async () =>
    Object.values(await stage.east.stats(/ejections_(active|enforced_total)$/)).reduce((sum, n) => sum + n, 0);

  it('a sender above its grant overflows to the next tier: nothing fails, nothing breaks, nobody is ejected', async (context) => {
    const { rig } = stage;
    await startCallers(rig, 'spill', 'checkout', { rate: 100, long: 10 });
    await startCallers(rig, 'other', 'cart', { rate: 20, long: 0 });
    await grant({ checkout: 30 });
    await sleep(500);
    await rig.callers.loadMark('spill');
    const from = performance.now();
    await sleep(5_000);
    const spill = await rig.callers.loadResult('spill');
    const seconds = (performance.now() - from) / 1_000;
    console.log(line(`granted 30/s, asked 100/s, ${seconds.toFixed(1)} s`, spill));
    const west = spill.servedBy['west-checkout'] ?? 0;
    judge(context, spill, () => {
      expect(spill.failures).toEqual([]);
      expect(spill.maxMs).toBeLessThan(250);
      expect(spill.long).toMatchObject({ broken: 0, open: 10 });
      expect(spill.connectionsLost).toBe(0);
      // The bucket holds a quarter of a second.
      expect(west).toBeLessThanOrEqual(30 * seconds + 8);
      expect(west).toBeGreaterThan(30 * seconds * 0.8);
      expect(spill.servedBy['central-checkout']).toBe(spill.ok - west);
    });
    expect(await ejections()).toBe(0);
    const other = await rig.callers.loadStop('other');
    expect(other.failures).toEqual([]);
    expect(other.servedBy).toEqual({ 'west-cart': other.ok });
  });

  it('a grant that changes every half second breaks no tunnel; one of nothing sends everything on; none lifts it', async () => {
    const { rig } = stage;
    await rig.callers.loadMark('spill');
    for (const perSecond of [10, 60, 5, 90, 20]) {
      await grant({ checkout: perSecond });
      await sleep(500);
    }
    await grant({ checkout: 0 });
    await sleep(500);
    const changing = await rig.callers.loadResult('spill');
    expect(changing.failures).toEqual([]);
    expect(changing.long).toMatchObject({ broken: 0, open: 10 });
    expect(changing.connectionsLost).toBe(0);
    await rig.callers.loadMark('spill');
    await sleep(1_000);
    expect((await rig.callers.loadResult('spill')).servedBy['west-checkout']).toBeUndefined();
    await grant({});
    await sleep(500);
    await rig.callers.loadMark('spill');
    await sleep(1_000);
    const lifted = await rig.callers.loadStop('spill');
    expect(lifted.servedBy).toEqual({ 'west-checkout': lifted.ok });
    expect(lifted.failures).toEqual([]);
  });

  it('says what refused, and is no error to a user’s own outlier rules either', async () => {
    const { rig } = stage;
    await grant({ picky: 0 });
    await sleep(500);
    const tls = await rig.peer('us-east');
    const straight = { address: '127.0.2.1', port: 15028, tls, authority: authorityOf('picky') };
    await rig.callers.call(straight);
    expect(await rig.callers.call(straight)).toMatchObject({ status: 429, refused: 'grant' });
    expect(await rig.callers.call({ ...straight, authority: authorityOf('cart') })).toMatchObject({ status: 200 });
    const mesh = { address: '127.0.1.1', port: 15018, tls: await rig.caller(), authority: authorityOf('picky') };
    for (let i = 0; i < 10; i++) expect((await rig.callers.call(mesh)).status).toBe(200);
    expect(await ejections()).toBe(0);
    await grant({});
  });

  it('bounds all new tunnels of a member, health checks apart', async () => {
    const { rig } = stage;
    await rig.configure({ ...sites['us-west'], services: serving('west', services) }, withRate(5));
    await sleep(500);
    const tls = await rig.peer('us-east');
    const straight = { address: '127.0.2.1', port: 15028, tls, authority: authorityOf('checkout') };
    const answers = [];
    for (let i = 0; i < 12; i++) answers.push(await rig.callers.call(straight));
    expect(answers.filter(({ status, refused }) => status === 429 && refused === 'rate').length).toBeGreaterThan(3);
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(5);
    const checks = Array.from({ length: 12 }, () => rig.callers.call({ ...straight, path: '/healthz' }));
    expect((await Promise.all(checks)).map(({ status }) => status)).toEqual(Array(12).fill(200));
    await grant({});
  });

  it('stands without grants where the controller knows of none', async () => {
    const { rig } = stage;
    const without = (all: Encoded[]) =>
      all.filter(({ typeUrl, name }) => typeUrl !== typeUrls.extension || !name.startsWith('grants/'));
    await rig.configure({ ...sites['us-west'], services: serving('west', services) }, without);
    const second = await rig.launch('us-west', 'gw-2');
    stage.west.signal('SIGKILL');
    await sleep(1_500);
    const tls = await rig.peer('us-east');
    const straight = { address: '127.0.2.1', port: 15028, tls, authority: authorityOf('checkout') };
    expect(await rig.callers.call(straight)).toMatchObject({ status: 200 });
    await second.stop();
  });
});

/** The bound of new tunnels a second, made so low that a test can reach it. */
const withRate =
  (perSecond: number) =>
  (all: Encoded[]): Encoded[] =>
    all.map((resource) => {
      if (resource.typeUrl !== typeUrls.listener || resource.name !== 'federation') return resource;
      const listener = fromBinary(ListenerSchema, resource.bytes);
      for (const chain of listener.filterChains) {
        const last = chain.filters.at(-1)!.configType;
        if (last.case !== 'typedConfig') continue;
        const manager = anyUnpack(last.value, HttpConnectionManagerSchema)!;
        for (const { name, configType } of manager.httpFilters) {
          if (name !== 'envoy.filters.http.local_ratelimit' || configType.case !== 'typedConfig') continue;
          const limit = anyUnpack(configType.value, LocalRateLimitSchema)!;
          Object.assign(limit.tokenBucket!, { maxTokens: perSecond, tokensPerFill: perSecond });
          configType.value = anyPack(LocalRateLimitSchema, limit);
        }
        last.value = anyPack(HttpConnectionManagerSchema, manager);
      }
      return { ...resource, bytes: toBinary(ListenerSchema, create(ListenerSchema, listener)) };
    });

describe('the age of tunnels', () => {
  let stage: Three;
  beforeAll(async () => {
    stage = await startThree(services);
  });
  afterAll(async () => stage?.rig.stop());

  it('ends those that were opened under it, one by one, and no others', async (context) => {
    const { rig } = stage;
    // Before there is an age.
    await rig.configure({ ...sites['us-east'], services: calling(services) });
    await sleep(300);
    await startCallers(rig, 'before', 'checkout', { rate: 0, long: 5 });
    const [checkout, ...rest] = calling(services);
    await rig.configure({ ...sites['us-east'], services: [{ ...checkout!, tunnelAgeMs: 2_000 }, ...rest] });
    await sleep(300);
    await startCallers(rig, 'free', 'cart', { rate: 20, long: 5 });
    const tls = await rig.caller();
    const spec = { address: sites['us-east'].address, port: 15018, tls, authority: authorityOf('checkout') };
    await rig.callers.loadStart('aged', { ...spec, rate: 20, long: 5 });
    await sleep(5_000);
    const [before, free] = [await rig.callers.loadStop('before'), await rig.callers.loadStop('free')];
    const aged = await rig.callers.loadStop('aged');
    console.log(line('tunnels of at most 2 s', aged));
    judge(context, aged, () => {
      // Each is opened again when it was ended.
      expect(aged.long.broken).toBeGreaterThanOrEqual(5);
      expect(aged.long.broken).toBeLessThanOrEqual(15);
      expect(aged.failures).toEqual([]);
      expect(aged.connectionsLost).toBe(0);
      expect(free.failures).toEqual([]);
      expect(free.long).toMatchObject({ broken: 0, open: 5 });
      // What Envoy cannot do: these have no age, whatever is said now.
      expect(before.long).toMatchObject({ broken: 0, open: 5 });
    });
  });

  it('is the only thing that ends one: neither lost endpoints, nor a lost route, nor a lost cluster do', async () => {
    const { rig } = stage;
    await rig.configure({ ...sites['us-east'], services: calling(services) });
    await sleep(500);
    await startCallers(rig, 'kept', 'checkout', { rate: 0, long: 5 });
    rig.useGateways('us-west', []);
    await rig.configure({ ...sites['us-east'], services: calling(services) });
    await sleep(1_000);
    await rig.configure({
      ...sites['us-east'],
      services: calling(['cart']).map((one) => ({ ...one, tiers: [['eu-central']] })),
    });
    await sleep(2_000);
    const kept = await rig.callers.loadStop('kept');
    expect(kept.long).toMatchObject({ broken: 0, open: 5 });
    expect(kept.connectionsLost).toBe(0);
  });

  it('does not end with the membership of its caller: Envoy’s drain time does that, 600 s by default', async () => {
    const { rig } = stage;
    rig.useGateways('us-west', [{ id: 'gw-1', address: sites['us-west'].address }]);
    stage.west.signal('SIGKILL');
    const second = await rig.launch('us-west', 'gw-2', undefined, undefined, [
      '--drain-time-s',
      '2',
      '--drain-strategy',
      'immediate',
    ]);
    await rig.configure({ ...sites['us-east'], services: calling(services) });
    await sleep(1_500);
    await startCallers(rig, 'left', 'checkout', { rate: 0, long: 5 });
    expect(await rig.world.podOpen('west-checkout')).toBe(5);
    rig.removeMember('us-east');
    await rig.configure({ ...sites['us-west'], services: serving('west', services) });
    await sleep(1_000);
    expect((await rig.callers.loadResult('left')).long.broken).toBe(0);
    await sleep(3_000);
    const left = await rig.callers.loadStop('left');
    expect(left.long.broken).toBe(5);
    await second.stop();
  });
});
