import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { rawPublicKey } from '../../../src/records/signed.ts';
import type { Member } from '../../../src/trust/membership.ts';
import { type TestMember, testMember } from '../trust/certificates.ts';
import { Author, federation, keys, membershipOf, Shelf, serviceBytes, times } from './author.ts';

const westIdentity = await testMember('us-west', { addressRanges: ['10.2.0.0/16'], notAfterMs: 100_000 });
const eastIdentity = await testMember('us-east', { addressRanges: ['10.1.0.0/16'] });
const changed = ({ member, recordKey }: TestMember, change: Partial<Member>): TestMember => ({
  member: { ...member, ...change },
  recordKey,
});

const setup = () => {
  const shelf = new Shelf();
  const west = new Author(westIdentity);
  const fed = federation();
  shelf.write({ ...membershipOf(westIdentity), ...membershipOf(eastIdentity) });
  shelf.write(west.tick({ ...serviceBytes(), ...west.gateways('10.2.0.5') }));
  fed.snapshot(shelf.snapshot(), times());
  const codes = () => fed.problems.map(({ code }) => code);
  return { shelf, west, fed, codes };
};

describe('the set of members', () => {
  it('ignores whom the authority has not named, until it does', async () => {
    const { shelf, fed, codes } = setup();
    const north = new Author(await testMember('eu-north'));
    const change = fed.events(shelf.write(north.tick(serviceBytes('cart'))), times());
    expect([change.services.size, fed.members.has('eu-north'), codes()]).toEqual([0, false, ['member/unknown']]);
    const joined = fed.events(shelf.write(membershipOf(north.test)), times());
    expect([[...joined.services], [...joined.members], codes()]).toEqual([['shop/cart'], ['eu-north'], []]);
  });

  it('does not even look at memberships under what is no name', () => {
    const { shelf, fed, codes } = setup();
    const names = ['', 'a/b', 'Upper', '-x', 'n'.repeat(500_000)];
    fed.events(shelf.write(Object.fromEntries(names.map((name) => [keys.member(name), Uint8Array.of(1)]))), times());
    fed.snapshot(shelf.snapshot(), times());
    expect(codes()).toEqual([]);
  });

  it('follows a few unknown names only', () => {
    const { shelf, fed } = setup();
    const names = Array.from({ length: 100 }, (_, i) => [`${keys.publicPrefix}m${i}/services/a/b`, Uint8Array.of(1)]);
    fed.events(shelf.write(Object.fromEntries(names)), times());
    expect(fed.problems).toHaveLength(limits.unknownMembersMax);
    fed.events(shelf.write({ [names[0]![0] as string]: undefined }), times());
    expect(fed.problems).toHaveLength(limits.unknownMembersMax - 1);
    fed.events(shelf.write({ [`${keys.publicPrefix}another/services/a/b`]: Uint8Array.of(1) }), times());
    expect(fed.problems.at(-1)?.message).toContain('another');
    fed.snapshot({ clusterId: 1n, revision: 1n, entries: [] }, times());
    expect(fed.problems.filter(({ message }) => message.includes('ignored'))).toEqual([]);
  });

  it('keeps a member whose membership was deleted, replaced by another authority or by an older one', () => {
    const { shelf, fed, codes } = setup();
    const forger = generateKeyPairSync('ed25519').privateKey;
    fed.events(shelf.write(membershipOf(changed(westIdentity, { sequence: 9n }), forger)), times());
    expect(codes()).toEqual(['member/signature']);
    fed.events(shelf.write({ [keys.member('us-west')]: undefined }), times());
    expect(codes()).toEqual(['member/unknown']);
    fed.events(shelf.write(membershipOf(changed(westIdentity, { sequence: 0n }))), times());
    expect(codes()).toEqual(['member/stale']);
    fed.events(shelf.write({ [keys.member('us-west')]: Uint8Array.of(1, 2) }), times());
    expect(codes()).toEqual(['record/malformed']);
    expect(fed.members.get('us-west')?.services.size).toBe(1);
  });

  it('drops at once what a newer membership no longer grants, last good values too', () => {
    const { shelf, fed } = setup();
    const narrower = changed(westIdentity, { sequence: 2n, namespaces: ['pay'], addressRanges: ['10.9.0.0/16'] });
    const change = fed.events(shelf.write(membershipOf(narrower)), times());
    expect([...change.services]).toEqual(['shop/checkout']);
    expect(fed.members.get('us-west')).toMatchObject({ services: new Map(), gateways: undefined });
    const wider = changed(westIdentity, { sequence: 3n });
    expect([...fed.events(shelf.write(membershipOf(wider)), times()).services]).toEqual(['shop/checkout']);
    expect(fed.members.get('us-west')?.gateways?.gateways).toHaveLength(1);
  });

  it('takes a renewal that grants the same without changing any service', () => {
    const { shelf, fed } = setup();
    const renewed = changed(westIdentity, { sequence: 2n, notAfterMs: 900_000 });
    const change = fed.events(shelf.write(membershipOf(renewed)), times());
    expect([change.services.size, [...change.members]]).toEqual([0, ['us-west']]);
  });

  it('believes the new record key after a rotation, and keeps serving meanwhile', () => {
    const { shelf, fed, west } = setup();
    const pair = generateKeyPairSync('ed25519');
    const rotated = changed(westIdentity, { sequence: 2n, recordKey: rawPublicKey(pair.publicKey) });
    fed.events(shelf.write(membershipOf(rotated)), times());
    expect(fed.members.get('us-west')?.problems.map(({ code }) => code)).toEqual(['manifest/signature']);
    expect(fed.members.get('us-west')?.services.size).toBe(1);
    fed.events(shelf.write(west.manifest({}, pair.privateKey)), times());
    expect(fed.members.get('us-west')?.problems).toEqual([]);
  });

  it('refuses two members with one key, one CA or one name: the first stays', async () => {
    const { shelf, fed, codes } = setup();
    const other = await testMember('copy');
    const copies: Partial<Member>[] = [
      { recordKey: westIdentity.member.recordKey },
      { federationCa: westIdentity.member.federationCa },
    ];
    for (const copy of copies) {
      fed.events(shelf.write(membershipOf(changed(other, copy))), times());
      expect([codes(), fed.members.has('copy')]).toEqual([['member/duplicate'], false]);
    }
    const named = Object.values(membershipOf(westIdentity))[0]!;
    fed.events(shelf.write({ [keys.member('copy')]: named }), times());
    expect([codes(), fed.members.has('copy'), fed.members.has('us-west')]).toEqual([['member/duplicate'], false, true]);
  });

  it('admits nothing new after the end of a membership, uses what it has for a grace, then closes', () => {
    const { shelf, fed, west, codes } = setup();
    const ended = { nowMs: 1, wallMs: 100_000 };
    fed.tick(ended);
    expect([codes(), fed.members.get('us-west')?.services.size]).toEqual([['member/expired'], 1]);
    fed.events(shelf.write(west.tick(serviceBytes('cart'))), ended);
    expect(fed.members.get('us-west')?.services.size).toBe(1);
    const closed = fed.tick({ nowMs: 2, wallMs: 100_000 + limits.membershipGraceMs });
    expect([fed.members.has('us-west'), [...closed.services], [...closed.members]]).toEqual([
      false,
      ['shop/checkout'],
      ['us-west'],
    ]);
    // A renewal opens it again, with what the store has by now.
    const renewed = changed(westIdentity, { sequence: 2n, notAfterMs: 900_000_000 });
    const change = fed.events(shelf.write(membershipOf(renewed)), { nowMs: 3, wallMs: 100_000_000 });
    expect([...change.services].sort()).toEqual(['shop/cart', 'shop/checkout']);
  });

  it('lets a membership in when its time comes', async () => {
    const { shelf, fed, codes } = setup();
    const later = await testMember('later', { notBeforeMs: 50_000 });
    fed.events(shelf.write(membershipOf(later)), times());
    expect([codes(), fed.members.has('later')]).toEqual([['member/expired'], false]);
    fed.tick({ nowMs: 1, wallMs: 50_000 });
    expect([codes(), fed.members.has('later')]).toEqual([[], true]);
  });

  it('reads one store for each member as well as one for all', () => {
    const { shelf, fed } = setup();
    const prefix = keys.memberPrefix('us-west');
    const entries = shelf.snapshot().entries.filter(({ key }) => key.startsWith(prefix));
    const separate = federation();
    separate.snapshot(
      {
        ...shelf.snapshot(),
        entries: shelf.snapshot().entries.filter(({ key }) => key.startsWith(keys.membersPrefix)),
      },
      times(),
      keys.membersPrefix,
    );
    separate.snapshot({ clusterId: 2n, revision: 1n, entries }, times(), prefix);
    expect([...separate.members.get('us-west')!.services]).toEqual([...fed.members.get('us-west')!.services]);
    separate.snapshot({ clusterId: 3n, revision: 1n, entries: [] }, times(), keys.memberPrefix('us-east'));
    expect(separate.members.get('us-west')!.problems).toEqual([]);
  });
});

describe('the saved state', () => {
  const saved = (fed: ReturnType<typeof federation>, at = times(1_000)) => Buffer.concat([...fed.save(at)]);

  it('serves at once after a restart, with ages, marks and last good values', () => {
    const { shelf, west, fed } = setup();
    fed.events(shelf.write(west.tick(west.gateways('127.0.0.1'))), times(500));
    const bytes = saved(fed);
    const again = federation();
    const result = again.restore(bytes, { nowMs: 50, wallMs: times(1_000).wallMs + 2_000 });
    expect(result.ok && [...result.value.services]).toEqual(['shop/checkout']);
    const view = again.members.get('us-west')!;
    expect(view.gateways?.gateways[0]?.address).toBe('10.2.0.5');
    expect(view.freshAtMs).toBe(50 - 500 - 2_000);
    expect(view.problems.map(({ code }) => code)).toEqual(['record/address-refused']);
    // The store says the same: nothing changes. An older manifest is still refused.
    const same = again.snapshot(shelf.snapshot(), times(60));
    expect([same.services.size, same.members.size]).toEqual([0, 0]);
    west.sequence = 0n;
    again.events(shelf.write(west.tick(serviceBytes('cart'))), times(70));
    expect(again.members.get('us-west')?.problems.map(({ code }) => code)).toContain('manifest/stale');
    expect(saved(again).length).toBeGreaterThan(100);
  });

  it('takes up a change that came while it was down', () => {
    const { shelf, west, fed } = setup();
    const bytes = saved(fed);
    shelf.write(west.tick({ ...serviceBytes('cart'), 'services/shop/checkout': undefined }));
    const again = federation();
    again.restore(bytes, times());
    expect([...again.snapshot(shelf.snapshot(), times()).services].sort()).toEqual(['shop/cart', 'shop/checkout']);
    expect([...again.members.get('us-west')!.services.keys()]).toEqual(['shop/cart']);
  });

  it('saves what is admitted, not what is staged', () => {
    const { shelf, west, fed } = setup();
    fed.events(
      shelf.write({ [west.key('services/shop/checkout')]: Uint8Array.of(1), [west.key('x')]: Uint8Array.of(2) }),
      times(),
    );
    const again = federation();
    expect(again.restore(saved(fed), times()).ok).toBe(true);
    expect(again.members.get('us-west')?.services.size).toBe(1);
  });

  it('is refused when cut or changed, and leaves the federation new', () => {
    const bytes = saved(setup().fed);
    for (const length of [0, 5, 30, 100, bytes.length - 1]) {
      const result = federation().restore(bytes.subarray(0, length), times());
      expect(!result.ok && result.error.code).toBe('state/corrupt');
    }
    const at = bytes.lastIndexOf('checkout');
    const damaged = Buffer.from(bytes);
    damaged.write('Checkout', bytes.indexOf('services/shop/checkout') + 14);
    const fed = federation();
    const result = fed.restore(damaged, times());
    expect([at > 0, !result.ok && result.error.code, fed.members.size]).toEqual([true, 'state/corrupt', 0]);
  });
});
