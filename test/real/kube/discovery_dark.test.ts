/** Discovery against a real kube-apiserver that fails: what may not change, and how it catches up. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { LocalChange } from '../../../src/federation/local.ts';
import { type Discovery, startDiscovery } from '../../../src/kube/discovery.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { eventually, world } from './objects.ts';
import { type Relay, startRelay } from './relay.ts';

let api: ApiServer;
let make: ReturnType<typeof world>;
const opened: { close(): unknown }[] = [];

interface Seen {
  readonly discovery: Discovery;
  readonly changes: LocalChange[];
  readonly problems: string[];
}

const discover = (port?: number): Seen => {
  const changes: LocalChange[] = [];
  const problems: string[] = [];
  const discovery = startDiscovery({
    kubeConfig: api.configFor(port === undefined ? {} : { port }),
    clock: realClock,
    log: () => {},
    defaultMode: 'gateway',
    onChange: (change) => changes.push(change),
    onProblem: (kind, error) => problems.push(`${kind}: ${error.code} ${error.message}`),
  });
  opened.push(discovery);
  return { discovery, changes, problems };
};
const complete = async (seen: Seen): Promise<Seen> => {
  await eventually(
    'discovery is complete',
    () => seen.discovery.synced().pending.length === 0 && seen.changes.length > 0,
  );
  return seen;
};
const exported = (seen: Seen, key: string) => seen.discovery.cluster.services.get(key)?.exported;
const endpoints = (seen: Seen, key: string) => seen.discovery.cluster.services.get(key)?.endpoints ?? [];
const slicePath = (name: string) => `/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/${name}`;
const addresses = (seen: Seen, key: string) => endpoints(seen, key).map((endpoint) => endpoint.address);

beforeAll(async () => {
  api = await startApiServer();
  make = world(api);
  await make.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
});
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});
afterAll(async () => {
  await api?.stop();
});

describe('an API server that fails', () => {
  const withWorld = async (name: string) => {
    await make.service('shop', name, {}, { labels: { 'istio.io/global': 'true' } });
    await make.slice('shop', `${name}-a`, name, [{ addresses: ['10.3.0.1'] }, { addresses: ['10.3.0.2'] }]);
  };
  const relayed = async (): Promise<{ seen: Seen; relay: Relay }> => {
    const relay = await startRelay(api.port);
    opened.push(relay);
    return { seen: await complete(discover(relay.port)), relay };
  };

  test('a watch that is cut loses nothing and reports only what changed', async () => {
    await withWorld('cut');
    const { seen, relay } = await relayed();
    const before = seen.changes.length;
    relay.mode('refuse');
    relay.cut();
    await make.patch(slicePath('cut-a'), { endpoints: [{ addresses: ['10.3.0.2'] }] });
    await make.service('shop', 'meanwhile');
    await make.remove('/api/v1/namespaces/shop/services/meanwhile');
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(seen.changes.length).toBe(before);
    expect(addresses(seen, 'shop/cut')).toEqual(['10.3.0.1', '10.3.0.2']);
    relay.mode('pass');
    await eventually('caught up', () => addresses(seen, 'shop/cut').length === 1);
    expect(exported(seen, 'shop/cut')).toBeDefined();
    const touched = new Set(seen.changes.slice(before).flatMap((change) => [...change.services]));
    // The API server itself writes default/kubernetes when it likes.
    expect([...touched].filter((key) => !['shop/cut', 'shop/meanwhile', 'default/kubernetes'].includes(key))).toEqual(
      [],
    );
    expect(seen.changes.slice(before).flatMap((change) => [...change.pods])).toEqual([]);
  });

  test('killed, changed behind our back, compacted and restarted: nothing is withdrawn meanwhile, only the difference comes', async () => {
    await withWorld('killed');
    const { seen, relay } = await relayed();
    const services = seen.discovery.cluster.services.size;
    const before = seen.changes.length;
    relay.mode('refuse');
    relay.cut();
    await make.patch(slicePath('killed-a'), { endpoints: [{ addresses: ['10.3.0.1'] }] });
    await api.compact();
    await api.kill();
    const staleBefore = seen.discovery.staleMs().services ?? 0;
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(seen.discovery.staleMs().services).toBeGreaterThan(staleBefore + 1_500);
    expect(seen.discovery.cluster.services.size).toBe(services);
    expect(seen.changes.length).toBe(before);
    expect(addresses(seen, 'shop/killed').length).toBe(2);
    await api.start();
    relay.mode('pass');
    await eventually('caught up', () => addresses(seen, 'shop/killed').length === 1, 40_000);
    await eventually('fresh', () => Math.max(...Object.values(seen.discovery.staleMs())) < 8_000, 40_000);
    const touched = new Set(seen.changes.slice(before).flatMap((change) => [...change.services]));
    expect([...touched]).toEqual(['shop/killed']);
    expect(seen.discovery.synced().pending).toEqual([]);
  });

  test('stopped and continued: what is known stays, and what happened meanwhile arrives', async () => {
    await withWorld('paused');
    const seen = await complete(discover());
    const before = seen.changes.length;
    api.pause();
    try {
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      expect(seen.changes.length).toBe(before);
      expect(exported(seen, 'shop/paused')).toBeDefined();
    } finally {
      api.resume();
    }
    await make.patch(slicePath('paused-a'), { endpoints: [] });
    await eventually('arrived', () => addresses(seen, 'shop/paused').length === 0);
  });

  test('a path that swallows everything at start: kinds are pending, the problem is named, then it completes', async () => {
    const relay = await startRelay(api.port);
    opened.push(relay);
    relay.mode('refuse');
    const seen = discover(relay.port);
    await eventually('the problem is told', () => seen.problems.length > 0);
    expect(seen.problems[0]).toMatch(/kube\/unavailable .*127\.0\.0\.1/);
    expect(seen.discovery.synced().pending).toContain('services');
    expect(seen.changes).toEqual([]);
    relay.mode('pass');
    await complete(seen);
  });
});
