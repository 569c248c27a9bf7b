/** FailoverPolicies against a real API server: what it accepts, what is seen of them, what is written on them and on Services. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { formatDuration } from '../../../src/core/duration.ts';
import { limits } from '../../../src/core/limits.ts';
import { defaultPolicy } from '../../../src/failover/policy.ts';
import { policyFields } from '../../../src/failover/policy_fields.ts';
import { parsePolicySpec } from '../../../src/failover/policy_object.ts';
import { compilePolicies, orderOf } from '../../../src/failover/policy_set.ts';
import { type KubeApi, openKubeApi } from '../../../src/kube/api.ts';
import { type ConditionKind, openConditionWriter } from '../../../src/kube/condition_writer.ts';
import { type Discovery, startDiscovery } from '../../../src/kube/discovery.ts';
import { openEvents } from '../../../src/kube/events.ts';
import { applyObjects, shippedManifests } from '../../../src/kube/install.ts';
import type { ConditionTarget } from '../../../src/kube/objects.ts';
import { policyConditions, policyKind } from '../../../src/kube/policy_conditions.ts';
import { failedOverType, serviceConditions, serviceKind } from '../../../src/kube/service_conditions.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { exampleObject } from '../../../tools/policy_files.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { eventually, world } from './objects.ts';

const policies = '/apis/isthmus.dev/v1alpha1/namespaces/shop/failoverpolicies';
const crd = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/failoverpolicies.isthmus.dev';
let server: ApiServer;
let make: ReturnType<typeof world>;
let admin: KubeApi;
let controller: KubeApi;
let controllerToken: string;
const opened: { close(): unknown }[] = [];
const keep = <T extends { close(): unknown }>(made: T): T => {
  opened.push(made);
  return made;
};
const log = () => {};

const served = () =>
  server.call('GET', policies).then(
    () => true,
    () => false,
  );
const object = (name: string, spec: unknown) => ({
  apiVersion: 'isthmus.dev/v1alpha1',
  kind: 'FailoverPolicy',
  metadata: { name, namespace: 'shop' },
  spec,
});
/** '' when the server takes it, else what it says. */
const refusal = (spec: unknown): Promise<string> =>
  server.call('POST', `${policies}?dryRun=All&fieldValidation=Strict`, object('tried', spec)).then(
    () => '',
    (error) => String(error.message),
  );
const discover = async (): Promise<Discovery> => {
  let complete = false;
  const discovery = keep(
    startDiscovery({
      kubeConfig: server.configFor({ token: controllerToken }),
      clock: realClock,
      log,
      defaultMode: 'gateway',
      onChange: () => {
        complete = true;
      },
    }),
  );
  await eventually('complete', () => complete);
  return discovery;
};
const install = async (): Promise<void> => {
  await applyObjects(admin, await shippedManifests());
  await eventually('the kind is served', served);
};

beforeAll(async () => {
  server = await startApiServer({ authorization: 'RBAC' });
  make = world(server);
  admin = openKubeApi(server.kubeConfig, realClock);
  await install();
  await make.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
  const token = await server.call<{ status: { token: string } }>(
    'POST',
    '/api/v1/namespaces/isthmus-system/serviceaccounts/isthmus-controller/token',
    { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 3_600 } },
  );
  controllerToken = token.status.token;
  controller = openKubeApi(server.configFor({ token: controllerToken }), realClock);
});
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});
afterAll(async () => {
  admin?.close();
  controller?.close();
  await server?.stop();
});

describe('the definition', () => {
  test('takes the example of the documentation, and what the parser takes, and nothing else', async () => {
    expect(await refusal((exampleObject() as { spec: unknown }).spec)).toBe('');
    expect(await refusal({})).toBe('');
    const tried: [string, unknown][] = policyFields.flatMap(({ path, type }): [string, unknown][] => {
      const values: unknown[] =
        type.kind === 'integer'
          ? [type.min, type.max, type.min - 1, type.max + 1, 'x']
          : type.kind === 'duration'
            ? [formatDuration(type.minMs), formatDuration(type.maxMs), formatDuration(type.maxMs + 1_000), '1.5s', 'x']
            : type.kind === 'rate'
              ? ['1/s', '1000000/s', '1000001/s', '0/s', '5']
              : type.kind === 'word'
                ? [...type.words, 'x', '']
                : type.kind === 'steps'
                  ? [[100], [1, 100], [100, 1], [50], [10, 10, 100], [], [0, 100], [50, 101]]
                  : [];
      return values.map((value) => [path, value]);
    });
    for (const path of policyFields.filter(({ type }) => type.kind === 'order').map((field) => field.path)) {
      for (const value of [
        [{ type: 'any' }],
        [{ type: 'local' }, { type: 'same-region' }, { type: 'cluster', name: 'a' }, { type: 'region', name: 'A.b' }],
        [],
        [{ type: 'any' }, { type: 'local' }],
        [{ type: 'local' }, { type: 'local' }],
        [{ type: 'cluster' }],
        [{ type: 'any', name: 'x' }],
        [{ type: 'here' }],
        [{ type: 'local', weight: 3 }],
      ]) {
        tried.push([path, value]);
      }
    }
    const wrong: string[] = [];
    for (const [path, value] of tried) {
      const [first = '', second] = path.split('.');
      const spec = second === undefined ? { [first]: value } : { [first]: { [second]: value } };
      const said = await refusal(spec);
      const parsed = parsePolicySpec(spec, defaultPolicy, 'shop/tried');
      // A relation to a default is the controller's to see: the server knows only what the object says.
      const relation = !parsed.ok && /is below/.test(parsed.error.message);
      if ((said === '') !== (parsed.ok || relation)) wrong.push(`${path} = ${JSON.stringify(value)}: ${said}`);
    }
    expect(wrong).toEqual([]);
    expect(tried.length).toBeGreaterThan(150);
  });

  test('says what is wrong in words', async () => {
    const said: [unknown, RegExp][] = [
      [{ thresholds: { silentAfter: '0s' } }, /spec\.thresholds\.silentAfter.*must be from 1s to 1h/],
      [{ thresholds: { silentAftr: '5s' } }, /unknown field .*spec\.thresholds\.silentAftr/],
      [{ order: [{ type: 'any' }, { type: 'local' }] }, /any takes in every cluster: put it last/],
      [{ order: [{ type: 'region' }] }, /cluster and region need a name/],
      [{ failback: { steps: [50] } }, /the last step must be 100/],
      [
        { outlierDetection: { baseEjectionTime: '1m', maxEjectionTime: '30s' } },
        /maxEjectionTime must not be below baseEjectionTime/,
      ],
      [{ thresholds: { flapPenalty: 9, flapLimit: 3 } }, /flapLimit must not be below flapPenalty/],
      [{ targetRefs: [{ name: 'a' }, { name: 'a' }] }, /Duplicate value/],
    ];
    for (const [spec, message] of said) expect(await refusal(spec)).toMatch(message);
  });
});

describe('a policy', () => {
  const writer = (
    kind: ConditionKind,
    objects: ReadonlyMap<string, ConditionTarget>,
    isWriter = () => true,
    onPatch: () => void = () => {},
  ) =>
    keep(
      openConditionWriter({
        api: {
          request: (each) => {
            if (each.method === 'PATCH') onPatch();
            return controller.request(each);
          },
        },
        clock: realClock,
        log,
        kind,
        objects,
        isWriter,
        events: keep(openEvents({ api: controller, clock: realClock, log, identity: 'isthmus-controller-0' })),
      }),
    );
  const events = async (name: string) =>
    (
      await server.call<{ items: { reason: string; type: string; note: string; regarding: { name: string } }[] }>(
        'GET',
        '/apis/events.k8s.io/v1/namespaces/shop/events',
      )
    ).items.filter((each) => each.regarding.name === name);

  test('is seen, follows its object, and our own status writes are no change of it', async () => {
    const discovery = await discover();
    expect(discovery.cluster.failoverPolicies.size).toBe(0);
    await make.create(policies, object('pay', { targetRefs: [{ name: 'pay' }], mode: 'observe' }));
    await eventually('seen', () => discovery.cluster.failoverPolicies.has('shop/pay'));
    const first = discovery.cluster.failoverPolicies.get('shop/pay')!;
    expect(first).toMatchObject({ generation: 1, spec: { targetRefs: [{ name: 'pay' }], mode: 'observe' } });
    const conditions = writer(policyKind, discovery.policyObjects);
    const sources = { setSpec: undefined, order: orderOf([]), capabilities: { partialSpill: true } };
    const compiled = compilePolicies({ ...sources, objects: discovery.cluster.failoverPolicies });
    const outcome = compiled.outcomes.get('shop/pay')!;
    conditions.set('shop/pay', policyConditions({ outcome, programmed: true, missing: [] }));
    const standing = () => discovery.policyObjects.get('shop/pay')?.conditions ?? [];
    const is = (type: string) => standing().find((condition) => condition.type === type);
    await eventually('conditions', () => standing().length === 4);
    expect(is('Accepted')).toMatchObject({ status: 'True', reason: 'Accepted', observedGeneration: 1 });
    expect(is('Conflicted')).toMatchObject({ status: 'False', reason: 'NoConflicts' });
    expect(is('Programmed')).toMatchObject({ status: 'True', message: 'it decides for shop/pay' });
    expect(is('Ready')).toMatchObject({ status: 'True', reason: 'Observing' });
    expect(discovery.cluster.failoverPolicies.get('shop/pay')).toBe(first);
    await make.patch(`${policies}/pay`, { spec: { mode: 'act' } });
    await eventually('followed', () =>
      JSON.stringify(discovery.cluster.failoverPolicies.get('shop/pay')?.spec).includes('"act"'),
    );
    await make.remove(`${policies}/pay`);
    await eventually('gone', () => !discovery.cluster.failoverPolicies.has('shop/pay'));
  });

  test('that loses to an older one is told so, by a condition and one event, by the writer alone', async () => {
    const discovery = await discover();
    await make.create(policies, object('older', { targetRefs: [{ name: 'cart' }] }));
    // Ages have seconds.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await make.create(policies, object('a-newer', { targetRefs: [{ name: 'cart' }] }));
    await eventually('both', () => discovery.cluster.failoverPolicies.size === 2);
    const compiled = compilePolicies({
      objects: discovery.cluster.failoverPolicies,
      setSpec: undefined,
      order: orderOf([]),
      capabilities: { partialSpill: true },
    });
    expect(compiled.policies.services.get('shop/cart')?.name).toBe('shop/older');
    let writes = false;
    let patches = 0;
    const conditions = writer(
      policyKind,
      discovery.policyObjects,
      () => writes,
      () => patches++,
    );
    const tell = () => {
      for (const [key, outcome] of compiled.outcomes) {
        conditions.set(key, policyConditions({ outcome, programmed: true, missing: [] }));
      }
    };
    tell();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(patches).toBe(0);
    writes = true;
    conditions.recheck();
    const is = (key: string, type: string) =>
      discovery.policyObjects.get(key)?.conditions.find((condition) => condition.type === type);
    await eventually('told', () => is('shop/a-newer', 'Conflicted')?.status === 'True');
    await eventually('both', () => is('shop/older', 'Ready')?.status === 'True');
    expect(is('shop/a-newer', 'Ready')).toMatchObject({ status: 'False', reason: 'OlderPolicyDecides' });
    expect(is('shop/a-newer', 'Conflicted')?.message).toBe('shop/older is older and decides for shop/cart');
    await eventually('an event', async () => (await events('a-newer')).length > 0);
    for (let again = 0; again < 5; again++) tell();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(patches).toBe(2);
    expect((await events('a-newer')).map(({ type, reason }) => `${type} ${reason}`)).toEqual([
      'Warning OlderPolicyDecides',
    ]);
    expect(await events('older')).toEqual([]);
    await make.remove(`${policies}/older`);
    await make.remove(`${policies}/a-newer`);
  });

  test('of a cluster without the kind is none, and that is no error; it may come and go', async () => {
    await server.call('DELETE', crd);
    await eventually('the kind is gone', async () => !(await served()));
    const discovery = await discover();
    expect(discovery.synced().pending).toEqual([]);
    expect(discovery.cluster.failoverPolicies.size).toBe(0);
    await install();
    await make.create(policies, object('late', {}));
    await eventually('seen', () => discovery.cluster.failoverPolicies.has('shop/late'));
    await server.call('DELETE', crd);
    await eventually('gone with the kind', () => discovery.cluster.failoverPolicies.size === 0);
    await install();
  });
});

describe('a Service', () => {
  const service = '/api/v1/namespaces/shop/services/web';
  const tell = (discovery: Discovery) =>
    keep(
      openConditionWriter({
        api: controller,
        clock: realClock,
        log,
        kind: serviceKind,
        objects: discovery.serviceObjects,
        isWriter: () => true,
        events: keep(openEvents({ api: controller, clock: realClock, log, identity: 'isthmus-controller-0' })),
      }),
    );
  const reasons = async () =>
    (
      await server.call<{ items: { reason: string; regarding: { kind: string; name: string }; eventTime: string }[] }>(
        'GET',
        '/apis/events.k8s.io/v1/namespaces/shop/events',
      )
    ).items
      .filter((each) => each.regarding.kind === 'Service' && each.regarding.name === 'web')
      .sort((a, b) => (a.eventTime < b.eventTime ? -1 : 1))
      .map(({ reason }) => reason);

  test('says that its traffic has left, and that it is back; others’ status stays, and the service itself is unchanged', async () => {
    await make.service('shop', 'web');
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
    await server.call('PATCH', `${service}`, { spec: { type: 'LoadBalancer' } }, 'application/merge-patch+json');
    await server.call('PATCH', `${service}/status`, { status }, 'application/merge-patch+json');
    const discovery = await discover();
    const conditions = tell(discovery);
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
    const now = await server.call<{ status: typeof status }>('GET', service);
    expect(now.status.loadBalancer).toMatchObject(status.loadBalancer);
    expect(now.status.conditions.map(({ type }) => type).sort()).toEqual([failedOverType, 'other.example/Fine']);
  });

  test('keeps its load balancer and others’ conditions from the controller’s account', async () => {
    await make.service('shop', 'fronted', { type: 'LoadBalancer' });
    const path = '/api/v1/namespaces/shop/services/fronted/status';
    const body = (status: unknown) => ({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'fronted' }, status });
    const patch = (status: unknown) =>
      controller
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
    const guarded = async () => {
      const said = await patch({ loadBalancer: { ingress: [{ ip: '192.0.2.66' }] } });
      return said.includes('not its load balancer');
    };
    // The guard comes into force a moment after it was made.
    await eventually('guarded', guarded);
    expect(await patch({ conditions: [condition(failedOverType)] })).toBe('done');
    await server.call(
      'PATCH',
      path,
      { status: { loadBalancer: { ingress: [{ ip: '192.0.2.7' }] } } },
      'application/merge-patch+json',
    );
    expect(await patch({ conditions: [condition(failedOverType)] })).toBe('done');
    expect(await patch({ loadBalancer: { ingress: [] } })).toContain('not its load balancer');
    const other = await server.call<{ status: { conditions: unknown[] } }>(
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
      await controller
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
    await make.service('shop', 'restless');
    const uid = (await server.call<{ metadata: { uid: string } }>('GET', '/api/v1/namespaces/shop/services/restless'))
      .metadata.uid;
    let nowMs = 0;
    const told = keep(
      openEvents({
        api: controller,
        clock: { ...realClock, monotonicMs: () => nowMs },
        log,
        identity: 'isthmus-controller-0',
      }),
    );
    const event = () =>
      told.tell({
        regarding: { apiVersion: 'v1', kind: 'Service', namespace: 'shop', name: 'restless', uid },
        type: 'Warning',
        reason: 'FailedOver',
        action: 'Failover',
        note: 'us-west answers',
      });
    const taken = Array.from({ length: 50 }, event).filter(Boolean).length;
    expect(taken).toBe(limits.eventsPerObjectBurst);
    nowMs += limits.eventsPerObjectRefillMs + 1;
    expect(event()).toBe(true);
    const notes = async () =>
      (
        await server.call<{ items: { note: string; regarding: { name: string } }[] }>(
          'GET',
          '/apis/events.k8s.io/v1/namespaces/shop/events',
        )
      ).items
        .filter((each) => each.regarding.name === 'restless')
        .map(({ note }) => note);
    await eventually('written', async () => (await notes()).length === taken + 1);
    expect((await notes()).filter((note) => note.startsWith('(40 before this were left out)')).length).toBe(1);
  });
});
