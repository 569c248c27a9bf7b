/** Revocation lists at a running gateway: what Envoy makes of them, and that ours refuse whom they should and nobody else. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Authority, loadAuthority } from '../../../src/ca/authority.ts';
import { issueLeaf } from '../../../src/ca/issue.ts';
import { readLists, withoutList } from '../../../src/ca/lists.ts';
import { newP256 } from '../../../src/ca/mint.ts';
import { pemOf } from '../../../src/ca/pem.ts';
import { initTrust } from '../../../src/ca/trustfiles.ts';
import { revokeInMesh } from '../../../src/cli/revoke_mesh.ts';
import type { CallerTls } from './load.ts';
import { until } from './processes.ts';
import { Rig } from './rig.ts';
import { authorityOf, calling, podOf, serving, sites } from './three.ts';

const random = (bytes: number) => new Uint8Array(randomBytes(bytes));

describe('an intermediate CA that was revoked under a root that all share', () => {
  let rig: Rig;
  let trust: string;
  const authorities = new Map<string, Authority>();
  beforeAll(async () => {
    rig = await Rig.start();
    trust = join(rig.dir, 'trust');
    const clusters = ['us-east', 'us-west', 'thief'];
    await initTrust({ outDir: trust, trustDomain: 'cluster.local', clusters, nowMs: Date.now() }, random);
    for (const name of clusters) authorities.set(name, loadAuthority(join(trust, name)));
    const pod = podOf('west', 'checkout', 0);
    await rig.world.podStart(pod.name, pod.address, 15_008);
    await rig.configure({ ...sites['us-west'], services: serving('west', ['checkout']) });
    await rig.configure({ ...sites['us-east'], services: calling(['checkout']) });
    await Promise.all(['us-west', 'us-east'].map((name) => rig.launch(name)));
  });
  afterAll(async () => rig?.stop());

  const caller = async (by: string): Promise<CallerTls> => {
    const authority = authorities.get(by)!;
    const pair = newP256();
    const identity = 'spiffe://cluster.local/ns/shop/sa/client';
    const request = { identity, publicKey: pair.publicKey, ttlS: 600, ttlMaxS: 600, nowMs: Date.now() };
    const leaf = await issueLeaf(authority, request, random);
    const cert = [leaf, ...authority.intermediates].map(pemOf).join('');
    return { ca: rig.issuers.mesh.cert.toString(), cert, key: pair.keyPem };
  };
  /** Who is let in by the egress; waits until the gateway has what it was given. */
  const letIn = async (expected: Readonly<Record<string, boolean>>) => {
    const callers = await Promise.all(Object.keys(expected).map(async (by) => [by, await caller(by)] as const));
    let seen: Record<string, boolean> = {};
    await until(
      `${JSON.stringify(expected)}`,
      async () => {
        seen = {};
        for (const [by, tls] of callers) {
          const to = { address: '127.0.1.1', port: 15_018, authority: authorityOf('checkout') };
          seen[by] = (await rig.callers.call({ ...to, tls })).status === 200;
        }
        return JSON.stringify(seen) === JSON.stringify(expected);
      },
      15_000,
    ).catch((error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(seen)}`);
    });
  };
  const give = async (meshLists: string | undefined) => {
    const own = await rig.secretsFor('us-east');
    const meshRoots = authorities.get('us-east')!.roots.map(pemOf).join('');
    rig.useSecrets('us-east', { ...own, meshRoots, ...(meshLists === undefined ? {} : { meshLists }) });
    await rig.configure({ ...sites['us-east'], services: calling(['checkout']) });
  };

  it('is let in while there is no list, and refused with it; the others are served throughout', async () => {
    await give(undefined);
    await letIn({ 'us-east': true, 'us-west': true, thief: true });
    const files = await revokeInMesh('thief', trust, Date.now());
    expect(files.map((file) => file.slice(trust.length + 1)).sort()).toEqual([
      'us-east/ca-crl.pem',
      'us-west/ca-crl.pem',
    ]);
    const text = readFileSync(join(trust, 'us-east', 'ca-crl.pem'), 'utf8');
    const { intermediates, roots } = authorities.get('us-east')!;
    const lists = await readLists(text, [...intermediates, ...roots], 'ca-crl.pem', Date.now());
    expect(withoutList(lists, [...intermediates, ...roots], Date.now())).toEqual([]);
    await give(lists.map(({ pem }) => pem).join(''));
    await letIn({ 'us-east': true, 'us-west': true, thief: false });
  });

  it('would cut everybody off with the root’s list alone: why lists are given whole or not at all', async () => {
    const alone = readFileSync(join(trust, 'root', 'ca-crl.pem'), 'utf8');
    await give(alone);
    await letIn({ 'us-east': false, 'us-west': false, thief: false });
    const { intermediates, roots } = authorities.get('us-east')!;
    const lists = await readLists(alone, roots, 'ca-crl.pem', Date.now());
    expect(withoutList(lists, [...intermediates, ...roots], Date.now())).toEqual([
      expect.stringContaining('us-east intermediate CA'),
    ]);
  });
});
