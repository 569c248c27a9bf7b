import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import type { Federation } from '../../../src/federation/federation.ts';
import { parseRevocations, revocationsText } from '../../../src/federation/revocation_text.ts';
import type { Member } from '../../../src/trust/membership.ts';
import { signRevocation } from '../../../src/trust/revocation.ts';
import { authority, type TestMember, testMember } from '../trust/certificates.ts';
import { Author, federation, keys, membershipOf, Shelf, serviceBytes, times } from './author.ts';

const westIdentity = await testMember('us-west', { addressRanges: ['10.2.0.0/16'] });
const eastIdentity = await testMember('us-east', { addressRanges: ['10.1.0.0/16'] });
const changed = ({ member, recordKey }: TestMember, change: Partial<Member>): TestMember => ({
  member: { ...member, ...change },
  recordKey,
});
const markBytes = (sequence = 1n, key: KeyObject = authority.privateKey, member = 'us-west'): Uint8Array => {
  const signed = signRevocation({ clusterset: 'demo', member, sequence, reason: 'stolen', wallMs: 1 }, key);
  if (!signed.ok) throw signed.error;
  return signed.value;
};
const revoke = (sequence = 1n, key: KeyObject = authority.privateKey) => ({
  [keys.revocation('us-west')]: markBytes(sequence, key),
});
const saved = (fed: Federation): Buffer => Buffer.concat([...fed.save(times())]);

const setup = () => {
  const shelf = new Shelf();
  const west = new Author(westIdentity);
  const fed = federation();
  shelf.write({ ...membershipOf(westIdentity), ...membershipOf(eastIdentity) });
  shelf.write(west.tick({ ...serviceBytes(), ...west.gateways('10.2.0.5') }));
  fed.snapshot(shelf.snapshot(), times());
  expect(fed.members.get('us-west')?.services.size).toBe(1);
  return { shelf, west, fed };
};
const codes = (fed: Federation) => fed.problems.map(({ code }) => code);

describe('a member that is revoked', () => {
  it('is closed at once: services, gateways and all, and only it', () => {
    const { shelf, west, fed } = setup();
    const change = fed.events(shelf.write(revoke()), times());
    expect([[...change.services], [...change.members], [...change.topology]]).toEqual([
      ['shop/checkout'],
      ['us-west'],
      ['us-west'],
    ]);
    expect([fed.members.has('us-west'), fed.members.has('us-east'), fed.revoked('us-west')]).toEqual([
      false,
      true,
      true,
    ]);
    // What it still writes is not even kept.
    const more = fed.events(shelf.write(west.tick(serviceBytes('cart'))), times());
    expect([more.services.size, more.members.size]).toEqual([0, 0]);
    // Time opens nothing.
    expect(fed.tick(times(1_000_000)).members.size).toBe(0);
    expect(fed.members.has('us-west')).toBe(false);
  });

  it('is not revoked by anybody but the authority, under its own name, for its own cluster set', () => {
    const { shelf, fed } = setup();
    const forger = generateKeyPairSync('ed25519').privateKey;
    fed.events(shelf.write(revoke(9n, forger)), times());
    expect([fed.members.has('us-west'), codes(fed)]).toEqual([true, ['member/signature']]);
    fed.events(shelf.write({ [keys.revocation('us-west')]: markBytes(9n, authority.privateKey, 'us-east') }), times());
    expect([fed.members.has('us-west'), codes(fed)]).toEqual([true, ['member/signature']]);
    fed.events(shelf.write({ [keys.revocation('us-west')]: Uint8Array.of(1, 2, 3) }), times());
    expect([fed.members.has('us-west'), codes(fed)]).toEqual([true, ['record/malformed']]);
    // Deleting the forgery ends the complaint.
    fed.events(shelf.write({ [keys.revocation('us-west')]: undefined }), times());
    expect([fed.members.has('us-west'), codes(fed)]).toEqual([true, []]);
  });

  it('is not revived by a store without the mark, nor by one with an older mark', () => {
    const { shelf, fed } = setup();
    const before = shelf.snapshot();
    fed.events(shelf.write(revoke(5n)), times());
    fed.events(shelf.write({ [keys.revocation('us-west')]: undefined }), times());
    expect(fed.members.has('us-west')).toBe(false);
    fed.snapshot(before, times());
    expect(fed.members.has('us-west')).toBe(false);
    // And the restored store is noticed.
    expect(codes(fed)).toContain('member/revoked');
    fed.events(shelf.write(revoke(2n)), times());
    fed.events(shelf.write(membershipOf(changed(westIdentity, { sequence: 3n }))), times());
    expect(fed.members.has('us-west')).toBe(false);
  });

  it('stays out over a restart, with the store dark or restored', () => {
    const { shelf, fed } = setup();
    const before = shelf.snapshot();
    fed.events(shelf.write(revoke()), times());
    const again = federation();
    expect(again.restore(saved(fed), times()).ok).toBe(true);
    expect([again.members.has('us-west'), again.members.has('us-east'), again.revoked('us-west')]).toEqual([
      false,
      true,
      true,
    ]);
    again.snapshot(before, times());
    expect(again.members.has('us-west')).toBe(false);
    // Even when the rest of the saved state is damaged.
    const bytes = saved(fed);
    const cut = federation();
    expect(cut.restore(bytes.subarray(0, bytes.length - 10), times()).ok).toBe(false);
    cut.snapshot(before, times());
    expect(cut.members.has('us-west')).toBe(false);
    // A saved state from before the mark does not take it away from who knows it already.
    const peer = federation();
    peer.learnRevocations([['us-west', fed.revocations.signed()[0]![1]]], times());
    peer.snapshot(before, times());
    expect(peer.members.has('us-west')).toBe(false);
  });

  it('is closed by a mark that a peer brings while the store withholds it', () => {
    const { fed } = setup();
    const change = fed.learnRevocations([['us-west', markBytes()]], times());
    expect([fed.members.has('us-west'), [...change.services]]).toEqual([false, ['shop/checkout']]);
    const forged = markBytes(1n, generateKeyPairSync('ed25519').privateKey, 'us-east');
    expect(fed.learnRevocations([['us-east', forged]], times()).members.size).toBe(0);
    expect(fed.members.has('us-east')).toBe(true);
  });

  it('comes back by a newer membership alone, with other keys', async () => {
    const { shelf, fed } = setup();
    fed.events(shelf.write(revoke(5n)), times());
    const anew = new Author(await testMember('us-west', { addressRanges: ['10.2.0.0/16'], sequence: 6n }));
    fed.events(shelf.write(membershipOf(anew.test)), times());
    expect(fed.members.get('us-west')?.services.size).toBe(0);
    const change = fed.events(shelf.write(anew.tick(serviceBytes())), times());
    expect([[...change.services], codes(fed)]).toEqual([['shop/checkout'], []]);
    const restarted = federation();
    expect(restarted.restore(saved(fed), times()).ok).toBe(true);
    expect(restarted.members.get('us-west')?.services.size).toBe(1);
  });
});

describe('the header that carries marks', () => {
  const textOf = ({ revocations }: Federation, turn = 0) =>
    revocationsText(revocations.digest, revocations.signed(), turn);

  it('goes from one reader to another, and says when there is nothing more to read', () => {
    const { shelf, fed } = setup();
    expect(fed.events(shelf.write(revoke()), times()).revocations).toBe(true);
    expect(fed.events(shelf.write(revoke()), times()).revocations).toBe(false);
    const told = parseRevocations(textOf(fed));
    const { fed: peer } = setup();
    expect(peer.revocations.digest).not.toBe(told.digest);
    expect(peer.learnRevocations(told.marks, times())).toMatchObject({
      revocations: true,
      members: new Set(['us-west']),
      services: new Set(['shop/checkout']),
    });
    expect([peer.members.has('us-west'), peer.members.has('us-east')]).toEqual([false, true]);
    expect(peer.revocations.digest).toBe(told.digest);
    expect(peer.learnRevocations(told.marks, times()).revocations).toBe(false);
  });

  it('tells of one who is no member here yet: the mark is news all the same', () => {
    const fed = federation();
    expect(fed.learnRevocations([['us-west', markBytes()]], times()).revocations).toBe(true);
    const { shelf } = setup();
    fed.snapshot(shelf.snapshot(), times());
    expect([fed.members.has('us-west'), fed.members.has('us-east')]).toEqual([false, true]);
  });

  it('is bounded; the newest is always there, and each of many has its turn', () => {
    const fed = federation();
    const marks = Array.from({ length: 100 }, (_, i) => {
      const mark = { clusterset: 'demo', member: `m${i}`, sequence: 1n, reason: 'r'.repeat(200), wallMs: i };
      const signed = signRevocation(mark, authority.privateKey);
      if (!signed.ok) throw signed.error;
      return [`m${i}`, signed.value] as const;
    });
    fed.learnRevocations(marks, times());
    const peer = federation();
    for (let turn = 0; turn < 100; turn++) {
      const text = textOf(fed, turn);
      expect(text.length).toBeLessThanOrEqual(limits.revocationsTextMax);
      const told = parseRevocations(text);
      expect(told.marks.length).toBeLessThanOrEqual(limits.revocationsToldMax);
      expect(told.marks[0]?.[0]).toBe('m99');
      peer.learnRevocations(told.marks, times());
    }
    expect(peer.revocations.digest).toBe(fed.revocations.digest);
    expect(peer.revocations.signed()).toHaveLength(100);
  });

  it('holds no mark but the authority’s, and nonsense in it is passed over', () => {
    const texts = ['', ',,,', 'x', 'A:aa', 'us-west', ':', '=', '=,us-west:', '=x,a:!', `=x,a:${'b'.repeat(100_000)}`];
    for (const nonsense of texts) expect(parseRevocations(nonsense).marks, nonsense.slice(0, 20)).toEqual([]);
    const { fed } = setup();
    const forged = markBytes(1n, generateKeyPairSync('ed25519').privateKey);
    const refused: string[] = [];
    const tell = (marks: readonly (readonly [string, Uint8Array])[]) =>
      fed.learnRevocations(marks, times(), (error) => refused.push(error.code)).revocations;
    expect(
      tell([
        ['us-west', forged],
        ['us-west', new Uint8Array()],
        ['us-east', markBytes()],
      ]),
    ).toBe(false);
    expect(refused).toEqual(['member/signature', 'record/malformed', 'member/signature']);
    // It was the peer that told it: nothing is wrong with the store.
    expect([fed.members.has('us-west'), fed.members.has('us-east'), codes(fed)]).toEqual([true, true, []]);
  });
});
