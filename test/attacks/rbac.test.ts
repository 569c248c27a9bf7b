/**
 * What etcd itself refuses to a member that speaks to it with its own certificate and with calls that Isthmus never makes. Raw calls,
 * so that nothing of ours stands between: the refusal must be etcd's.
 */
import { get } from 'node:https';
import { type ChannelCredentials, Client, credentials, type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rightsProblem } from '../../src/controller/rights.ts';
import { realClock } from '../../src/ops/clock.ts';
import { storeKeys } from '../../src/records/keys.ts';
import { connectAdmin, memberRole, type StoreAdmin } from '../../src/store/admin.ts';
import type { EtcdStore } from '../../src/store/etcd.ts';
import { startEtcd, type TestEtcd } from '../real/etcd.ts';

const clusterset = 'test';
const keys = storeKeys(clusterset);
const text = (value: string): Buffer => Buffer.from(value);

/** Fields of protobuf by hand: bytes, or a small number. */
const message = (...fields: readonly (readonly [number, Buffer | number])[]): Buffer =>
  Buffer.concat(
    fields.flatMap(([number, value]) =>
      typeof value === 'number'
        ? [Buffer.from([number << 3, value])]
        : [Buffer.from([(number << 3) | 2, ...varint(value.length)]), value],
    ),
  );
const varint = (value: number): number[] => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >> 7)]);
const end = (prefix: string): Buffer => {
  const bytes = text(prefix);
  bytes[bytes.length - 1]! += 1;
  return bytes;
};
const range = (prefix: string): Buffer => message([1, text(prefix)], [2, end(prefix)]);
const put = (key: string): Buffer => message([1, text(key)], [2, text('x')]);
const everything = Buffer.from([0]);

/** What west publishes for north alone: east is a third. */
const forNorth = `${keys.partPrefix('north', 'west')}services/shop/a`;

let etcd: TestEtcd;
let admin: StoreAdmin;
let root: EtcdStore;
let channel: ChannelCredentials;

beforeAll(async () => {
  etcd = await startEtcd();
  admin = connectAdmin({
    endpoints: etcd.endpoints,
    clock: realClock,
    log: () => {},
    ...(await etcd.client('root')),
  });
  await admin.ensureMembers(clusterset, ['east', 'west', 'north']);
  await admin.enableAuth();
  root = await etcd.store('root');
  const puts = [
    ...[keys.manifest('west'), keys.member('west'), keys.policy, keys.manifest('east')],
    ...[forNorth, `${keys.partPrefix('east', 'west')}services/shop/b`, `${keys.partPrefix('north', 'east')}x`],
  ].map((key) => ({
    key,
    value: text('good'),
  }));
  await root.commit({ compare: [], puts, deletes: [] });
  const { ca, cert, key } = await etcd.client('east');
  channel = credentials.createSsl(ca, key, cert);
});
afterAll(async () => {
  admin?.close();
  await root?.close();
  await etcd?.stop();
});

const call = (
  method: string,
  bytes: Buffer,
  as = channel,
): Promise<{ readonly code: number; readonly details: string; readonly answer: Buffer }> => {
  const client = new Client(etcd.endpoints[0]!.replace('https://', ''), as, { 'grpc.use_local_subchannel_pool': 1 });
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      `/etcdserverpb.${method}`,
      (value: Buffer) => value,
      (value: Buffer) => value,
      bytes,
      { deadline: Date.now() + 10_000 },
      (error: ServiceError | null, answer) => {
        client.close();
        resolve({ code: error?.code ?? status.OK, details: error?.details ?? '', answer: answer ?? Buffer.alloc(0) });
      },
    );
  });
};
/** The first event stream answer to a watch. */
const watch = (key: Buffer, rangeEnd: Buffer): Promise<Buffer | number> => {
  const client = new Client(etcd.endpoints[0]!.replace('https://', ''), channel, {
    'grpc.use_local_subchannel_pool': 1,
  });
  return new Promise((resolve) => {
    const stream = client.makeBidiStreamRequest(
      '/etcdserverpb.Watch/Watch',
      (v: Buffer) => v,
      (v: Buffer) => v,
      {},
    );
    const done = (value: Buffer | number): void => {
      stream.cancel();
      client.close();
      resolve(value);
    };
    stream.on('data', (answer: Buffer) => done(answer));
    stream.on('error', (error: ServiceError) => done(error.code));
    stream.write(message([1, message([1, key], [2, rangeEnd])]));
  });
};

const role = memberRole(clusterset, 'east');
const putOp = (key: string): Buffer => message([2, put(key)]);

describe('etcd refuses to a member', () => {
  const refused: readonly (readonly [string, string, Buffer])[] = [
    ['a write under another’s prefix', 'KV/Put', put(keys.manifest('west'))],
    ['a write beside its own prefix', 'KV/Put', put(`${keys.root}public/east2/x`)],
    ['a write of its own membership', 'KV/Put', put(keys.member('east'))],
    ['a write of the policy', 'KV/Put', put(keys.policy)],
    ['a write in another’s name to a reader', 'KV/Put', put(`${keys.root}to/north/west/x`)],
    ['a write in another’s name to itself', 'KV/Put', put(`${keys.root}to/east/west/x`)],
    ['a write beside its own names to a reader', 'KV/Put', put(`${keys.root}to/north/east2/x`)],
    ['a write for a reader that there is not', 'KV/Put', put(`${keys.root}to/mars/east/x`)],
    ['reading what another publishes for a third', 'KV/Range', message([1, text(forNorth)])],
    ['reading all that is for a third', 'KV/Range', range(keys.readerPrefix('north'))],
    ['reading all that is for single readers', 'KV/Range', range(`${keys.root}to/`)],
    ['reading the whole cluster set', 'KV/Range', range(keys.root)],
    ['counting what is for a third', 'KV/Range', message([1, text(forNorth)], [9, 1])],
    [
      'reading what is for a third in a branch that is not taken',
      'KV/Txn',
      message([3, message([1, message([1, text(forNorth)])])]),
    ],
    [
      'a comparison with what is for a third',
      'KV/Txn',
      message([1, message([1, 0], [2, 3], [3, text(forNorth)], [7, text('a')])]),
    ],
    ['what is for a third as the former value of a key', 'KV/DeleteRange', message([1, text(forNorth)], [3, 1])],
    ['a write outside the cluster set', 'KV/Put', put('/isthmus/v1/other/public/east/x')],
    ['a write of Kubernetes’ own keys', 'KV/Put', put('/registry/secrets/x')],
    ['the deletion of another’s records', 'KV/DeleteRange', range(keys.memberPrefix('west'))],
    [
      'the deletion of a range that is partly its own',
      'KV/DeleteRange',
      message([1, text(keys.memberPrefix('east'))], [2, end(keys.root)]),
    ],
    ['the deletion of everything', 'KV/DeleteRange', message([1, everything], [2, everything])],
    [
      'another’s write inside a transaction with its own',
      'KV/Txn',
      message([2, putOp(`${keys.memberPrefix('east')}x`)], [2, putOp(keys.manifest('west'))]),
    ],
    [
      'another’s write in a branch that is not taken',
      'KV/Txn',
      message([3, putOp(keys.manifest('west'))], [2, putOp(`${keys.memberPrefix('east')}x`)]),
    ],
    ['reading outside the cluster set', 'KV/Range', range('/isthmus/v1/other/')],
    ['reading everything', 'KV/Range', message([1, everything], [2, everything])],
    [
      'a comparison with a key that it may not read',
      'KV/Txn',
      message([1, message([1, 0], [2, 3], [3, text('/registry/x')], [7, text('a')])]),
    ],
    ['the list of users', 'Auth/UserList', message()],
    ['the list of roles', 'Auth/RoleList', message()],
    ['a look at another user', 'Auth/UserGet', message([1, text('west')])],
    ['a look at another’s role', 'Auth/RoleGet', message([1, text(memberRole(clusterset, 'west'))])],
    ['a new user', 'Auth/UserAdd', message([1, text('mallory')], [2, text('x')])],
    ['a new password for another', 'Auth/UserChangePassword', message([1, text('west')], [2, text('x')])],
    ['root’s role', 'Auth/UserGrantRole', message([1, text('east')], [2, text('root')])],
    [
      'more rights for its own role',
      'Auth/RoleGrantPermission',
      message([1, text(role)], [2, message([1, 2], [2, everything], [3, everything])]),
    ],
    ['turning authentication off', 'Auth/AuthDisable', message()],
    ['an alarm', 'Maintenance/Alarm', message([1, 1], [3, 1])],
    ['defragmentation', 'Maintenance/Defragment', message()],
    ['moving the leader', 'Maintenance/MoveLeader', message([1, 1])],
    ['adding a member to etcd', 'Cluster/MemberAdd', message([1, text('https://127.0.0.1:1')])],
    ['removing one', 'Cluster/MemberRemove', message([1, 1])],
  ];
  it.each(refused)('%s', async (_what, method, bytes) => {
    const { code, details } = await call(method, bytes);
    expect([code, details]).toEqual([status.PERMISSION_DENIED, expect.stringContaining('permission denied')]);
  });

  it('a snapshot of everything', async () => {
    const client = new Client(etcd.endpoints[0]!.replace('https://', ''), channel);
    const got = await new Promise<Buffer | number>((resolve) => {
      const stream = client.makeServerStreamRequest(
        '/etcdserverpb.Maintenance/Snapshot',
        (v: Buffer) => v,
        (v: Buffer) => v,
        Buffer.alloc(0),
      );
      stream.on('data', (v: Buffer) => resolve(v));
      stream.on('error', (error: ServiceError) => resolve(error.code));
    });
    client.close();
    expect(got).toBe(status.PERMISSION_DENIED);
  });

  it('a watch of what is not of the cluster set, or for a third', async () => {
    const answers = await Promise.all([
      watch(everything, everything),
      watch(text('/registry/'), end('/registry/')),
      watch(text(keys.root), end(keys.root)),
      watch(text(forNorth), Buffer.alloc(0)),
      watch(text(keys.readerPrefix('north')), end(keys.readerPrefix('north'))),
    ]);
    for (const answer of answers) {
      // A canceled watch says so in its answer.
      if (typeof answer === 'number') expect(answer).toBe(status.PERMISSION_DENIED);
      else expect(answer.toString('latin1')).toContain('permission denied');
    }
  });

  it('everything, without a certificate or with that of nobody', async () => {
    const { ca } = await etcd.client('east');
    const none = await call('KV/Range', range(keys.root), credentials.createSsl(ca));
    expect([status.UNAVAILABLE, status.UNAUTHENTICATED]).toContain(none.code);
    const { cert, key } = await etcd.client('nobody');
    const nobody = await call('KV/Range', range(keys.root), credentials.createSsl(ca, key, cert));
    expect(nobody.code).not.toBe(status.OK);
  });

  it('and counts each refusal, where an operator can see it', async () => {
    const { ca, cert, key } = await etcd.client('root');
    const text = await new Promise<string>((resolve, reject) => {
      get(`${etcd.endpoints[0]}/metrics`, { ca, cert, key, agent: false }, (response) => {
        let all = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          all += part;
        });
        response.on('end', () => resolve(all));
      }).on('error', reject);
    });
    const counted = /^grpc_server_handled_total\{grpc_code="PermissionDenied",grpc_method="Put"[^}]*\} (\d+)$/m.exec(
      text,
    );
    expect(Number(counted?.[1])).toBeGreaterThan(3);
  });

  it('and all is as it was; its own names are its own', async () => {
    for (const key of [keys.manifest('west'), keys.member('west'), keys.policy]) {
      expect(Buffer.from((await root.list(key)).entries[0]!.value).toString(), key).toBe('good');
    }
    expect((await root.list('/registry/')).entries).toEqual([]);
    expect((await call('KV/Put', put(keys.manifest('east')))).code).toBe(status.OK);
    expect((await call('KV/Put', put(`${keys.partPrefix('north', 'east')}x`))).code).toBe(status.OK);
    expect((await call('KV/Range', range(keys.readerPrefix('east')))).answer.toString('latin1')).toContain('good');
    expect(Buffer.from((await root.list(forNorth)).entries[0]!.value).toString()).toBe('good');
    expect((await call('KV/Range', range(keys.memberPrefix('west')))).answer.toString('latin1')).toContain('good');
  });
});

describe('roles of an older version, which read everything', () => {
  it('are narrowed when asked, and lose nothing that they need', async () => {
    const { ca, cert, key } = await etcd.client('root');
    const asRoot = credentials.createSsl(ca, key, cert);
    const permission = (type: number, prefix: string) => message([1, type], [2, text(prefix)], [3, end(prefix)]);
    const wide = message([1, text(role)], [2, permission(0, keys.root)]);
    expect((await call('Auth/RoleGrantPermission', wide, asRoot)).code).toBe(status.OK);
    expect((await call('KV/Range', range(keys.root))).code).toBe(status.OK);
    // Each sees it of itself.
    const own = await etcd.store('east');
    const seen = async () => rightsProblem(await own.rolePermissions(role), clusterset, 'east')?.message;
    expect(await seen()).toContain('for others alone');
    // Letting another in takes nothing away from those who are there.
    await admin.ensureMembers(clusterset, ['south'], ['east', 'west', 'north']);
    expect((await call('KV/Range', range(keys.root))).code).toBe(status.OK);
    expect((await call('KV/Put', put(`${keys.partPrefix('south', 'east')}x`))).code).toBe(status.OK);
    await admin.ensureMembers(clusterset, ['east', 'west', 'north', 'south']);
    expect((await call('KV/Range', range(keys.root))).code).toBe(status.PERMISSION_DENIED);
    expect(await seen()).toBeUndefined();
    await own.close();
    for (const prefix of [keys.setPrefix, keys.publicPrefix, keys.readerPrefix('east')]) {
      expect((await call('KV/Range', range(prefix))).code, prefix).toBe(status.OK);
    }
    await admin.removeMember(clusterset, 'south', ['east', 'west', 'north']);
    expect((await call('KV/Put', put(`${keys.partPrefix('south', 'east')}x`))).code).toBe(status.PERMISSION_DENIED);
  });
});

describe('an etcd that is one member’s own', () => {
  it('is written by that member alone, and read by each other as far as it is meant', async () => {
    const own = storeKeys('own');
    await admin.ensureOwnStore('own', 'west', ['east', 'north']);
    const puts = [own.manifest('west'), `${own.partPrefix('east', 'west')}a`, `${own.partPrefix('north', 'west')}a`];
    await root.commit({ compare: [], puts: puts.map((key) => ({ key, value: text('good') })), deletes: [] });
    const code = async (method: string, bytes: Buffer) => (await call(method, bytes)).code;
    expect(await code('KV/Range', range(own.memberPrefix('west')))).toBe(status.OK);
    expect(await code('KV/Range', range(own.partPrefix('east', 'west')))).toBe(status.OK);
    for (const key of [
      own.manifest('east'),
      own.manifest('west'),
      `${own.partPrefix('west', 'east')}x`,
      `${own.root}x`,
    ]) {
      expect(await code('KV/Put', put(key)), key).toBe(status.PERMISSION_DENIED);
    }
    expect(await code('KV/Range', range(own.partPrefix('north', 'west')))).toBe(status.PERMISSION_DENIED);
    const west = await etcd.store('west');
    const written = puts.map((key) => ({ key, value: text('new') }));
    expect((await west.commit({ compare: [], puts: written, deletes: [] })).ok).toBe(true);
    await west.close();
    expect(await admin.ensureOwnStore('own', 'west', ['east', 'north'])).toEqual([]);
  });
});
