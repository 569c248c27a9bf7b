/**
 * The rig: the same cases for the stand-in, always, and for the real ztunnel where ISTHMUS_ZTUNNEL names a binary. What the lab
 * takes for granted of a ztunnel is asserted here, its failings included.
 */

import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startZtunnel, type Ztunnel, ztunnelBinary } from '../../../scenarios/lab/ztunnel-rig.ts';
import { hostOf, identity, type Named, pod, service } from './views.ts';
import { type Talker, World } from './world.ts';

const file = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const kinds = [{ kind: 'stand-in', binary: null as string | null }];
if (ztunnelBinary() !== null) kinds.push({ kind: 'real', binary: ztunnelBinary() });

const control = '10.77.0.1';
const vip = '10.96.0.10';
const addresses = { client: '10.77.0.2', near: '10.77.0.3', far: '10.77.0.4' };
const checkout = `shop/${hostOf('checkout', 'shop')}`;
const egress = `sys/${hostOf('egress', 'sys')}`;
const clientId = identity('shop', 'client');
const nearId = identity('shop', 'near');
const farId = identity('shop', 'far');
const gatewayId = identity('sys', 'gateway');

describe.each(kinds)('ztunnel: $kind', ({ kind, binary }) => {
  const world = new World();
  let plane: Talker;
  let apps: Record<'near' | 'far', Talker>;
  let client: Talker;
  const proxies: Partial<Record<keyof typeof addresses, Ztunnel>> = {};

  let serial = 0;
  const view = async (name: string, resources: Named[]): Promise<void> => {
    const from = plane.lines.length;
    serial += 1;
    const mine = serial;
    plane.send({ cmd: 'view', pod: name, resources, serial: mine });
    const push = await plane.find((line) => line.event === 'push' && line.pod === name && line.serial === mine, from);
    await plane.find((line) => line.event === 'ack' && line.pod === name && line.nonce === push.nonce, from);
  };

  /** What the client's ztunnel knows: itself, the near pod, the far service through gateways. */
  const clientView = (
    o: { nearHealthy?: boolean; sans?: string[]; gateways?: string[]; gatewayAccount?: string } = {},
  ): Named[] => [
    pod({ name: 'client', address: addresses.client }),
    pod({ name: 'near', address: addresses.near, services: { [checkout]: 8_080 }, healthy: o.nearHealthy ?? true }),
    pod({
      name: 'far-remote',
      account: 'far',
      network: 'two',
      region: 'there',
      services: { [checkout]: 8_080 },
      gateway: { namespace: 'sys', hostname: hostOf('egress', 'sys') },
    }),
    service({ name: 'checkout', vip, sans: o.sans ?? [farId] }),
    service({ name: 'egress', namespace: 'sys', vip: '10.96.0.20', port: 15_008, targetPort: 15_008 }),
    ...(o.gateways ?? ['10.77.0.10']).map((address, i) =>
      pod({
        name: `gateway-${i}`,
        namespace: 'sys',
        account: o.gatewayAccount ?? 'gateway',
        address,
        services: { [egress]: 15_008 },
      }),
    ),
  ];

  /** Watched as a mounted ConfigMap would be: the directory is there, the file comes. */
  const list = (): string => `${world.dir}/lists/ca-crl.pem`;

  const call = async (): Promise<Record<string, unknown>> => {
    const from = client.lines.length;
    client.send({ cmd: 'call' });
    return client.find((line) => line.kind === 'new', from, 20_000);
  };

  /** Waits for such a line in the access log after the first `before`; logs are a little late. */
  const logged = (name: keyof typeof addresses, before: number, wanted: Record<string, unknown>): Promise<void> =>
    expect
      .poll(() => proxies[name]?.access.slice(before), { timeout: 5_000 })
      .toContainEqual(expect.objectContaining(wanted));

  beforeAll(async () => {
    await world.open();
    for (const address of [control, '10.77.0.10', '10.77.0.11', '10.77.0.12', '10.77.0.13'])
      await world.hubAddress(address);
    const root = `${world.dir}/root.pem`;
    const token = `${world.dir}/token`;
    await writeFile(token, 'the-token');
    await mkdir(`${world.dir}/lists`);
    plane = world.talker(world.hub, file('control.ts'), control, '15012', root, 'plane.test');
    await plane.find((line) => line.event === 'ready');
    plane.send({ cmd: 'gateway', host: '10.77.0.10', identity: gatewayId, forward: addresses.far });
    plane.send({ cmd: 'gateway', host: '10.77.0.12', identity: gatewayId, status: 503 });
    plane.send({ cmd: 'gateway', host: '10.77.0.13', identity: gatewayId, forward: addresses.near });
    await plane.find((line) => line.event === 'gateway' && line.host === '10.77.0.13');
    plane.send({ cmd: 'view', pod: 'client', resources: clientView() });
    plane.send({
      cmd: 'view',
      pod: 'near',
      resources: [
        pod({ name: 'near', address: addresses.near, services: { [checkout]: 8_080 } }),
        service({ name: 'checkout', vip }),
      ],
    });
    plane.send({
      cmd: 'view',
      pod: 'far',
      resources: [
        pod({ name: 'far', address: addresses.far, network: 'two', services: { [checkout]: 8_080 } }),
        service({ name: 'checkout', vip, network: 'two' }),
      ],
    });
    for (const [name, address] of Object.entries(addresses)) {
      const netns = await world.pod(name, address);
      const proxy = await startZtunnel(
        {
          netns,
          podIp: address,
          serviceCidrs: ['10.96.0.0/16'],
          namespace: 'shop',
          name,
          serviceAccount: name,
          network: name === 'far' ? 'two' : 'one',
          clusterId: 'rig',
          nodeName: `node-${name}`,
          xdsAddress: `https://${control}:15012`,
          caAddress: `https://${control}:15012`,
          rootCa: root,
          token,
          serverName: 'plane.test',
          env: { CRL_PATH: list() },
        },
        {
          binary,
          ...(process.env.RIG_LOG ? { onLine: (line: string) => process.stderr.write(`${name}: ${line}\n`) } : {}),
        },
      );
      world.onClose(() => proxy.stop());
      expect(proxy.kind).toBe(kind);
      proxies[name as keyof typeof addresses] = proxy;
    }
    await Promise.all(Object.values(proxies).map((proxy) => proxy.ready(20_000)));
    const serve = (name: 'near' | 'far'): Talker =>
      world.talker(
        `${world.hub.replace('-hub', '')}-${name}`,
        file('../../../scenarios/lab/apps/server.ts'),
        '--host',
        addresses[name],
        '--cluster',
        'rig',
        '--pod',
        name,
      );
    apps = { near: serve('near'), far: serve('far') };
    await Promise.all(Object.values(apps).map((app) => app.find((line) => line.event === 'listening')));
    client = world.talker(
      `${world.hub.replace('-hub', '')}-client`,
      file('../../../scenarios/lab/apps/client.ts'),
      '--target',
      `${vip}:80`,
      '--name',
      'checkout.shop',
      '--rate',
      '200',
    );
    await client.find((line) => line.event === 'ready');
  }, 60_000);

  afterAll(() => world.close());

  test('authenticates with the token, asks for its own identity alone, subscribes to both types', async () => {
    await view('client', clientView());
    // The real one asks at the first connection.
    await call();
    const csr = await plane.find((line) => line.event === 'csr' && line.identity === clientId);
    expect(csr).toMatchObject({ names: 1, subject: '' });
    for (const type of ['Address', 'Authorization']) {
      const line = await plane.find((l) => l.event === 'subscribe' && l.pod === 'client' && l.type === type);
      expect(line).toMatchObject({ held: 0, token: 'Bearer the-token' });
    }
  });

  test('single HBONE on one network, both identities proven', async () => {
    await view('client', clientView());
    const [atClient, atNear] = [proxies.client?.access.length ?? 0, proxies.near?.access.length ?? 0];
    expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/near' });
    await logged('near', atNear, { direction: 'inbound', srcIdentity: clientId, error: '' });
    await logged('client', atClient, {
      direction: 'outbound',
      dstIdentity: nearId,
      dstAddress: `${addresses.near}:15008`,
      authority: `${addresses.near}:8080`,
      error: '',
    });
  });

  test('UNHEALTHY moves the next call to the other network: double HBONE, identities end to end', async () => {
    await view('client', clientView({ nearHealthy: false }));
    const from = plane.lines.length;
    const [atClient, atFar] = [proxies.client?.access.length ?? 0, proxies.far?.access.length ?? 0];
    expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/far' });
    const tunnel = await plane.find((line) => line.event === 'tunnel', from);
    expect(tunnel).toMatchObject({
      gateway: '10.77.0.10',
      identity: clientId,
      authority: `${hostOf('checkout', 'shop')}:80`,
    });
    expect(tunnel.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-/);
    expect(tunnel.forwarded).toContain(`host=${hostOf('checkout', 'shop')}`);
    await logged('far', atFar, { direction: 'inbound', srcIdentity: clientId, error: '' });
    await logged('client', atClient, {
      dstIdentity: farId,
      dstAddress: '10.77.0.10:15008',
      error: '',
    });
    // A double tunnel ends by RST_STREAM with CANCEL (8); a gateway that is quicker with its own end closes the stream whole (0).
    let since = from;
    for (let left = 20; ; left--) {
      const { reset } = await plane.find((line) => line.event === 'tunnel-end', since);
      expect([0, 8]).toContain(reset);
      if (reset === 8) break;
      expect(left).toBeGreaterThan(0);
      since = plane.lines.length;
      expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/far' });
    }
    await view('client', clientView());
    expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/near' });
  });

  test('the inner identity must be one of the service names: a wrong one, and none at all, are refused', async () => {
    for (const sans of [[identity('shop', 'other')], []]) {
      await view('client', clientView({ nearHealthy: false, sans }));
      const atClient = proxies.client?.access.length ?? 0;
      expect(await call()).toMatchObject({ ok: false });
      await logged('client', atClient, { error: expect.stringMatching(/./) });
    }
  });

  test('the inner identity is the one that counts: a gateway that leads elsewhere is found out', async () => {
    await view('client', clientView({ nearHealthy: false, gateways: ['10.77.0.13'] }));
    expect(await call()).toMatchObject({ ok: false });
  });

  test('the gateway must have its workload identity', async () => {
    await view('client', clientView({ nearHealthy: false, gatewayAccount: 'somebody' }));
    expect(await call()).toMatchObject({ ok: false });
  });

  test('no retry: with one of two gateways dead, about half of the calls fail', async () => {
    await view('client', clientView({ nearHealthy: false, gateways: ['10.77.0.10', '10.77.0.11'] }));
    let failed = 0;
    for (let i = 0; i < 40; i += 1) if ((await call()).ok === false) failed += 1;
    expect(failed).toBeGreaterThan(5);
    expect(failed).toBeLessThan(35);
  });

  test('a CONNECT that is answered with 503 fails the call', async () => {
    await view('client', clientView({ nearHealthy: false, gateways: ['10.77.0.12'] }));
    const atClient = proxies.client?.access.length ?? 0;
    expect(await call()).toMatchObject({ ok: false });
    await logged('client', atClient, { error: expect.stringContaining('503') });
  });

  test('the far pod is up and its app is dead: 503 inside, the call fails', async () => {
    await view('client', clientView({ nearHealthy: false }));
    expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/far' });
    apps.far.child.kill('SIGKILL');
    await new Promise((resolve) => apps.far.child.once('close', resolve));
    const [atClient, atFar] = [proxies.client?.access.length ?? 0, proxies.far?.access.length ?? 0];
    expect(await call()).toMatchObject({ ok: false });
    await logged('client', atClient, { error: expect.stringContaining('503') });
    await logged('far', atFar, { direction: 'inbound', error: expect.stringMatching(/./) });
    apps.far = world.talker(
      `${world.hub.replace('-hub', '')}-far`,
      file('../../../scenarios/lab/apps/server.ts'),
      '--host',
      addresses.far,
      '--cluster',
      'rig',
      '--pod',
      'far',
    );
    await apps.far.find((line) => line.event === 'listening');
    expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/far' });
  });

  test('a dropped stream is taken up again with what is held, and calls go on meanwhile', async () => {
    await view('client', clientView());
    const from = plane.lines.length;
    plane.send({ cmd: 'drop' });
    expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/near' });
    const again = await plane.find((l) => l.event === 'subscribe' && l.pod === 'client' && l.type === 'Address', from);
    expect(again.held).toBe(clientView().length);
    await view('client', clientView({ nearHealthy: false }));
    expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/far' });
  });

  test('about 100 tunnels share one connection to the gateway', async () => {
    await view('client', clientView({ nearHealthy: false }));
    apps.far.send({ delayMs: 600_000 });
    await apps.far.find((line) => line.event === 'behave' && line.delayMs === 600_000);
    const tunnels = (): Record<string, unknown>[] => plane.lines.slice(from).filter((line) => line.event === 'tunnel');
    const from = plane.lines.length;
    client.send({ cmd: 'start' });
    // No matter how long a busy machine takes for them.
    await expect.poll(() => tunnels().length, { timeout: 60_000 }).toBeGreaterThan(250);
    client.send({ cmd: 'stop' });
    const open = tunnels();
    const connections = new Set(open.map((line) => line.port)).size;
    expect(connections).toBeGreaterThanOrEqual(Math.ceil(open.length / 100));
    expect(connections).toBeLessThanOrEqual(Math.ceil(open.length / 100) + 2);
  }, 90_000);

  // The stand-in knows no lists.
  test.runIf(kind === 'real')('a list of ours puts out the workloads of one CA, and no others', async () => {
    apps.far.send({ delayMs: 0 });
    await apps.far.find((line) => line.event === 'behave' && line.delayMs === 0);
    await view('client', clientView({ nearHealthy: false }));
    expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/far' });
    const atClient = proxies.client?.access.length ?? 0;
    plane.send({ cmd: 'revoke-far', path: list() });
    await plane.find((line) => line.event === 'revoked');
    await expect.poll(async () => (await call()).ok, { timeout: 20_000, interval: 500 }).toBe(false);
    await logged('client', atClient, { error: expect.stringMatching(/revoked/i) });
    await view('client', clientView());
    expect(await call()).toMatchObject({ ok: true, answeredBy: 'rig/near' });
  });
});
