import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Manifest } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { headsOf, toJournalHead } from '../../../src/records/journal_head.ts';
import { signManifest, verifyManifest } from '../../../src/records/manifest.ts';
import { encodeSigned, publicKeyOf, rawPublicKey } from '../../../src/records/signed.ts';

const ours = generateKeyPairSync('ed25519');
const theirs = generateKeyPairSync('ed25519');
const manifest: Manifest = {
  $typeName: 'isthmus.v1.Manifest',
  clusterset: 'demo',
  member: 'us-west',
  epoch: 7n,
  sequence: 3n,
  root: new Uint8Array(32).fill(9),
  count: 2,
  wallMs: 1_000n,
  shuttingDown: false,
  critical: [],
};
const signer = { clusterset: 'demo', member: 'us-west', key: ours.publicKey };
const signed = (change: Partial<Manifest> = {}, key = ours.privateKey): Uint8Array => {
  const result = signManifest({ ...manifest, ...change }, key);
  if (!result.ok) throw result.error;
  return result.value;
};
const code = (bytes: Uint8Array, by = signer): string => {
  const result = verifyManifest(bytes, by);
  return result.ok ? 'ok' : result.error.code;
};

describe('manifests', () => {
  it('verify with the key that the membership names', () => {
    const key = publicKeyOf(rawPublicKey(ours.privateKey));
    if (!key.ok) throw key.error;
    const result = verifyManifest(signed(), { ...signer, key: key.value });
    expect(result.ok && result.value).toEqual(manifest);
  });

  it('are refused with another key, another member, another cluster set', () => {
    expect(code(signed({}, theirs.privateKey))).toBe('manifest/signature');
    expect(code(signed({ member: 'us-east' }))).toBe('manifest/signature');
    expect(code(signed({ clusterset: 'prod' }))).toBe('manifest/signature');
  });

  it('are refused after any flipped byte', () => {
    const bytes = signed();
    for (let at = 0; at < bytes.length; at++) {
      const damaged = Uint8Array.from(bytes);
      damaged[at]! ^= 0x40;
      expect(['manifest/signature', 'manifest/malformed']).toContain(code(damaged));
    }
  });

  it('are refused when signed for another purpose', () => {
    const asMembership = encodeSigned('membership', signed(), 8_192, ours.privateKey);
    expect(asMembership.ok && code(asMembership.value)).toBe('manifest/signature');
  });

  it('are refused with epoch 0, a short root or a count out of bounds, already when signing', () => {
    for (const change of [
      { epoch: 0n },
      { root: new Uint8Array(31) },
      { count: 4_000_000 },
      { epoch: 2n ** 64n - 1n },
    ]) {
      expect(signManifest({ ...manifest, ...change }, ours.privateKey).ok).toBe(false);
    }
  });

  it('carry the newest entry of a journal, which is left out where there is none', () => {
    const journal = toJournalHead({ chain: '0123456789abcdef', sequence: 42, hash: 'ab'.repeat(32) });
    const result = verifyManifest(signed({ journal }), signer);
    const head = { chain: '0123456789abcdef', sequence: 42, hash: 'ab'.repeat(32) };
    expect(result.ok && headsOf(result.value)).toEqual([head]);
    const without = verifyManifest(signed(), signer);
    expect(without.ok && headsOf(without.value)).toEqual([]);
  });

  it('carry that of a border audit beside it', () => {
    const [chain, hash] = ['fedcba9876543210', 'cd'.repeat(32)];
    const audit = toJournalHead({ chain, sequence: 7, hash });
    const result = verifyManifest(signed({ audit }), signer);
    expect(result.ok && headsOf(result.value)).toEqual([{ chain, sequence: 7, hash, log: 'audit' }]);
    expect(signManifest({ ...manifest, audit: { ...audit, chain: 'x' } }, ours.privateKey).ok).toBe(false);
  });

  it('are refused with a journal that is none', () => {
    const journal = toJournalHead({ chain: '0123456789abcdef', sequence: 42, hash: 'ab'.repeat(32) });
    for (const change of [
      { chain: 'x' },
      { chain: '0123456789ABCDEF' },
      { sequence: 0n },
      { hash: new Uint8Array(31) },
    ]) {
      expect(signManifest({ ...manifest, journal: { ...journal, ...change } }, ours.privateKey).ok).toBe(false);
    }
  });
});
