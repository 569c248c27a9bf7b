/**
 * Users and roles in etcd, set up by `isthmus init` with root credentials. A member's etcd user has the member's name, which
 * is also the common name of its client certificate; it has no password. Its role may read what the authority signed, what members
 * publish for all, and what they publish for it alone; and write under its own name only: for all, and for each other member. Where a
 * store gateway takes the writes, members' roles write nothing.
 *
 * Everything here may be run again: what is there already is left alone, and permissions that the role should not have are
 * taken away. Roles of our own are named by cluster set and member; no other role is touched.
 */
import { X509Certificate } from 'node:crypto';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { IsthmusError } from '../core/errors.ts';
import { isDnsLabel } from '../core/names.ts';
import { Auth, Permission_Type } from '../gen/etcdserverpb/rpc_pb.ts';
import { isTokenId } from '../records/joining.ts';
import { storeKeys } from '../records/keys.ts';
import { tokenUser } from '../trust/tokens.ts';
import { Connection } from './connection.ts';
import { isServiceError, storeError } from './failure.ts';
import { prefixRange } from './keyspace.ts';
import type { EtcdOptions } from './session.ts';

export interface StoreAdmin {
  /**
   * Creates the user and the role of each member and sets the role's permissions: what it should not have is taken away. Returns what was
   * changed, in words.
   * @param others - the other members of the set: they may then write what is for these; nothing is taken away from them
   * @param writes - `gateways`: members write nothing in etcd, a store gateway does it for them
   */
  ensureMembers(
    clusterset: string,
    members: readonly string[],
    others?: readonly string[],
    writes?: WrittenBy,
  ): Promise<string[]>;
  /** The user of the store gateways of a cluster set: it reads all of it, and writes what members publish
   * and what goes to and from those who join; nothing that the authority signs. */
  ensureGateway(clusterset: string): Promise<string[]>;
  /**
   * Takes away a member's user and role. Streams that are open stay open until their connections end.
   * @param others - the other members: they may no longer write what is for it
   */
  removeMember(clusterset: string, member: string, others?: readonly string[]): Promise<string[]>;
  /**
   * For an etcd that is one member's own: it writes there as in a shared one, and the others read there what it publishes for all and
   * for them. They write nothing, not even under their own names: a reader must not fill it.
   */
  ensureOwnStore(clusterset: string, owner: string, readers: readonly string[]): Promise<string[]>;
  /** The user by which the holder of a join token writes one request and reads its answer, and nothing else. */
  ensureJoiner(clusterset: string, token: string, writes?: WrittenBy): Promise<string[]>;
  removeJoiner(token: string): Promise<string[]>;
  /** Creates etcd's root user and role, and turns authentication on. Needs a certificate whose common name is `root`. */
  enableAuth(): Promise<string[]>;
  close(): void;
}

const permissionName = (type: Permission_Type): string =>
  type === Permission_Type.READ ? 'READ' : type === Permission_Type.WRITE ? 'WRITE' : 'READWRITE';

interface Grant {
  readonly type: Permission_Type;
  readonly prefix: string;
}

export const memberRole = (clusterset: string, member: string): string => `isthmus-${clusterset}-${member}`;

/** Who writes what members publish: each of them with its own role, or a store gateway for all. */
export type WrittenBy = 'etcd' | 'gateways';

/** etcd's user and role for the store gateways of a cluster set, also their certificates' common name. It has dots, as no member has. */
export const gatewayUser = (clusterset: string): string => `isthmus.store-gateway.${clusterset}`;

/** What `member` writes for one reader alone. It reads that too, to know what stands there. */
const partGrant = (clusterset: string, reader: string, member: string, writes: WrittenBy): Grant => ({
  type: writes === 'etcd' ? Permission_Type.READWRITE : Permission_Type.READ,
  prefix: storeKeys(clusterset).partPrefix(reader, member),
});

const grantsOf = (
  clusterset: string,
  member: string,
  readers: readonly string[],
  writes: WrittenBy,
): readonly Grant[] => {
  const keys = storeKeys(clusterset);
  return [
    { type: Permission_Type.READ, prefix: keys.setPrefix },
    { type: Permission_Type.READ, prefix: keys.publicPrefix },
    { type: Permission_Type.READ, prefix: keys.readerPrefix(member) },
    ...(writes === 'etcd' ? [{ type: Permission_Type.WRITE, prefix: keys.memberPrefix(member) }] : []),
    ...readers.filter((reader) => reader !== member).map((reader) => partGrant(clusterset, reader, member, writes)),
  ];
};

const gatewayGrants = (clusterset: string): readonly Grant[] => {
  const { root, publicPrefix, writeNotesPrefix } = storeKeys(clusterset);
  return [
    { type: Permission_Type.READ, prefix: root },
    ...[publicPrefix, `${root}to/`, `${root}set/joins/`, `${root}issued/`, writeNotesPrefix].map((prefix) => ({
      type: Permission_Type.WRITE,
      prefix,
    })),
  ];
};

/** No prefix of these is another's: ids are of one length. */
const joinGrants = (clusterset: string, token: string, writes: WrittenBy): readonly Grant[] => {
  const keys = storeKeys(clusterset);
  if (writes === 'gateways') return [{ type: Permission_Type.READ, prefix: keys.joinPrefix(token) }];
  return [
    // A transaction that compares must read what it compares.
    { type: Permission_Type.READWRITE, prefix: keys.joinRequest(token) },
    { type: Permission_Type.READ, prefix: keys.joinAnswer(token) },
    { type: Permission_Type.READWRITE, prefix: keys.joinDone(token) },
  ];
};

const requireToken = (token: string): void => {
  if (!isTokenId(token)) throw new IsthmusError('usage/invalid', `token "${token}" is not the id of one`);
};

const requireName = (field: string, value: string): void => {
  if (!isDnsLabel(value)) {
    throw new IsthmusError('usage/invalid', `${field} "${value}" is not a DNS label`, {
      hint: 'use lower-case letters, digits and hyphens, at most 63',
    });
  }
  // etcd's root user may do everything.
  if (field === 'member' && value === 'root') {
    throw new IsthmusError('usage/invalid', 'a member cannot be called "root": that is etcd’s administrator', {
      hint: 'choose another name',
    });
  }
};

class EtcdAdmin implements StoreAdmin {
  private readonly o: EtcdOptions;
  private readonly connection: Connection;

  constructor(options: EtcdOptions) {
    this.o = options;
    this.connection = new Connection(options);
  }

  async ensureMembers(
    clusterset: string,
    members: readonly string[],
    others: readonly string[] = [],
    writes: WrittenBy = 'etcd',
  ): Promise<string[]> {
    requireName('clusterset', clusterset);
    const all = [...new Set([...members, ...others])];
    for (const member of all) requireName('member', member);
    const done: string[] = [];
    for (const member of members) done.push(...(await this.ensureMember(clusterset, member, all, writes)));
    for (const other of others.filter((name) => !members.includes(name))) {
      const role = memberRole(clusterset, other);
      for (const member of members) {
        const { type, prefix } = partGrant(clusterset, member, other, writes);
        const grant = { name: role, perm: { permType: type, ...prefixRange(prefix) } };
        // One without a role has no user either: it was put out, or is of another etcd.
        await this.unless(/role name not found/, Auth.method.roleGrantPermission, grant, `grant to role ${role}`);
      }
    }
    return done;
  }

  async ensureOwnStore(clusterset: string, owner: string, readers: readonly string[]): Promise<string[]> {
    requireName('clusterset', clusterset);
    for (const member of [owner, ...readers]) requireName('member', member);
    const others = readers.filter((name) => name !== owner);
    const done = await this.ensureMember(clusterset, owner, others, 'etcd');
    const keys = storeKeys(clusterset);
    for (const reader of others) {
      const role = memberRole(clusterset, reader);
      const reads = [keys.memberPrefix(owner), keys.partPrefix(reader, owner)];
      const grants = reads.map((prefix) => ({ type: Permission_Type.READ, prefix }));
      done.push(...(await this.ensureRole(role, grants)), ...(await this.ensureUser(reader, role)));
    }
    return done;
  }

  async removeMember(clusterset: string, member: string, others: readonly string[] = []): Promise<string[]> {
    requireName('clusterset', clusterset);
    for (const name of [member, ...others]) requireName('member', name);
    const done = await this.remove(member, memberRole(clusterset, member));
    for (const other of others.filter((name) => name !== member)) {
      const role = memberRole(clusterset, other);
      const range = { role, ...prefixRange(partGrant(clusterset, member, other, 'etcd').prefix) };
      await this.unless(/not found|not granted/, Auth.method.roleRevokePermission, range, `narrow role ${role}`);
    }
    return done;
  }

  async ensureGateway(clusterset: string): Promise<string[]> {
    requireName('clusterset', clusterset);
    const name = gatewayUser(clusterset);
    const done = await this.ensureRole(name, gatewayGrants(clusterset));
    done.push(...(await this.ensureUser(name, name)));
    return done;
  }

  async ensureJoiner(clusterset: string, token: string, writes: WrittenBy = 'etcd'): Promise<string[]> {
    requireName('clusterset', clusterset);
    requireToken(token);
    const name = tokenUser(token);
    const done = await this.ensureRole(name, joinGrants(clusterset, token, writes));
    done.push(...(await this.ensureUser(name, name)));
    return done;
  }

  async removeJoiner(token: string): Promise<string[]> {
    requireToken(token);
    return this.remove(tokenUser(token), tokenUser(token));
  }

  async enableAuth(): Promise<string[]> {
    this.requireRootCertificate();
    if ((await this.call(Auth.method.authStatus, {}, 'read the authentication status')).enabled) return [];
    const done = await this.ensureUser('root', 'root');
    await this.call(Auth.method.authEnable, {}, 'turn on authentication');
    done.push('turned on authentication');
    return done;
  }

  close(): void {
    this.connection.close();
  }

  private async remove(user: string, role: string): Promise<string[]> {
    const done: string[] = [];
    if (await this.unless(/not found/, Auth.method.userDelete, { name: user }, `delete user ${user}`)) {
      done.push(`deleted user ${user}`);
    }
    if (await this.unless(/not found/, Auth.method.roleDelete, { role }, `delete role ${role}`)) {
      done.push(`deleted role ${role}`);
    }
    return done;
  }

  private async ensureMember(
    clusterset: string,
    member: string,
    all: readonly string[],
    writes: WrittenBy,
  ): Promise<string[]> {
    const role = memberRole(clusterset, member);
    // The role before the user: a user must never be there with more than it should have.
    const done = await this.ensureRole(role, grantsOf(clusterset, member, all, writes));
    done.push(...(await this.ensureUser(member, role)));
    return done;
  }

  private async ensureRole(role: string, grants: readonly Grant[]): Promise<string[]> {
    const done: string[] = [];
    if (await this.unless(/already exists/, Auth.method.roleAdd, { name: role }, `create role ${role}`)) {
      done.push(`created role ${role}`);
    }
    const { perm } = await this.call(Auth.method.roleGet, { role }, `read role ${role}`);
    const name = (type: Permission_Type, key: Uint8Array, end: Uint8Array): string =>
      `${type}:${Buffer.from(key).toString('hex')}:${Buffer.from(end).toString('hex')}`;
    const wanted = new Map(
      grants.map((g) => {
        const { key, rangeEnd } = prefixRange(g.prefix);
        return [name(g.type, key, rangeEnd), { ...g, key, rangeEnd }];
      }),
    );
    const present = new Set(perm.map((p) => name(p.permType, p.key, p.rangeEnd)));
    for (const p of perm) {
      if (wanted.has(name(p.permType, p.key, p.rangeEnd))) continue;
      const range = { role, key: p.key, rangeEnd: p.rangeEnd };
      await this.call(Auth.method.roleRevokePermission, range, `narrow role ${role}`);
      done.push(`revoked from role ${role}: ${permissionName(p.permType)} ${Buffer.from(p.key).toString()}`);
    }
    for (const [id, g] of wanted) {
      if (present.has(id)) continue;
      const permission = { permType: g.type, key: g.key, rangeEnd: g.rangeEnd };
      await this.call(Auth.method.roleGrantPermission, { name: role, perm: permission }, `grant to role ${role}`);
      done.push(`granted to role ${role}: ${permissionName(g.type)} ${g.prefix}`);
    }
    return done;
  }

  private async ensureUser(user: string, role: string): Promise<string[]> {
    const done: string[] = [];
    const add = { name: user, options: { noPassword: true } };
    if (await this.unless(/already exists/, Auth.method.userAdd, add, `create user ${user}`)) {
      done.push(`created user ${user}`);
    }
    if (role === 'root') await this.unless(/already exists/, Auth.method.roleAdd, { name: role }, 'create role root');
    const { roles } = await this.call(Auth.method.userGet, { name: user }, `read user ${user}`);
    const others = roles.filter((r) => r !== role && !r.startsWith('isthmus-'));
    if (user !== 'root' && others.length > 0) {
      throw new IsthmusError(
        'store/denied',
        `etcd user "${user}" also has the role ${others.map((r) => `"${r}"`).join(', ')}, so it is not bound to its own names`,
        { hint: `take it away (etcdctl user revoke-role ${user} ${others[0]}) or choose another member name` },
      );
    }
    if (!roles.includes(role)) {
      await this.call(Auth.method.userGrantRole, { user, role }, `grant ${role} to ${user}`);
      done.push(`granted role ${role} to user ${user}`);
    }
    return done;
  }

  /** Authentication that nobody can pass afterwards would lock everybody out. */
  private requireRootCertificate(): void {
    let subject: string;
    try {
      subject = new X509Certificate(this.o.cert).subject;
    } catch (error) {
      throw new IsthmusError('store/tls', `the root certificate cannot be read: ${(error as Error).message}`, {
        hint: 'give a PEM certificate',
      });
    }
    if (subject.split('\n').includes('CN=root')) return;
    throw new IsthmusError(
      'store/denied',
      `the certificate's subject is "${subject.replaceAll('\n', ', ')}"; etcd takes the user from its common name`,
      { hint: 'use a client certificate with the common name root, from the CA that etcd trusts' },
    );
  }

  private async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    what: string,
  ): Promise<MessageShape<O>> {
    const session = await this.connection.acquire();
    try {
      return await session.call(method, request);
    } catch (error) {
      throw storeError(error, { what, endpoint: session.endpoint });
    }
  }

  /** False when etcd answers that it is so already. */
  private async unless<I extends DescMessage, O extends DescMessage>(
    already: RegExp,
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    what: string,
  ): Promise<boolean> {
    try {
      await this.call(method, request, what);
      return true;
    } catch (error) {
      const cause = (error as IsthmusError).cause;
      if (isServiceError(cause) && already.test(cause.details)) return false;
      throw error;
    }
  }
}

/** Options as for `connectStore`; the certificate is root's. */
export const connectAdmin = (options: EtcdOptions): StoreAdmin => new EtcdAdmin(options);
