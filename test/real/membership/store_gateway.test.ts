/** A cluster set that is given a store gateway while it stands, and a cluster that joins after that: nothing of it is written to etcd but by the gateway. */
import { createPrivateKey } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { storeKeys } from '../../../src/records/keys.ts';
import type { EtcdStore } from '../../../src/store/etcd.ts';
import { readToken, type Token, tokenKey, tokenUser } from '../../../src/trust/tokens.ts';
import { StoreGatewayProcess } from '../controller/store_gateway.ts';
import { isthmus, startDesk, type TestDesk } from './desk.ts';

const keys = storeKeys('demo');
let desk: TestDesk;
let gateway: StoreGatewayProcess;
beforeAll(async () => {
  desk = await startDesk(['us-east']);
  gateway = await StoreGatewayProcess.make(join(desk.authority, 'store-gateway'));
});
afterAll(async () => {
  await gateway?.stop();
  await desk?.stop();
});

const at = (...argv: string[]) => isthmus(...argv, '--authority-dir', desk.authority);
const put = (key: string) => ({ compare: [], puts: [{ key, value: Buffer.from('x') }], deletes: [] });
const tokenFor = async (cluster: string): Promise<{ readonly file: string; readonly token: Token }> => {
  const terms = ['--region', 'r', '--network', 'n', '--address-range', '10.77.0.0/16', '--export-namespace', 'shop'];
  const made = await at('token', 'create', '--cluster', cluster, ...terms);
  expect(made.code, made.err).toBe(0);
  const file = join(desk.dir, `${cluster}.token`);
  writeFileSync(file, made.out, { mode: 0o600 });
  const token = readToken(made.out.trim());
  if (!token.ok) throw token.error;
  return { file, token: token.value };
};
const joinerOf = ({ id, etcdCert, etcdKey, secret }: Token, through: boolean): Promise<EtcdStore> =>
  desk.etcd.store(tokenUser(id), {
    cert: Buffer.from(etcdCert),
    key: Buffer.from(etcdKey),
    writes: through ? { endpoints: [gateway.url], recordKey: () => tokenKey(secret) } : undefined,
  });

describe('a cluster set with a store gateway', () => {
  it('gets it beside what there is, and is closed to other writers when told', async () => {
    const unknown = await at('authority', 'roles', '--writes', 'gateways');
    expect([unknown.code, unknown.err], unknown.err).toEqual([64, expect.stringContaining('isthmus store gateway')]);
    const made = await at('store', 'gateway', '--url', gateway.url);
    expect([made.code, made.out], made.err).toEqual([0, expect.stringContaining('isthmus.store-gateway.demo')]);
    for (const file of ['store-gateway.yaml', 'serving.pem', 'etcd-client-key.pem', 'authority.pem']) {
      expect(existsSync(join(desk.authority, 'store-gateway', file)), file).toBe(true);
    }
    await gateway.start();
    const east = await desk.etcd.store('us-east');
    expect((await east.commit(put(`${keys.memberPrefix('us-east')}x`))).ok).toBe(true);
    const closed = await at('authority', 'roles', '--writes', 'gateways');
    expect([closed.code, closed.out], closed.err).toEqual([
      0,
      expect.stringContaining('revoked from role isthmus-demo-us-east: WRITE'),
    ]);
    await expect(east.commit(put(`${keys.memberPrefix('us-east')}x`))).rejects.toMatchObject({ code: 'store/denied' });
    await east.close();
  });

  it('lets a cluster in by a token through it, which writes through it from then on', async () => {
    const { file, token } = await tokenFor('us-west');
    const direct = await joinerOf(token, false);
    await expect(direct.commit(put(keys.joinRequest(token.id)))).rejects.toMatchObject({ code: 'store/denied' });
    await direct.close();
    const out = join(desk.dir, 'us-west');
    const [joined, approved] = await Promise.all([
      isthmus('join', '--token-file', file, '--out', out, '--timeout', '20s'),
      at('approve', token.id, '--wait'),
    ]);
    expect([joined.code, approved.code], joined.err + approved.err).toEqual([0, 0]);
    const config = parse(readFileSync(join(out, 'member.yaml'), 'utf8')) as { store: unknown };
    expect(config.store).toEqual({ endpoints: [...desk.etcd.endpoints], writeEndpoints: [gateway.url] });
    const roles = await at('authority', 'roles');
    expect([roles.code, roles.out.trim()], roles.err).toEqual([0, 'all roles are as they should be']);
    const read = (name: string): Buffer => readFileSync(join(out, name));
    const recordKey = createPrivateKey(read('record-key.pem'));
    const tls = { cert: read('etcd-client.pem'), key: read('etcd-client-key.pem') };
    const west = await desk.etcd.store('us-west', {
      ...tls,
      writes: { endpoints: [gateway.url], recordKey: () => recordKey },
    });
    const key = `${keys.memberPrefix('us-west')}services/shop/a`;
    expect((await west.commit(put(key))).ok).toBe(true);
    expect((await west.list(keys.publicPrefix)).entries.map((entry) => entry.key)).toContain(key);
    await west.close();
    // Nothing is left of the token, and it opens nothing any more.
    const root = await desk.etcd.store('root');
    const left = (await root.list(keys.root)).entries.map((entry) => entry.key).filter((one) => one.includes(token.id));
    expect(left).toEqual([]);
    await root.close();
    const again = await joinerOf(token, true);
    await expect(again.commit(put(keys.joinRequest(token.id)))).rejects.toMatchObject({ code: 'token/used' });
    await again.close();
  });

  it('gives the holder of a token its own request alone, and little room', async () => {
    const { token } = await tokenFor('eu-west');
    const joiner = await joinerOf(token, true);
    for (const key of [
      keys.joinAnswer(token.id),
      keys.joinOpen(token.id),
      keys.member('eu-west'),
      `${keys.memberPrefix('eu-west')}x`,
    ]) {
      await expect(joiner.commit(put(key)), key).rejects.toMatchObject({ code: 'store/denied' });
    }
    const codes: string[] = [];
    for (let i = 0; i < 12; i++) {
      const note = `${keys.joinRequest(token.id)}/${i.toString(16).padStart(16, '0')}`;
      codes.push(
        await joiner.commit(put(note)).then(
          () => 'ok',
          (error: { code: string }) => error.code,
        ),
      );
    }
    expect(codes.filter((code) => code === 'ok')).toHaveLength(8);
    expect(codes.at(-1)).toBe('store/quota');
    await joiner.close();
  });

  it('cuts a member off there in the moment in which it is revoked', async () => {
    const east = (name: string): Buffer => readFileSync(join(desk.authority, 'us-east', name));
    const tls = { cert: east('etcd-client.pem'), key: east('etcd-client-key.pem') };
    const recordKey = createPrivateKey(east('record-key.pem'));
    const store = await desk.etcd.store('us-east', {
      ...tls,
      writes: { endpoints: [gateway.url], recordKey: () => recordKey },
    });
    const key = `${keys.memberPrefix('us-east')}services/shop/a`;
    expect((await store.commit(put(key))).ok).toBe(true);
    const revoked = await at('revoke', 'us-east', '--yes');
    expect(revoked.code, revoked.err).toBe(79);
    await expect(store.commit(put(key))).rejects.toMatchObject({ code: 'member/revoked' });
    await store.close();
  });
});
