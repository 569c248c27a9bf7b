/**
 * A hostile member in front of a store gateway, with all that it was given: its certificate for etcd, its record key, and calls that no
 * controller makes. Each attempt must be refused, be noticed, and leave a member beside it that publishes as before.
 */

import { generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { newEtcdRequest } from '../../src/ca/etcd_request.ts';
import type { IsthmusError } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import { realClock } from '../../src/ops/clock.ts';
import { storeKeys } from '../../src/records/keys.ts';
import { signManifest } from '../../src/records/manifest.ts';
import { signWrite, writeSignatureField } from '../../src/records/write_signature.ts';
import { connectAdmin, memberRole, type StoreAdmin } from '../../src/store/admin.ts';
import type { EtcdStore } from '../../src/store/etcd.ts';
import { Publisher } from '../../src/store/publisher.ts';
import { startEtcd, type TestEtcd } from '../real/etcd.ts';
import { eventually } from '../real/kube/objects.ts';
import { enrolled, membershipEntry, startTestGateway, type TestGateway } from '../real/store/gateway.ts';
import type { TestMember } from '../unit/trust/certificates.ts';
import { request } from './raw_write.ts';

const clusterset = 'test';
const keys = storeKeys(clusterset);
const quota = { keys: 200, changesPerSecond: 10, bytesPerSecond: 64 * 1024 };

let etcd: TestEtcd;
let admin: StoreAdmin;
let root: EtcdStore;
let gateway: TestGateway;
let east: TestMember;
let west: TestMember;
let eastStore: EtcdStore;
let westStore: EtcdStore;
let good: Publisher;
let goodTicks = 0;

const storeOf = async (name: string, recordKey: KeyObject): Promise<EtcdStore> =>
  etcd.store(name, { writes: { endpoints: [gateway.url], recordKey: () => recordKey } });

beforeAll(async () => {
  etcd = await startEtcd();
  const options = { endpoints: etcd.endpoints, clock: realClock, log: () => {}, ...(await etcd.client('root')) };
  admin = connectAdmin(options);
  await admin.ensureMembers(clusterset, ['east', 'west'], [], 'gateways');
  await admin.ensureGateway(clusterset);
  await admin.enableAuth();
  root = await etcd.store('root');
  [east, west] = await Promise.all([enrolled('east', clusterset), enrolled('west', clusterset)]);
  await root.commit({ compare: [], puts: [membershipEntry(east), membershipEntry(west)], deletes: [] });
  gateway = await startTestGateway(etcd, clusterset, quota);
  eastStore = await storeOf('east', east.recordKey);
  westStore = await storeOf('west', west.recordKey);
  good = new Publisher({
    store: westStore,
    clock: realClock,
    clusterset,
    member: 'west',
    recordKey: west.recordKey,
    heartbeatMs: 200,
    epochFloor: () => 0n,
  });
  good.lead();
  await eventually('the good member publishes', () => good.state === 'leading');
});
afterAll(async () => {
  good?.close();
  await Promise.all([eastStore, westStore, root].map((store) => store?.close()));
  await gateway?.close();
  admin?.close();
  await etcd?.stop();
});

/** The good member changes something, and it stands in etcd. */
const goodGoesOn = async (): Promise<void> => {
  const value = `tick ${++goodTicks}`;
  good.publish(new Map([['services/shop/a', Buffer.from(value)]]));
  await eventually('the good member goes on', async () => {
    const { entries } = await root.list(`${keys.memberPrefix('west')}services/`);
    return entries[0] !== undefined && Buffer.from(entries[0].value).toString() === value;
  });
  expect(good.lastError).toBeUndefined();
};
afterEach(goodGoesOn);

/** Nothing of anybody but what west publishes, and what east was let. */
const foreign = async (): Promise<string[]> => {
  const { entries } = await root.list('/');
  const known = [keys.setPrefix, keys.memberPrefix('west'), keys.memberPrefix('east'), keys.writeNotesPrefix];
  return entries.map(({ key }) => key).filter((key) => !known.some((prefix) => key.startsWith(prefix)));
};

/** Runs the attack, which must be refused so, counted, and logged. */
const refused = async (code: string, attack: () => Promise<unknown>, member = 'east'): Promise<IsthmusError> => {
  const count = () => gateway.metric('isthmus_store_gateway_refused_total', { member, code });
  const before = await count();
  const error = await attack().then(
    () => expect.unreachable(`${code}: it was accepted`),
    (thrown: IsthmusError) => thrown,
  );
  expect(error.code, error.message).toBe(code);
  await eventually(`${code} is counted`, async () => (await count()) > before, 5_000);
  expect(
    gateway.lines.some(
      ({ message, fields }) => message === 'write refused' && (fields['error'] as IsthmusError).code === code,
    ),
  ).toBe(true);
  return error;
};

const put = (key: string, value: Uint8Array | string = 'x') => ({
  compare: [],
  puts: [{ key, value: typeof value === 'string' ? Buffer.from(value) : value }],
  deletes: [],
});
const own = keys.memberPrefix('east');

describe('with its own certificate and key', () => {
  it.each([
    ['another’s name', keys.manifest('west')],
    ['its own membership', keys.member('east')],
    ['the policy', keys.policy],
    ['another’s name to itself', `${keys.partPrefix('east', 'west')}x`],
    ['the gateways’ notes', keys.writeNote('west')],
    ['what is beside its own', `${keys.root}public/east2/x`],
    ['other cluster sets', '/isthmus/v1/other/public/east/x'],
    ['Kubernetes’ own keys', '/registry/secrets/x'],
  ])('it writes no %s', async (_what, key) => {
    const error = await refused('store/denied', () => eastStore.commit(put(key)));
    expect(error.message).toContain('refused');
    expect(error.hint).toContain('public/<itself>');
    await refused('store/denied', () => eastStore.commit({ compare: [], puts: [], deletes: [key] }));
    const mixed = { compare: [{ key, modRevision: 0n }], puts: put(`${own}x`).puts, deletes: [] };
    await refused('store/denied', () => eastStore.commit(mixed));
    expect(await foreign()).toEqual([]);
    expect((await root.list(own)).entries).toEqual([]);
  });

  it('it writes nothing for a reader that there is not, and may take away what was for one', async () => {
    const key = `${keys.partPrefix('mars', 'east')}x`;
    await refused('store/denied', () => eastStore.commit(put(key)));
    expect((await eastStore.commit({ compare: [], puts: [], deletes: [key] })).ok).toBe(true);
    expect(await foreign()).toEqual([]);
  });

  it('it writes nothing larger than a record', async () => {
    await refused('record/too-large', () =>
      eastStore.commit(put(`${own}x`, new Uint8Array(limits.recordBytesMax + 1))),
    );
    await refused('store/too-large', () => eastStore.commit(put(`${own}x`, new Uint8Array(limits.writeBytesMax + 1))));
  });

  const manifestOf = (sequence: bigint, change = {}, key = east.recordKey): Uint8Array => {
    const signed = signManifest(
      {
        $typeName: 'isthmus.v1.Manifest',
        ...{ clusterset, member: 'east', epoch: 5n, sequence, root: new Uint8Array(32), count: 0 },
        ...{ wallMs: 0n, shuttingDown: false, critical: [] },
        ...change,
      },
      key,
    );
    if (!signed.ok) throw signed.error;
    return signed.value;
  };

  it('it puts back no manifest of before, no other’s, and none by another key', async () => {
    const key = keys.manifest('east');
    const old = manifestOf(1n);
    expect((await eastStore.commit(put(key, old))).ok).toBe(true);
    expect((await eastStore.commit(put(key, manifestOf(2n)))).ok).toBe(true);
    await refused('manifest/stale', () => eastStore.commit(put(key, old)));
    await refused('store/denied', () => eastStore.commit({ compare: [], puts: [], deletes: [key] }));
    await refused('manifest/signature', () => eastStore.commit(put(key, manifestOf(3n, { member: 'west' }))));
    const other = generateKeyPairSync('ed25519').privateKey;
    await refused('manifest/signature', () => eastStore.commit(put(key, manifestOf(3n, {}, other))));
    await refused('manifest/malformed', () => eastStore.commit(put(key, 'garbage')));
    expect(Buffer.compare((await root.list(key)).entries[0]!.value, manifestOf(2n))).toBe(0);
  });
});

describe('without its record key', () => {
  it('it writes nothing: unsigned, by another key, or with the signature of another write', async () => {
    const other = generateKeyPairSync('ed25519').privateKey;
    const thief = await storeOf('east', other);
    await refused('store/signature', () => thief.commit(put(`${own}x`)));
    await thief.close();
    const txn = (value: string): Buffer => request(`${own}x`, value);
    for (const signature of [undefined, Buffer.alloc(64), Buffer.from(signWrite(txn('other'), east.recordKey))]) {
      const answer = await call('KV/Txn', txn('x'), signature);
      expect([answer.code, answer.details]).toEqual([
        status.PERMISSION_DENIED,
        expect.stringContaining('store/signature'),
      ]);
    }
    expect((await root.list(`${own}x`)).entries).toEqual([]);
  });
});

interface Answer {
  readonly code: number;
  readonly details: string;
}

/** A raw call; at the gateway unless told otherwise, with east's certificate. */
const call = async (
  method: string,
  bytes: Buffer,
  signature?: Buffer,
  at = gateway.url,
  as = 'east',
): Promise<Answer> => {
  const { ca, cert, key } = await etcd.client(as);
  const client = new Client(at.replace('https://', ''), credentials.createSsl(ca, key, cert), {
    'grpc.use_local_subchannel_pool': 1,
  });
  const metadata = new Metadata();
  if (signature !== undefined) metadata.set(writeSignatureField, signature);
  return new Promise((resolve) => {
    const same = (value: Buffer): Buffer => value;
    client.makeUnaryRequest(
      `/etcdserverpb.${method}`,
      same,
      same,
      bytes,
      metadata,
      { deadline: Date.now() + 10_000 },
      (error: ServiceError | null) => {
        client.close();
        resolve({ code: error?.code ?? status.OK, details: error?.details ?? '' });
      },
    );
  });
};

describe('past what is served', () => {
  it.each([
    'KV/Range',
    'KV/Put',
    'KV/DeleteRange',
    'KV/Compact',
    'Watch/Watch',
    'Lease/LeaseGrant',
    'Lease/LeaseRevoke',
    'Lease/LeaseKeepAlive',
    'Auth/UserAdd',
    'Auth/RoleGrantPermission',
    'Auth/AuthDisable',
    'Maintenance/Snapshot',
    'Maintenance/Alarm',
    'Cluster/MemberAdd',
  ])('%s is refused, and counted', async (method) => {
    const count = () => gateway.metric('isthmus_store_gateway_refused_total', { member: 'east', code: 'store/denied' });
    const before = await count();
    const bytes = request(`${own}x`, 'x');
    const answer = await call(method, bytes, Buffer.from(signWrite(bytes, east.recordKey)));
    expect([answer.code, answer.details]).toEqual([status.PERMISSION_DENIED, expect.stringContaining('not served')]);
    expect(await count()).toBeGreaterThan(before);
  });

  it('nobody gets in without a member’s certificate', async () => {
    const bytes = request(`${own}x`, 'x');
    for (const [as, code] of [
      ['mallory', 'member/unknown'],
      ['root', 'member/unknown'],
      ['isthmus.store-gateway.test', 'auth/denied'],
    ] as const) {
      const answer = await call('KV/Txn', bytes, Buffer.from(signWrite(bytes, east.recordKey)), gateway.url, as);
      expect([answer.code, answer.details]).toEqual([status.PERMISSION_DENIED, expect.stringContaining(code)]);
    }
    // By another CA, or none: not even a handshake.
    const { ca } = await etcd.client('east');
    const closed = await new Promise<boolean>((resolve) => {
      const socket = connect({ port: gateway.port, host: '127.0.0.1', ca, ALPNProtocols: ['h2'] });
      socket.on('error', () => resolve(true)).on('close', () => resolve(true));
      socket.on('secureConnect', () => socket.write(Buffer.alloc(64)));
      socket.on('data', () => {});
    });
    expect(closed).toBe(true);
  });

  it('etcd itself takes no write of it, and shows the gateway’s notes to nobody', async () => {
    const direct = await etcd.store('east');
    for (const key of [
      `${own}x`,
      keys.manifest('east'),
      `${keys.partPrefix('west', 'east')}x`,
      keys.writeNote('east'),
    ]) {
      const error = await direct.commit(put(key)).then(
        () => undefined,
        (thrown: IsthmusError) => thrown,
      );
      expect(error?.code, key).toBe('store/denied');
    }
    await expect(direct.list(keys.writeNotesPrefix)).rejects.toMatchObject({ code: 'store/denied' });
    expect((await direct.list(keys.publicPrefix)).entries.length).toBeGreaterThan(0);
    expect((await direct.rolePermissions(memberRole(clusterset, 'east'))).every(({ write }) => !write)).toBe(true);
    await direct.close();
  });
});

describe('a certificate', () => {
  it('is given for its own name alone, to whoever signs with the record key, and is noted', async () => {
    const { request: csr } = await newEtcdRequest();
    const issued = new X509Certificate(await eastStore.renewCertificate(csr));
    expect(issued.subject).toBe('CN=east');
    expect(issued.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
    const noted = (await root.list(keys.issuedPrefix('east'))).entries.map(({ key }) => key);
    expect(noted).toContain(`${keys.issuedPrefix('east')}${issued.serialNumber.toLowerCase()}`);
    const thief = await storeOf('east', generateKeyPairSync('ed25519').privateKey);
    await refused('store/signature', () => thief.renewCertificate(csr));
    await thief.close();
    await refused('csr/malformed', () => eastStore.renewCertificate('no request'));
  });
  it('is given six times in an hour at most', async () => {
    const { request: csr } = await newEtcdRequest();
    const last = async () => {
      for (let i = 0; i < 10; i++) await eastStore.renewCertificate(csr);
    };
    await refused('csr/rate', last);
    await westStore.renewCertificate(csr);
  });
});

describe('as much and as fast as it can', () => {
  const page = (from: number, count: number, size = 10) => ({
    compare: [],
    puts: Array.from({ length: count }, (_, i) => ({ key: `${own}x/${from + i}`, value: new Uint8Array(size) })),
    deletes: [],
  });

  it('it fills no more than its keys, through two gateways at once', async () => {
    const second = await startTestGateway(etcd, clusterset, quota);
    const other = await etcd.store('east', { writes: { endpoints: [second.url], recordKey: () => east.recordKey } });
    const sent = Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? eastStore : other).commit(page(i * 20, 20)));
    const outcomes = await Promise.allSettled(sent);
    expect(outcomes.filter(({ status: said }) => said === 'rejected').length).toBeGreaterThan(0);
    expect((await root.list(own)).entries.length).toBeLessThanOrEqual(quota.keys);
    await refused('store/quota', () => eastStore.commit(page(5_000, 100)));
    expect(await gateway.metric('isthmus_store_gateway_refused_total', { member: 'west' })).toBe(0);
    await other.close();
    await second.close();
  });

  it('it is held back when it writes without a pause, and the other is not', async () => {
    let flooding = true;
    let taken = 0;
    const codes = new Set<string>();
    const flood = Array.from({ length: 8 }, async () => {
      while (flooding) {
        const done = await eastStore.commit(page(0, 20)).then(
          () => 'ok',
          (error: IsthmusError) => error.code,
        );
        codes.add(done);
        if (done === 'ok') taken++;
      }
    });
    const times: number[] = [];
    await eventually('it is refused for its rate', () => codes.has('store/rate'), 60_000);
    for (let i = 0; i < 5; i++) {
      const startMs = performance.now();
      await goodGoesOn();
      times.push(performance.now() - startMs);
    }
    flooding = false;
    await Promise.all(flood);
    console.log(
      `${taken} writes of 20 keys taken; the other’s took ${times.map((ms) => Math.round(ms)).join(', ')} ms`,
    );
    expect(
      await gateway.metric('isthmus_store_gateway_refused_total', { member: 'east', code: 'store/rate' }),
    ).toBeGreaterThan(0);
    expect([...codes].every((code) => ['ok', 'store/rate'].includes(code))).toBe(true);
  });

  it('it is not read any more when it sends large writes that it cannot sign', async () => {
    const thief = await storeOf('east', generateKeyPairSync('ed25519').privateKey);
    const said = new Set<string>();
    const told = (): boolean => [...said].some((message) => message.includes('bytes a second'));
    const send = async (): Promise<void> => {
      for (let i = 0; i < 60 && !told(); i++) {
        await thief.commit(page(0, 15, limits.recordBytesMax)).catch((error: Error) => said.add(error.message));
      }
    };
    const flood = Promise.all([send(), send(), send(), send()]);
    await goodGoesOn();
    await flood;
    expect(told(), [...said].join('\n')).toBe(true);
    await thief.close();
  });
});
