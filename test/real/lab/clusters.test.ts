/** The lab without Isthmus: real API servers, the kubelet's part, the federation's etcd, and faults on all of them. */

import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { threeClusters } from '../../../scenarios/lab/lab.ts';
import { LocalLab } from '../../../scenarios/lab/local/lab.ts';
import type { PodTemplate } from '../../../scenarios/lab/local/programs.ts';

const serverProgram = fileURLToPath(new URL('../../../scenarios/lab/apps/server.ts', import.meta.url));
const namespace = 'isthmus-system';

/** An app behind a Service, without a mesh. */
const plain: PodTemplate = {
  spec: { namespace, serviceAccount: 'echo', labels: { app: 'echo' }, ports: [{ name: 'http', port: 8_080 }] },
  tokens: [{ file: 'token', audience: 'istio-ca', expirationSeconds: 3_600 }],
  mesh: false,
  secrets: {},
  files: () => ({}),
  programs: (pod) => {
    const flags = ['--host', '0.0.0.0', '--cluster', 'us-east', '--pod', pod.state.name];
    return [{ name: 'app', argv: [process.execPath, serverProgram, ...flags], env: {} }];
  },
  probes: [{ port: 8_080, path: '/' }],
  preStopMs: 100,
  graceMs: 1_000,
};

let lab: LocalLab;
const east = () => lab.cluster('us-east');

interface Slice {
  endpoints: { addresses: string[]; conditions: { ready: boolean }; zone: string; nodeName: string }[];
  ports: { port: number }[];
}
const slice = () =>
  east().api<Slice>('GET', `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices/echo-lab`);
const readyCount = async () => (await slice()).endpoints.filter(({ conditions }) => conditions.ready).length;

beforeAll(async () => {
  lab = await LocalLab.start({ clusters: threeClusters, isthmus: false, report: console.log });
  const { kubelet } = east().parts;
  await kubelet.ensureNamespace(namespace, {});
  await kubelet.ensureServiceAccount(namespace, 'echo');
  await east().api('POST', `/api/v1/namespaces/${namespace}/services`, {
    metadata: { name: 'echo' },
    spec: { selector: { app: 'echo' }, ports: [{ port: 80, targetPort: 8_080 }] },
  });
  east().define(namespace, 'echo', plain);
  await east().scale(namespace, 'echo', 2);
});

afterAll(async () => {
  const { prefix, dir } = lab.run;
  await lab.down();
  expect(readdirSync('/run/netns').filter((name) => name.startsWith(prefix))).toEqual([]);
  expect(readdirSync('/tmp').filter((name) => dir.endsWith(name))).toEqual([]);
});

test('nodes tell their region and zone, and pods are ready on both', async () => {
  const { items } = await east().api<{ items: { metadata: { labels: Record<string, string> } }[] }>(
    'GET',
    '/api/v1/nodes',
  );
  expect(items.map(({ metadata }) => metadata.labels['topology.kubernetes.io/zone']).sort()).toEqual([
    'us-east-a',
    'us-east-b',
  ]);
  const { endpoints, ports } = await slice();
  expect(new Set(endpoints.map(({ zone }) => zone))).toEqual(new Set(['us-east-a', 'us-east-b']));
  expect(endpoints.every(({ conditions }) => conditions.ready)).toBe(true);
  expect(ports[0]!.port).toBe(8_080);
});

test('a pod’s token is bound to it and tells its node', async () => {
  const { pod, node } = east().parts.pods.find(namespace, 'echo-0');
  const { readFile } = await import('node:fs/promises');
  const token = await readFile(`${pod.dir}/token`, 'utf8');
  const review = await east().api<{
    status: { authenticated: boolean; user: { username: string; extra: Record<string, string[]> } };
  }>('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenReview',
    spec: { token, audiences: ['istio-ca'] },
  });
  expect(review.status.authenticated).toBe(true);
  expect(review.status.user.username).toBe(`system:serviceaccount:${namespace}:echo`);
  expect(review.status.user.extra['authentication.kubernetes.io/pod-name']).toEqual(['echo-0']);
  expect(review.status.user.extra['authentication.kubernetes.io/node-name']).toEqual([node.name]);
});

test('the service address leads to ready pods only, and follows them', async () => {
  const { spec } = await east().api<{ spec: { clusterIP: string } }>(
    'GET',
    `/api/v1/namespaces/${namespace}/services/echo`,
  );
  const { namespace: netns } = east().parts.pods.find(namespace, 'echo-0').pod.attached;
  const { capture } = await import('../../../scenarios/lab/local/shell.ts');
  const program = `const r = await fetch('http://${spec.clusterIP}/'); console.log((await r.text()).trim())`;
  const ask = async () =>
    (
      await capture(['ip', 'netns', 'exec', netns, process.execPath, '--input-type=module', '-e', program])
    ).stdout.trim();
  const seen = new Set<string>();
  for (let i = 0; i < 12; i++) seen.add(await ask());
  expect(seen).toEqual(new Set(['us-east/echo-0', 'us-east/echo-1']));
  const place = { kind: 'pod', cluster: 'us-east', namespace, name: 'echo-1' } as const;
  const fault = await lab.inject({ kind: 'kill', target: { place, process: 'app' } });
  await expect.poll(readyCount, { timeout: 10_000 }).toBe(1);
  for (let i = 0; i < 5; i++) expect(await ask()).toBe('us-east/echo-0');
  await fault.lift();
  await expect.poll(readyCount, { timeout: 10_000 }).toBe(2);
});

test('a hung app becomes unready, and ready again', async () => {
  const place = { kind: 'pod', cluster: 'us-east', namespace, name: 'echo-0' } as const;
  const fault = await lab.inject({ kind: 'stop', target: { place, process: 'app' } });
  await expect.poll(readyCount, { timeout: 15_000 }).toBe(1);
  await fault.lift();
  await expect.poll(readyCount, { timeout: 10_000 }).toBe(2);
});

test('a pod that dies leaves the API after the delay asked for, and comes back as another', async () => {
  const before = east().parts.pods.find(namespace, 'echo-1').pod.state.uid;
  const fault = await lab.inject({
    kind: 'pod-death',
    cluster: 'us-east',
    namespace,
    name: 'echo-1',
    noticedAfterMs: 1_500,
  });
  expect(await readyCount()).toBe(2);
  await expect.poll(async () => (await slice()).endpoints.length, { timeout: 10_000 }).toBe(1);
  await fault.lift();
  expect(await readyCount()).toBe(2);
  expect(east().parts.pods.find(namespace, 'echo-1').pod.state.uid).not.toBe(before);
});

test('a service answers errors and stays ready', async () => {
  const fault = await lab.inject({
    kind: 'service-errors',
    cluster: 'us-east',
    namespace,
    service: 'echo',
    status: 503,
  });
  expect((await east().http(namespace, 'echo-0', 8_080, '/')).status).toBe(503);
  expect(await readyCount()).toBe(2);
  await fault.lift();
  expect((await east().http(namespace, 'echo-0', 8_080, '/')).status).toBe(200);
});

test('scaling down takes a pod out of the endpoints before it ends', async () => {
  await east().scale(namespace, 'echo', 1);
  expect((await slice()).endpoints.length).toBe(1);
  await east().restartPod(namespace, 'echo-0');
  expect(await readyCount()).toBe(1);
});

test('the federation etcd leads from us-west, survives that region, and takes it back', async () => {
  expect(await lab.storeLeader()).toBe('us-west');
  const cut = await lab.inject({ kind: 'partition', from: { kind: 'cluster', cluster: 'us-west' } });
  await expect.poll(() => lab.etcd.leader('us-east'), { timeout: 15_000 }).not.toBe('us-west');
  await expect.poll(() => lab.etcd.leader('us-east'), { timeout: 15_000 }).toBeDefined();
  await cut.lift();
  const stop = await lab.inject({ kind: 'kill', target: { place: { kind: 'etcd', cluster: 'us-west' } } });
  await stop.lift();
  await lab.etcd.ready();
  await expect
    .poll(() => lab.moveStoreLeader('us-west').then(() => lab.storeLeader()), { timeout: 20_000 })
    .toBe('us-west');
});

test('an API server that is killed comes back with what it knew', async () => {
  const fault = await lab.inject({ kind: 'kill', target: { place: { kind: 'apiserver', cluster: 'us-east' } } });
  await expect.poll(() => readyCount().catch(() => 'gone')).toBe('gone');
  await fault.lift();
  expect(await readyCount()).toBe(1);
});

test('a program at the operator’s desk reaches the API server and not the world', async () => {
  const program = `import { readFileSync } from 'node:fs'; import { get } from 'node:https';
    const { clusters, users } = JSON.parse(readFileSync(process.env.KUBECONFIG, 'utf8'));
    const pem = (text) => Buffer.from(text, 'base64');
    const user = users[0].user;
    get(clusters[0].cluster.server + '/version', { ca: pem(clusters[0].cluster['certificate-authority-data']),
      cert: pem(user['client-certificate-data']), key: pem(user['client-key-data']) }, (r) => { console.log(r.statusCode); r.destroy(); });`;
  const seen = await east().exec([process.execPath, '--input-type=module', '-e', program]);
  expect(seen.stdout.trim()).toBe('200');
  const outside = await east().exec(['ip', 'route', 'get', '192.0.2.1']);
  expect(outside.stdout).toContain('via 10.81.0.1');
});
