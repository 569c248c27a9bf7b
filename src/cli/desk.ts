/** The desk at work: the authority's key open, etcd as root at hand, and the ledger. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { IsthmusError } from '../core/errors.ts';
import type { Store } from '../core/store.ts';
import { realClock } from '../ops/clock.ts';
import { storeKeys } from '../records/keys.ts';
import { connectAdmin, type StoreAdmin } from '../store/admin.ts';
import { connectStore, type EtcdStore } from '../store/etcd.ts';
import { type Member, verifyMembership } from '../trust/membership.ts';
import { type RevocationMark, verifyRevocation } from '../trust/revocation.ts';
import { authorityKeyFile, type DeskFile, type DeskOptions, deskEtcd, readDesk } from './authority_desk.ts';
import { type PassphraseOptions, readAuthority } from './authority_key.ts';
import { Ledger } from './desk_ledger.ts';
import { step } from './output.ts';

export interface Desk {
  readonly file: DeskFile;
  readonly clusterset: string;
  readonly authority: KeyObject;
  readonly ledger: Ledger;
  readonly store: EtcdStore;
  readonly admin: StoreAdmin;
  close(): Promise<void>;
}

/** What the store holds of one name, as far as the authority signed it. */
export interface Known {
  readonly member: Member | undefined;
  readonly revocation: RevocationMark | undefined;
  /** The membership key's revision, 0n when there is none: for a compare. */
  readonly modRevision: bigint;
}

/** Opens the desk, and checks that its key is the one that signed this cluster set. */
export const openDesk = async (options: DeskOptions & PassphraseOptions): Promise<Desk> => {
  const file = readDesk(options);
  const path = join(options.authorityDir, authorityKeyFile);
  const authority = await step('authority key', () => readAuthority('--authority-dir', path, options));
  const tls = deskEtcd(file);
  const store = connectStore(tls);
  const admin = connectAdmin(tls);
  const close = async (): Promise<void> => {
    admin.close();
    await store.close();
  };
  const { clusterset } = file;
  try {
    await step('etcd answers, and its version is safe', () => store.check(storeKeys(clusterset).root));
  } catch (error) {
    await close();
    throw error;
  }
  return { file, clusterset, authority, ledger: new Ledger(options.authorityDir), store, admin, close };
};

/** Members that the authority signed, by name; what else the store says under those keys is passed over. */
export const membersOf = async (
  store: Store,
  clusterset: string,
  authority: KeyObject,
): Promise<ReadonlyMap<string, Known>> => {
  const keys = storeKeys(clusterset);
  const authorityKey = authority.type === 'private' ? createPublicKey(authority) : authority;
  const known = new Map<string, Known>();
  const of = (name: string): Known => known.get(name) ?? { member: undefined, revocation: undefined, modRevision: 0n };
  const at = { clusterset, authorityKey };
  for (const { key, value, modRevision } of (await store.list(keys.membersPrefix)).entries) {
    const name = key.slice(keys.membersPrefix.length);
    const found = verifyMembership(value, { ...at, name, wallMs: undefined, highWater: undefined });
    known.set(name, { ...of(name), modRevision, member: found.ok ? found.value.member : undefined });
  }
  for (const { key, value } of (await store.list(keys.revocationsPrefix)).entries) {
    const name = key.slice(keys.revocationsPrefix.length);
    const found = verifyRevocation(value, { ...at, name });
    if (found.ok) known.set(name, { ...of(name), revocation: found.value });
  }
  return known;
};

/** Let in, and not put out. */
export const isMember = ({ member, revocation }: Known): boolean =>
  member !== undefined && (revocation === undefined || member.sequence > revocation.sequence);

/** Members other than this one, by name. */
export const othersOf = (known: ReadonlyMap<string, Known>, name: string): string[] =>
  [...known].filter(([other, of]) => other !== name && isMember(of)).map(([other]) => other);

/** Above everything that anybody may have seen under this name. */
export const nextSequence = (known: Known | undefined): bigint => {
  let next = BigInt(realClock.wallMs());
  for (const seen of [known?.member?.sequence, known?.revocation?.sequence]) {
    if (seen !== undefined && seen >= next) next = seen + 1n;
  }
  return next;
};

/** @throws IsthmusError member/unknown */
export const mustBeKnown = (known: ReadonlyMap<string, Known>, name: string, clusterset: string): Known => {
  const found = known.get(name);
  if (found !== undefined) return found;
  throw new IsthmusError('member/unknown', `the cluster set "${clusterset}" has no member "${name}"`, {
    hint: known.size === 0 ? 'it has no member at all' : `members: ${[...known.keys()].join(', ')}`,
    subject: { member: name },
  });
};
