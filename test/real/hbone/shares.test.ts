/**
 * What the translation tells ztunnels, carried out by ztunnels: two clusters, each with a client and a server of one service, each
 * client's remote path through a gateway to the other cluster's pod. The stand-in always, the real one where ISTHMUS_ZTUNNEL names it.
 */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startZtunnel, ztunnelBinary } from '../../../scenarios/lab/ztunnel-rig.ts';
import type { ServicePlan } from '../../../src/failover/plan.ts';
import type { LocalService } from '../../../src/federation/local.ts';
import { ZtunnelTranslation } from '../../../src/translate/ztunnel/translation.ts';
import * as fixture from '../../unit/translate-ztunnel/fixture.ts';
import { identity } from './views.ts';
import { type Talker, World } from './world.ts';

const file = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const kinds = [{ kind: 'stand-in', binary: null as string | null }];
if (ztunnelBinary() !== null) kinds.push({ kind: 'real', binary: ztunnelBinary() });

const control = '10.77.0.1';
const vip = '10.96.0.10';

interface Side {
  readonly name: 'east' | 'west';
  readonly client: string;
  readonly server: string;
  readonly gateway: string;
}
const east: Side = { name: 'east', client: '10.77.0.2', server: '10.77.0.3', gateway: '10.77.0.10' };
const west: Side = { name: 'west', client: '10.77.0.4', server: '10.77.0.5', gateway: '10.77.0.11' };

const egress = (gateway: string): LocalService =>
  fixture.service('isthmus-system/isthmus-egress', {
    exported: undefined,
    clusterIPs: ['10.96.0.20'],
    ports: [{ name: 'hbone', port: 15_018, protocol: 'TCP' }],
    endpoints: [fixture.endpoint('isthmus-system/gateway', gateway, { ports: new Map([[15_018, 15_018]]) })],
  });

/** All that one cluster's ztunnels are told. */
const resourcesOf = (side: Side, other: Side, plan: Partial<ServicePlan>): [string, string][] => {
  const network = `net-${side.name}`;
  const translation = new ZtunnelTranslation({ ...fixture.config, clusterId: side.name, network });
  const shop = (name: string, address: string) =>
    fixture.pod(`shop/${name}-${side.name}`, address, {
      serviceAccount: `${name}-${side.name}`,
      node: `node-${name}-${side.name}`,
    });
  const checkout = fixture.service('shop/checkout', {
    clusterIPs: [vip],
    endpoints: [fixture.endpoint(`shop/server-${side.name}`, side.server)],
  });
  const remote = fixture.record('shop/checkout', 3, { accounts: [`shop/server-${other.name}`] });
  const gateway = fixture.pod('isthmus-system/gateway', side.gateway, {
    serviceAccount: 'isthmus-gateway',
    labels: { app: 'isthmus-gateway' },
  });
  translation.rebuild(
    fixture.inputs({
      services: [checkout, egress(side.gateway)],
      pods: [shop('client', side.client), shop('server', side.server), gateway],
      members: [fixture.member(other.name)],
      views: [fixture.serviceView(checkout, { [other.name]: remote })],
      plans: [{ key: checkout.key, tiers: [[{ member: other.name, weight: 1 }]], usable: true, ...plan }],
    }),
  );
  return [...translation.resources].map(([name, { bytes }]) => [name, Buffer.from(bytes).toString('base64')]);
};

describe.each(kinds)('shares of local traffic, ztunnel: $kind', ({ binary }) => {
  const world = new World();
  let plane: Talker;
  const clients = {} as Record<Side['name'] | 'kept' | 'pod', Talker>;
  let serial = 0;

  const tell = async (side: Side, plan: Partial<ServicePlan>): Promise<void> => {
    const resources = resourcesOf(side, side === east ? west : east, plan);
    for (const name of ['client', 'server']) {
      const pod = `${name}-${side.name}`;
      const from = plane.lines.length;
      serial += 1;
      const mine = serial;
      plane.send({ cmd: 'view', pod, resources, serial: mine });
      const push = await plane.find((line) => line.event === 'push' && line.pod === pod && line.serial === mine, from);
      await plane.find((line) => line.event === 'ack' && line.pod === pod && line.nonce === push.nonce, from);
    }
  };

  const ask = async (client: Talker, cmd: string): Promise<Record<string, unknown>> => {
    const from = client.lines.length;
    client.send({ cmd });
    return client.find(() => true, from, 20_000);
  };

  /** New connections, one after the other but for ten at a time; how many each server answered, how many failed. */
  const calls = async (client: Talker, count: number): Promise<{ failed: number; by: Record<string, number> }> => {
    const by: Record<string, number> = {};
    let failed = 0;
    for (let left = count; left > 0; left -= 10) {
      const from = client.lines.length;
      const batch = Math.min(10, left);
      for (let i = 0; i < batch; i += 1) client.send({ cmd: 'call' });
      await expect.poll(() => client.lines.length - from, { timeout: 20_000, interval: 2 }).toBe(batch);
      for (const { ok, answeredBy } of client.lines.slice(from)) {
        if (ok !== true) failed += 1;
        else by[String(answeredBy)] = (by[String(answeredBy)] ?? 0) + 1;
      }
    }
    return { failed, by };
  };

  beforeAll(async () => {
    await world.open();
    for (const address of [control, east.gateway, west.gateway]) await world.hubAddress(address);
    const root = `${world.dir}/root.pem`;
    const token = `${world.dir}/token`;
    await writeFile(token, 'the-token');
    plane = world.talker(world.hub, file('control.ts'), control, '15012', root, 'plane.test');
    await plane.find((line) => line.event === 'ready');
    const gatewayId = identity('isthmus-system', 'isthmus-gateway');
    for (const [side, other] of [[east, west] as const, [west, east] as const]) {
      plane.send({ cmd: 'gateway', host: side.gateway, port: 15_018, identity: gatewayId, forward: other.server });
      await plane.find((line) => line.event === 'gateway' && line.host === side.gateway);
      for (const name of ['client', 'server'] as const) {
        const pod = `${name}-${side.name}`;
        plane.send({ cmd: 'view', pod, resources: resourcesOf(side, other, {}) });
        const netns = await world.pod(pod, side[name]);
        const proxy = await startZtunnel(
          {
            netns,
            podIp: side[name],
            serviceCidrs: ['10.96.0.0/16'],
            namespace: 'shop',
            name: pod,
            serviceAccount: pod,
            network: `net-${side.name}`,
            clusterId: side.name,
            nodeName: `node-${pod}`,
            xdsAddress: `https://${control}:15012`,
            caAddress: `https://${control}:15012`,
            rootCa: root,
            token,
            serverName: 'plane.test',
          },
          { binary },
        );
        world.onClose(() => proxy.stop());
        await proxy.ready(20_000);
        if (name === 'client') continue;
        const server = file('../../../scenarios/lab/apps/server.ts');
        const app = world.talker(netns, server, '--host', side.server, '--cluster', side.name, '--pod', 'server');
        await app.find((line) => line.event === 'listening');
      }
    }
    const start = async (name: keyof typeof clients, side: Side, ...args: string[]): Promise<void> => {
      const netns = `${world.hub.replace('-hub', '')}-client-${side.name}`;
      const target = ['--target', `${vip}:80`, '--name', 'checkout.shop'];
      clients[name] = world.talker(netns, file('../../../scenarios/lab/apps/client.ts'), ...target, ...args);
      await clients[name].find((line) => line.event === 'ready');
    };
    await start('east', east);
    await start('west', west);
    await start('kept', east, '--keep', '4', '--every', '100');
    await start('pod', east, '--target', `${east.server}:8080`);
  }, 60_000);

  afterAll(() => world.close());

  test('100: local endpoints alone', async () => {
    await tell(east, {});
    expect(await calls(clients.east, 100)).toEqual({ failed: 0, by: { 'east/server': 100 } });
  });

  test('70: seven of ten stay, within 5 % over 1,000 connections', async () => {
    await tell(east, { local: { percent: 70 } });
    const { failed, by } = await calls(clients.east, 1_000);
    console.log(`70:30: ${JSON.stringify(by)}, ${failed} failed`);
    expect(failed).toBe(0);
    expect(by['east/server']).toBeGreaterThan(650);
    expect(by['east/server']).toBeLessThan(750);
  }, 60_000);

  test('0: local callers leave; open connections, calls to the pod itself and callers from elsewhere do not', async () => {
    await tell(east, {});
    await ask(clients.kept, 'start');
    // Each of the four has been answered.
    await expect.poll(async () => (await ask(clients.kept, 'stats')).calls).toBeGreaterThan(12);
    await ask(clients.kept, 'mark');
    await tell(east, { local: { percent: 0 } });
    expect(await calls(clients.east, 300)).toEqual({ failed: 0, by: { 'west/server': 300 } });
    // Both clusters at once: each serves the other's callers and none of its own.
    await tell(west, { local: { percent: 0 } });
    expect(await calls(clients.west, 300)).toEqual({ failed: 0, by: { 'east/server': 300 } });
    expect(await calls(clients.pod, 20)).toEqual({ failed: 0, by: { 'east/server': 20 } });
    const kept = await ask(clients.kept, 'mark');
    await ask(clients.kept, 'stop');
    expect(kept).toMatchObject({ failed: 0 });
    expect(Object.keys(kept.answeredBy as object)).toEqual(['east/server']);
    await tell(east, {});
    await tell(west, {});
    expect(await calls(clients.east, 50)).toEqual({ failed: 0, by: { 'east/server': 50 } });
  }, 60_000);

  test('failing fast: refused at once', async () => {
    await tell(east, { local: { percent: 0 }, failFast: true });
    const from = clients.east.lines.length;
    clients.east.send({ cmd: 'call' });
    const refused = await clients.east.find((line) => line.kind === 'new', from);
    expect(refused).toMatchObject({ ok: false });
    expect(refused.ms).toBeLessThan(1_000);
    await tell(east, {});
  });
});
