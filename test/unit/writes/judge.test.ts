import { generateKeyPairSync } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import type { StoreTxn } from '../../../src/core/store.ts';
import { publicKeyOf } from '../../../src/records/signed.ts';
import { judge, type Scene } from '../../../src/writes/judge.ts';
import { emptyNote } from '../../../src/writes/ledger.ts';
import { costOf, Usage } from '../../../src/writes/usage.ts';
import { Author, keys } from '../federation/author.ts';
import { testMember } from '../trust/certificates.ts';

let author: Author;
beforeAll(async () => {
  author = new Author(await testMember('us-west'));
});

const quota = {
  keys: 10,
  bytes: 20_000,
  changes: { perSecond: 10, burst: 100 },
  written: { perSecond: 1_000, burst: 1_000_000 },
};
const scene = (change: Partial<Scene> = {}): Scene => {
  const key = publicKeyOf(author.test.member.recordKey);
  if (!key.ok) throw key.error;
  return {
    clusterset: 'demo',
    member: 'us-west',
    recordKeys: [key.value],
    isMember: (name) => ['us-west', 'us-east'].includes(name),
    usage: new Usage('demo'),
    manifest: undefined,
    note: emptyNote,
    quota,
    wallMs: 1_000_000,
    ...change,
  };
};
const own = keys.memberPrefix('us-west');
const puts = (...names: readonly (string | readonly [string, Uint8Array])[]): StoreTxn => ({
  compare: [],
  puts: names.map((name) =>
    typeof name === 'string' ? { key: name, value: Buffer.from('x') } : { key: name[0], value: name[1] },
  ),
  deletes: [],
});
const code = (txn: StoreTxn, change: Partial<Scene> = {}): string => {
  const verdict = judge(txn, scene(change));
  return verdict.ok ? 'ok' : verdict.error.code;
};
const manifest = (change = {}, key = author.test.recordKey): readonly [string, Uint8Array] =>
  Object.entries(author.manifest(change, key))[0]!;

describe('names', () => {
  it('are the member’s own: for all, and for each other member', () => {
    expect(code(puts(`${own}services/shop/a`, `${keys.partPrefix('us-east', 'us-west')}salt`))).toBe('ok');
  });
  it.each([
    ['another’s', keys.manifest('us-east')],
    ['one that begins alike', `${keys.root}public/us-west2/x`],
    ['the authority’s', keys.member('us-west')],
    ['a revocation', keys.revocation('us-east')],
    ['the policy', keys.policy],
    ['a note of the gateways', keys.writeNote('us-west')],
    ['another’s to a reader', `${keys.partPrefix('us-east', 'us-south')}x`],
    ['its own to itself', `${keys.partPrefix('us-west', 'us-west')}x`],
    ['its own to nobody', `${keys.partPrefix('mars', 'us-west')}x`],
    ['its prefix alone', own],
    ['one with an empty part', `${own}services//x`],
    ['one that climbs', `${own}../us-east/manifest`],
    ['another cluster set’s', '/isthmus/v1/other/public/us-west/x'],
    ['Kubernetes’ own', '/registry/secrets/x'],
  ])('%s is refused', (_what, key) => {
    expect(code(puts(key))).toBe('store/denied');
  });
  it('that are another’s are not compared either, nor deleted', () => {
    const key = keys.manifest('us-east');
    expect(code({ ...puts(`${own}x`), compare: [{ key, modRevision: 0n }] })).toBe('store/denied');
    expect(code({ compare: [], puts: [], deletes: [key] })).toBe('store/denied');
  });
  it('of a reader that is gone may be taken away', () => {
    const gone = `${keys.partPrefix('mars', 'us-west')}salt`;
    expect(code({ compare: [], puts: [], deletes: [gone] })).toBe('ok');
  });
});

describe('a manifest', () => {
  it('is signed by a key that counts, of this member and set', async () => {
    expect(code(puts(manifest()))).toBe('ok');
    expect(code(puts(manifest({}, generateKeyPairSync('ed25519').privateKey)))).toBe('manifest/signature');
    expect(code(puts(manifest({ member: 'us-east' })))).toBe('manifest/signature');
    expect(code(puts([`${own}manifest`, Buffer.from('garbage')]))).toBe('manifest/malformed');
    expect(code(puts(manifest()), { recordKeys: [] })).toBe('manifest/signature');
  });
  it('is newer than the one that stands there', () => {
    const [, old] = manifest({ epoch: 7n, sequence: 5n });
    const next = (epoch: bigint, sequence: bigint) => code(puts(manifest({ epoch, sequence })), { manifest: old });
    expect([next(7n, 6n), next(8n, 1n)]).toEqual(['ok', 'ok']);
    expect([next(7n, 5n), next(7n, 4n), next(6n, 9n)]).toEqual(Array(3).fill('manifest/stale'));
  });
  it('is held against nothing where what stands there is not the member’s', () => {
    expect(code(puts(manifest({ epoch: 1n, sequence: 1n })), { manifest: Buffer.from('planted') })).toBe('ok');
  });
  it('is not deleted', () => {
    expect(code({ compare: [], puts: [], deletes: [keys.manifest('us-west')] })).toBe('store/denied');
  });
});

describe('room', () => {
  const filled = (count: number, bytes = 1): Usage => {
    const usage = new Usage('demo');
    usage.replace(
      Array.from({ length: count }, (_, i) => ({ key: `${own}k/${i}`, value: new Uint8Array(bytes), modRevision: 1n })),
    );
    return usage;
  };
  it('is so many keys', () => {
    expect(code(puts(`${own}k/9`), { usage: filled(10) })).toBe('ok');
    expect(code(puts(`${own}k/10`), { usage: filled(10) })).toBe('store/quota');
    expect(code({ ...puts(`${own}k/10`), deletes: [`${own}k/0`] }, { usage: filled(10) })).toBe('ok');
  });
  it('is so many bytes', () => {
    expect(code(puts([`${own}k/0`, new Uint8Array(9_000)]), { usage: filled(4, 2_000) })).toBe('ok');
    expect(code(puts([`${own}k/0`, new Uint8Array(15_000)]), { usage: filled(4, 2_000) })).toBe('store/quota');
  });
  it('may be made smaller by whoever has too much, and not larger', () => {
    expect(code(puts([`${own}k/0`, new Uint8Array(2)]), { usage: filled(12) })).toBe('ok');
    expect(code({ compare: [], puts: [], deletes: [`${own}k/0`] }, { usage: filled(12) })).toBe('ok');
    expect(code(puts(`${own}k/99`), { usage: filled(12) })).toBe('store/quota');
  });
  it('is left to a manifest that is a byte longer, beside what is no longer than before', () => {
    const usage = filled(12, 2_000);
    const sent = manifest({ epoch: 1n, sequence: 128n });
    usage.apply({ type: 'put', key: keys.manifest('us-west'), value: sent[1].subarray(1), modRevision: 2n });
    expect(code(puts([`${own}k/0`, new Uint8Array(2_000)], sent), { usage })).toBe('ok');
    expect(code(puts([`${own}k/99`, new Uint8Array(1)], sent), { usage })).toBe('store/quota');
  });
  it('counts what a member writes for single readers, and nobody else’s', () => {
    const usage = filled(3);
    usage.apply({
      type: 'put',
      key: `${keys.partPrefix('us-east', 'us-west')}a`,
      value: new Uint8Array(5),
      modRevision: 2n,
    });
    usage.apply({ type: 'put', key: keys.manifest('us-east'), value: new Uint8Array(5), modRevision: 2n });
    usage.apply({ type: 'put', key: keys.policy, value: new Uint8Array(5), modRevision: 2n });
    expect(usage.of('us-west').keys).toBe(4);
    usage.apply({ type: 'delete', key: `${own}k/0`, modRevision: 3n });
    usage.apply({ type: 'delete', key: `${own}k/0`, modRevision: 4n });
    expect(usage.of('us-west')).toEqual({
      keys: 3,
      bytes: 2 * costOf(`${own}k/1`, 1) + costOf(`${keys.partPrefix('us-east', 'us-west')}a`, 5),
    });
    expect([...usage.members].sort()).toEqual(['us-east', 'us-west']);
  });
  it('is bounded in one value', () => {
    const large = [`${own}x`, new Uint8Array(limits.recordBytesMax + 1)] as const;
    expect(code(puts(large), { quota: { ...quota, bytes: 10_000_000 } })).toBe('record/too-large');
  });
});

describe('speed', () => {
  it('is held back a little, and refused beyond that', () => {
    const at = (changesUntilMs: number) => judge(puts(`${own}x`), scene({ note: { ...emptyNote, changesUntilMs } }));
    expect(at(1_000_000)).toMatchObject({ ok: true, value: { waitMs: 0 } });
    expect(at(1_000_000 + 11_000)).toMatchObject({ ok: true, value: { waitMs: 1_100 } });
    expect(at(1_000_000 + 13_000)).toMatchObject({ ok: false, error: { code: 'store/rate' } });
  });
  it('counts bytes that replace others, and deletions', () => {
    const verdict = judge({ ...puts([`${own}x`, new Uint8Array(5_000)]), deletes: [`${own}y`] }, scene());
    if (!verdict.ok) throw verdict.error;
    expect(verdict.value.note.bytesUntilMs - 1_000_000).toBeGreaterThan(5_500);
    expect(verdict.value.note.changesUntilMs - 1_000_000).toBe(200);
    expect(verdict.value.note).toMatchObject({ keys: 1 });
  });
});
