/**
 * A hostile member while roots are exchanged, with its own record key and etcd certificate, and an etcd that somebody writes to: it wants
 * a root of its choice to be trusted, an old one back, or a stage of another's rotation to go on that is not proven. Shown: the problem in
 * `status`, `isthmus_record_refused_total`, the log.
 */
import { X509Certificate } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { MemberTrust, TrustReport } from '../../src/core/trust_report.ts';
import type { LoadedRecord } from '../../src/gen/isthmus/v1/records_pb.ts';
import { codec } from '../../src/records/codec.ts';
import { noStanding } from '../../src/records/loaded.ts';
import { rootFingerprint } from '../../src/trust/bundle.ts';
import { judgeRotation, type Rotation } from '../../src/trust/rotation.ts';
import { mustRun } from '../real/controller/isthmus.ts';
import { fetchText } from '../real/controller/replica.ts';
import { eventually } from '../real/kube/objects.ts';
import { newTestCa, type TestCa } from '../real/pki.ts';
import { keys, value } from './forger.ts';
import { Stage } from './stage.ts';

const raw = (pem: Buffer | string): Uint8Array => new Uint8Array(new X509Certificate(pem).raw);

describe('a hostile member in a rotation', () => {
  let stage: Stage;
  let shared: Uint8Array;
  let next: TestCa;
  let norths: TestCa;
  let sequence = BigInt(Date.now());

  const trustOf = async (member: string): Promise<MemberTrust> => {
    const { text } = await fetchText(stage.replica.ports.admin, '/v1/trust');
    return (JSON.parse(text) as TrustReport).members.find((one) => one.member === member)!;
  };
  const prints = (...roots: Uint8Array[]): string[] => roots.map(rootFingerprint);
  const bundle = (roots: readonly Uint8Array[], at = ++sequence): Uint8Array =>
    value(
      codec.trust.encode({
        $typeName: 'isthmus.v1.TrustRecord',
        trustDomain: 'cluster.local',
        roots: [...roots],
        sequence: at,
        refreshHintS: 300,
        critical: [],
      }),
    );
  const register = async (member: string, ca: TestCa | string): Promise<void> => {
    const file = typeof ca === 'string' ? ca : join(stage.harness.dir, `${member}-root.pem`);
    if (typeof ca !== 'string') await writeFile(file, ca.cert);
    const desk = join(stage.harness.dir, 'bundles');
    await mustRun(['trust', 'register', '--cluster', member, '--root', file, '--authority-dir', desk]);
  };
  const good = async (...roots: Uint8Array[]): Promise<void> => {
    await stage.east.tick({ trust: bundle(roots) });
    await eventually('the bundle is in use', async () => {
      const { bundle: now } = await trustOf('east');
      return now.length === roots.length && prints(...roots).every((print) => now.includes(print));
    });
    await stage.replica.until('nothing is wrong any more', (s) => s.peers.every((p) => p.problems.length === 0));
    // What is refused is looked for so often: the next attack may be of the same kind.
    await new Promise((resolve) => setTimeout(resolve, 200));
  };
  /** Roots that west gives its proxies. */
  const given = async (): Promise<string[]> =>
    ((await trustOf('west')).loaded?.roots ?? []).filter((one) => one.given).map(({ root }) => root);

  beforeAll(async () => {
    stage = await Stage.start();
    const file = join(stage.harness.dir, 'trust', 'west', 'root-cert.pem');
    shared = raw(await readFile(file));
    [next, norths] = [await newTestCa('next root of east'), await newTestCa('root of north')];
    await register('east', file);
    await register('east', next);
    await register('north', norths);
    await eventually('registered', async () => (await trustOf('north')).registered.length === 1);
    await good(shared);
  });
  afterEach(async () => stage.northGoesOn());
  afterAll(() => stage?.stop());

  it('that publishes a root which nobody registered gives nobody that root, and what was good stays', async () => {
    const rogue = await newTestCa('rogue');
    const attack = () => stage.east.tick({ trust: bundle([shared, raw(rogue.cert)]) });
    await stage.noticed('trust/root-refused', /not registered for east/, attack);
    expect((await trustOf('east')).bundle).toEqual(prints(shared));
    expect(await given()).not.toContain(rootFingerprint(raw(rogue.cert)));
    expect((await trustOf('east')).problem).toMatch(/not registered/);
    await good(shared);
  });

  it('that names another member’s root as its own does not get it, though it is registered for that one', async () => {
    const attack = () => stage.east.tick({ trust: bundle([raw(norths.cert)]) });
    await stage.noticed('trust/root-refused', /not registered for east/, attack);
    expect((await trustOf('east')).bundle).toEqual(prints(shared));
    expect((await trustOf('north')).bundle).not.toContain(rootFingerprint(raw(norths.cert)));
    await good(shared);
  });

  it('that puts an older bundle back, in order and signed, does not take the newer one away', async () => {
    const older = bundle([shared]);
    await stage.east.tick({ trust: older });
    await good(shared, raw(next.cert));
    await stage.noticed('trust/stale', /trust/, () => stage.east.tick({ trust: older }));
    expect((await trustOf('east')).bundle.toSorted()).toEqual(prints(shared, raw(next.cert)).toSorted());
    await good(shared, raw(next.cert));
  });

  const loaded = (change: Partial<LoadedRecord> = {}): Uint8Array =>
    value(
      codec.loaded.encode({
        $typeName: 'isthmus.v1.LoadedRecord',
        roots: [
          {
            ...noStanding(new Uint8Array(Buffer.from(rootFingerprint(raw(next.cert)), 'hex'))),
            given: true,
            probed: ['north', 'west'],
          },
        ],
        partners: ['north', 'west'],
        unknown: [],
        critical: [],
        ...change,
      }),
    );

  it('that says its own proxies have everything says nothing of others: they are waited for as before', async () => {
    const rotation: Rotation = {
      stage: 'added',
      back: false,
      clusters: ['east', 'west'],
      from: prints(shared),
      to: prints(raw(next.cert)),
    };
    const all = async () => {
      const { text } = await fetchText(stage.replica.ports.admin, '/v1/trust');
      return (JSON.parse(text) as TrustReport).members;
    };
    await stage.east.tick({ loaded: loaded() });
    await eventually(
      'it arrived',
      async () => (await trustOf('east')).loaded?.roots[0]?.probed.includes('west') === true,
    );
    const waiting = judgeRotation(rotation, await all()).waiting.map(({ member }) => member);
    expect(waiting).toContain('west');
    expect(waiting).toContain('north');
    // It leaves the others out of its partners, so that nobody asks about them: what they say counts too.
    await stage.east.tick({ loaded: loaded({ partners: [] }) });
    await eventually('it arrived', async () => (await trustOf('east')).loaded?.partners.length === 0);
    expect(judgeRotation(rotation, await all()).waiting.map(({ member }) => member)).toContain('west');
    expect((await trustOf('west')).loaded?.partners).toContain('east');
  });

  it('cannot write another’s claim: etcd refuses it, and what stands there by other hands is not believed', async () => {
    const claim = `${keys.memberPrefix('north')}loaded`;
    await expect(
      stage.eastStore.commit({ compare: [], puts: [{ key: claim, value: loaded() }], deletes: [] }),
    ).rejects.toMatchObject({
      code: 'store/denied',
    });
    const before = await trustOf('north');
    // Whoever may write everything in etcd, without north's key.
    await stage.noticed(
      'record/uncovered|manifest/root',
      /north|loaded/,
      () => stage.etcd.put({ [claim]: loaded() }),
      'north',
    );
    expect((await trustOf('north')).loaded).toEqual(before.loaded);
    await stage.etcd.put({ [claim]: undefined });
    await stage.northGoesOn();
    // Ours: west's writer puts its own back.
    const own = `${keys.memberPrefix('west')}loaded`;
    await stage.etcd.strike({ [own]: loaded() });
    await eventually('west writes its own again', async () => {
      const { entries } = await stage.root.list(own);
      return entries.some(({ value: bytes }) => Buffer.compare(bytes, loaded()) !== 0);
    });
    expect((await trustOf('west')).loaded?.roots.some(({ probed }) => probed.includes('west'))).toBe(false);
  });
});
