import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readCrl } from '../../../src/ca/crl.ts';
import { initTrust } from '../../../src/ca/trustfiles.ts';
import { revokeInMesh } from '../../../src/cli/revoke_mesh.ts';

let dir: string;
const nowMs = Date.now();
const make = (rootPerCluster: boolean) =>
  initTrust(
    { outDir: dir, trustDomain: 'demo', clusters: ['us-east', 'us-west', 'thief'], rootPerCluster, nowMs },
    (bytes) => new Uint8Array(randomBytes(bytes)),
  );
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'isthmus-revoke-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const lists = (cluster: string): readonly number[] =>
  readFileSync(join(dir, cluster, 'ca-crl.pem'), 'utf8')
    .split(/(?=-----BEGIN)/)
    .map((list) => readCrl(list, 'list').length);

it('puts the intermediate on its root’s list, with lists of all other CAs beside it; twice changes nothing more', async () => {
  await make(false);
  for (let i = 0; i < 2; i++) {
    await revokeInMesh('thief', dir, nowMs);
    expect([lists('us-east'), lists('us-west')]).toEqual([
      [1, 0, 0],
      [1, 0, 0],
    ]);
  }
  expect(existsSync(join(dir, 'thief', 'ca-crl.pem'))).toBe(false);
  await revokeInMesh('us-west', dir, nowMs);
  expect(lists('us-east')).toEqual([2, 0, 0]);
});

it('does so where each cluster has a root of its own', async () => {
  await make(true);
  await revokeInMesh('thief', dir, nowMs);
  expect([...lists('us-east')].sort()).toEqual([0, 0, 0, 0, 1]);
});

it('says that nothing is revoked without the root’s key', async () => {
  await make(false);
  rmSync(join(dir, 'root', 'root-key.pem'));
  await expect(revokeInMesh('thief', dir, nowMs)).rejects.toMatchObject({ code: 'files/invalid' });
  expect(existsSync(join(dir, 'us-east', 'ca-crl.pem'))).toBe(false);
});
