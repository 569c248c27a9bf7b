/** The ceremony for a lost key: nothing stops meanwhile, and nobody who was out comes back by it. */
import { createPublicKey, X509Certificate } from 'node:crypto';
import { copyFileSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Federation } from '../../../src/federation/federation.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { isthmus, startDesk, type TestDesk } from './desk.ts';

let desk: TestDesk;
let server: ApiServer;
beforeAll(async () => {
  [desk, server] = await Promise.all([startDesk(['us-east', 'us-west', 'thief']), startApiServer()]);
}, 60_000);
afterAll(async () => {
  await server?.stop();
  await desk?.stop();
});

const at = (...argv: string[]) => isthmus(...argv, '--authority-dir', desk.authority);
const times = () => ({ nowMs: 0, wallMs: realClock.wallMs() });
const readerWith = (pem: string): Federation =>
  new Federation({
    clusterset: 'demo',
    self: 'us-east',
    trustDomain: 'cluster.local',
    authorityKey: createPublicKey(readFileSync(pem)),
  });
const content = async () => {
  const store = await desk.etcd.store('root');
  const snapshot = await store.list(storeKeys('demo').root);
  await store.close();
  return snapshot;
};

it('a lost authority is replaced while every controller goes on', async () => {
  expect((await at('revoke', 'thief', '--yes')).code).toBe(79);
  const old = join(desk.dir, 'old-authority.pem');
  copyFileSync(join(desk.authority, 'authority.pem'), old);
  cpSync(join(desk.authority, 'us-east'), join(desk.dir, 'old-bundle'), { recursive: true });
  const controller = readerWith(old);
  controller.snapshot(await content(), times());
  expect([...controller.members.keys()].sort()).toEqual(['us-east', 'us-west']);

  rmSync(join(desk.authority, 'authority-key.pem'));
  const lost = await at('token', 'create', '--cluster', 'new');
  expect([lost.code, lost.err]).toEqual([65, expect.stringContaining('authority-key.pem')]);
  expect((await at('authority', 'replace')).code).toBe(64);
  const replaced = await at('authority', 'replace', '--yes');
  expect(replaced.code, replaced.err).toBe(0);
  expect(replaced.out).toMatch(/thief.*stays out/);

  // Who has the old key goes on, and says that the store speaks with another voice.
  const now = await content();
  controller.snapshot(now, times());
  expect([...controller.members.keys()].sort()).toEqual(['us-east', 'us-west']);
  expect(controller.problems.map(({ code }) => code)).toContain('member/signature');
  // Who has the new one knows the same members, and that the thief is out, from the saved state of the old one as well.
  const restarted = readerWith(join(desk.authority, 'authority.pem'));
  expect(restarted.restore(Buffer.concat([...controller.save(times())]), times()).ok).toBe(true);
  restarted.snapshot(now, times());
  expect([...restarted.members.keys()].sort()).toEqual(['us-east', 'us-west']);
  expect([restarted.revoked('thief'), restarted.problems]).toEqual([true, []]);
  const made = await at('token', 'create', '--cluster', 'new', '--region', 'r');
  expect(made.code, made.err).toBe(0);
  expect(desk.audit().find(({ action }) => action === 'authority')).toMatchObject({ outcome: 'done' });
}, 60_000);

const secretPath = '/api/v1/namespaces/isthmus-system/secrets/isthmus-member';
const secret = async (): Promise<Record<string, string>> => {
  const { data } = await server.call<{ data: Record<string, string> }>('GET', secretPath);
  return Object.fromEntries(Object.entries(data).map(([file, text]) => [file, Buffer.from(text, 'base64').toString()]));
};
const changed = (before: Record<string, string>, after: Record<string, string>): string[] =>
  [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((file) => before[file] !== after[file]).sort();
const kubeconfig = (): string => {
  const path = join(desk.dir, 'kubeconfig');
  writeFileSync(path, server.kubeConfig.exportConfig(), { mode: 0o600 });
  return path;
};

it('a cluster is given the new authority, and nothing else of its Secret changes', async () => {
  const here = ['--kubeconfig', kubeconfig()];
  const early = await at('authority', 'install', ...here);
  expect([early.code, early.err]).toEqual([65, expect.stringContaining('isthmus join')]);
  const trust = join(desk.dir, 'trust');
  expect((await isthmus('trust', 'init', '--out', trust, '--cluster', 'us-east')).code).toBe(0);
  const bundle = (dir: string) => ['join', '--bundle', dir, '--cacerts', join(trust, 'us-east'), ...here];
  const old = join(desk.dir, 'old-bundle');
  const joined = await isthmus(...bundle(old));
  expect(joined.code, joined.err).toBe(0);
  const before = await secret();
  const fresh = readFileSync(join(desk.authority, 'authority.pem'), 'utf8');
  // That bundle was made by the authority that was lost.
  expect(before['authority.pem']).not.toBe(fresh);
  const installed = await at('authority', 'install', ...here);
  expect(installed.code, installed.err).toBe(0);
  const after = await secret();
  expect([changed(before, after), after['authority.pem']]).toEqual([['authority.pem'], fresh]);
  expect((await at('authority', 'install', ...here)).code).toBe(0);
  expect(changed(after, await secret())).toEqual([]);
  // The old bundle, applied again, must not bring the old one back; the one at the desk has the new one.
  const again = await isthmus(...bundle(old));
  expect([again.code, again.err]).toEqual([65, expect.stringContaining('isthmus authority install')]);
  expect((await isthmus(...bundle(join(desk.authority, 'us-east')))).code).toBe(0);
  expect(changed(after, await secret())).toEqual([]);
}, 60_000);

it('a cluster is given a new certificate for etcd, and only its own', async () => {
  const here = ['--kubeconfig', kubeconfig()];
  const before = await secret();
  const other = await at('keys', 'renew-etcd', '--cluster', 'us-west', ...here);
  expect([other.code, other.err]).toEqual([65, expect.stringContaining('us-east')]);
  expect((await at('keys', 'renew-etcd', '--cluster', 'thief', ...here)).err).toContain('member/revoked');
  const renewed = await at('keys', 'renew-etcd', '--cluster', 'us-east', ...here);
  expect(renewed.code, renewed.err).toBe(0);
  const after = await secret();
  expect(changed(before, after)).toEqual(['etcd-client-key.pem', 'etcd-client.pem']);
  const [was, is] = [before, after].map((files) => new X509Certificate(files['etcd-client.pem']!));
  expect([is!.subject, is!.serialNumber === was!.serialNumber]).toEqual(['CN=us-east', false]);
  expect(is!.validToDate.getTime()).toBeGreaterThanOrEqual(was!.validToDate.getTime());
  // It can be put on the list, should the member be revoked.
  expect(readFileSync(join(desk.authority, 'certificates.jsonl'), 'utf8')).toContain(is!.serialNumber.toLowerCase());
}, 60_000);
