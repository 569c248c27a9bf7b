import { describe, expect, it } from 'vitest';
import type { Known } from '../../../src/cli/desk.ts';
import { isOf, lossesOf, proveUntouched } from '../../../src/cli/put_out.ts';
import type { StoreEntry } from '../../../src/core/store.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { testMember } from '../trust/certificates.ts';

const keys = storeKeys('demo');
const entry = (key: string, modRevision = 1n, byte = 0): StoreEntry => ({
  key,
  value: Uint8Array.of(byte),
  modRevision,
});
const known = async (...names: string[]): Promise<Map<string, Known>> => {
  const all = new Map<string, Known>();
  for (const name of names) {
    const { member } = await testMember(name);
    all.set(name, { member, revocation: undefined, modRevision: 1n });
  }
  return all;
};

describe('what everybody else loses', () => {
  it('names each service with the members that still have it', async () => {
    const members = await known('us-west', 'us-east', 'thief');
    const mark = { clusterset: 'demo', member: 'thief', sequence: 9n, reason: '', wallMs: 0 };
    members.set('thief', { ...members.get('thief')!, revocation: mark });
    const entries = [
      entry(keys.service('us-west', 'shop', 'checkout')),
      entry(keys.service('us-east', 'shop', 'checkout')),
      entry(keys.service('us-west', 'shop', 'cart')),
      // Out, unknown, and not of the member: they take nobody's place.
      entry(keys.service('thief', 'shop', 'cart')),
      entry(keys.service('stranger', 'shop', 'cart')),
      entry(keys.service('us-east', 'shop', 'other')),
      entry(keys.gateways('us-west')),
      // For one reader alone.
      entry(`${keys.partPrefix('us-east', 'us-west')}services/shop/secret`),
    ];
    expect(lossesOf(entries, 'demo', 'us-west', members)).toEqual([
      { service: 'shop/cart', remaining: [] },
      { service: 'shop/checkout', remaining: ['us-east'] },
      { service: 'shop/secret', remaining: [] },
    ]);
    expect(lossesOf(entries, 'demo', 'us-north', members)).toEqual([]);
  });
});

describe('the proof that nothing else changed', () => {
  const own = isOf('demo', 'us-west');

  it('knows what a member published for one reader, and what was for it', () => {
    const part = (reader: string, member: string) => own(`${keys.partPrefix(reader, member)}services/shop/us-west`);
    expect([part('us-east', 'us-west'), part('us-west', 'us-east'), part('us-east', 'eu')]).toEqual([
      true,
      true,
      false,
    ]);
  });
  const before = [entry(keys.gateways('us-east')), entry(keys.manifest('us-east')), entry(keys.gateways('us-west'))];

  it('takes what others wrote meanwhile, and nothing of ours', () => {
    const after = [
      entry(keys.gateways('us-east')),
      entry(keys.manifest('us-east'), 5n, 1),
      entry(keys.revocation('us-west'), 4n),
    ];
    expect(proveUntouched(before, after, own, new Set([4n]))).toMatchObject({ same: 1, byOthers: 1 });
    expect(() => proveUntouched(before, after, own, new Set([5n]))).toThrow(keys.manifest('us-east'));
  });

  it('knows a member from one whose name begins with the same letters', () => {
    expect([keys.member('us-west'), keys.gateways('us-west'), keys.revocation('us-west')].every(own)).toBe(true);
    expect([keys.member('us-west2'), keys.gateways('us-west2'), keys.policy].some(own)).toBe(false);
  });
});
