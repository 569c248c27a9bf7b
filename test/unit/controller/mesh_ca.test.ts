import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { fullFingerprint } from '../../../src/ca/authority.ts';
import { type MaterialFiles, readMaterial } from '../../../src/ca/material.ts';
import {
  addedFiles,
  checkFiles,
  removedFiles,
  switchedBackFiles,
  switchedFiles,
  writeMaterial,
} from '../../../src/ca/rotation_files.ts';
import { initTrust } from '../../../src/ca/trustfiles.ts';
import { MeshCa } from '../../../src/controller/mesh_ca.ts';
import { nowMs, random, tempDir } from '../ca/pki.ts';

const clock = { wallMs: () => nowMs, monotonicMs: () => 0, after: () => ({ cancel: () => {} }) };

const setup = async () => {
  const dir = tempDir();
  const trust = { trustDomain: 'cluster.local', clusters: ['east'], nowMs };
  await initTrust({ ...trust, outDir: join(dir.path, 'old') }, random);
  await initTrust({ ...trust, outDir: join(dir.path, 'new') }, random);
  const at = join(dir.path, 'old', 'east');
  let changes = 0;
  const logged: string[] = [];
  const log = (_level: string, message: string) => logged.push(message);
  const ca = new MeshCa({ dir: at, clock, log: log as never, onChange: () => changes++ });
  const fresh = readMaterial(join(dir.path, 'new', 'east'));
  const look = (times = 2): number => {
    for (let i = 0; i < times; i++) ca.look();
    return changes;
  };
  const roots = () => ca.authority.roots.map(fullFingerprint);
  return { dir, at, ca, fresh, look, roots, logged, files: () => readMaterial(at) };
};
type Stage = Awaited<ReturnType<typeof setup>>;
let s: Stage;
beforeEach(async () => {
  s = await setup();
  return () => s.dir[Symbol.dispose]();
});

it('goes through a rotation and back, each stage usable, and keeps the CAs of both as its own', () => {
  const { ca, at, files, look, roots } = s;
  const write = (next: MaterialFiles): void => {
    checkFiles(next, 'east', nowMs);
    writeMaterial(at, next);
  };
  const [old] = roots() as [string];
  const before = ca.authority.certificate.fingerprint256;
  write(addedFiles(files(), s.fresh));
  expect(look()).toBe(1);
  const fresh = fullFingerprint(ca.next!.root);
  expect(roots()).toEqual([old, fresh]);
  expect([ca.authority.certificate.fingerprint256, ca.issuers.length]).toEqual([before, 2]);
  write(switchedFiles(files()));
  look();
  expect([fullFingerprint(ca.authority.root), ca.next, ca.issuers.length]).toEqual([fresh, undefined, 2]);
  expect(ca.issuers.map(({ fingerprint256 }) => fingerprint256)).toContain(before);
  write(switchedBackFiles(files()));
  look();
  expect([ca.authority.certificate.fingerprint256, fullFingerprint(ca.next!.root)]).toEqual([before, fresh]);
  write(switchedFiles(files()));
  write(removedFiles(files(), [old]));
  expect(look()).toBe(4);
  expect([roots(), ca.issuers.length]).toEqual([[fresh], 1]);
  expect(Object.keys(files()).sort()).toEqual(['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem', 'root-cert.pem']);
});

it('takes nothing up that is still being written: two readings have to agree', () => {
  writeMaterial(s.at, addedFiles(s.files(), s.fresh));
  expect(s.look(1)).toBe(0);
  writeMaterial(s.at, switchedFiles(s.files()));
  expect(s.look(1)).toBe(0);
  expect(s.look(1)).toBe(1);
  expect(s.ca.next).toBeUndefined();
});

it('keeps the last good CA while the directory cannot be used, says why, and goes on when it can', () => {
  const { ca, at, look, roots, logged } = s;
  const before = roots();
  const good = readFileSync(join(at, 'root-cert.pem'), 'utf8');
  for (const [file, text, why] of [
    ['root-cert.pem', s.fresh['root-cert.pem']!, /no root in root-cert.pem/],
    ['ca-key.pem', s.fresh['ca-key.pem']!, /not the key of/],
    ['root-cert.pem', '', /holds no certificate/],
  ] as const) {
    const was = readFileSync(join(at, file), 'utf8');
    writeFileSync(join(at, file), text);
    expect(look(4)).toBe(0);
    expect([roots(), ca.problem?.message]).toEqual([before, expect.stringMatching(why)]);
    writeFileSync(join(at, file), was);
    look();
    expect(ca.problem).toBeUndefined();
  }
  // Said once for each, not once a second.
  expect(logged).toHaveLength(3);
  writeFileSync(join(at, 'root-cert.pem'), good + s.fresh['root-cert.pem']!);
  expect([look(), roots().length]).toEqual([1, 2]);
});

it('refuses what a controller would not take, before it is written', () => {
  expect(() => checkFiles(removedFiles(s.files(), s.roots()), 'east', nowMs)).toThrow(/root-cert.pem/);
  expect(() => switchedFiles(s.files())).toThrow(/no rotation is under way/);
});
