/**
 * A member that is hostile, with everything that is its own: its etcd certificate, its record key, its manifest in order. What it
 * says beyond its rights is refused, shown, counted and logged; what was good stays; the others go on.
 */
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toBinary } from '@bufbuild/protobuf';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../src/core/limits.ts';
import { type ServiceRecord, ServiceRecordSchema } from '../../src/gen/isthmus/v1/records_pb.ts';
import { codec } from '../../src/records/codec.ts';
import { numberMax } from '../../src/records/fields.ts';
import { exported, namespace, share } from '../real/controller/shop.ts';
import { newTestCa } from '../real/pki.ts';
import { type Changes, keys, recordKeyOf, value } from './forger.ts';
import { checkoutKey, eastOf, gatewaysAt, northOf, Stage } from './stage.ts';

let stage: Stage;
beforeAll(async () => {
  stage = await Stage.start();
});
afterEach(() => stage.restore());
afterAll(() => stage?.stop());

/** Attacks with one tick of east's; what west's proxies hold does not change, and north is followed all the while. */
const refused = async (changes: Changes, code: string, about: RegExp): Promise<void> => {
  const before = stage.workload();
  await stage.noticed(code, about, () => stage.east.tick(changes));
  expect(stage.workload()).toBe(before);
  await stage.northGoesOn();
};
/** As the generated encoder writes it, without our checks. */
const raw = (change: Partial<ServiceRecord>): Uint8Array => {
  const record = value(codec.service.decode(stage.good.get(checkoutKey)!));
  return toBinary(ServiceRecordSchema, { ...record, ...change });
};
const capacity = (...counts: readonly [ready: number, total: number][]) =>
  counts.map(([ready, total], i) => ({
    $typeName: 'isthmus.v1.Capacity' as const,
    locality: { $typeName: 'isthmus.v1.Locality' as const, region: 'r', zone: `z${i}`, subzone: '' },
    ready,
    total,
  }));
/** Message within message, so deep. */
const nested = (depth: number): Uint8Array => {
  let bytes = Buffer.alloc(0);
  for (let i = 0; i < depth; i++) {
    const length = bytes.length < 0x80 ? [bytes.length] : [(bytes.length & 0x7f) | 0x80, bytes.length >> 7];
    bytes = Buffer.concat([Buffer.from([0x32, ...length]), bytes]);
  }
  return bytes;
};

describe('a record under the member’s own name', () => {
  it('of a namespace that was not granted', async () => {
    await refused(
      { 'services/bank/vault': stage.service({ namespace: 'bank', name: 'vault', accounts: [] }) },
      'record/not-granted',
      /bank/,
    );
    expect((await stage.replica.status()).services.map((s) => s.service)).not.toContain('bank/vault');
  });

  it('in another’s place: the key of one service, the record of another', () =>
    refused({ 'services/shop/forged': stage.good.get(checkoutKey) }, 'record/malformed', /forged/));

  it.each([
    ['only accounts that were not granted', ['bank/vault']],
    ['an identity of another trust domain', ['spiffe://evil.example/ns/shop/sa/checkout']],
    ['a path that leads out of the namespace', ['shop/../../ns/bank/sa/vault']],
  ])('that names %s', (_what, accounts) =>
    refused(
      { [checkoutKey]: raw({ accounts }) },
      accounts[0] === 'bank/vault' ? 'record/not-granted' : 'record/malformed',
      /account/,
    ),
  );

  it('with one account that was not granted among its own: that one is left out', async () => {
    const attack = { [checkoutKey]: raw({ accounts: ['shop/checkout', 'bank/vault'] }) };
    await stage.noticed('record/not-granted', /bank\/vault/, () => stage.east.tick(attack));
    expect(Buffer.from(stage.workload(), 'base64').toString('latin1')).not.toContain('bank');
  });

  it.each([
    ['loopback', '127.0.0.1'],
    ['metadata', '169.254.169.254'],
    ['outside its ranges', '203.0.113.7'],
    ['a gateway of ours', 'west'],
    ['a pod of ours', 'pod'],
    ['of north', '10.250.255.1'],
    ['IPv6 loopback', '::1'],
    ['IPv4 in IPv6', '::ffff:127.0.0.1'],
    ['IPv4 in NAT64', '64:ff9b::a9fe:a9fe'],
    ['with a zone', 'fe80::1%eth0'],
  ])('with a gateway address that is %s', async (_what, address) => {
    const target =
      address === 'west' ? stage.west.gatewayPods[0]!.address : address === 'pod' ? stage.west.address() : address;
    const code = target.includes('%') ? 'record/address-refused|record/malformed' : 'record/address-refused';
    const attack = gatewaysAt(target);
    const encoded = codec.gateways.encode(attack);
    if (!encoded.ok) return expect(encoded.error.code).toMatch(code);
    const about = new RegExp(target.replaceAll('.', '\\.'));
    await stage.noticed('record/address-refused', about, () => stage.east.tick({ gateways: encoded.value }));
    expect(eastOf(await stage.replica.status())?.data.gateways).toBe(2);
  });

  it('with gateways under another account', () =>
    refused(
      { gateways: value(codec.gateways.encode({ ...gatewaysAt('10.1.1.1'), account: 'kube-system/admin' })) },
      'record/not-granted',
      /kube-system/,
    ));

  it.each([
    ['cut short', () => stage.good.get(checkoutKey)!.slice(0, -3), 'record/malformed'],
    ['of 1.2 MB', () => new Uint8Array(1_200_000), 'record/too-large'],
    [
      'with a field twice',
      () => Buffer.concat([stage.good.get(checkoutKey)!, Buffer.from([0x0a, 1, 0x78])]),
      'record/malformed',
    ],
    ['that announces 4 GB', () => Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), 'record/malformed'],
    ['with a wire type that is none', () => Buffer.from([0x0f, 1, 2]), 'record/malformed'],
    ['with more ready than there are', () => raw({ capacity: capacity([5, 2]) }), 'record/malformed'],
    [
      'whose capacity overflows',
      () => raw({ capacity: capacity([1, 0xffff_ffff], [1, 0xffff_ffff]) }),
      'record/malformed',
    ],
    [
      'whose capacity overflows in sum',
      () => raw({ capacity: capacity([1, 900_000], [1, 900_000]) }),
      'record/malformed',
    ],
    [
      'with a thousand ports',
      () =>
        raw({
          ports: Array.from({ length: 1_000 }, (_, i) => ({
            $typeName: 'isthmus.v1.ServicePort' as const,
            name: '',
            port: i + 1,
            protocol: 'TCP',
          })),
        }),
      'record/malformed',
    ],
    ['with a host name that is another’s', () => raw({ hostname: 'vault.bank.svc.cluster.local' }), 'record/malformed'],
    ['that must not be ignored', () => raw({ critical: [1_999] }), 'record/frozen'],
  ] as const)('%s', (_what, bytes, code) => refused({ [checkoutKey]: bytes() }, code, /checkout/));
});

describe('a record that is odd, but no more', () => {
  it('nested 400 deep where a later version may have fields: they are passed over', async () => {
    const bytes = Buffer.concat([stage.good.get(checkoutKey)!, nested(400)]);
    await stage.east.tick({ [checkoutKey]: bytes, 'services/shop/after': stage.service({ name: 'after' }) });
    await stage.replica.until('it is read', (s) => eastOf(s)?.services === 2);
    await stage.northGoesOn();
  });
});

describe('a trust bundle', () => {
  const bundle = (roots: readonly (Uint8Array | Buffer)[], trustDomain = 'cluster.local') =>
    value(
      codec.trust.encode({
        $typeName: 'isthmus.v1.TrustRecord',
        trustDomain,
        roots: roots.map((root) => new Uint8Array(root)),
        sequence: BigInt(Date.now()),
        refreshHintS: 300,
        critical: [],
      }),
    );
  const raws = (pem: Buffer) => new X509Certificate(pem).raw;

  it('of a certificate that is no CA', async () => {
    const leaf = await (await newTestCa()).issue({ commonName: 'leaf' });
    await refused({ trust: bundle([raws(leaf.cert)]) }, 'trust/root-refused', /not a CA/);
  });
  it('of garbage', () => refused({ trust: bundle([Buffer.from('root')]) }, 'trust/root-refused', /X\.509/));
  it('of another trust domain', async () => {
    const root = raws((await newTestCa()).cert);
    await refused({ trust: bundle([root], 'evil.example') }, 'trust/invalid', /evil\.example/);
  });
});

describe('what it claims of itself', () => {
  it('leads no name of ours away: a service that we do not export takes nothing from it', async () => {
    await share(stage.west, 'own', 1);
    await exported(stage.west, 'own', false);
    await stage.replica.until('own is not exported', (s) => s.services.every((x) => x.service !== 'shop/own'));
    const record = stage.service({
      name: 'own',
      accounts: ['shop/own'],
      capacity: capacity([1_000_000, 1_000_000]),
      exportedMs: 1n,
    });
    await stage.east.tick({ 'services/shop/own': record });
    await stage.replica.until('it arrived', (s) => eastOf(s)?.services === 2);
    const { services } = await stage.replica.status();
    expect(services.filter((s) => s.service === 'shop/own')).toEqual([]);
    expect(
      stage.ztunnel
        .names('type.googleapis.com/istio.workload.Address')
        .filter((n) => n.includes('SplitHorizon') && n.includes('/own.')),
    ).toEqual([]);
  });

  it('the oldest export, all capacity, other ports, session affinity: what is local here goes on being served here', async () => {
    await share(stage.west, 'stock', 2);
    await stage.replica.until('stock is exported', (s) => s.services.some((x) => x.service === `${namespace}/stock`));
    const record = stage.service({
      name: 'stock',
      accounts: ['shop/stock'],
      capacity: capacity([limits.capacityMax, limits.capacityMax]),
      exportedMs: 1n,
      headless: true,
      sessionAffinity: true,
      declaredCapacityPerSecond: 0xffff_ffff,
      ports: [{ $typeName: 'isthmus.v1.ServicePort', name: 'http', port: 1, protocol: 'TCP' }],
    });
    await stage.east.tick({ 'services/shop/stock': record });
    const seen = await stage.replica.until('it arrived', (s) =>
      s.services.some((x) => x.service === 'shop/stock' && x.problems.length > 0),
    );
    const stock = seen.services.find((s) => s.service === 'shop/stock')!;
    expect(stock.serving).toBe('local');
    expect(stock.problems.map((p) => p.code)).toContain('service/conflict');
  });

  it('that nobody can reach north, or us: what it sees is its own business', async () => {
    const peers = ['north', 'west'].map((member) => ({
      $typeName: 'isthmus.v1.PeerVantage' as const,
      member,
      rttMs: 10_000,
      rttVarMs: 10_000,
      reachable: false,
    }));
    const vantage = value(codec.vantage.encode({ $typeName: 'isthmus.v1.VantageRecord', peers, critical: [] }));
    const before = northOf(await stage.replica.status());
    await stage.east.tick({ vantage });
    await stage.northGoesOn();
    const { verdict, data } = northOf(await stage.replica.status())!;
    expect([verdict?.state, data.state]).toEqual([before?.verdict?.state, before?.data.state]);
  });

  it('votes that accuse its own region, and everybody’s', async () => {
    const votes = value(
      codec.votes.encode({
        $typeName: 'isthmus.v1.VotesRecord',
        accused: ['region-east', 'region-north', 'region-west'],
        critical: [],
      }),
    );
    await stage.noticed('record/not-granted', /its own region/, () => stage.east.tick({ votes }));
    // One voter of three is no quorum.
    expect((await stage.replica.status()).services.find((s) => s.service === 'shop/checkout')?.serving).toMatch(/east/);
  });
});

describe('its manifest', () => {
  it.each([
    ['nobody’s key', async () => generateKeyPairSync('ed25519').privateKey],
    ['the key of north', () => recordKeyOf(stage.harness.dir, 'north')],
  ])('signed by %s', async (_what, key) => {
    const before = stage.workload();
    const changes = { [checkoutKey]: stage.service({ capacity: [] }) };
    stage.east.records.set(checkoutKey, changes[checkoutKey]!);
    const forged = stage.east.manifest({}, await key());
    await stage.noticed('manifest/signature', /record key/, () => stage.east.tick(changes, forged));
    expect(stage.workload()).toBe(before);
  });

  it('that goes back in time', () => refusedManifest({ epoch: 5n, sequence: 1n }, 'manifest/stale', /epoch 5/));
  it('of another cluster set', () => refusedManifest({ clusterset: 'other' }, 'manifest/signature', /"other"/));
  it('of another member', () => refusedManifest({ member: 'north' }, 'manifest/signature', /"north"/));
  it('with another count', () => refusedManifest({ count: 7 }, 'manifest/root', /7 records/));

  const refusedManifest = async (change: Parameters<Stage['east']['manifest']>[0], code: string, about: RegExp) => {
    const before = stage.workload();
    const forged = stage.east.manifest(change);
    await stage.noticed(code, about, () => stage.east.put({ [keys.manifest('east')]: forged }));
    expect(stage.workload()).toBe(before);
    await stage.northGoesOn();
  };

  it('whose epoch is the highest there is: it harms its own name alone', async () => {
    stage.east.epoch = numberMax;
    await stage.east.tick({});
    await stage.replica.until('it is taken', (s) => eastOf(s)?.control.epoch === String(numberMax));
    await stage.northGoesOn();
  });
});

describe('the key of its bundle', () => {
  it('does not read or write what is another’s', async () => {
    const bundle = await readFile(join(stage.harness.dir, 'bundles', 'east', 'member.yaml'), 'utf8');
    expect(bundle).toContain('east');
    for (const key of [
      keys.manifest('west'),
      keys.service('north', 'north', 'alone'),
      keys.member('east'),
      keys.policy,
    ]) {
      const write = stage.eastStore.commit({ compare: [], puts: [{ key, value: new Uint8Array(3) }], deletes: [] });
      await expect(write, key).rejects.toMatchObject({ code: 'store/denied' });
    }
    await stage.northGoesOn();
  });
});
