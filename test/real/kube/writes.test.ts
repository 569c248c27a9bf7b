/** What Isthmus writes, as its own service account under the RBAC that ships with it, against a real API server. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type KubeApi, openKubeApi } from '../../../src/kube/api.ts';
import { openConditionWriter } from '../../../src/kube/condition_writer.ts';
import { exportConditions, exportKind } from '../../../src/kube/conditions.ts';
import { type Discovery, startDiscovery } from '../../../src/kube/discovery.ts';
import { openEvents } from '../../../src/kube/events.ts';
import { applyObjects, secretManifest, shippedManifests } from '../../../src/kube/install.ts';
import { readSecret, type Secret, watchSecret, writeSecret } from '../../../src/kube/secrets.ts';
import { openTokenReviewer } from '../../../src/kube/tokens.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { eventually, serviceExportPath, world } from './objects.ts';

const system = 'isthmus-system';
let server: ApiServer;
let make: ReturnType<typeof world>;
let admin: KubeApi;
let controllerToken: string;
let controller: KubeApi;
const opened: { close(): unknown }[] = [];
const keep = <T extends { close(): unknown }>(made: T): T => {
  opened.push(made);
  return made;
};
const log = () => {};
const code = (outcome: Promise<unknown>): Promise<string> =>
  outcome.then(
    () => 'ok',
    (error) => String(error.code),
  );
const tokenOf = async (account: string): Promise<string> =>
  (
    await server.call<{ status: { token: string } }>(
      'POST',
      `/api/v1/namespaces/${system}/serviceaccounts/${account}/token`,
      {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: { expirationSeconds: 3_600 },
      },
    )
  ).status.token;

beforeAll(async () => {
  server = await startApiServer({ authorization: 'RBAC' });
  make = world(server);
  admin = openKubeApi(server.kubeConfig, realClock);
  await applyObjects(admin, await shippedManifests());
  await eventually('the ServiceExport kind is served', () =>
    server.call('GET', serviceExportPath('default')).then(
      () => true,
      () => false,
    ),
  );
  await make.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
  controllerToken = await tokenOf('isthmus-controller');
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

describe('install', () => {
  test('applying again changes nothing; another’s ServiceExport kind is kept', async () => {
    const again = await applyObjects(admin, await shippedManifests());
    expect(again.filter((each) => each.action !== 'unchanged' && each.action !== 'kept')).toEqual([]);
    const kinds = again.filter((each) => each.kind === 'CustomResourceDefinition');
    expect(kinds.map(({ name, action }) => `${name} ${action}`)).toEqual([
      'serviceexports.multicluster.x-k8s.io kept',
      'failoverpolicies.isthmus.dev unchanged',
      'egresspolicies.isthmus.dev unchanged',
    ]);
  });

  test('a Secret is created, then configured, and a dry run does neither', async () => {
    const at = { namespace: system, name: 'isthmus-member' };
    const manifest = (text: string) => [secretManifest(at, { 'record-key.pem': Buffer.from(text) })];
    expect(await applyObjects(admin, manifest('1'), { dryRun: true })).toMatchObject([{ action: 'created' }]);
    expect(await readSecret(admin, at)).toBeUndefined();
    expect(await applyObjects(admin, manifest('1'))).toMatchObject([{ action: 'created' }]);
    expect(await applyObjects(admin, manifest('1'))).toMatchObject([{ action: 'unchanged' }]);
    expect(await applyObjects(admin, manifest('2'))).toMatchObject([{ action: 'configured' }]);
    expect(Buffer.from((await readSecret(controller, at))?.data['record-key.pem'] ?? []).toString()).toBe('2');
  });

  test('objects that cannot be applied are named before anything is sent', async () => {
    const none = { request: () => Promise.reject(new Error('nothing may be sent')) };
    await expect(
      applyObjects(none, [{ kind: 'Widget', apiVersion: 'v1', metadata: { name: 'x' } }]),
    ).rejects.toMatchObject({ code: 'files/invalid', message: /Widget/ });
    await expect(applyObjects(none, [{ kind: 'Secret', apiVersion: 'v1', metadata: { name: 'x' } }])).rejects.toThrow(
      /namespace is missing/,
    );
  });
});

describe('the controller’s account', () => {
  test('may do what it must, and reads no other Secret', async () => {
    const problems: string[] = [];
    let changes = 0;
    const discovery = keep(
      startDiscovery({
        kubeConfig: server.configFor({ token: controllerToken }),
        clock: realClock,
        log,
        defaultMode: 'gateway',
        onChange: () => changes++,
        onProblem: (kind, error) => problems.push(`${kind}: ${error.message}`),
      }),
    );
    await eventually('complete', () => changes > 0);
    expect(discovery.synced().pending).toEqual([]);
    expect(problems).toEqual([]);
    const reviewer = keep(
      openTokenReviewer({
        api: controller,
        clock: realClock,
        log,
        audiences: ['https://kubernetes.default.svc.cluster.local'],
      }),
    );
    expect(await reviewer.review(controllerToken)).toMatchObject({ serviceAccount: 'isthmus-controller' });
    await eventually('it may fetch the token keys', () => reviewer.keysKnown);
    await make.create(`/api/v1/namespaces/${system}/secrets`, { metadata: { name: 'private' } });
    await make.create('/api/v1/namespaces/shop/secrets', { metadata: { name: 'private' } });
    for (const namespace of [system, 'shop']) {
      expect(await code(readSecret(controller, { namespace, name: 'private' }))).toBe('kube/denied');
      expect(await code(controller.request({ method: 'GET', path: `/api/v1/namespaces/${namespace}/secrets` }))).toBe(
        'kube/denied',
      );
    }
    expect(await code(controller.request({ method: 'DELETE', path: '/api/v1/namespaces/shop' }))).toBe('kube/denied');
    const gateway = openKubeApi(server.configFor({ token: await tokenOf('isthmus-gateway') }), realClock);
    expect(await code(gateway.request({ method: 'GET', path: '/api/v1/pods' }))).toBe('kube/denied');
    gateway.close();
  });

  test('a denied kind is named, stays pending, and does not stop the others', async () => {
    const problems: string[] = [];
    const discovery = keep(
      startDiscovery({
        kubeConfig: server.configFor({ token: await tokenOf('isthmus-gateway') }),
        clock: realClock,
        log,
        defaultMode: 'gateway',
        onChange: () => {},
        onProblem: (kind, error) => problems.push(`${kind} ${error.code} ${error.message}`),
      }),
    );
    await eventually('told', () => problems.some((problem) => problem.startsWith('pods')));
    expect(problems.find((problem) => problem.startsWith('pods'))).toMatch(/kube\/denied .*isthmus-gateway.*pods/);
    expect(discovery.synced().pending).toContain('pods');
  });
});

describe('secrets', () => {
  test('are written by compare-and-swap and followed', async () => {
    const at = { namespace: system, name: 'isthmus-gateway-certs' };
    const seen: (Secret | undefined)[] = [];
    const watch = keep(
      watchSecret({ api: controller, clock: realClock, log, at, onChange: (secret) => seen.push(secret) }),
    );
    await eventually('known to be absent', () => watch.synced);
    expect(seen).toEqual([undefined]);
    const first = await writeSecret(controller, at, { data: { 'tls.crt': Buffer.from('one') }, replaces: undefined });
    expect(await code(writeSecret(controller, at, { data: {}, replaces: undefined }))).toBe('kube/conflict');
    const second = await writeSecret(controller, at, {
      data: { 'tls.crt': Buffer.from([0, 255, 1]) },
      replaces: first.resourceVersion,
    });
    // The writer that lost its lease still holds the first version.
    expect(
      await code(
        writeSecret(controller, at, { data: { 'tls.crt': Buffer.from('old') }, replaces: first.resourceVersion }),
      ),
    ).toBe('kube/conflict');
    await eventually('seen', () => watch.current?.resourceVersion === second.resourceVersion);
    expect(Buffer.from(watch.current?.data['tls.crt'] ?? [])).toEqual(Buffer.from([0, 255, 1]));
    await make.remove(`/api/v1/namespaces/${system}/secrets/${at.name}`);
    await eventually('gone', () => watch.current === undefined && seen.at(-1) === undefined);
  });
});

describe('conditions', () => {
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
  const events = async (reason: string) =>
    (
      await server.call<{ items: { reason: string; note: string; type: string }[] }>(
        'GET',
        '/apis/events.k8s.io/v1/namespaces/shop/events',
      )
    ).items.filter((event) => event.reason === reason);

  test.each(['v1beta1', 'v1alpha1'])(
    'say what the export amounts to, once, by the writer alone; seen as %s',
    async (version) => {
      const name = `checkout-${version}`;
      const path = `/apis/multicluster.x-k8s.io/${version}/namespaces/shop/serviceexports`;
      await make.create(path, {
        apiVersion: `multicluster.x-k8s.io/${version}`,
        kind: 'ServiceExport',
        metadata: { name },
      });
      const discovery = await discover();
      const key = `shop/${name}`;
      await eventually('seen', () => discovery.exports.has(key));
      let writer = false;
      let patches = 0;
      const conditions = keep(
        openConditionWriter({
          api: {
            request: (each) => {
              if (each.method === 'PATCH') patches++;
              return controller.request(each);
            },
          },
          clock: realClock,
          log,
          kind: exportKind,
          objects: discovery.exports,
          isWriter: () => writer,
          events: keep(openEvents({ api: controller, clock: realClock, log, identity: 'isthmus-controller-0' })),
        }),
      );
      const current = () => discovery.exports.get(key)?.conditions ?? [];
      const is = (type: string) => current().find((condition) => condition.type === type);
      const problem = discovery.cluster.problems.get(key);
      expect(problem?.code).toBe('service/missing');
      conditions.set(key, exportConditions({ problem, conflicts: [], published: false }));
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(patches).toBe(0);
      writer = true;
      conditions.recheck();
      await eventually('written', () => current().length === 3);
      expect(is('Valid')).toMatchObject({ status: 'False', reason: 'NoService', observedGeneration: 1 });
      expect(is('Ready')).toMatchObject({ status: 'False', reason: 'NoService' });
      expect(is('Conflict')).toMatchObject({ status: 'False', reason: 'NoConflicts' });
      const since = is('Conflict')?.lastTransitionTime;
      // Another implementation's condition stays.
      await server.call(
        'PATCH',
        `${path}/${name}/status?fieldManager=other`,
        {
          apiVersion: `multicluster.x-k8s.io/${version}`,
          kind: 'ServiceExport',
          metadata: { name },
          status: {
            conditions: [
              {
                type: 'other.example/Seen',
                status: 'True',
                reason: 'Seen',
                message: '',
                lastTransitionTime: '2026-01-01T00:00:00Z',
              },
            ],
          },
        },
        'application/apply-patch+yaml',
      );
      await make.service('shop', name);
      await eventually('the Service is found', () => !discovery.cluster.problems.has(key));
      const good = exportConditions({ problem: undefined, conflicts: [], published: true });
      conditions.set(key, good);
      await eventually('ready', () => is('Ready')?.status === 'True');
      expect(is('Valid')).toMatchObject({ status: 'True', reason: 'Valid' });
      expect(is('Conflict')?.lastTransitionTime).toBe(since);
      expect(is('other.example/Seen')?.status).toBe('True');
      const before = patches;
      for (let again = 0; again < 5; again++) conditions.set(key, good);
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(patches).toBe(before);
      await eventually('an event', async () =>
        (await events('NoService')).some((event) => event.type === 'Warning' && event.note.includes(name)),
      );
      const conflict = {
        field: 'ports',
        winner: 'us-west',
        losers: ['us-east'],
        message: 'port 80 is http in us-west and grpc in us-east',
      } as const;
      conditions.set(key, exportConditions({ problem: undefined, conflicts: [conflict], published: true }));
      await eventually('conflict', () => is('Conflict')?.status === 'True');
      expect(is('Conflict')?.reason).toBe('PortConflict');
      // Written for an export that is deleted meanwhile: nothing comes back to life.
      await make.remove(`${path}/${name}`);
      conditions.set(key, good);
      await eventually('gone', () => !discovery.exports.has(key));
      await new Promise((resolve) => setTimeout(resolve, 200));
      expect(
        await server.call('GET', `${path}/${name}`).then(
          () => 'there',
          () => 'gone',
        ),
      ).toBe('gone');
    },
  );
});
