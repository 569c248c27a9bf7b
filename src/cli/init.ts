/**
 * `isthmus init`: makes a cluster set. The authority's key, and for every member a record key, a federation CA, an etcd user with
 * its certificate, and the signed membership. Running it again for the same --out adds the members that are not there yet. Members
 * that get in by a token make their keys themselves.
 */
import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { makeEtcdClient } from '../ca/etcdclient.ts';
import { makeFederationCa } from '../ca/federation.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';
import { realClock } from '../ops/clock.ts';
import { storeKeys } from '../records/keys.ts';
import { rawPublicKey } from '../records/signed.ts';
import { connectAdmin } from '../store/admin.ts';
import { connectStore } from '../store/etcd.ts';
import { parseEndpoint } from '../store/session.ts';
import { duplicateMembers, type Member, signMembership } from '../trust/membership.ts';
import { authorityKeyFile, type DeskFile, hasDesk, readDesk, writeDesk } from './authority_desk.ts';
import { fingerprintOf, makeAuthority, type PassphraseOptions, readAuthority } from './authority_key.ts';
import { membersOf, othersOf } from './desk.ts';
import { Ledger } from './desk_ledger.ts';
import { flaggedEtcd } from './etcd_access.ts';
import { mustNotExist, readNamed, writeNew } from './files.ts';
import { print, step, table } from './output.ts';
import { writeGateway } from './store_gateway.ts';
import { rootsInFile } from './trust_register.ts';

export interface InitOptions extends PassphraseOptions {
  readonly clusterset: string;
  readonly out: string;
  readonly etcd: readonly string[];
  readonly etcdCa: string;
  readonly etcdCaKey: string;
  readonly etcdCert: string;
  readonly etcdKey: string;
  readonly member: readonly string[];
  readonly allowUnsafeEtcd: boolean;
  readonly restartEtcd?: string;
  /** Of store gateways; none: members write to etcd themselves. */
  readonly storeGateway?: readonly string[];
  /** What `isthmus trust init` wrote. */
  readonly trustDir?: string;
}

interface MemberSpec {
  readonly name: string;
  readonly region: string;
  readonly zone: string;
  readonly network: string;
  readonly ranges: readonly string[];
  readonly namespaces: readonly string[];
}

const yearS = 365 * 86_400;
const known = ['region', 'zone', 'network', 'range', 'namespaces'];
const form = 'name,region=R,network=N,range=CIDR[+CIDR],namespaces=NS[+NS][,zone=Z]';

export const parseMemberSpec = (text: string): MemberSpec => {
  const [name = '', ...rest] = text.split(',');
  const bad = (why: string) =>
    new IsthmusError('usage/invalid', `--member "${text}": ${why}`, { hint: `write it as ${form}` });
  if (!isDnsLabel(name)) throw bad(`"${name}" is not a DNS label`);
  const fields = new Map<string, string>();
  for (const part of rest) {
    const at = part.indexOf('=');
    const key = part.slice(0, at);
    if (at < 1 || !known.includes(key)) throw bad(`"${part}" is not one of ${known.join(', ')}`);
    if (fields.has(key)) throw bad(`"${key}" is given twice`);
    fields.set(key, part.slice(at + 1));
  }
  const need = (key: string): string => {
    const value = fields.get(key) ?? '';
    if (value === '') throw bad(`${key} is missing`);
    return value;
  };
  return {
    name,
    region: need('region'),
    zone: fields.get('zone') ?? '',
    network: need('network'),
    ranges: need('range').split('+'),
    namespaces: need('namespaces').split('+'),
  };
};

const authorityOf = async (options: InitOptions): Promise<KeyObject> => {
  const path = join(options.out, authorityKeyFile);
  if (existsSync(path)) return readAuthority('authority', path, options);
  mkdirSync(options.out, { recursive: true, mode: 0o700 });
  return makeAuthority(path, options);
};

const authorityPem = (authority: KeyObject): string =>
  createPublicKey(authority).export({ type: 'spki', format: 'pem' }) as string;

const gatewaysOf = ({ storeGateway }: InitOptions): readonly string[] =>
  (storeGateway ?? []).map((url) => parseEndpoint(url).url);

/** Makes one member's keys and writes its bundle; returns what the authority says of it. */
const makeMember = async (spec: MemberSpec, options: InitOptions, authority: KeyObject): Promise<Member> => {
  const nowMs = realClock.wallMs();
  const dir = join(options.out, spec.name);
  const record = generateKeyPairSync('ed25519').privateKey;
  const random = (bytes: number) => new Uint8Array(randomBytes(bytes));
  const federation = await makeFederationCa(
    { clusterset: options.clusterset, member: spec.name, ttlS: 10 * yearS, nowMs },
    random,
  );
  const ca = { cert: readNamed('--etcd-ca', options.etcdCa), key: readNamed('--etcd-ca-key', options.etcdCaKey) };
  const client = await makeEtcdClient(ca, { commonName: spec.name, ttlS: yearS, nowMs }, random);
  const member = {
    clusterset: options.clusterset,
    member: spec.name,
    network: spec.network,
    store: {
      endpoints: options.etcd,
      ...(gatewaysOf(options).length > 0 && { writeEndpoints: gatewaysOf(options) }),
    },
  };
  writeNew(join(dir, 'record-key.pem'), record.export({ type: 'pkcs8', format: 'pem' }) as string, true);
  writeNew(join(dir, 'federation-ca.pem'), federation.cert, false);
  writeNew(join(dir, 'federation-ca-key.pem'), federation.key, true);
  writeNew(join(dir, 'etcd-ca.pem'), ca.cert, false);
  writeNew(join(dir, 'etcd-client.pem'), client.cert, false);
  new Ledger(options.out).certificate(spec.name, new X509Certificate(client.cert).serialNumber.toLowerCase());
  writeNew(join(dir, 'etcd-client-key.pem'), client.key, true);
  writeNew(join(dir, 'authority.pem'), authorityPem(authority), false);
  writeNew(join(dir, 'member.yaml'), stringify(member), false);
  const { trustDir } = options;
  const trustRoots =
    trustDir === undefined ? [] : rootsInFile('--trust-dir', join(trustDir, spec.name, 'root-cert.pem'));
  return {
    clusterset: options.clusterset,
    name: spec.name,
    sequence: BigInt(nowMs),
    region: spec.region,
    zone: spec.zone,
    network: spec.network,
    addressRanges: spec.ranges,
    namespaces: spec.namespaces,
    serviceAccounts: [],
    ...(trustRoots.length > 0 && { trustRoots }),
    federationCa: new Uint8Array(new X509Certificate(federation.cert).raw),
    recordKey: rawPublicKey(record),
    notBeforeMs: nowMs - limits.membershipBackdateMs,
    notAfterMs: nowMs + 10 * yearS * 1000,
  };
};

const publish = async (options: InitOptions, members: readonly Member[], authority: KeyObject): Promise<void> => {
  const tls = flaggedEtcd(options);
  const admin = connectAdmin(tls);
  const store = connectStore(tls);
  try {
    await step('etcd answers, and its version is safe', () => store.check());
    await step('etcd authentication is on', () => admin.enableAuth());
    await step('etcd users and roles', async () =>
      admin.ensureMembers(
        options.clusterset,
        members.map((m) => m.name),
        othersOf(await membersOf(store, options.clusterset, authority), ''),
        gatewaysOf(options).length > 0 ? 'gateways' : 'etcd',
      ),
    );
    if (gatewaysOf(options).length > 0) {
      await step('etcd user and role of the store gateways', () => admin.ensureGateway(options.clusterset));
    }
    await step('signed memberships', async () => {
      const keys = storeKeys(options.clusterset);
      const puts = members.map((member) => {
        const signed = signMembership(member, authority);
        if (!signed.ok) throw signed.error;
        return { key: keys.member(member.name), value: signed.value };
      });
      const compare = puts.map(({ key }) => ({ key, modRevision: 0n }));
      for (let at = 0; at < puts.length; at += 50) {
        const done = await store.commit({
          compare: compare.slice(at, at + 50),
          puts: puts.slice(at, at + 50),
          deletes: [],
        });
        if (done.ok) continue;
        const taken = done.current.map((e) => e.key.slice(keys.membersPrefix.length));
        throw new IsthmusError(
          'member/duplicate',
          `the cluster set "${options.clusterset}" has a member "${taken.join('", "')}" already`,
          {
            hint: 'choose another name',
          },
        );
      }
    });
  } finally {
    admin.close();
    await store.close();
  }
};

/** A set whose members write through store gateways goes on so when members are added. */
const asBefore = (options: InitOptions): InitOptions => {
  const before = hasDesk(options.out) ? readDesk({ authorityDir: options.out }).etcd : undefined;
  if (options.storeGateway !== undefined || before?.writes !== 'gateways') return options;
  return { ...options, storeGateway: before.gateways };
};

export const init = async (given: InitOptions): Promise<void> => {
  const options = asBefore(given);
  if (!isDnsLabel(options.clusterset)) {
    throw new IsthmusError('usage/invalid', `--clusterset "${options.clusterset}" is not a DNS label`, {
      hint: 'use a-z, 0-9 and -, at most 63',
    });
  }
  const specs = options.member.map(parseMemberSpec);
  const twice = specs.find((s, i) => specs.findIndex((o) => o.name === s.name) !== i);
  if (twice !== undefined)
    throw new IsthmusError('member/duplicate', `--member "${twice.name}" is given twice`, {
      hint: 'give each cluster a name of its own',
    });
  for (const spec of specs) mustNotExist(join(options.out, spec.name), 'member bundle');
  for (const [option, path] of [
    ['--etcd-ca', options.etcdCa],
    ['--etcd-ca-key', options.etcdCaKey],
    ['--etcd-cert', options.etcdCert],
    ['--etcd-key', options.etcdKey],
  ] as const)
    readNamed(option, path);
  const authority = await step('authority key', () => authorityOf(options));
  const desk: DeskFile = {
    clusterset: options.clusterset,
    etcd: {
      endpoints: [...options.etcd],
      ca: resolve(options.etcdCa),
      caKey: resolve(options.etcdCaKey),
      cert: resolve(options.etcdCert),
      key: resolve(options.etcdKey),
      allowUnsafe: options.allowUnsafeEtcd,
      ...(options.restartEtcd === undefined ? {} : { restart: options.restartEtcd }),
      gateways: [...gatewaysOf(options)],
      writes: gatewaysOf(options).length > 0 ? 'gateways' : 'etcd',
    },
  };
  writeDesk(options.out, desk);
  writeNew(join(options.out, 'authority.pem'), authorityPem(authority), false);
  const gatewayDir = join(options.out, 'store-gateway');
  if (desk.etcd.writes === 'gateways' && !existsSync(gatewayDir)) {
    await step(`certificates and configuration of the store gateways in ${gatewayDir}`, () =>
      writeGateway(desk, options.out, gatewayDir),
    );
  }
  const members = await step(`keys of ${specs.length} members`, () =>
    Promise.all(specs.map((s) => makeMember(s, options, authority))),
  );
  const wrong = [...duplicateMembers(members).values()][0];
  if (wrong !== undefined) throw wrong;
  await publish(options, members, authority);
  if (members.length > 0)
    print(
      table(
        ['MEMBER', 'REGION', 'NETWORK', 'RANGES', 'MAY EXPORT', 'BUNDLE'],
        members.map((m) => [
          m.name,
          m.region,
          m.network,
          m.addressRanges.join(' '),
          m.namespaces.join(' '),
          join(options.out, m.name),
        ]),
      ),
    );
  process.stderr.write(
    `authority ${fingerprintOf(authority)}\nkeep ${join(options.out, authorityKeyFile)} offline, with a copy elsewhere: it alone can change memberships\n`,
  );
};
