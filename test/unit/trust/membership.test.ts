import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { duplicateMembers, type Member, signMembership, verifyMembership } from '../../../src/trust/membership.ts';
import { authority, certificate, testMember } from './certificates.ts';

const { member } = await testMember('us-west');
const context = {
  clusterset: 'demo',
  name: 'us-west',
  authorityKey: authority.publicKey,
  wallMs: 5_000,
  highWater: undefined,
};
const signed = (change: Partial<Member> = {}, key = authority.privateKey): Uint8Array => {
  const result = signMembership({ ...member, ...change }, key);
  if (!result.ok) throw result.error;
  return result.value;
};
const code = (bytes: Uint8Array, change: Partial<Parameters<typeof verifyMembership>[1]> = {}): string => {
  const result = verifyMembership(bytes, { ...context, ...change });
  return result.ok ? 'ok' : result.error.code;
};

describe('membership', () => {
  it('comes back as the authority signed it', () => {
    const result = verifyMembership(signed(), context);
    expect(result.ok && result.value.member).toEqual(member);
  });

  it('is refused when signed by anybody else, for another set, under another name', () => {
    expect(code(signed({}, generateKeyPairSync('ed25519').privateKey))).toBe('member/signature');
    expect(code(signed({ clusterset: 'prod' }))).toBe('member/signature');
    expect(code(signed(), { name: 'us-west-2' })).toBe('member/duplicate');
    expect(code(Uint8Array.of(1, 2, 3))).toBe('record/malformed');
    expect(code(new Uint8Array(200_000))).toBe('record/too-large');
  });

  it('never goes back, nor changes under one number', () => {
    const second = verifyMembership(signed({ sequence: 2n }), context);
    if (!second.ok) throw second.error;
    const highWater = second.value.mark;
    expect(code(signed({ sequence: 1n }), { highWater })).toBe('member/stale');
    expect(code(signed({ sequence: 2n, region: 'mars' }), { highWater })).toBe('member/stale');
    expect(code(signed({ sequence: 2n }), { highWater })).toBe('ok');
    expect(code(signed({ sequence: 3n }), { highWater })).toBe('ok');
  });

  it('counts only inside its window', () => {
    expect(code(signed(), { wallMs: 999 })).toBe('member/expired');
    expect(code(signed(), { wallMs: 1_000_000_000 })).toBe('member/expired');
    expect(code(signed(), { wallMs: 999_999_999 })).toBe('ok');
  });

  it('cannot be signed with a bad range, CA, key or namespace', async () => {
    const leaf = await certificate('leaf', { ca: false });
    const bad: [Partial<Member>, string][] = [
      [{ addressRanges: ['10.0.0.0/33'] }, '10.0.0.0/33'],
      [{ addressRanges: ['10.0.0.0'] }, '10.0.0.0'],
      [{ federationCa: leaf }, 'not a CA'],
      [{ federationCa: Uint8Array.of(1) }, 'not an X.509 certificate'],
      [{ recordKey: new Uint8Array(31) }, '31 bytes'],
      [{ namespaces: ['Shop'] }, '"Shop"'],
      [{ namespaces: ['*', 'shop'] }, 'alone'],
      [{ name: 'US' }, '"US"'],
      [{ region: '' }, 'membership.region'],
      [{ notAfterMs: 1_000 }, 'not_after_ms'],
    ];
    for (const [change, message] of bad) {
      const result = signMembership({ ...member, ...change }, authority.privateKey);
      expect(!result.ok && result.error.message).toContain(message);
    }
  });
});

describe('two members that cannot be told apart', () => {
  it('are found by name, record key and federation CA; the first stays', async () => {
    const other = (await testMember('us-east')).member;
    const found = (list: Member[]) => [...duplicateMembers(list)].map(([i, error]) => `${i} ${error.message}`);
    expect(found([member, other])).toEqual([]);
    expect(found([member, { ...other, name: 'us-west' }])).toEqual([
      '1 member us-west has the same name as member us-west',
    ]);
    expect(found([other, { ...member, recordKey: other.recordKey }])).toEqual([
      '1 member us-west has the same record key as member us-east',
    ]);
    expect(found([member, { ...other, federationCa: member.federationCa }])).toEqual([
      '1 member us-east has the same federation CA as member us-west',
    ]);
  });
});
