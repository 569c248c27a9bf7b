/** Getting in by a token, against a real etcd with authentication on: what works, what is refused, and who wins a race. */
import { createPrivateKey } from 'node:crypto';
import { chmodSync, cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { storeKeys } from '../../../src/records/keys.ts';
import { readToken } from '../../../src/trust/tokens.ts';
import { isthmus, startDesk, type TestDesk } from './desk.ts';

const keys = storeKeys('demo');
let desk: TestDesk;
beforeAll(async () => {
  desk = await startDesk(['us-east']);
});
afterAll(() => desk?.stop());

const at = (...argv: string[]) => isthmus(...argv, '--authority-dir', desk.authority);
const terms = ['--region', 'r', '--network', 'n', '--export-namespace', 'shop'];
let made = 0;
const create = async (cluster: string, ...more: string[]) => {
  const range = `10.${100 + ++made}.0.0/16`;
  const { code, out, err } = await at(
    'token',
    'create',
    '--cluster',
    cluster,
    ...terms,
    '--address-range',
    range,
    ...more,
  );
  expect(code, err).toBe(0);
  const text = out.trim();
  const file = join(desk.dir, `${cluster}-${made}.token`);
  writeFileSync(file, `${text}\n`, { mode: 0o600 });
  const token = readToken(text);
  if (!token.ok) throw token.error;
  return { text, file, token: token.value };
};
const joinTo = (file: string, out: string, ...more: string[]) =>
  isthmus('join', '--token-file', file, '--out', join(desk.dir, out), '--timeout', '10s', ...more);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('a cluster that joins by a token', () => {
  it('gets in: keys made there, a membership, an etcd user of its own, in seconds', async () => {
    const { file, token } = await create('us-west');
    const started = performance.now();
    const [joined, approved] = await Promise.all([joinTo(file, 'us-west'), at('approve', token.id, '--wait')]);
    expect([joined.code, approved.code], joined.err + approved.err).toEqual([0, 0]);
    expect(performance.now() - started).toBeLessThan(30_000);
    const bundle = join(desk.dir, 'us-west');
    expect(readdirSync(bundle).sort()).toEqual(
      [
        ...['authority.pem', 'etcd-ca.pem', 'etcd-client-key.pem', 'etcd-client.pem'],
        ...['federation-ca-key.pem', 'federation-ca.pem', 'member.yaml', 'record-key.pem'],
      ].sort(),
    );
    // What was given one by one as it came is what all roles should be.
    const roles = await at('authority', 'roles');
    expect([roles.code, roles.out.trim()], roles.err).toEqual([0, 'all roles are as they should be']);
    for (const name of readdirSync(bundle).filter((n) => n.endsWith('-key.pem'))) {
      expect(statSync(join(bundle, name)).mode & 0o077, name).toBe(0);
    }
    expect(readFileSync(join(bundle, 'authority.pem'), 'utf8')).toBe(
      readFileSync(join(desk.authority, 'authority.pem'), 'utf8'),
    );
    // As the member: its own name and no other, and no key of it in etcd or at the desk.
    const read = (name: string) => readFileSync(join(bundle, name));
    const store = await desk.etcd.store('us-west', { cert: read('etcd-client.pem'), key: read('etcd-client-key.pem') });
    const put = (key: string) => ({ compare: [], puts: [{ key, value: new Uint8Array([1]) }], deletes: [] });
    expect((await store.commit(put(`${keys.memberPrefix('us-west')}x`))).ok).toBe(true);
    await expect(store.commit(put(keys.member('us-west')))).rejects.toMatchObject({ code: 'store/denied' });
    const all = await store.list(keys.setPrefix);
    await expect(store.list(keys.readerPrefix('us-east'))).rejects.toMatchObject({ code: 'store/denied' });
    await store.close();
    expect(all.entries.map((e) => e.key)).toContain(keys.member('us-west'));
    expect(all.entries.filter((e) => e.key.includes('/joins/'))).toEqual([]);
    for (const name of ['record-key.pem', 'federation-ca-key.pem', 'etcd-client-key.pem']) {
      const { d } = createPrivateKey(read(name)).export({ format: 'jwk' });
      const secret = Buffer.from(d!, 'base64url');
      for (const { value } of all.entries) expect(Buffer.from(value).includes(secret), name).toBe(false);
    }
    expect(desk.audit().at(-1)).toMatchObject({ action: 'join', outcome: 'done', cluster: 'us-west', token: token.id });
  });

  it('is refused with a token that was used, altered, is another’s or open to others, and that is noted', async () => {
    const { file, text, token } = await create('eu-west');
    expect(
      (await Promise.all([joinTo(file, 'eu-west'), at('approve', token.id, '--wait')])).map((r) => r.code),
    ).toEqual([0, 0]);
    const again = await joinTo(file, 'again');
    expect([again.code, again.err]).toEqual([65, expect.stringContaining('token/used')]);
    const approved = await at('approve', token.id);
    expect(approved.err).toContain('token/used');
    expect(desk.audit().at(-1)).toMatchObject({ outcome: 'refused', code: 'token/used', token: token.id });
    const altered = join(desk.dir, 'altered.token');
    writeFileSync(
      altered,
      text.replace(/.(.{9})$/, (all) => (all[0] === 'A' ? 'B' : 'A') + all.slice(1)),
      { mode: 0o600 },
    );
    expect((await joinTo(altered, 'none')).err).toContain('token/altered');
    const other = await create('eu-east');
    expect((await joinTo(other.file, 'none', '--cluster', 'eu-north')).err).toContain('token/mismatch');
    expect((await joinTo(other.file, 'none', '--authority', '0000-1111')).err).toContain('token/mismatch');
    chmodSync(other.file, 0o644);
    expect((await joinTo(other.file, 'none')).err).toContain('can be read by others');
    expect(existsSync(join(desk.dir, 'none'))).toBe(false);
    // A name that is taken gets no token at all.
    const taken = await at('token', 'create', '--cluster', 'us-east', '--region', 'r');
    expect([taken.code, taken.err]).toEqual([65, expect.stringContaining('member/duplicate')]);
  });

  it('is refused when its token has expired, by whichever side looks', async () => {
    const { file, token } = await create('ap-1', '--ttl', '2s');
    const late = joinTo(file, 'ap-1');
    const slow = await late;
    expect(slow.err).toContain('join/timeout');
    const approved = await at('approve', token.id);
    expect(approved.err).toContain('token/expired');
    expect(desk.audit().at(-1)).toMatchObject({ outcome: 'refused', code: 'token/expired', token: token.id });
    expect((await joinTo(file, 'ap-1')).err).toContain('token/expired');
    expect((await at('approve', '0'.repeat(32))).err).toContain('token/unknown');
  }, 60_000);

  it('lets one of two in that race for it, and tells the other and the authority', async () => {
    for (let round = 0; round < 3; round++) {
      const name = `race-${round}`;
      const { file, token } = await create(name);
      const [a, b, approved] = await Promise.all([
        joinTo(file, `${name}-a`),
        joinTo(file, `${name}-b`),
        at('approve', token.id, '--wait'),
      ]);
      expect([a.code, b.code].sort(), a.err).toEqual([0, 65]);
      expect(approved.code).toBe(0);
      expect(a.err).toContain('token/used');
      expect([`${name}-a`, `${name}-b`].filter((n) => existsSync(join(desk.dir, n)))).toHaveLength(1);
      expect(desk.audit().filter((l) => l['token'] === token.id && l['code'] === 'token/used')).toHaveLength(1);
    }
  }, 90_000);

  it('is approved once by two that approve, on one desk and on a copy of it', async () => {
    const one = await create('twice');
    const results = await Promise.all([
      joinTo(one.file, 'twice'),
      at('approve', one.token.id, '--wait'),
      at('approve', one.token.id, '--wait'),
    ]);
    expect(
      results
        .map((r) => r.code)
        .slice(1)
        .sort(),
    ).toEqual([0, 65]);
    expect(results[0]!.code).toBe(0);
    const two = await create('copied');
    const copy = join(desk.dir, 'copy');
    cpSync(desk.authority, copy, { recursive: true });
    const both = await Promise.all([
      joinTo(two.file, 'copied'),
      at('approve', two.token.id, '--wait'),
      isthmus('approve', two.token.id, '--wait', '--authority-dir', copy),
    ]);
    expect(
      both
        .map((r) => r.code)
        .slice(1)
        .sort(),
      both[0]!.err,
    ).toEqual([0, 65]);
    expect(both[0]!.code, both[0]!.err).toBe(0);
  }, 90_000);

  it('is not revived by an etcd restored from a backup', async () => {
    const { file, token } = await create('restored');
    // The token's user is in the backup, the approval is not.
    await desk.etcd.members[0]!.stop();
    const backup = join(desk.dir, 'backup');
    await desk.etcd.saveData(backup);
    await desk.etcd.members[0]!.start();
    const first = await Promise.all([joinTo(file, 'restored'), at('approve', token.id, '--wait')]);
    expect(
      first.map((r) => r.code),
      first[0].err,
    ).toEqual([0, 0]);
    await desk.etcd.members[0]!.stop();
    await desk.etcd.restoreData(backup);
    await desk.etcd.members[0]!.start();
    const [again, approved] = await Promise.all([
      joinTo(file, 'restored-again', '--timeout', '3s'),
      at('approve', token.id, '--wait'),
    ]);
    expect([again.code, approved.code]).toEqual([75, 65]);
    expect(approved.err).toContain('token/used');
    const store = await desk.etcd.store('root');
    const members = (await store.list(keys.membersPrefix)).entries.map((e) => e.key);
    await store.close();
    expect(members).not.toContain(keys.member('restored'));
  }, 90_000);

  it('is not let in by a forged request, which uses nothing up', async () => {
    const { file, token } = await create('forged');
    const root = await desk.etcd.store('root');
    const put = {
      compare: [],
      puts: [{ key: keys.joinRequest(token.id), value: Buffer.from('rubbish') }],
      deletes: [],
    };
    await root.commit(put);
    const approving = at('approve', token.id, '--wait');
    await pause(1_500);
    await root.close();
    const [joined, approved] = await Promise.all([joinTo(file, 'forged'), approving]);
    expect([joined.code, approved.code], joined.err).toEqual([0, 0]);
    const lines = desk.audit().filter((l) => l['token'] === token.id);
    expect(lines.map((l) => l['code'] ?? l['outcome'])).toEqual(['done', 'join/refused', 'done']);
  }, 60_000);

  it('with the token alone reads and writes nothing of anybody', async () => {
    const { token } = await create('nobody');
    const cert = Buffer.from(token.etcdCert);
    const store = await desk.etcd.store('x', { cert, key: Buffer.from(token.etcdKey) });
    const put = (key: string) => ({ compare: [], puts: [{ key, value: new Uint8Array([1]) }], deletes: [] });
    for (const prefix of [keys.root, keys.membersPrefix, keys.publicPrefix, `${keys.root}set/joins/`, '/']) {
      await expect(store.list(prefix), prefix).rejects.toMatchObject({ code: 'store/denied' });
    }
    for (const key of [
      keys.member('nobody'),
      keys.manifest('us-east'),
      keys.joinAnswer(token.id),
      keys.joinRequest('0'.repeat(32)),
      keys.revocation('us-east'),
    ]) {
      await expect(store.commit(put(key)), key).rejects.toMatchObject({ code: 'store/denied' });
    }
    await store.close();
    expect((await at('token', 'delete', token.id)).code).toBe(0);
    expect((await at('token', 'list')).out).toMatch(new RegExp(`${token.id}.*withdrawn`));
  });

  it('proposes what the token leaves open, and gets it only when somebody agrees', async () => {
    const { out } = await at('token', 'create', '--cluster', 'open');
    const file = join(desk.dir, 'open.token');
    writeFileSync(file, out, { mode: 0o600 });
    const token = readToken(out);
    if (!token.ok) throw token.error;
    const proposal = [
      '--region',
      'r',
      '--network',
      'n',
      '--address-range',
      '10.99.0.0/16',
      '--export-namespace',
      'shop',
    ];
    const joining = joinTo(file, 'open', ...proposal);
    const refused = await at('approve', token.value.id, '--wait');
    expect([refused.code, refused.err]).toEqual([64, expect.stringContaining('address ranges 10.99.0.0/16')]);
    const approved = await at('approve', token.value.id, '--wait', '--accept-proposed');
    expect([approved.code, (await joining).code], approved.err).toEqual([0, 0]);
  }, 60_000);
});
