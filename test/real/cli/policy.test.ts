/** `isthmus policy`: what it says of a file, and the cluster set's default through a real etcd. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { run } from '../../../src/cli/program.ts';
import { Federation } from '../../../src/federation/federation.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { connectAdmin } from '../../../src/store/admin.ts';
import { signMembership } from '../../../src/trust/membership.ts';
import { testMember } from '../../unit/trust/certificates.ts';
import { startEtcd, type TestEtcd } from '../etcd.ts';

let etcd: TestEtcd;
let dir: string;
const authority = generateKeyPairSync('ed25519');
const stranger = generateKeyPairSync('ed25519');

const isthmus = async (...args: string[]): Promise<{ code: number; out: string; err: string }> => {
  let out = '';
  let err = '';
  const stdout = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  const stderr = vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += String(text);
    return true;
  });
  try {
    return { code: await run(['node', 'isthmus', ...args]), out, err };
  } finally {
    stdout.mockRestore();
    stderr.mockRestore();
  }
};
const file = async (name: string, content: string | Buffer): Promise<string> => {
  const path = join(dir, name);
  await writeFile(path, content, { mode: 0o600 });
  return path;
};

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'isthmus-policy-'));
  etcd = await startEtcd();
  const root = await etcd.client('root');
  const admin = connectAdmin({ endpoints: etcd.endpoints, clock: realClock, log: () => {}, ...root });
  await admin.ensureMembers('demo', ['us-east']);
  await admin.enableAuth();
  admin.close();
  const { member } = await testMember('us-east', { notAfterMs: realClock.wallMs() + 3_600_000 });
  const signed = signMembership(member, authority.privateKey);
  if (!signed.ok) throw signed.error;
  const store = await etcd.store('root');
  const puts = [{ key: storeKeys('demo').member('us-east'), value: signed.value }];
  expect((await store.commit({ compare: [], puts, deletes: [] })).ok).toBe(true);
  await store.close();
  for (const part of ['ca', 'cert', 'key'] as const) await file(`${part}.pem`, root[part]);
  await file('authority.pem', authority.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);
  await file('stranger.pem', stranger.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);
});
afterAll(async () => {
  await etcd?.stop();
  await rm(dir, { recursive: true, force: true });
});

const set = (path: string, key = 'authority.pem') =>
  isthmus(
    'policy',
    'set',
    path,
    '--clusterset',
    'demo',
    '--authority',
    join(dir, key),
    ...etcd.endpoints.flatMap((url) => ['--etcd', url]),
    ...(['ca', 'cert', 'key'] as const).flatMap((part) => [`--etcd-${part}`, join(dir, `${part}.pem`)]),
  );
/** What a member reads, with nothing but its own rights. */
const seen = async () => {
  const store = await etcd.store('us-east');
  try {
    const federation = new Federation({
      clusterset: 'demo',
      self: 'us-east',
      trustDomain: 'cluster.local',
      authorityKey: authority.publicKey,
    });
    federation.snapshot(await store.list(storeKeys('demo').setPrefix), { nowMs: 0, wallMs: realClock.wallMs() });
    return { spec: federation.policySpec, problems: federation.problems.map(({ message }) => message) };
  } finally {
    await store.close();
  }
};

describe('isthmus policy', () => {
  it('check says what a file sets, and everything that is wrong with one', async () => {
    const good = await file(
      'good.yaml',
      'apiVersion: isthmus.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {name: a, namespace: shop}\nspec: {drain: {over: 1m}}\n',
    );
    const told = await isthmus('policy', 'check', good);
    expect(told).toMatchObject({ code: 0 });
    expect(told.out).toMatch(/^FIELD +VALUE +FROM\ndrain\.over +1m +the file\n$/);
    expect((await isthmus('policy', 'check', good, '-o', 'wide')).out).toContain('failback.holdDown');
    const bad = await file('bad.yaml', 'drain: {over: 5}\nmode: maybe\n');
    const refused = await isthmus('policy', 'check', bad);
    expect(refused.code).toBe(65);
    expect(refused.err).toMatch(/spec\.mode: "maybe".*spec\.drain\.over: 5 is not a duration/);
    expect((await isthmus('policy', 'check', await file('x.yaml', 'kind: Pod\n'))).err).toContain('holds a Pod');
    expect((await isthmus('policy', 'check', await file('y.yaml', '[1]\n'))).err).toContain('holds no object');
    expect((await isthmus('policy', 'check', join(dir, 'none.yaml'))).code).toBe(65);
  });

  it('set is believed by a member, and each later one replaces the one before', async () => {
    expect(await seen()).toEqual({ spec: undefined, problems: [] });
    const first = await set(await file('first.yaml', 'mode: observe\n'));
    expect(first.err).toContain('the default of cluster set demo');
    expect(first.code).toBe(0);
    expect((await seen()).spec).toEqual({ mode: 'observe' });
    expect((await set(await file('second.yaml', '{}'))).code).toBe(0);
    expect((await seen()).spec).toEqual({});
  });

  it('set stores nothing that no member would take', async () => {
    const before = await seen();
    expect((await set(await file('bad2.yaml', 'mode: maybe\n'))).code).toBe(65);
    const object =
      'apiVersion: isthmus.dev/v1alpha1\nkind: FailoverPolicy\nmetadata: {name: a, namespace: shop}\nspec: {}\n';
    expect((await set(await file('object.yaml', object))).err).toContain('not a spec alone');
    expect((await set(await file('third.yaml', '{}'), 'ca.pem')).err).toContain('holds no private key');
    const forged = await set(await file('forged.yaml', 'mode: observe\n'), 'stranger.pem');
    expect(forged).toMatchObject({ code: 65 });
    expect(forged.err).toContain('not the authority of cluster set demo');
    expect(await seen()).toEqual(before);
  });
});
