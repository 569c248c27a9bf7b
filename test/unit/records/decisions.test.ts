/** Records of decisions: grants, votes, verdicts and the state behind them, and the cluster set's policy. */
import { generateKeyPairSync } from 'node:crypto';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Result } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import {
  type GrantsRecord,
  GrantsRecordSchema,
  type ReadersRecord,
  ReadersRecordSchema,
  type StatePart,
  StatePartSchema,
  type VerdictsRecord,
  VerdictsRecordSchema,
  type VotesRecord,
  VotesRecordSchema,
} from '../../../src/gen/isthmus/v1/records_pb.ts';
import { codec } from '../../../src/records/codec.ts';
import { signSetPolicy, verifySetPolicy } from '../../../src/records/set_policy.ts';
import { encodeSigned } from '../../../src/records/signed.ts';
import { decodeStatePart, joinState, splitState, stateBytesMax } from '../../../src/records/verdicts.ts';
import { label, someService } from './arbitrary.ts';

const value = <T>(result: Result<T>): T => {
  if (!result.ok) throw result.error;
  return result.value;
};
const refused = (result: Result<unknown>): string => {
  if (result.ok) throw new Error('accepted');
  return `${result.error.code}: ${result.error.message}`;
};
const service = fc.oneof(
  fc.constant('*'),
  fc.tuple(label, label).map(([ns, name]) => `${ns}/${name}`),
);

const grants: fc.Arbitrary<GrantsRecord> = fc.record({
  $typeName: fc.constant('isthmus.v1.GrantsRecord' as const),
  reader: label,
  grants: fc.uniqueArray(
    fc.record({
      $typeName: fc.constant('isthmus.v1.SpillGrant' as const),
      service,
      perSecond: fc.nat(limits.capacityPerSecondMax),
    }),
    { maxLength: 8, selector: (grant) => grant.service },
  ),
  critical: fc.constant([]),
});
const readers: fc.Arbitrary<ReadersRecord> = fc.record({
  $typeName: fc.constant('isthmus.v1.ReadersRecord' as const),
  parts: fc.uniqueArray(
    fc.record({
      $typeName: fc.constant('isthmus.v1.ReaderPart' as const),
      reader: label,
      root: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    }),
    { selector: ({ reader }) => reader, maxLength: 8 },
  ),
  critical: fc.constant([]),
});
const votes: fc.Arbitrary<VotesRecord> = fc.record({
  $typeName: fc.constant('isthmus.v1.VotesRecord' as const),
  accused: fc.uniqueArray(label, { maxLength: 8 }),
  critical: fc.constant([]),
});
const verdicts: fc.Arbitrary<VerdictsRecord> = fc.record({
  $typeName: fc.constant('isthmus.v1.VerdictsRecord' as const),
  summary: fc.uniqueArray(
    fc.record({
      $typeName: fc.constant('isthmus.v1.VerdictSummary' as const),
      service: fc.oneof(
        fc.constant(''),
        service.filter((s) => s !== '*'),
      ),
      member: label,
      state: fc.constantFrom('suspect', 'quarantined', 'evicted'),
      reason: fc.constantFrom('ProbeFailed', 'NotReady'),
    }),
    { maxLength: 8, selector: (s) => `${s.service}|${s.member}` },
  ),
  more: fc.nat(100),
  frozen: fc.boolean(),
  parts: fc.integer({ min: 1, max: limits.statePartsMax }),
  bytes: fc.nat(stateBytesMax),
  digest: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  atMs: fc.bigInt({ min: 0n, max: 2n ** 45n }),
  wallMs: fc.bigInt({ min: 0n, max: 2n ** 45n }),
  critical: fc.constant([]),
});

const kinds = [
  ['grants', codec.grants, grants, GrantsRecordSchema],
  ['votes', codec.votes, votes, VotesRecordSchema],
  ['readers', codec.readers, readers, ReadersRecordSchema],
  ['verdicts', codec.verdicts, verdicts, VerdictsRecordSchema],
] as const;

describe.each(kinds)('%s', (_, one, arbitrary, schema) => {
  const { encode, decode } = one as { encode(r: unknown): Result<Uint8Array>; decode(b: Uint8Array): Result<unknown> };
  it('come back as they were written, to a second decoder too', () => {
    fc.assert(
      fc.property(arbitrary as fc.Arbitrary<object>, (record) => {
        const bytes = value(encode(record));
        expect(value(decode(bytes))).toEqual(record);
        expect({ ...fromBinary(schema as typeof GrantsRecordSchema, bytes) }).toEqual(record);
      }),
    );
  });
  it('never throw: any bytes, cut ones, and ones with a byte changed', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 120 }),
        arbitrary as fc.Arbitrary<object>,
        fc.nat(),
        fc.nat(255),
        (noise, record, at, flip) => {
          decode(noise);
          const bytes = value(encode(record));
          decode(bytes.subarray(0, bytes.length === 0 ? 0 : at % bytes.length));
          const damaged = Uint8Array.from(bytes);
          if (damaged.length > 0) damaged[at % damaged.length]! ^= flip;
          const result = decode(damaged);
          if (!result.ok) expect(result.error.code).toMatch(/^record\//);
        },
      ),
      { numRuns: 300 },
    );
  });
  it('are refused by size before they are read', () => {
    expect(refused(decode(new Uint8Array(limits.recordBytesMax + 1)))).toContain('record/too-large');
  });
});

describe('numbers and names beyond reason', () => {
  const grant = (over: string, perSecond: number) => ({
    $typeName: 'isthmus.v1.SpillGrant' as const,
    service: over,
    perSecond,
  });
  const record = (...list: ReturnType<typeof grant>[]): GrantsRecord => ({
    $typeName: 'isthmus.v1.GrantsRecord',
    reader: 'us-east',
    grants: list,
    critical: [],
  });
  it('a grant is cut to what counts, and refused with a service twice or none', () => {
    const cut = value(codec.grants.decode(toBinary(GrantsRecordSchema, record(grant('*', 4_294_967_295)))));
    expect(cut.grants[0]?.perSecond).toBe(limits.capacityPerSecondMax);
    expect(refused(codec.grants.encode(record(grant('a/b', 1), grant('a/b', 2))))).toContain('"a/b" appears twice');
    for (const bad of ['', 'a', 'a/', '/b', 'a/b/c', 'A/b', '**']) {
      expect(refused(codec.grants.encode(record(grant(bad, 1))))).toContain('grants.service');
    }
    const many = Array.from({ length: limits.grantsPerReaderMax + 1 }, (_, i) => grant(`a/s${i}`, 1));
    expect(refused(codec.grants.encode(record(...many)))).toContain('more than 1024');
    expect(refused(codec.grants.encode({ ...record(), reader: 'US' }))).toContain('grants.reader: "US"');
  });
  it('readers are members, each once, each with a root', () => {
    const of = (...parts: readonly (readonly [string, number])[]) =>
      refused(
        codec.readers.encode({
          $typeName: 'isthmus.v1.ReadersRecord',
          parts: parts.map(([reader, bytes]) => ({
            $typeName: 'isthmus.v1.ReaderPart' as const,
            reader,
            root: new Uint8Array(bytes),
          })),
          critical: [],
        }),
      );
    expect(of(['us-east', 32], ['us-east', 32])).toContain('appears twice');
    expect(of(['us/east', 32])).toContain('readers.reader');
    expect(of(['us-east', 31])).toContain('readers.root');
    expect(of(['us-east', 33])).toContain('root');
  });

  it('votes are few, each a region, each once', () => {
    const of = (accused: string[]): VotesRecord => ({ $typeName: 'isthmus.v1.VotesRecord', accused, critical: [] });
    expect(refused(codec.votes.encode(of(['us-east', 'us-east'])))).toContain('appears twice');
    expect(refused(codec.votes.encode(of(['']))) + refused(codec.votes.encode(of(['a b'])))).toContain('votes.accused');
    expect(refused(codec.votes.encode(of(Array.from({ length: 65 }, (_, i) => `r${i}`))))).toContain('more than 64');
  });
  it('a service’s declared capacity is cut, and its draining is a flag', () => {
    const said = someService({ draining: true, declaredCapacityPerSecond: 50 });
    expect(value(codec.service.decode(value(codec.service.encode(said))))).toEqual(said);
    const absurd = value(codec.service.encode(someService({ declaredCapacityPerSecond: 4_000_000_000 })));
    expect(value(codec.service.decode(absurd)).declaredCapacityPerSecond).toBe(limits.capacityPerSecondMax);
    // What was never said is not said.
    expect(value(codec.service.decode(value(codec.service.encode(someService()))))).not.toHaveProperty('draining');
  });
});

describe('a shipped state', () => {
  const parts = (bytes: readonly Uint8Array[]): Map<number, StatePart> =>
    new Map(bytes.map((each, n) => [n, value(decodeStatePart(each))]));
  const record = (head: Pick<VerdictsRecord, 'parts' | 'bytes' | 'digest'>): VerdictsRecord => ({
    $typeName: 'isthmus.v1.VerdictsRecord',
    summary: [],
    more: 0,
    frozen: false,
    ...head,
    atMs: 0n,
    wallMs: 0n,
    critical: [],
  });
  it('is whole again whatever its size', () => {
    for (const size of [0, 1, limits.statePartBytesMax, limits.statePartBytesMax + 1, 3 * limits.statePartBytesMax]) {
      const state = Uint8Array.from({ length: size }, (_, i) => (i * 7) % 251);
      const split = value(splitState(state));
      expect(split.parts.every((part) => part.length <= limits.recordBytesMax)).toBe(true);
      const joined = value(joinState(record(split.head), parts(split.parts)));
      if (size === 0) expect(joined).toBeUndefined();
      else expect(Buffer.compare(joined!, state)).toBe(0);
    }
    expect(refused(splitState(new Uint8Array(stateBytesMax + 1)))).toContain('record/too-large');
  });
  it('is refused with a part missing, changed or of another state', () => {
    const state = new Uint8Array(2 * limits.statePartBytesMax).fill(1);
    const { head, parts: bytes } = value(splitState(state));
    const all = parts(bytes);
    expect(refused(joinState(record(head), new Map([...all].slice(1))))).toContain('part 0 of 2 is missing');
    const other = new Map(all).set(1, { ...all.get(1)!, data: new Uint8Array(limits.statePartBytesMax).fill(2) });
    expect(refused(joinState(record(head), other))).toContain('are not the');
    expect(refused(decodeStatePart(toBinary(StatePartSchema, { ...all.get(0)!, data: new Uint8Array() })))).toContain(
      'state.data',
    );
  });
});

describe('the cluster set’s policy', () => {
  const authority = generateKeyPairSync('ed25519');
  const stranger = generateKeyPairSync('ed25519');
  const signed = (sequence: bigint, spec: Record<string, unknown>, key = authority.privateKey, clusterset = 'demo') =>
    value(signSetPolicy({ clusterset, sequence, spec }, key));
  const context = { clusterset: 'demo', authorityKey: authority.publicKey, highWater: undefined };

  it('is taken from its authority alone, for this cluster set alone', () => {
    const verified = value(verifySetPolicy(signed(3n, { mode: 'observe' }), context));
    expect(verified.spec).toEqual({ mode: 'observe' });
    expect(refused(verifySetPolicy(signed(3n, {}, stranger.privateKey), context))).toContain('policy/signature');
    expect(refused(verifySetPolicy(signed(3n, {}, authority.privateKey, 'other'), context))).toContain('other');
    // A membership's or a manifest's signature is none for a policy.
    const payload = new TextEncoder().encode('x');
    const wrongKind = value(encodeSigned('membership', payload, 1_000, authority.privateKey));
    expect(refused(verifySetPolicy(wrongKind, context))).toContain('policy/signature');
  });
  it('never goes back, nor says two things under one number', () => {
    const { mark } = value(verifySetPolicy(signed(3n, { mode: 'observe' }), context));
    const again = { ...context, highWater: mark };
    expect(refused(verifySetPolicy(signed(2n, {}), again))).toContain('policy/stale');
    expect(refused(verifySetPolicy(signed(3n, { mode: 'act' }), again))).toContain('differs');
    expect(value(verifySetPolicy(signed(3n, { mode: 'observe' }), again)).mark).toEqual(mark);
    expect(value(verifySetPolicy(signed(4n, {}), again)).spec).toEqual({});
  });
  it('is refused beyond its size, and when it is no object', () => {
    expect(refused(signSetPolicy({ clusterset: 'demo', sequence: 0n, spec: {} }, authority.privateKey))).toContain(
      'policy.sequence',
    );
    const large = { clusterset: 'demo', sequence: 1n, spec: { x: 'y'.repeat(limits.setPolicyBytesMax) } };
    expect(refused(signSetPolicy(large, authority.privateKey))).toContain('policy.spec');
    const list = { clusterset: 'demo', sequence: 1n, spec: [] as unknown as Record<string, unknown> };
    expect(refused(signSetPolicy(list, authority.privateKey))).toContain('not a JSON object');
  });
});
