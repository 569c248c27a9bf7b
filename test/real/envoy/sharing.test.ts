/** What services share, and what they must not: a class's cluster, its ejections, its limits, its routes when they move. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Encoded } from '../../../src/translate/envoy/encoded.ts';
import { type GatewayDelta, GatewayTranslation } from '../../../src/translate/envoy/translation.ts';
import type { ServiceSpec } from '../../unit/translate-envoy/fixture.ts';
import { sleep, until } from './processes.ts';
import type { Rig } from './rig.ts';
import { calling, line, podOf, serving, sites, startCallers, startThree, type Three } from './three.ts';

const services = ['checkout', 'cart', 'picky', 'bounded'];

/** What the controller does in us-east: keyed updates, and coming back when told to. */
class East {
  readonly #rig: Rig;
  readonly #translation = new GatewayTranslation();
  readonly #resources = new Map<string, Encoded>();

  constructor(rig: Rig) {
    this.#rig = rig;
  }

  async update(specs: readonly ServiceSpec[], wait = true): Promise<void> {
    const input = this.#rig.input({ ...sites['us-east'], services: specs });
    for (;;) {
      const now = performance.now();
      const delta = this.#translation.rebuild(input, wait ? now : undefined);
      await this.#apply(delta);
      if (delta.wakeAtMs === undefined) return;
      await sleep(delta.wakeAtMs - now);
    }
  }

  async #apply({ changed, removed }: GatewayDelta): Promise<void> {
    for (const resource of changed) this.#resources.set(`${resource.typeUrl} ${resource.name}`, resource);
    for (const { typeUrl, name } of removed) this.#resources.delete(`${typeUrl} ${name}`);
    await this.#rig.world.adsSet('us-east', [...this.#resources.values()]);
  }
}

const withPolicies = (): ServiceSpec[] => [
  ...calling(['checkout', 'cart']),
  {
    ...calling(['picky'])[0]!,
    trafficPolicy: { consecutiveGatewayErrors: 2, baseEjectionTimeMs: 20_000 },
  },
  { ...calling(['bounded'])[0]!, trafficPolicy: { maxConnections: 5 } },
];

describe('services of one class', () => {
  let stage: Three;
  let east: East;
  beforeAll(async () => {
    stage = await startThree(services);
    east = new East(stage.rig);
    await east.update(withPolicies());
  });
  afterAll(async () => stage?.rig.stop());

  it('share one cluster; a policy of its own gives a service its own', async () => {
    const clusters = await stage.east.stats(/^cluster\..*>.*\.membership_total$/);
    expect(Object.keys(clusters)).toHaveLength(3);
  });

  it('do not share the death of one: its pods die with 60 tunnels, the other does not move', async () => {
    const { rig } = stage;
    await startCallers(rig, 'dead', 'cart', { rate: 20, long: 60 });
    await startCallers(rig, 'alive', 'checkout', { rate: 100, long: 20 });
    const pod = podOf('west', 'cart', services.indexOf('cart'));
    await rig.world.podKill(pod.name);
    await sleep(4_000);
    const alive = await rig.callers.loadStop('alive');
    const dead = await rig.callers.loadStop('dead');
    console.log(line('alive', alive));
    console.log(line('dead', dead));
    expect(alive.failures).toEqual([]);
    expect(alive.servedBy).toEqual({ 'west-checkout': alive.ok });
    expect(alive.long.broken).toBe(0);
    expect(dead.failures).toEqual([]);
    expect(dead.servedBy['central-cart']).toBeGreaterThan(60);
    const ejections = await stage.east.stats(/outlier_detection\.ejections_active/);
    expect(Object.values(ejections).reduce((sum, value) => sum + value, 0)).toBe(0);
    await rig.world.podStart(pod.name, pod.address, 15008);
  });

  it('keep every tunnel and lose no call when their class changes, also while a member is dead', async () => {
    const { rig } = stage;
    await startCallers(rig, 'moving', 'checkout', { rate: 100, long: 20 });
    const orders = [[['eu-central'], ['us-west']], [['us-west', 'eu-central']], [['us-west'], ['eu-central']]];
    const rest = withPolicies().slice(1);
    const moveAll = async () => {
      for (const tiers of orders) {
        await east.update([{ key: 'shop/checkout', tiers }, ...rest]);
        await sleep(300);
      }
    };
    await moveAll();
    const calm = await rig.callers.loadResult('moving');
    console.log(line('class changes', calm));
    expect(calm.failures).toEqual([]);
    expect(calm.long.broken).toBe(0);
    expect(calm.servedBy['central-checkout']).toBeGreaterThan(30);
    await rig.cut('127.0.2.1');
    await sleep(2_500);
    await rig.callers.loadMark('moving');
    await moveAll();
    const hurt = await rig.callers.loadStop('moving');
    await rig.heal();
    console.log(line('class changes while us-west is cut off', hurt));
    expect(hurt.failures).toEqual([]);
    expect(hurt.long.broken).toBe(0);
  });

  it('lose calls when their routes move at once, so that this test can fail', async () => {
    const { rig } = stage;
    await startCallers(rig, 'hurried', 'checkout', { rate: 100, long: 0 });
    await rig.cut('127.0.2.1');
    await sleep(2_500);
    await rig.callers.loadMark('hurried');
    const rest = withPolicies().slice(1);
    await east.update([{ key: 'shop/checkout', tiers: [['eu-central', 'us-west']] }, ...rest], false);
    await sleep(1_500);
    const hurried = await rig.callers.loadStop('hurried');
    await rig.heal();
    console.log(line('routes that do not wait', hurried));
    expect(hurried.failures.filter((failure) => failure.includes('cluster_not_found')).length).toBeGreaterThan(5);
    await east.update(withPolicies());
  });

  it('are not bounded by Envoy’s 1,024 connections', async () => {
    const { rig } = stage;
    await startCallers(rig, 'many', 'checkout', { rate: 0, long: 1_200 });
    const many = await rig.callers.loadStop('many');
    // A busy machine may lose a connection while all of them open at once.
    expect(many.long).toMatchObject({ broken: 0, open: 1_200 });
  });

  it('with maxConnections of a user: so many tunnels, the next is refused at once', async () => {
    const { rig } = stage;
    await startCallers(rig, 'five', 'bounded', { rate: 0, long: 5 });
    const tls = await rig.caller();
    const spec = { address: '127.0.1.1', port: 15018, tls, authority: 'bounded.shop.svc.cluster.local:80' };
    const { status, hops } = await rig.callers.call(spec);
    expect(status).toBe(503);
    expect(hops[0]?.flags).toContain('UO');
    await rig.callers.loadStop('five');
    await until('there is room again', async () => (await rig.callers.call(spec)).status === 200);
  });

  it('with outlierDetection of a user: 503s eject, and a passing health check does not bring back', async () => {
    const { rig } = stage;
    const unready = serving('west', services).map((spec) =>
      spec.key === 'shop/picky' ? { ...spec, pods: [{ ...spec.pods![0]!, ready: false }] } : spec,
    );
    await rig.configure({ ...sites['us-west'], services: unready });
    const active = async () =>
      Object.values(await stage.east.stats(/~.*outlier_detection\.ejections_active/)).reduce((sum, n) => sum + n, 0);
    const tls = await rig.caller();
    const spec = { address: '127.0.1.1', port: 15018, tls, authority: 'picky.shop.svc.cluster.local:80' };
    await until('us-west is ejected', async () => {
      expect((await rig.callers.call(spec)).status).toBe(200);
      return (await active()) === 1;
    });
    const checks = async () =>
      Object.values(await stage.east.stats(/~.*health_check\.success/)).reduce((sum, n) => sum + n, 0);
    const before = await checks();
    await sleep(3_000);
    expect(await checks()).toBeGreaterThan(before + 2);
    expect(await active()).toBe(1);
    await rig.configure({ ...sites['us-west'], services: serving('west', services) });
  });
});
