/** The stages on a real trust directory; a controller that says what the test wants answers `/v1/trust`. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { fullFingerprint } from '../../../src/ca/authority.ts';
import { loadMaterial } from '../../../src/ca/material.ts';
import { initTrust } from '../../../src/ca/trustfiles.ts';
import { readRotation } from '../../../src/cli/rotation_state.ts';
import { rotateAbort, rotateContinue, rotateStart } from '../../../src/cli/trust_rotate.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import type { MemberTrust, RootReport } from '../../../src/core/trust_report.ts';
import { random, type TestDir, tempDir } from '../ca/pki.ts';

let dir: TestDir;
let server: Server;
let members: MemberTrust[];
let trustDir: string;
const options = () => ({
  ...{ controller: [`http://127.0.0.1:${(server.address() as AddressInfo).port}`], namespace: 'isthmus-system' },
  ...{ trustDir, install: [] as string[] },
});
const start = (more: { cluster?: string[] } = {}) =>
  rotateStart({ ...options(), cluster: [], trustDomain: 'cluster.local', ...more });
const goOn = (force: string[] = []) => rotateContinue({ ...options(), force });
const rootsOf = (cluster: string) => {
  const { authority, next } = loadMaterial(join(trustDir, cluster), Date.now());
  return {
    roots: authority.roots.map(fullFingerprint),
    issuer: fullFingerprint(authority.root),
    next: next && fullFingerprint(next.root),
  };
};
const refusal = async (work: Promise<unknown>): Promise<string> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof IsthmusError)) throw error ?? new Error('not refused');
  return `${error.code}: ${error.message}`;
};

/** What a cluster says that has taken up its directory, and whose proxies all have. */
const proven = (name: string, change: Partial<RootReport> = {}): MemberTrust => {
  const { roots, issuer } = rootsOf(name);
  const partners = ['east', 'west'].filter((other) => other !== name);
  const standing = (root: string): RootReport => ({
    ...{ root, given: true, issuing: root === issuer, lacking: 0, lackingUntilMs: 0, lackingNames: [] },
    ...{ inUse: 0, inUseUntilMs: 0, inUseNames: [], probed: partners, probeFailed: [] },
    ...change,
  });
  return {
    ...{ member: name, ageSeconds: 1, fresh: true, bundle: roots, sequence: '1', registered: [] },
    loaded: { roots: roots.map(standing), partners, unknown: [] },
  };
};
const everybody = () => [proven('east'), proven('west')];

beforeEach(async () => {
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  dir = tempDir();
  trustDir = join(dir.path, 'trust');
  const trust = { trustDomain: 'cluster.local', clusters: ['east', 'west'], nowMs: Date.now() };
  await initTrust({ ...trust, outDir: trustDir }, random);
  members = everybody();
  server = createServer((_request, response) => response.end(JSON.stringify({ kind: 'Trust', members })));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(() => {
  vi.restoreAllMocks();
  server.close();
  dir[Symbol.dispose]();
});

it('exchanges the root of all clusters, and each stage is refused until all have proven it', async () => {
  const { issuer: old } = rootsOf('east');
  await start();
  const fresh = rootsOf('east').next!;
  expect(rootsOf('west')).toEqual({ roots: [old, fresh], issuer: old, next: fresh });
  expect(await refusal(start())).toMatch(/a rotation is under way/);
  // What was said before the start proves nothing.
  expect(await refusal(goOn())).toMatch(/^trust\/not-proven: not yet: east: .*does not give root/);
  members = [proven('east'), { ...proven('west'), fresh: false, ageSeconds: 90 }];
  expect(await refusal(goOn())).toBe('trust/not-proven: not yet: west: is silent for 90 s');
  expect(rootsOf('east').issuer).toBe(old);
  members = everybody();
  await goOn();
  expect(rootsOf('west')).toEqual({ roots: [old, fresh], issuer: fresh, next: undefined });
  expect(await refusal(goOn())).toMatch(/still issues under root/);
  members = everybody();
  await goOn();
  expect([rootsOf('east'), readRotation(trustDir)]).toEqual([
    { roots: [fresh], issuer: fresh, next: undefined },
    undefined,
  ]);
  expect(readdirSync(join(trustDir, 'east')).sort()).toEqual([
    'ca-cert.pem',
    'ca-key.pem',
    'cert-chain.pem',
    'root-cert.pem',
  ]);
  // The key of the root that is trusted now lies where the next rotation and revocations look for it.
  const kept = loadMaterial(join(trustDir, 'east'), Date.now()).authority.root.toString();
  expect(readFileSync(join(trustDir, 'root', 'root-cert.pem'), 'utf8').trim()).toBe(kept.trim());
  expect(existsSync(join(trustDir, 'root', 'root-key.pem'))).toBe(true);
  await start();
  expect(rootsOf('east').roots).toHaveLength(2);
});

it('goes on without one member, by its name alone, and writes down what was skipped', async () => {
  await start();
  members = [proven('east'), proven('west', { lacking: 2, lackingNames: ['shop/cart in cart-0'] })];
  expect(await refusal(goOn(['far']))).toMatch(/^usage\/invalid: --force far/);
  expect(await refusal(goOn(['east']))).toMatch(/west: 2 without root/);
  await goOn(['west']);
  const log = readFileSync(join(trustDir, 'rotation-log.jsonl'), 'utf8').trim().split('\n');
  expect(JSON.parse(log.at(-1)!)).toMatchObject({ did: 'switch', forced: ['west'] });
});

it('is aborted by the same stages, each proven', async () => {
  const { issuer: old } = rootsOf('east');
  await start();
  members = everybody();
  await goOn();
  const abort = () => rotateAbort({ ...options(), force: [] });
  members = everybody();
  await abort();
  expect(rootsOf('east').issuer).toBe(old);
  // Issued under the new root in between, and still in use.
  const { next: fresh } = rootsOf('west');
  const west = proven('west');
  const roots = west.loaded!.roots.map((one) =>
    one.root === fresh ? { ...one, inUse: 1, inUseNames: ['shop/cart'] } : one,
  );
  members = [proven('east'), { ...west, loaded: { ...west.loaded!, roots } }];
  expect(await refusal(goOn())).toMatch(/west: 1 with a certificate of .*shop\/cart/);
  members = everybody();
  await goOn();
  expect([rootsOf('east').roots, readRotation(trustDir)]).toEqual([[old], undefined]);
});

it('exchanges the root of one cluster', async () => {
  const { issuer: old } = rootsOf('west');
  await start({ cluster: ['west'] });
  expect([rootsOf('east').roots, rootsOf('west').roots.length]).toEqual([[old], 2]);
  const fresh = rootsOf('west').next!;
  // East trades with west, and does not give its workloads the new root yet.
  members = [proven('east'), proven('west')];
  expect(await refusal(goOn())).toMatch(/^trust\/not-proven: not yet: east: does not give root/);
  const east = proven('east');
  const given = { ...east.loaded!.roots[0]!, root: fresh, issuing: false };
  members = [{ ...east, loaded: { ...east.loaded!, roots: [...east.loaded!.roots, given] } }, proven('west')];
  await goOn();
  expect(rootsOf('west').issuer).toBe(fresh);
});
