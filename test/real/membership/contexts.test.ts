/** Joining real API servers: one command with both contexts, and two with a token; and the keys taken away again. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { storeKeys } from '../../../src/records/keys.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { isthmus, startDesk, type TestDesk } from './desk.ts';

const keys = storeKeys('demo');
let desk: TestDesk;
let server: ApiServer;
let kubeconfig: string;
beforeAll(async () => {
  [desk, server] = await Promise.all([startDesk(['us-east']), startApiServer()]);
  const { clusters, users } = JSON.parse(server.kubeConfig.exportConfig());
  const contexts = ['us-west', 'us-east', 'us-south'].map((name) => ({
    name,
    context: { cluster: clusters[0].name, user: users[0].name },
  }));
  kubeconfig = join(desk.dir, 'kubeconfig');
  writeFileSync(kubeconfig, JSON.stringify({ apiVersion: 'v1', kind: 'Config', clusters, users, contexts }), {
    mode: 0o600,
  });
  await server.call('POST', '/api/v1/nodes', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name: 'n1',
      labels: { 'topology.kubernetes.io/region': 'us-west', 'topology.kubernetes.io/zone': 'a' },
    },
    spec: { podCIDR: '10.7.0.0/24', podCIDRs: ['10.7.0.0/24'] },
  });
  await server.call('POST', '/api/v1/namespaces', {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } },
  });
  const trust = ['trust', 'init', '--out', join(desk.dir, 'trust'), '--cluster', 'us-west', '--cluster', 'us-south'];
  expect((await isthmus(...trust)).code).toBe(0);
}, 120_000);
afterAll(async () => {
  await server?.stop();
  await desk?.stop();
});

const here = (context: string) => ['--kubeconfig', kubeconfig, '--context', context];
const secret = async (name: string) =>
  (await server.call<{ data: Record<string, string> }>('GET', `/api/v1/namespaces/isthmus-system/secrets/${name}`))
    .data;

describe('isthmus join', () => {
  it('with both contexts is one command', async () => {
    const cacerts = ['--cacerts', join(desk.dir, 'trust', 'us-west')];
    const command = ['join', ...here('us-west'), '--to-context', 'us-east', '--authority-dir', desk.authority];
    // Nothing is spent while the cluster is not ready for it.
    const early = await isthmus(...command, '--verify-for', '0s');
    expect([early.code, early.err]).toEqual([64, expect.stringContaining('--cacerts')]);
    const started = performance.now();
    const joined = await isthmus(...command, ...cacerts, '--verify-for', '0s');
    expect(joined.code, joined.err).toBe(0);
    process.stderr.write(`join with both contexts: ${Math.round(performance.now() - started)} ms\n`);
    expect(performance.now() - started).toBeLessThan(60_000);
    const member = await secret('isthmus-member');
    expect(Object.keys(member)).toContain('record-key.pem');
    expect(Buffer.from(member['member.yaml']!, 'base64').toString()).toContain('member: us-west');
    expect(Object.keys(await secret('cacerts'))).toContain('ca-key.pem');
    // What the cluster said of itself, in the audit.
    expect(desk.audit().at(-1)).toMatchObject({
      detail: expect.stringContaining('ranges 10.7.0.0/24, namespaces shop'),
    });
    expect(joined.err).toContain('the data path not verified yet');
    const again = await isthmus(...command, '--verify-for', '0s');
    expect([again.code, again.err]).toEqual([65, expect.stringContaining('member/duplicate')]);
  }, 90_000);

  it('by a token is two, and leave takes the keys out of the cluster again', async () => {
    const left = await isthmus('leave', ...here('us-west'), '--yes', '--authority-dir', desk.authority);
    expect(left.code, left.err).toBe(0);
    await expect(secret('isthmus-member')).rejects.toThrow('404');
    const file = join(desk.dir, 'south.token');
    const make = [
      'token',
      'create',
      '--cluster',
      'us-south',
      '-o',
      'file',
      '--file',
      file,
      '--wait',
      '--accept-proposed',
    ];
    const creating = isthmus(...make, '--authority-dir', desk.authority);
    const written = async (): Promise<void> => {
      for (;;) {
        try {
          if (readFileSync(file, 'utf8').endsWith('\n')) return;
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    };
    await written();
    // The intermediate CA is in the cluster already.
    const joined = await isthmus('join', ...here('us-south'), '--token-file', file, '--verify-for', '0s');
    expect([joined.code, (await creating).code], joined.err).toEqual([0, 0]);
    const member = await secret('isthmus-member');
    expect(Buffer.from(member['member.yaml']!, 'base64').toString()).toContain('member: us-south');
    const store = await desk.etcd.store('root');
    const names = (await store.list(keys.membersPrefix)).entries.map(({ key }) => key.slice(keys.membersPrefix.length));
    await store.close();
    expect(names.sort()).toEqual(['us-east', 'us-south']);
  }, 90_000);
});
