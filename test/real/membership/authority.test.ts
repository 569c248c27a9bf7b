/** The ceremony for a lost key: nothing stops meanwhile, and nobody who was out comes back by it. */
import { createPublicKey } from 'node:crypto';
import { copyFileSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Federation } from '../../../src/federation/federation.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { isthmus, startDesk, type TestDesk } from './desk.ts';

let desk: TestDesk;
beforeAll(async () => {
  desk = await startDesk(['us-east', 'us-west', 'thief']);
}, 60_000);
afterAll(() => desk?.stop());

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
