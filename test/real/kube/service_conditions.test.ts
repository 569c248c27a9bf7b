/** The condition of a Service against a real API server, its events, and what the controller's account may not do to a Service. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { openEvents } from '../../../src/kube/events.ts';
import { failedOverType, serviceConditions, serviceKind } from '../../../src/kube/service_conditions.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { type Installed, startInstalled } from './installed.ts';
import { eventually } from './objects.ts';

let world: Installed;
beforeAll(async () => {
  world = await startInstalled();
});
afterEach(() => world.closeOpened());
afterAll(() => world?.stop());

describe('a Service', () => {
  const service = '/api/v1/namespaces/shop/services/web';
  const reasons = async () => (await world.events('Service', 'web')).map(({ reason }) => reason);

  test('says that its traffic has left, and that it is back; others’ status stays, and the service itself is unchanged', async () => {
    await world.make.service('shop', 'web');
    const status = {
      loadBalancer: { ingress: [{ ip: '192.0.2.7' }] },
      conditions: [
        {
          type: 'other.example/Fine',
          status: 'True',
          reason: 'Fine',
          message: '',
          lastTransitionTime: '2026-01-01T00:00:00Z',
        },
      ],
    };
    await world.server.call('PATCH', `${service}`, { spec: { type: 'LoadBalancer' } }, 'application/merge-patch+json');
    await world.server.call('PATCH', `${service}/status`, { status }, 'application/merge-patch+json');
    const discovery = await world.discover();
    const conditions = world.conditions(serviceKind, discovery.serviceObjects);
    const derived = discovery.cluster.services.get('shop/web');
    const standing = () => discovery.serviceObjects.get('shop/web')?.conditions ?? [];
    conditions.set('shop/web', serviceConditions({ away: false, reason: '', message: 'it is served here' }));
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(standing()).toEqual([]);
    conditions.set('shop/web', serviceConditions({ away: true, reason: 'NotReady', message: 'us-west answers' }));
    await eventually('told', () => standing()[0]?.status === 'True');
    expect(standing()[0]).toMatchObject({ type: failedOverType, reason: 'NotReady', message: 'us-west answers' });
    expect(discovery.cluster.services.get('shop/web')).toBe(derived);
    await eventually('an event', async () => (await reasons()).length === 1);
    conditions.set('shop/web', serviceConditions({ away: false, reason: '', message: 'it is served here' }));
    await eventually('back', () => standing()[0]?.status === 'False');
    await eventually('two events', async () => (await reasons()).length === 2);
    expect(await reasons()).toEqual(['FailedOver', 'FailedBack']);
    const now = await world.server.call<{ status: typeof status }>('GET', service);
    expect(now.status.loadBalancer).toMatchObject(status.loadBalancer);
    expect(now.status.conditions.map(({ type }) => type).sort()).toEqual([failedOverType, 'other.example/Fine']);
  });

  test('keeps its load balancer and others’ conditions from the controller’s account', async () => {
    const name = `fronted-${Date.now()}`;
    await world.make.service('shop', name, { type: 'LoadBalancer' });
    const path = `/api/v1/namespaces/shop/services/${name}/status`;
    const body = (status: unknown) => ({ apiVersion: 'v1', kind: 'Service', metadata: { name }, status });
    const patch = (status: unknown) =>
      world.controller
        .request({
          method: 'PATCH',
          path,
          query: { fieldManager: 'isthmus-failover', force: 'true' },
          contentType: 'application/apply-patch+yaml',
          body: body(status),
        })
        .then(
          () => 'done',
          (error) => String(error.message),
        );
    const condition = (type: string) => ({
      type,
      status: 'True',
      reason: 'X',
      message: '',
      lastTransitionTime: '2026-01-01T00:00:00Z',
    });
    let tries = 0;
    const guarded = async () => {
      // Another each time: what went through before the guard was there is no change the second time.
      const said = await patch({ loadBalancer: { ingress: [{ ip: `192.0.2.${100 + (++tries % 100)}` }] } });
      return said.includes('not its load balancer');
    };
    // The guard comes into force a moment after it was made.
    await eventually('guarded', guarded);
    expect(await patch({ conditions: [condition(failedOverType)] })).toBe('done');
    await world.server.call(
      'PATCH',
      path,
      { status: { loadBalancer: { ingress: [{ ip: '192.0.2.7' }] } } },
      'application/merge-patch+json',
    );
    expect(await patch({ conditions: [condition(failedOverType)] })).toBe('done');
    expect(await patch({ loadBalancer: { ingress: [] } })).toContain('not its load balancer');
    const other = await world.server.call<{ status: { conditions: unknown[] } }>(
      'PATCH',
      path,
      {
        status: { conditions: [condition(failedOverType), condition('other.example/Fine')] },
      },
      'application/merge-patch+json',
    );
    expect(other.status.conditions.length).toBe(2);
    const changed = { ...condition('other.example/Fine'), status: 'False' };
    expect(await patch({ conditions: [changed] })).toContain('the condition isthmus.dev/FailedOver alone');
    expect(
      await world.controller
        .request({
          method: 'PATCH',
          path: path.replace('/status', ''),
          contentType: 'application/merge-patch+json',
          body: {},
        })
        .catch((error) => error.code),
    ).toBe('kube/denied');
  });

  test('gets few events however often it changes its mind, and the next says how many were left out', async () => {
    const name = `restless-${Date.now()}`;
    await world.make.service('shop', name);
    const uid = (
      await world.server.call<{ metadata: { uid: string } }>('GET', `/api/v1/namespaces/shop/services/${name}`)
    ).metadata.uid;
    let nowMs = 0;
    const problems: string[] = [];
    const told = world.keep(
      openEvents({
        api: world.controller,
        clock: { ...realClock, monotonicMs: () => nowMs },
        log: (_level, message, about) => problems.push(`${message}: ${JSON.stringify(about)}`),
        identity: 'isthmus-controller-0',
      }),
    );
    const event = () =>
      told.tell({
        regarding: { apiVersion: 'v1', kind: 'Service', namespace: 'shop', name, uid },
        type: 'Warning',
        reason: 'FailedOver',
        action: 'Failover',
        note: 'us-west answers',
      });
    const taken = Array.from({ length: 50 }, event).filter(Boolean).length;
    expect(taken).toBe(limits.eventsPerObjectBurst);
    nowMs += limits.eventsPerObjectRefillMs + 1;
    expect(event()).toBe(true);
    const notes = async () => (await world.events('Service', name)).map(({ note }) => note);
    await eventually('written', async () => (await notes()).length === taken + 1).catch((error: Error) => {
      throw new Error(`${error.message}; ${problems.join('; ')}`);
    });
    expect((await notes()).filter((note) => note.startsWith('(40 before this were left out)')).length).toBe(1);
  });
});
