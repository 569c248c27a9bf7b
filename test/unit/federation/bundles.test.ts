import { describe, expect, it } from 'vitest';
import { codec } from '../../../src/records/codec.ts';
import { rootFingerprint } from '../../../src/trust/bundle.ts';
import type { Member } from '../../../src/trust/membership.ts';
import { certificate, rsa, type TestMember, testMember } from '../trust/certificates.ts';
import { Author, federation, membershipOf, Shelf, times } from './author.ts';

const [first, second, foreign, leaf, weak] = await Promise.all([
  certificate('root 1 of us-west'),
  certificate('root 2 of us-west'),
  certificate('root of eu-central'),
  certificate('no ca', { ca: false }),
  certificate('weak', { algorithm: rsa(1024) }),
]);
const west = await testMember('us-west');
const known = (change: Partial<Member>): TestMember => ({ ...west, member: { ...west.member, ...change } });
const prints = (...roots: Uint8Array[]): string[] => roots.map(rootFingerprint);

const bundle = (sequence: bigint, ...roots: Uint8Array[]): Record<string, Uint8Array> => {
  const record = { trustDomain: 'corp.example', roots, sequence, refreshHintS: 300, critical: [] };
  const bytes = codec.trust.encode({ $typeName: 'isthmus.v1.TrustRecord', ...record });
  if (!bytes.ok) throw bytes.error;
  return { trust: bytes.value };
};

const setup = (trustRoots: readonly string[] | undefined) => {
  const shelf = new Shelf();
  const author = new Author(west);
  const fed = federation();
  const tell = (changes: Record<string, Uint8Array | undefined>) => fed.events(shelf.write(changes), times());
  tell(membershipOf(known({ trustRoots })));
  let sequence = 1n;
  return {
    fed,
    publish: (changes: Record<string, Uint8Array | undefined>) => tell(author.tick(changes)),
    register: (...roots: Uint8Array[]) => {
      sequence++;
      return tell(membershipOf(known({ trustRoots: prints(...roots), sequence })));
    },
    inUse: () => (fed.members.get('us-west')?.trust?.roots ?? []).map((der) => rootFingerprint(der)),
    problems: () => (fed.members.get('us-west')?.problems ?? []).map(({ code, message }) => `${code}: ${message}`),
  };
};

describe('a bundle and the roots that are registered for its member', () => {
  it('is taken when each root is registered, and refused whole when one is not: the last good one stays', () => {
    const { publish, inUse, problems, register } = setup(prints(first));
    publish(bundle(1n, first));
    expect(inUse()).toEqual(prints(first));
    publish(bundle(2n, first, foreign));
    expect(inUse()).toEqual(prints(first));
    expect(problems()).toEqual([
      expect.stringMatching(/^trust\/root-refused: trust of us-west, root 1 .*not registered for us-west/),
    ]);
    // The authority says yes: what waited is taken, nothing has to be published again.
    const change = register(first, foreign);
    expect([inUse(), problems(), change.members.has('us-west')]).toEqual([prints(first, foreign), [], true]);
  });

  it('loses a root at once that the authority takes back, and keeps the others', () => {
    const { publish, inUse, problems, register } = setup(prints(first, second));
    publish(bundle(1n, first, second));
    register(second);
    expect(inUse()).toEqual(prints(second));
    expect(problems()).toHaveLength(1);
    // Nothing of it comes back with the next membership, and the member's own word puts it in order.
    register(second, foreign);
    expect(inUse()).toEqual(prints(second));
    publish(bundle(2n, second));
    expect([inUse(), problems()]).toEqual([prints(second), []]);
  });

  it('stays as it was when roots are no CAs or weak, when none is left, and when the record is withdrawn', () => {
    const { publish, inUse, problems } = setup(prints(first, leaf, weak));
    publish(bundle(1n, first));
    const none = codec.trust.encode({
      ...{ $typeName: 'isthmus.v1.TrustRecord', trustDomain: 'corp.example', refreshHintS: 0 },
      ...{ roots: [], sequence: 2n, critical: [] },
    });
    expect(none.ok).toBe(false);
    const empty = Uint8Array.from([0x0a, 12, ...Buffer.from('corp.example'), 0x18, 2]);
    for (const changes of [bundle(2n, leaf), bundle(2n, weak), { trust: empty }, { trust: undefined }]) {
      publish(changes);
      expect(inUse()).toEqual(prints(first));
      expect(problems()).toHaveLength(1);
    }
    publish(bundle(3n, first));
    expect([inUse(), problems()]).toEqual([prints(first), []]);
  });

  it('does not go back to an older bundle', () => {
    const { publish, inUse, problems } = setup(undefined);
    publish(bundle(5n, first, second));
    publish(bundle(4n, first));
    expect([inUse(), problems()]).toEqual([prints(first, second), [expect.stringMatching(/^trust\/stale/)]]);
    // Of two bundles with one number nobody could say which is newer.
    publish(bundle(5n, second));
    expect([inUse(), problems()]).toEqual([prints(first, second), [expect.stringMatching(/^trust\/stale/)]]);
    // The whole of it again, of which a root had been taken back.
    publish(bundle(5n, first, second));
    expect(problems()).toEqual([]);
    // The same roots under a lower number: nothing to go back to.
    publish(bundle(4n, first, second));
    expect(problems()).toEqual([]);
    publish(bundle(6n, second));
    expect(inUse()).toEqual(prints(second));
  });

  it('of a membership without a list is taken as before', () => {
    const { publish, inUse } = setup(undefined);
    publish(bundle(1n, foreign));
    expect(inUse()).toEqual(prints(foreign));
  });
});
