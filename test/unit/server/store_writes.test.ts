/** The gate behind the store gateway, on the simulated store: two of them on one etcd, members that race, and a store that fails. */

import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { IsthmusError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import { Compare_CompareTarget, TxnRequestSchema } from '../../../src/gen/etcdserverpb/rpc_pb.ts';
import { signWrite } from '../../../src/records/write_signature.ts';
import { StoreWrites, type Written } from '../../../src/server/store_writes.ts';
import { signMembership } from '../../../src/trust/membership.ts';
import { signRevocation } from '../../../src/trust/revocation.ts';
import { costOf } from '../../../src/writes/usage.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import { SimEtcd, simStore } from '../../sim/store.ts';
import { keys, membershipOf } from '../federation/author.ts';
import { authority, type TestMember, testMember } from '../trust/certificates.ts';

let west: TestMember;
let east: TestMember;
beforeAll(async () => {
  const dates = { notAfterMs: 2_000_000_000_000 };
  [west, east] = await Promise.all([testMember('us-west', dates), testMember('us-east', dates)]);
});

const quota = {
  keys: 20,
  bytes: 100_000,
  changes: { perSecond: 10, burst: 200 },
  written: { perSecond: 100_000, burst: 1_000_000 },
};

let clock: SimClock;
let etcd: SimEtcd;
let gates: readonly [StoreWrites, StoreWrites];

const gate = (seed: number, latencyMs = 1): StoreWrites =>
  new StoreWrites({
    clusterset: 'demo',
    store: simStore(etcd, { clock, rng: seededRng(seed), latencyMs }),
    authorityKey: authority.publicKey,
    quota,
    clock,
  });
const asRoot = (puts: Record<string, Uint8Array>, deletes: readonly string[] = []): void => {
  const all = Object.entries(puts).map(([key, value]) => ({ key, value }));
  etcd.commit('root', { compare: [], puts: all, deletes });
};

beforeEach(async () => {
  clock = new SimClock();
  etcd = new SimEtcd();
  asRoot({ ...membershipOf(west), ...membershipOf(east) });
  gates = [gate(1), gate(2, 20)];
  await clock.advance(200);
});

const request = (puts: Record<string, string>, compare: Record<string, bigint> = {}, deletes: readonly string[] = []) =>
  toBinary(
    TxnRequestSchema,
    create(TxnRequestSchema, {
      compare: Object.entries(compare).map(([key, value]) => ({
        key: Buffer.from(key),
        target: Compare_CompareTarget.MOD,
        targetUnion: { case: 'modRevision' as const, value },
      })),
      success: [
        ...Object.entries(puts).map(([key, value]) => ({
          request: { case: 'requestPut' as const, value: { key: Buffer.from(key), value: Buffer.from(value) } },
        })),
        ...deletes.map((key) => ({
          request: { case: 'requestDeleteRange' as const, value: { key: Buffer.from(key) } },
        })),
      ],
      failure: Object.keys(compare).map((key) => ({
        request: { case: 'requestRange' as const, value: { key: Buffer.from(key) } },
      })),
    }),
  );

/** All of them, while time passes. */
const settled = async <T>(promises: readonly Promise<T>[], withinMs = 120_000): Promise<(T | IsthmusError)[]> => {
  const done = Promise.all(promises.map((one) => one.catch((error: IsthmusError) => error)));
  let over = false;
  void done.then(() => {
    over = true;
  });
  for (let ms = 0; !over && ms < withinMs; ms += 5) await clock.advance(5);
  if (!over) throw new Error('it did not settle');
  return done;
};
const send = (
  by: StoreWrites,
  { member, recordKey }: TestMember,
  bytes: Uint8Array,
  key: KeyObject = recordKey,
): Promise<Written> =>
  by.write({ member: member.name, request: bytes, signature: signWrite(bytes, key), givenUp: () => false });
const outcomes = async (promises: readonly Promise<Written>[]): Promise<string[]> =>
  (await settled(promises)).map((result) => ('code' in result ? result.code : result.ok ? 'ok' : 'lost'));
const outcome = async (promise: Promise<Written>): Promise<string> => (await outcomes([promise]))[0]!;
const own = (name: string) => keys.memberPrefix('us-west') + name;
const standing = (prefix: string) => etcd.snapshot('root', prefix).entries;

describe('a write', () => {
  it('stands in the store, with a note of what it filled', async () => {
    const [written] = await settled([send(gates[0], west, request({ [own('x')]: '1' }))]);
    expect(written).toMatchObject({ ok: true, clusterId: etcd.clusterId });
    expect(standing(keys.memberPrefix('us-west')).map(({ key }) => key)).toEqual([own('x')]);
    expect(gates[0].filled().get('us-west')).toEqual({ keys: 1, bytes: costOf(own('x'), 1) });
    const note = JSON.parse(Buffer.from(standing(keys.writeNote('us-west'))[0]!.value).toString()) as { keys: number };
    expect(note.keys).toBe(1);
  });

  it('that lost its comparison is told what is there', async () => {
    await settled([send(gates[0], west, request({ [own('x')]: '1' }))]);
    const [lost] = await settled([send(gates[1], west, request({ [own('x')]: '2' }, { [own('x')]: 0n }))]);
    expect(lost).toMatchObject({ ok: false });
    const { current } = lost as Written;
    expect(current.map(({ key, value }) => [key, Buffer.from(value).toString()])).toEqual([[own('x'), '1']]);
  });

  it.each([
    ['without a signature', () => new Uint8Array(), 'store/signature'],
    [
      'signed by another key',
      (b: Uint8Array) => signWrite(b, generateKeyPairSync('ed25519').privateKey),
      'store/signature',
    ],
    ['signed over other bytes', (b: Uint8Array) => signWrite(Buffer.concat([b, b]), west.recordKey), 'store/signature'],
    ['signed by another member', (b: Uint8Array) => signWrite(b, east.recordKey), 'store/signature'],
  ])('%s is refused, and changes nothing', async (_what, sign, code) => {
    const before = etcd.revision;
    const bytes = request({ [own('x')]: '1' });
    const sent = gates[0].write({ member: 'us-west', request: bytes, signature: sign(bytes), givenUp: () => false });
    expect(await outcome(sent)).toBe(code);
    expect(etcd.revision).toBe(before);
  });

  it('of whoever was put out, is unknown or has ended is refused', async () => {
    const mark = signRevocation(
      { clusterset: 'demo', member: 'us-west', sequence: 5n, reason: 'test', wallMs: 1 },
      authority.privateKey,
    );
    const expired = signMembership(
      { ...east.member, sequence: 2n, notAfterMs: clock.wallMs() + 1_000 },
      authority.privateKey,
    );
    if (!mark.ok || !expired.ok) throw new Error('cannot sign');
    asRoot({ [keys.revocation('us-west')]: mark.value, [keys.member('us-east')]: expired.value });
    await clock.advance(2_000);
    expect(await outcome(send(gates[0], west, request({ [own('x')]: '1' })))).toBe('member/revoked');
    expect(await outcome(send(gates[0], east, request({ [`${keys.memberPrefix('us-east')}x`]: '1' })))).toBe(
      'member/expired',
    );
    const nobody = { ...west, member: { ...west.member, name: 'mallory' } };
    expect(await outcome(send(gates[0], nobody, request({ [own('x')]: '1' })))).toBe('member/unknown');
    // What the store takes away revives nobody.
    asRoot({}, [keys.revocation('us-west')]);
    await clock.advance(200);
    expect(await outcome(send(gates[0], west, request({ [own('x')]: '1' })))).toBe('member/revoked');
  });

  it('while the store is dark is unavailable, and is taken again when it is back', async () => {
    etcd.stop();
    await clock.advance(20_000);
    expect(gates[0].dark).not.toBe('');
    expect(await outcome(send(gates[0], west, request({ [own('x')]: '1' })))).toBe('store/unavailable');
    etcd.start();
    await clock.advance(20_000);
    expect(await outcome(send(gates[0], west, request({ [own('x')]: '1' })))).toBe('ok');
  });
});

describe('two gateways', () => {
  it('let in no key more than the quota, whoever races through both', async () => {
    const sent = Array.from({ length: 40 }, (_, i) => send(gates[i % 2]!, west, request({ [own(`k/${i}`)]: 'x' })));
    const codes = await outcomes(sent);
    expect(standing(own('k/'))).toHaveLength(quota.keys);
    expect(codes.filter((code) => code === 'ok')).toHaveLength(quota.keys);
    expect(new Set(codes)).toEqual(new Set(['ok', 'store/quota']));
  });

  it('share one allowance, also with one that has just begun', async () => {
    const names = Array.from({ length: 10 }, (_, i) => [own(`k/${i}`), 'x'] as const);
    let taken = 0;
    for (let round = 0; round < 60; round++) {
      const by = round === 30 ? gate(3) : gates[round % 2]!;
      if (round === 30) await clock.advance(100);
      if ((await outcome(send(by, west, request(Object.fromEntries(names))))) === 'ok') taken++;
    }
    // 200 at once and ten a second; what was held back took its time.
    const seconds = clock.monotonicMs() / 1_000;
    expect(taken * names.length).toBeLessThanOrEqual(quota.changes.burst + seconds * quota.changes.perSecond);
    expect(taken).toBeGreaterThanOrEqual(20);
  });

  it('hold up nobody else for one that floods', async () => {
    const many = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [own(`k/${i}`), 'x']));
    const none = Array.from({ length: 10 }, (_, i) => own(`none/${i}`));
    const flood = Array.from({ length: 16 }, () => send(gates[0], west, request(many, {}, none)));
    const startMs = clock.monotonicMs();
    let tookMs = 0;
    const other = send(gates[0], east, request({ [`${keys.memberPrefix('us-east')}x`]: '1' })).then((done) => {
      tookMs = clock.monotonicMs() - startMs;
      return done;
    });
    const codes = await outcomes([other, ...flood]);
    expect([codes[0], tookMs < 100]).toEqual(['ok', true]);
    expect(codes.filter((code) => code === 'ok').length).toBeGreaterThan(5);
    expect(codes).toContain('store/rate');
  });
});

describe('what one member can make wait', () => {
  it('is bounded, however many connections it has', async () => {
    const sent = Array.from({ length: limits.writesQueuedMax + 10 }, () =>
      send(gates[0], west, request({ [own('x')]: '1' })),
    );
    const codes = await outcomes(sent);
    expect(codes.filter((code) => code === 'store/rate')).toHaveLength(10);
    expect(codes.filter((code) => code === 'ok')).toHaveLength(limits.writesQueuedMax);
  });

  it('ends with whoever gave up', async () => {
    const bytes = request({ [own('x')]: '1' });
    const signature = signWrite(bytes, west.recordKey);
    const gone = { member: west.member.name, request: bytes, signature, givenUp: () => true };
    expect(await outcome(gates[0].write(gone))).toBe('store/unavailable');
    expect(standing(own('x'))).toEqual([]);
  });
});

describe('certificates that were issued', () => {
  const issued = () => standing(keys.issuedPrefix('us-west')).map(({ key }) => key.split('/').at(-1));

  it('are removed when they have ended, at the next one', async () => {
    await settled([gates[0].issued('us-west', 'a1', clock.wallMs() + 1_000)]);
    await settled([gates[0].issued('us-west', 'a2', clock.wallMs() + 60_000)]);
    await clock.advance(2_000);
    await settled([gates[1].issued('us-west', 'a3', clock.wallMs() + 60_000)]);
    expect(issued()).toEqual(['a2', 'a3']);
  });

  it('are so many at most', async () => {
    const entry = (i: number) => [`${keys.issuedPrefix('us-west')}${i}`, Buffer.from(`{"notAfterMs":${2e12}}`)];
    asRoot(Object.fromEntries(Array.from({ length: limits.issuedLiveMax }, (_, i) => entry(i))));
    await clock.advance(100);
    const one = gates[0].issued('us-west', 'more', 2e12).then(() => 'ok');
    expect((await settled([one]))[0]).toMatchObject({ code: 'csr/rate' });
  });
});

describe('a note that is gone or planted', () => {
  it('stops nobody', async () => {
    await settled([send(gates[0], west, request({ [own('x')]: '1' }))]);
    asRoot({ [keys.writeNote('us-west')]: Buffer.from('planted') });
    expect(await outcome(send(gates[1], west, request({ [own('x')]: '2' })))).toBe('ok');
    asRoot({}, [keys.writeNote('us-west')]);
    expect(await outcome(send(gates[0], west, request({ [own('x')]: '3' })))).toBe('ok');
  });
});
