/** A replica's trust through a rotation: what is issued, acknowledged and told by the other replica becomes the record for every member. */
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { fullFingerprint } from '../../../src/ca/authority.ts';
import { givenRoots } from '../../../src/ca/issue.ts';
import { readMaterial } from '../../../src/ca/material.ts';
import { pemOf } from '../../../src/ca/pem.ts';
import { addedFiles, switchedFiles, writeMaterial } from '../../../src/ca/rotation_files.ts';
import { initTrust } from '../../../src/ca/trustfiles.ts';
import { MeshTrust, type TrustParts } from '../../../src/controller/mesh_trust.ts';
import { reportText } from '../../../src/controller/replica_reports.ts';
import { TradedRoots } from '../../../src/controller/roots.ts';
import { ViewKeeper } from '../../../src/federation/view_keeper.ts';
import type { LoadedRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { ownSecrets } from '../../../src/translate/envoy/secrets.ts';
import { makeResource } from '../../../src/xds/encode.ts';
import { types } from '../../../src/xds/resource.ts';
import { ResourceTable } from '../../../src/xds/table.ts';
import { SimClock } from '../../sim/clock.ts';
import { nowMs, random, tempDir } from '../ca/pki.ts';

const settled = () => new Promise((resolve) => setImmediate(resolve));

const setup = async () => {
  const dir = tempDir();
  const trust = { trustDomain: 'cluster.local', clusters: ['east'], nowMs };
  await initTrust({ ...trust, outDir: join(dir.path, 'old') }, random);
  await initTrust({ ...trust, outDir: join(dir.path, 'new') }, random);
  const cacertsDir = join(dir.path, 'old', 'east');
  const clock = new SimClock(nowMs);
  const maps = new Map<string, { metadata: { name: string }; data: { report: string } }>();
  const request = async ({ method, body }: { method: string; body?: unknown }): Promise<unknown> => {
    if (method === 'GET') return { items: [...maps.values()] };
    const map = body as { metadata: { name: string }; data: { report: string } };
    maps.set(map.metadata.name, map);
    return map;
  };
  const gateways = ['a', 'b'].map((envoy) => `g-0~${envoy}`);
  const table = new ResourceTable([types.secret]);
  const state = { acknowledged: [] as string[], loaded: undefined as LoadedRecord | undefined, reissued: 0 };
  const secrets = () => ({
    mesh: { chain: pemOf(trusted.authority().intermediates[0]!), key: 'key' },
    federation: { chain: 'chain', key: 'key' },
    ...{ meshRoots: trusted.meshRoots(), tradedRoots: trusted.meshRoots() },
  });
  const engine = { secrets: undefined as unknown, tables: { gateway: table } };
  const parts = {
    cluster: {
      api: { request },
      gatewayPods: () => [{ name: 'g-0', address: '10.0.0.1', terminating: false }],
      liveness: { health: new Map() },
      local: { pods: new Map([['isthmus-system/c-0', controllerPod('c-0')]]) },
      pending: () => [],
    },
    engine,
    keeper: { check: () => {} },
    opening: { serving: { acknowledged: () => state.acknowledged, reissue: () => state.reissued++ } },
    publishing: {
      chosen: false,
      trust: () => {},
      loaded: (record: LoadedRecord) => {
        state.loaded = record;
      },
    },
    secrets: { offer: () => {} },
    traded: new TradedRoots(),
    viewed: new ViewKeeper({ self: 'us-east', clusterDomain: 'cluster.local' }),
    records: { members: new Map() },
  };
  const config = {
    ...{ clusterset: 'demo', member: 'us-east', namespace: 'isthmus-system', replica: 'c-0' },
    mesh: { cacertsDir, certificateTtlS: 600 },
  };
  const options = { config: config as never, clock, log: () => {}, parts: () => parts as unknown as TrustParts };
  const trusted = new MeshTrust(options);
  const seconds = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      trusted.tick();
      await settled();
      await clock.advance(1_000);
    }
  };
  /** What the writer's translation would do, and the Envoys after it. */
  const push = (answered: readonly string[]): void => {
    engine.secrets = secrets();
    table.apply({ upserts: ownSecrets(secrets()).map((one) => makeResource(one.typeUrl, one.name, one.bytes)) });
    state.acknowledged = [...answered];
  };
  const issue = (holder: string): void => {
    const authority = trusted.authority();
    const given = { roots: givenRoots(authority, []), issuer: fullFingerprint(authority.root) };
    const identity = `spiffe://cluster.local/ns/shop/sa/${holder}`;
    trusted.onIssued(
      { identity, chain: [], notAfterMs: clock.wallMs() + 600_000, ...given },
      { namespace: 'shop', serviceAccount: holder, pod: { name: `${holder}-0`, uid: '' }, node: 'n' },
    );
  };
  const of = (root: string) =>
    state.loaded?.roots.find(({ fingerprint }) => Buffer.from(fingerprint).toString('hex') === root);
  const write = (change: (files: ReturnType<typeof readMaterial>) => ReturnType<typeof readMaterial>) =>
    writeMaterial(cacertsDir, change(readMaterial(cacertsDir)));
  const fresh = readMaterial(join(dir.path, 'new', 'east'));
  return { dir, clock, maps, state, trusted, seconds, push, issue, of, write, fresh, gateways, parts };
};

const controllerPod = (name: string) => ({
  ...{ uid: name, name, namespace: 'isthmus-system', serviceAccount: 'isthmus-controller', terminating: false },
});

let s: Awaited<ReturnType<typeof setup>>;
beforeEach(async () => {
  s = await setup();
  return () => s.dir[Symbol.dispose]();
});

it('says of each root who has it, by certificates and acknowledgements, until all have and no old one is in use', async () => {
  const { trusted, seconds, push, issue, of, write, state, gateways, clock } = s;
  const old = fullFingerprint(trusted.authority().root);
  push(gateways);
  issue('cart');
  await seconds(40);
  // Nobody reported before: who issued here earlier may have given other roots, until that must have ended.
  expect(of(old)).toMatchObject({ given: true, issuing: true, lacking: 1 });
  await clock.advance(600_000);
  issue('cart');
  await seconds(8);
  expect(of(old)).toMatchObject({ given: true, issuing: true, lacking: 0 });
  expect(state.loaded?.unknown).toEqual([]);
  write((files) => addedFiles(files, s.fresh));
  await seconds(4);
  expect(state.reissued).toBe(1);
  const fresh = trusted
    .authority()
    .roots.map(fullFingerprint)
    .find((root) => root !== old)!;
  expect(of(fresh)).toMatchObject({ given: true, issuing: false, lacking: 3 });
  push([gateways[0]!]);
  await seconds(1);
  expect(of(fresh)?.lackingNames).toEqual(['gateway g-0~b', 'shop/cart in cart-0']);
  push(gateways);
  issue('cart');
  await seconds(1);
  expect(of(fresh)).toMatchObject({ given: true, lacking: 0 });
  write(switchedFiles);
  await seconds(4);
  expect([of(fresh)?.issuing, of(old)?.inUse]).toEqual([true, 3]);
  push(gateways);
  issue('cart');
  await seconds(1);
  expect(of(old)).toMatchObject({ given: true, issuing: false, inUse: 0 });
});

it('counts what the other replica issued, and goes on where an earlier run of its own ended', async () => {
  const { trusted, seconds, push, of, write, state, gateways, maps, parts, clock } = s;
  const old = fullFingerprint(trusted.authority().root);
  const gives = { roots: [old], issuer: old };
  const certificate = (holder: string) => ({
    ...{ holder, pod: '', issuedMs: clock.wallMs(), untilMs: clock.wallMs() + 500_000 },
    ...gives,
  });
  const put = (replica: string, holder: string) => {
    const report = { replica, atMs: clock.wallMs(), closed: true, gives, certificates: [certificate(holder)] };
    const text = reportText({ ...report, earlier: [], gateways: [] });
    maps.set(`isthmus-issued-${replica}`, { metadata: { name: `isthmus-issued-${replica}` }, data: { report: text } });
  };
  put('c-0', 'shop/own');
  put('c-1', 'shop/other');
  parts.cluster.local.pods.set('isthmus-system/c-1', controllerPod('c-1'));
  push(gateways);
  write((files) => addedFiles(files, s.fresh));
  await seconds(4);
  push(gateways);
  await seconds(2);
  const fresh = trusted
    .authority()
    .roots.map(fullFingerprint)
    .find((root) => root !== old)!;
  expect(of(fresh)?.lackingNames).toEqual(['shop/other', 'shop/own']);
  expect(state.loaded?.unknown).toEqual(['controller c-1 does not report']);
  await trusted.close();
  expect(JSON.parse(maps.get('isthmus-issued-c-0')!.data.report)).toMatchObject({ closed: true });
});
