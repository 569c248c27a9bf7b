import { generateKeyPairSync } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import type { StoreEvent } from '../../../src/core/store.ts';
import type { FederationChange } from '../../../src/federation/change.ts';
import type { Federation } from '../../../src/federation/federation.ts';
import { codec } from '../../../src/records/codec.ts';
import { testMember } from '../trust/certificates.ts';
import { Author, federation, keys, membershipOf, Shelf, serviceBytes, times } from './author.ts';

const westIdentity = await testMember('us-west', { addressRanges: ['10.2.0.0/16'], namespaces: ['shop'] });
const eastIdentity = await testMember('us-east', { addressRanges: ['10.1.0.0/16'] });

let west: Author;
let shelf: Shelf;
let fed: Federation;
let nowMs: number;

const feed = (events: StoreEvent[]): FederationChange => fed.events(events, times(nowMs));
const view = (name = 'us-west') => fed.members.get(name)!;
const services = (): string[] => [...view().services.keys()].sort();
const ready = (key = 'shop/checkout'): number | undefined => view().services.get(key)?.capacity[0]?.ready;
const codes = (): string[] => view().problems.map(({ code }) => code);
const capacity = (ready: number) => ({ capacity: [{ $typeName: 'isthmus.v1.Capacity' as const, ready, total: 100 }] });

beforeEach(() => {
  west = new Author(westIdentity);
  shelf = new Shelf();
  fed = federation();
  nowMs = 0;
  shelf.write({ ...membershipOf(westIdentity), ...membershipOf(eastIdentity) });
  fed.snapshot(shelf.snapshot(), times());
});

describe('a member that publishes', () => {
  it('is admitted whole, and says what changed', () => {
    const change = feed(shelf.write(west.tick({ ...serviceBytes(), ...west.gateways('10.2.0.5') })));
    expect([...change.services]).toEqual(['shop/checkout']);
    expect([...change.members]).toEqual(['us-west']);
    expect([...change.heads]).toEqual(['us-west']);
    expect(services()).toEqual(['shop/checkout']);
    expect(view().gateways?.gateways[0]?.address).toBe('10.2.0.5');
    expect(view().head).toEqual({ epoch: 100n, sequence: 1n });
    expect(view().problems).toEqual([]);
  });

  it('changes one service without touching the others', () => {
    feed(shelf.write(west.tick({ ...serviceBytes(), ...serviceBytes('cart') })));
    const cart = view().services.get('shop/cart');
    const change = feed(shelf.write(west.tick(serviceBytes('checkout', capacity(9)))));
    expect([...change.services]).toEqual(['shop/checkout']);
    expect(ready()).toBe(9);
    expect(view().services.get('shop/cart')).toBe(cart);
  });

  it('withdraws a service', () => {
    feed(shelf.write(west.tick({ ...serviceBytes(), ...serviceBytes('cart') })));
    const change = feed(shelf.write(west.tick({ 'services/shop/cart': undefined })));
    expect([...change.services]).toEqual(['shop/cart']);
    expect(services()).toEqual(['shop/checkout']);
  });

  it('is as fresh as its last rise in sequence', () => {
    nowMs = 1_000;
    feed(shelf.write(west.tick(serviceBytes())));
    expect(view().freshAtMs).toBe(1_000);
    nowMs = 2_000;
    fed.snapshot(shelf.snapshot(), times(nowMs));
    expect(view().freshAtMs).toBe(1_000);
    const change = feed(shelf.write(west.tick({})));
    expect(view().freshAtMs).toBe(2_000);
    expect([change.services.size, change.members.size, [...change.heads]]).toEqual([0, 0, ['us-west']]);
  });

  it('says itself that it shuts down', () => {
    feed(shelf.write(west.tick(serviceBytes())));
    const change = feed(shelf.write(west.manifest({ shuttingDown: true })));
    expect([view().shuttingDown, [...change.members], change.topology.size]).toEqual([true, ['us-west'], 0]);
  });

  it('tells apart what the order of cells depends on', () => {
    const change = feed(shelf.write(west.tick(west.gateways('10.2.0.5'))));
    expect([...change.topology]).toEqual(['us-west']);
    const vantage = codec.vantage.encode({ $typeName: 'isthmus.v1.VantageRecord', peers: [], critical: [] });
    const measured = feed(shelf.write(west.tick({ vantage: vantage.ok ? vantage.value : undefined })));
    expect([[...measured.members], measured.topology.size, view().vantage?.peers]).toEqual([['us-west'], 0, []]);
  });
});

describe('a record that no manifest covers', () => {
  it('is not used, before and after there was a manifest', () => {
    const [key, bytes] = Object.entries(serviceBytes())[0]!;
    feed(shelf.write({ [west.key(key)]: bytes }));
    expect(services()).toEqual([]);
    feed(shelf.write(west.tick(serviceBytes())));
    const forged = Object.values(serviceBytes('checkout', capacity(50)))[0]!;
    expect(feed(shelf.write({ [west.key(key)]: forged })).services.size).toBe(0);
    expect(ready()).toBe(2);
  });

  it('comes into use in one step when a tick of several transactions is complete', () => {
    const tick = west.tick({ ...serviceBytes(), ...serviceBytes('cart') });
    const [first, second, manifest] = Object.entries(tick);
    expect(feed(shelf.write(Object.fromEntries([first!]))).services.size).toBe(0);
    expect(feed(shelf.write(Object.fromEntries([second!]))).services.size).toBe(0);
    expect(feed(shelf.write(Object.fromEntries([manifest!]))).services.size).toBe(2);
  });

  it('does not hide the complete tick before it in the same batch', () => {
    const complete = shelf.write(west.tick(serviceBytes('checkout', capacity(7))));
    const next = west.tick(serviceBytes('checkout', capacity(8)));
    const half = shelf.write(Object.fromEntries(Object.entries(next).filter(([key]) => !key.endsWith('manifest'))));
    feed([...complete, ...half]);
    expect(ready()).toBe(7);
    feed(shelf.write(Object.fromEntries(Object.entries(next).filter(([key]) => key.endsWith('manifest')))));
    expect(ready()).toBe(8);
  });
});

describe('whoever controls the store', () => {
  beforeEach(() => {
    feed(shelf.write(west.tick({ ...serviceBytes(), ...serviceBytes('cart'), ...west.gateways('10.2.0.5') })));
  });

  it('cannot delete a record: it stays in use, and the mismatch is told with its age', () => {
    feed(shelf.write({ [west.key('services/shop/cart')]: undefined }));
    expect(services()).toEqual(['shop/cart', 'shop/checkout']);
    expect(codes()).toEqual([]);
    nowMs = limits.uncoveredGraceMs + 500;
    fed.tick(times(nowMs));
    expect(codes()).toEqual(['manifest/root']);
    expect(view().problems[0]?.subject).toMatchObject({ member: 'us-west', ageMs: nowMs, waiting: 1 });
    // It ends when the member publishes again.
    west.records.delete('services/shop/cart');
    feed(shelf.write(west.tick({})));
    expect([services(), codes()]).toEqual([['shop/checkout'], []]);
  });

  it('cannot delete the manifest, nor everything', () => {
    feed(shelf.write({ [keys.manifest('us-west')]: undefined }));
    fed.snapshot({ clusterId: 1n, revision: 9n, entries: [] }, times(nowMs));
    nowMs = 10_000;
    fed.tick(times(nowMs));
    expect(services()).toEqual(['shop/cart', 'shop/checkout']);
    expect(view().gateways?.gateways).toHaveLength(1);
    expect(codes()).toEqual(['record/uncovered']);
    expect(fed.problems.map(({ code }) => code)).toEqual(['member/unknown', 'member/unknown']);
  });

  it('cannot bring back an older state that was signed once', () => {
    const old = shelf.snapshot();
    feed(shelf.write(west.tick(serviceBytes('checkout', capacity(20)))));
    const change = fed.snapshot(old, times(nowMs));
    expect([ready(), change.services.size, codes()]).toEqual([20, 0, ['manifest/stale']]);
    expect(view().head).toEqual({ epoch: 100n, sequence: 2n });
    // The writer that finds its store restored begins a new epoch; its sequence may start over.
    west.epoch = 101n;
    west.sequence = 0n;
    feed(shelf.write(west.tick(serviceBytes('checkout', capacity(21)))));
    expect([ready(), codes(), view().head]).toEqual([21, [], { epoch: 101n, sequence: 1n }]);
  });

  it('cannot bring back an earlier term, however far its sequence went', () => {
    const before = new Author(westIdentity);
    before.epoch = 99n;
    before.sequence = 1_000n;
    feed(shelf.write(before.tick(serviceBytes('checkout', capacity(50)))));
    expect([ready(), codes(), view().head?.epoch]).toEqual([2, ['manifest/stale'], 100n]);
  });

  it('cannot use another key, or the key of another member', async () => {
    const forged = Object.values(serviceBytes('checkout', capacity(50)))[0]!;
    for (const key of [generateKeyPairSync('ed25519').privateKey, eastIdentity.recordKey]) {
      west.records.set('services/shop/checkout', forged);
      feed(shelf.write({ [west.key('services/shop/checkout')]: forged, ...west.manifest({}, key) }));
      expect([ready(), codes()]).toEqual([2, ['manifest/signature']]);
    }
    // Another member's manifest, moved here with its records.
    const east = new Author(eastIdentity);
    const moved = Object.entries(east.tick(serviceBytes('checkout', capacity(50)))).map(([key, bytes]) => [
      key.replace('us-east', 'us-west'),
      bytes,
    ]);
    feed(shelf.write(Object.fromEntries(moved)));
    expect([ready(), codes()]).toEqual([2, ['manifest/signature']]);
  });

  it('cannot show two contents under one number', () => {
    const other = new Author(westIdentity);
    for (const [key, bytes] of west.records) other.records.set(key, bytes);
    other.sequence = west.sequence - 1n;
    feed(shelf.write(other.tick(serviceBytes('checkout', capacity(50)))));
    expect([ready(), codes()]).toEqual([2, ['manifest/stale']]);
  });

  it('cannot fill a reader with keys of a megabyte: what they hold up goes on as soon as they are gone', () => {
    const long = west.key(`x/${'k'.repeat(1_000_000)}`);
    const twin = west.key(`x/${'k'.repeat(999_999)}l`);
    feed(shelf.write({ [long]: Uint8Array.of(1), [twin]: Uint8Array.of(1) }));
    feed(shelf.write(west.tick(serviceBytes('checkout', capacity(9)))));
    nowMs += limits.uncoveredGraceMs;
    fed.tick(times(nowMs));
    expect([ready(), codes()]).toEqual([2, ['manifest/root']]);
    expect(fed.members.get('us-west')!.problems[0]!.message.length).toBeLessThan(1_000);
    feed(shelf.write({ [long]: undefined }));
    expect(ready()).toBe(2);
    feed(shelf.write({ [twin]: undefined }));
    expect([ready(), codes()]).toEqual([9, []]);
  });

  it('cannot make a reader keep more and more: so many bytes of one member, and it is frozen at what it had', () => {
    const record = serviceBytes('checkout')['services/shop/checkout'] ?? Object.values(serviceBytes('checkout'))[0]!;
    const padding = Buffer.concat([Buffer.from([0xfa, 0x07, 0xe0, 0xd4, 0x03]), Buffer.alloc(60_000)]);
    let ticks = 0;
    const most = (limits.stagedBytesPerMemberMax * 1.5) / 60_000;
    while (codes().length === 0 && ticks < most + 200) {
      const changes = Array.from({ length: 16 }, (_, i) => [
        west.key(`x/${ticks + i}`),
        Buffer.concat([record, padding]),
      ]);
      feed(shelf.write(west.tick(Object.fromEntries(changes))));
      ticks += 16;
    }
    expect(codes()).toEqual(['record/too-large']);
    expect(ticks).toBeGreaterThan(most * 0.9);
    expect(ticks).toBeLessThanOrEqual(most + 16);
    expect(services()).toEqual(['shop/cart', 'shop/checkout']);
  });

  it('cannot flood a reader: the member is frozen until a snapshot fits again', () => {
    const many = Object.fromEntries(
      Array.from({ length: limits.recordsPerMemberMax + 1 }, (_, i) => [west.key(`x/${i}`), Uint8Array.of(1)]),
    );
    feed(shelf.write(many));
    expect([services(), codes()]).toEqual([['shop/cart', 'shop/checkout'], ['record/too-large']]);
    feed(shelf.write(Object.fromEntries(Object.keys(many).map((key) => [key, undefined]))));
    fed.snapshot(shelf.snapshot(), times(nowMs));
    expect(codes()).toEqual([]);
    feed(shelf.write(west.tick(serviceBytes('checkout', capacity(3)))));
    expect(ready()).toBe(3);
  });
});

describe('a record that oversteps', () => {
  beforeEach(() => {
    feed(shelf.write(west.tick({ ...serviceBytes(), ...west.gateways('10.2.0.5') })));
  });

  it('is refused alone: not granted', () => {
    const kube = serviceBytes('kubernetes', { namespace: 'default', accounts: [] });
    feed(shelf.write(west.tick({ ...kube, ...serviceBytes('cart') })));
    expect(services()).toEqual(['shop/cart', 'shop/checkout']);
    expect(codes()).toEqual(['record/not-granted']);
    expect(view().problems[0]?.message).toContain('namespace "default" is not granted');
    feed(shelf.write(west.tick({ 'services/default/kubernetes': undefined })));
    expect(codes()).toEqual([]);
  });

  it('is refused alone: an identity of another namespace', () => {
    feed(shelf.write(west.tick(serviceBytes('cart', { accounts: ['kube-system/admin'] }))));
    expect([services(), codes()]).toEqual([['shop/checkout'], ['record/not-granted']]);
    // Some granted, some not: used, without the others (see the accepted ids).
    feed(shelf.write(west.tick(serviceBytes('cart', { accounts: ['kube-system/admin', 'shop/cart'] }))));
    expect([services(), codes()]).toEqual([['shop/cart', 'shop/checkout'], ['record/not-granted']]);
  });

  it.each([
    ['127.0.0.1', 'loopback'],
    ['169.254.169.254', 'link-local'],
    ['10.3.0.1', 'outside the member'],
    ['10.1.0.1', 'own ranges'],
    ['::ffff:10.2.0.5', 'IPv6 form'],
  ])('keeps its last good value: gateway at %s', (address, why) => {
    feed(shelf.write(west.tick({ ...west.gateways(address), ...serviceBytes('cart') })));
    expect(view().gateways?.gateways[0]?.address).toBe('10.2.0.5');
    expect(services()).toEqual(['shop/cart', 'shop/checkout']);
    expect([codes(), view().problems[0]?.message]).toEqual([['record/address-refused'], expect.stringContaining(why)]);
  });

  it('keeps its last good value: truncated, oversized, critical in a later version', () => {
    const key = 'services/shop/checkout';
    const good = west.records.get(key)!;
    const bad: [Uint8Array, string][] = [
      [good.subarray(0, good.length - 2), 'record/malformed'],
      [new Uint8Array(limits.recordBytesMax + 1), 'record/too-large'],
      [Uint8Array.from([...good, 0x82, 0x7d, 1, 60]), 'record/frozen'],
    ];
    for (const [bytes, code] of bad) {
      feed(shelf.write(west.tick({ [key]: bytes })));
      expect([ready(), codes()]).toEqual([2, [code]]);
    }
    feed(shelf.write(west.tick(serviceBytes('checkout', capacity(4)))));
    expect([ready(), codes()]).toEqual([4, []]);
  });

  it('is refused when it holds the record of another service', () => {
    const cart = Object.values(serviceBytes('cart'))[0];
    feed(shelf.write(west.tick({ 'services/shop/pay': cart })));
    expect([services(), codes()]).toEqual([['shop/checkout'], ['record/malformed']]);
    const everything = membershipOf({
      ...westIdentity,
      member: { ...westIdentity.member, sequence: 2n, namespaces: ['*'] },
    });
    feed(
      shelf.write({
        ...everything,
        ...west.tick({ 'services/shop_cart': cart, 'services/shop/cart/': cart, 'services/': cart }),
      }),
    );
    expect([services(), codes()]).toEqual([['shop/checkout'], Array(4).fill('record/malformed')]);
  });

  it('stays out of the list of problems beyond a bound', () => {
    const many = Array.from({ length: 100 }, (_, i) => [`services/pay/p${i}`, Uint8Array.of(1)] as const);
    feed(shelf.write(west.tick(Object.fromEntries(many))));
    expect(codes()).toHaveLength(limits.problemsPerMemberMax);
  });
});

describe('records of later versions', () => {
  it('are covered like any other and otherwise ignored', () => {
    const change = feed(shelf.write(west.tick({ ...serviceBytes(), 'slices/shop/checkout/0': Uint8Array.of(9) })));
    expect([...change.services]).toEqual(['shop/checkout']);
    expect(codes()).toEqual([]);
  });
});
