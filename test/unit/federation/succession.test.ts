/** Keys that follow each other: what readers accept when, and what an attacker of etcd, or a thief of an old key, gets. */
import { generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { makeFederationCa } from '../../../src/ca/federation.ts';
import type { Federation } from '../../../src/federation/federation.ts';
import { encodeSigned, rawPublicKey, signatureOf } from '../../../src/records/signed.ts';
import { encodeKeys, encodeLink, encodeOffer } from '../../../src/records/succession.ts';
import { type NewLink, signLink } from '../../../src/trust/succession.ts';
import { type TestMember, testMember } from '../trust/certificates.ts';
import { Author, federation, membershipOf, Shelf, serviceBytes, times } from './author.ts';

const untilMs = 100_000;
interface Keys {
  readonly recordKey: KeyObject;
  readonly federation: { readonly certPem: string; readonly keyPem: string };
}
const newKeys = async (member = 'us-west'): Promise<Keys> => {
  const ttl = { clusterset: 'demo', member, ttlS: 86_400, nowMs: Date.now() };
  const made = await makeFederationCa(ttl, (bytes) => new Uint8Array(randomBytes(bytes)));
  const recordKey = generateKeyPairSync('ed25519').privateKey;
  return { recordKey, federation: { certPem: made.cert, keyPem: made.key } };
};
const derOf = ({ federation: { certPem } }: Keys) => new Uint8Array(new X509Certificate(certPem).raw);
const value = <T>(result: { ok: true; value: T } | { ok: false; error: Error }): T => {
  if (!result.ok) throw result.error;
  return result.value;
};
const linkOf = (number: number, signer: KeyObject, next: Keys, change: Partial<NewLink> = {}): Uint8Array =>
  value(
    signLink({
      ...{ clusterset: 'demo', member: 'us-west', number, signer, ...next },
      ...{ madeMs: number, previousUntilMs: untilMs, ...change },
    }),
  );
const recordOf = (...links: readonly Uint8Array[]): Record<string, Uint8Array> => ({
  keys: value(encodeKeys({ $typeName: 'isthmus.v1.KeysRecord', links: [...links], seen: [], critical: [] })),
});
const rewritten = (bytes: Uint8Array, from: Uint8Array, to: Uint8Array): Uint8Array => {
  const at = Buffer.from(bytes).indexOf(from);
  expect(at).toBeGreaterThanOrEqual(0);
  return Uint8Array.from(Buffer.concat([bytes.subarray(0, at), to, bytes.subarray(at + from.length)]));
};

let west: TestMember;
let [second, third] = [] as unknown as [Keys, Keys];
let first: Uint8Array;
beforeAll(async () => {
  west = await testMember('us-west', { addressRanges: ['10.2.0.0/16'] });
  [second, third] = [await newKeys(), await newKeys()];
  first = linkOf(1, west.recordKey, second);
});

const setup = (fed: Federation = federation()) => {
  const shelf = new Shelf();
  const author = new Author(west);
  shelf.write(membershipOf(west));
  shelf.write(author.tick(serviceBytes()));
  fed.snapshot(shelf.snapshot(), times());
  const tell = (changes: Record<string, Uint8Array | undefined>, at = 0) => fed.events(shelf.write(changes), times(at));
  /** A tick whose manifest is by this key. */
  const tick = (by: KeyObject, changes: Record<string, Uint8Array | undefined> = {}, at = 0) => {
    const puts = author.tick(changes);
    return tell({ ...puts, ...author.manifest({}, by) }, at);
  };
  const view = () => fed.members.get('us-west')!;
  const cas = () => view().succession!.federationCas.map((ca) => Buffer.from(ca).toString('hex'));
  return { shelf, author, fed, tell, tick, view, cas };
};
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const codes = (of: ReturnType<typeof setup>) => of.view().problems.map(({ code }) => code);

describe('a key that follows another', () => {
  it('counts with the one before it for a while, and then alone', () => {
    const s = setup();
    expect([s.view().succession?.number, s.cas()]).toEqual([0, [hex(west.member.federationCa)]]);
    const change = s.tick(west.recordKey, recordOf(first));
    expect([...change.members]).toEqual(['us-west']);
    expect([s.view().succession?.number, s.cas()]).toEqual([1, [hex(derOf(second)), hex(west.member.federationCa)]]);
    for (const key of [second.recordKey, west.recordKey, second.recordKey]) {
      s.tick(key);
      expect([s.view().head?.sequence, codes(s)]).toEqual([s.author.sequence, []]);
    }
    const over = s.fed.tick(times(untilMs));
    expect([[...over.members], s.cas()]).toEqual([['us-west'], [hex(derOf(second))]]);
    s.tick(second.recordKey, {}, untilMs);
    expect(codes(s)).toEqual([]);
    const { sequence } = s.author;
    s.tick(west.recordKey, serviceBytes('late'), untilMs);
    expect([s.view().head?.sequence, codes(s)]).toEqual([sequence, ['manifest/signature']]);
    expect(s.view().services.has('shop/late')).toBe(false);
  });

  it('counts before a manifest covers it, and before the membership is there', () => {
    const s = setup();
    s.tell({ [s.author.key('keys')]: recordOf(first)['keys'] });
    expect(s.view().succession?.number).toBe(1);
    const shelf = new Shelf();
    const fed = federation();
    const author = new Author(west);
    author.tick(recordOf(first));
    fed.events(shelf.write({ ...author.tick(serviceBytes()), ...author.manifest({}, second.recordKey) }), times());
    fed.events(shelf.write({ [author.key('keys')]: recordOf(first)['keys'] }), times());
    fed.events(shelf.write(membershipOf(west)), times());
    expect(fed.members.get('us-west')?.services.size).toBe(1);
  });

  it('is followed over many by who was away, and from where the authority names a later one', () => {
    const chain = [first, linkOf(2, second.recordKey, third)];
    const s = setup();
    s.tick(third.recordKey, recordOf(...chain));
    expect([s.view().succession?.number, codes(s), s.cas()]).toEqual([2, [], [hex(derOf(third)), hex(derOf(second))]]);
    const renewed = {
      recordKey: second.recordKey,
      member: { ...west.member, sequence: 2n, recordKey: rawPublicKey(second.recordKey), federationCa: derOf(second) },
    };
    s.tell(membershipOf(renewed));
    expect([s.view().succession?.number, codes(s)]).toEqual([2, []]);
    s.tick(third.recordKey);
    expect(codes(s)).toEqual([]);
    // One that names the newest itself needs no link.
    const newest = {
      ...renewed.member,
      sequence: 3n,
      recordKey: rawPublicKey(third.recordKey),
      federationCa: derOf(third),
    };
    s.tell(membershipOf({ ...renewed, member: newest }));
    s.tick(third.recordKey);
    expect([codes(s), s.cas()]).toEqual([[], [hex(derOf(third))]]);
  });
});

describe('what an attacker of etcd gets', () => {
  it('nothing by deleting the record or putting an older one back, not over a restart either', () => {
    const s = setup();
    const chain = recordOf(first, linkOf(2, second.recordKey, third));
    s.tick(third.recordKey, chain);
    s.tell({ [s.author.key('keys')]: recordOf(first)['keys'] });
    expect([s.view().succession?.number, codes(s)]).toEqual([2, ['member/stale']]);
    s.tell({ [s.author.key('keys')]: undefined });
    expect(s.view().succession?.number).toBe(2);
    const again = federation();
    expect(again.restore(Buffer.concat([...s.fed.save(times())]), times()).ok).toBe(true);
    expect(again.members.get('us-west')?.succession?.number).toBe(2);
    again.snapshot(s.shelf.snapshot(), times());
    again.events(s.shelf.write({ [s.author.key('keys')]: recordOf(first)['keys'] }), times());
    // A manifest of the first key, which has had its time.
    again.events(s.shelf.write(s.author.manifest({}, west.recordKey)), times());
    const view = again.members.get('us-west')!;
    expect(view.succession?.number).toBe(2);
    expect(view.problems.map(({ code }) => code)).toEqual(['member/stale', 'manifest/signature']);
    expect(view.services.size).toBe(1);
  });

  it('nothing with a stolen key that was replaced: another next one is refused', async () => {
    const s = setup();
    s.tick(west.recordKey, recordOf(first));
    const thief = await newKeys();
    const fork = linkOf(1, west.recordKey, thief);
    s.tell({ [s.author.key('keys')]: recordOf(fork)['keys'] });
    expect([s.view().succession?.number, codes(s), s.cas()[0]]).toEqual([1, ['member/stale'], hex(derOf(second))]);
    s.tell({ [s.author.key('keys')]: recordOf(fork, linkOf(2, thief.recordKey, await newKeys()))['keys'] });
    expect([s.view().succession?.number, codes(s)]).toEqual([1, ['member/stale']]);
  });

  it.each([
    ['by a key that is not the member’s', async () => [linkOf(1, (await newKeys()).recordKey, second)]],
    [
      'whose signature was changed',
      async () => [Uint8Array.from(first, (byte, i) => (i === first.length - 1 ? byte ^ 1 : byte))],
    ],
    ['of another member', async () => [linkOf(1, west.recordKey, second, { member: 'us-east' })]],
    ['of another cluster set', async () => [linkOf(1, west.recordKey, second, { clusterset: 'other' })]],
    ['that skips one', async () => [first, linkOf(3, second.recordKey, third)]],
    ['that goes on from a key that was never named', async () => [first, linkOf(2, third.recordKey, second)]],
    [
      'whose key was swapped',
      async () => [rewritten(first, rawPublicKey(second.recordKey), rawPublicKey(third.recordKey))],
    ],
    ['that is garbage', async () => [new Uint8Array(40)]],
  ])('nothing by a link %s', async (_what, links) => {
    const s = setup();
    const bytes = await links();
    s.tick(west.recordKey, recordOf(...bytes));
    expect([s.view().succession?.number, s.cas()]).toEqual([0, [hex(west.member.federationCa)]]);
    // Its other records are as good as ever.
    expect(s.view().head?.sequence).toBe(s.author.sequence);
    s.tick(second.recordKey);
    expect(codes(s)).toContain('manifest/signature');
  });

  it.each([
    ['record key', 'recordKey', 'no proof by its record key'],
    ['federation CA', 'federation', 'no proof by its federation CA'],
  ] as const)('nothing by announcing another’s %s: both new keys must agree', async (_what, field, why) => {
    const theirs = await newKeys('eu-west');
    const named = { ...second, [field]: theirs[field] };
    const link = value(
      encodeLink({
        $typeName: 'isthmus.v1.SuccessionLink',
        ...{ clusterset: 'demo', member: 'us-west', number: 1, previousKey: rawPublicKey(west.recordKey) },
        ...{ recordKey: rawPublicKey(named.recordKey), federationCa: derOf(named), critical: [] },
        ...{ madeMs: 1n, previousUntilMs: BigInt(untilMs) },
      }),
    );
    // What it can sign with is its own.
    const offer = value(
      encodeOffer({
        $typeName: 'isthmus.v1.SuccessionOffer',
        link,
        recordKeyProof: signatureOf('succession-key', link, second.recordKey),
        federationCaProof: new Uint8Array(
          sign('sha256', Buffer.concat([Buffer.from('isthmus/v1/succession-ca\0'), link]), second.federation.keyPem),
        ),
      }),
    );
    const s = setup();
    s.tick(west.recordKey, recordOf(value(encodeSigned('succession', offer, 12_000, west.recordKey))));
    expect(s.view().succession?.number).toBe(0);
    expect(s.view().problems[0]?.message).toContain(why);
  });
});
