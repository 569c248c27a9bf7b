/**
 * `isthmus authority replace` and `install`: the ceremony for a key that was lost, or stolen.
 *
 * Nothing runs on the authority's key, so losing it stops nothing. A new one signs again what the old one signed: memberships, revocations,
 * the policy. Controllers go on with what they have until each is given the new public key, so there is no moment at which one of them
 * believes nobody. What is signed again is what etcd holds, as far as the old key's signature carries; a person looks at it first.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { copyFileSync, existsSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { IsthmusError } from '../core/errors.ts';
import type { Store } from '../core/store.ts';
import { realClock } from '../ops/clock.ts';
import { storeKeys } from '../records/keys.ts';
import { signSetPolicy, verifySetPolicy } from '../records/set_policy.ts';
import { connectStore } from '../store/etcd.ts';
import { signMembership } from '../trust/membership.ts';
import { signRevocation } from '../trust/revocation.ts';
import { authorityKeyFile, type DeskOptions, deskEtcd, readDesk } from './authority_desk.ts';
import { fingerprintOf, makeAuthority, type PassphraseOptions } from './authority_key.ts';
import { confirm, realTerminal } from './confirm.ts';
import { isMember, type Known, membersOf, nextSequence } from './desk.ts';
import { Ledger } from './desk_ledger.ts';
import { readNamed, writeNew } from './files.ts';
import { type ClusterOptions, openCluster, secretFiles } from './install_member.ts';
import { print, step, table } from './output.ts';

export interface ReplaceOptions extends DeskOptions, PassphraseOptions {
  readonly old?: string;
  readonly yes: boolean;
}

const publicKey = (option: string, path: string): KeyObject => {
  try {
    const key = createPublicKey(readNamed(option, path));
    if (key.asymmetricKeyType === 'ed25519') return key;
  } catch (cause) {
    if (cause instanceof IsthmusError) throw cause;
  }
  throw new IsthmusError('files/invalid', `${option} "${path}" is not an authority's public key`, {
    hint: 'name an authority.pem: every member has one, in its bundle and in the Secret isthmus-member',
  });
};

interface Signed {
  readonly key: string;
  readonly value: Uint8Array;
}

const value = <T>(result: { ok: true; value: T } | { ok: false; error: IsthmusError }): T => {
  if (!result.ok) throw result.error;
  return result.value;
};

/** Everything that the old key signed and that still counts, by the new one. */
const signAgain = async (
  store: Store,
  clusterset: string,
  known: ReadonlyMap<string, Known>,
  keys: { readonly old: KeyObject; readonly fresh: KeyObject },
): Promise<readonly Signed[]> => {
  const at = storeKeys(clusterset);
  const signed: Signed[] = [];
  for (const [name, one] of known) {
    if (one.revocation !== undefined) {
      signed.push({ key: at.revocation(name), value: value(signRevocation(one.revocation, keys.fresh)) });
    }
    if (one.member === undefined || !isMember(one)) continue;
    const member = { ...one.member, sequence: nextSequence(one) };
    signed.push({ key: at.member(name), value: value(signMembership(member, keys.fresh)) });
  }
  const policy = (await store.list(at.policy)).entries.find(({ key }) => key === at.policy);
  const context = { clusterset, authorityKey: keys.old, highWater: undefined };
  const before = policy === undefined ? undefined : verifySetPolicy(policy.value, context);
  if (before?.ok === true) {
    const now = BigInt(realClock.wallMs());
    const sequence = before.value.mark.sequence >= now ? before.value.mark.sequence + 1n : now;
    const { spec } = before.value;
    signed.push({ key: at.policy, value: value(signSetPolicy({ clusterset, sequence, spec }, keys.fresh)) });
  }
  return signed;
};

const show = (known: ReadonlyMap<string, Known>): void =>
  print(
    table(
      ['MEMBER', 'REGION', 'NETWORK', 'RANGES', 'MAY EXPORT', 'STANDING'],
      [...known].map(([name, one]) => [
        name,
        one.member?.region ?? '',
        one.member?.network ?? '',
        one.member?.addressRanges.join(' ') ?? '',
        one.member?.namespaces.join(' ') ?? '',
        isMember(one) ? 'stays' : 'stays out',
      ]),
    ),
  );

/** Bundles that `init` wrote: whoever applies one again must not bring the old key back. */
const bundlesIn = (dir: string): readonly string[] =>
  readdirSync(dir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && existsSync(join(dir, entry.name, 'member.yaml')))
    .map(({ name }) => join(dir, name, 'authority.pem'));

export const authorityReplace = async (options: ReplaceOptions): Promise<void> => {
  const { authorityDir } = options;
  const desk = readDesk(options);
  const { clusterset } = desk;
  const old = publicKey('--old', options.old ?? join(authorityDir, 'authority.pem'));
  const store = connectStore(deskEtcd(desk));
  try {
    await step('etcd answers, and its version is safe', () => store.check(storeKeys(clusterset).root));
    const known = await membersOf(store, clusterset, old);
    if (known.size === 0) {
      throw new IsthmusError(
        'member/unknown',
        `etcd holds nothing of "${clusterset}" that ${fingerprintOf(old)} signed`,
        {
          hint: 'name with --old the authority.pem that the members have',
        },
      );
    }
    show(known);
    if (!options.yes) await confirm(`sign this again with a new key`, clusterset, 'run it with --yes', realTerminal);
    const path = join(authorityDir, authorityKeyFile);
    if (existsSync(path)) renameSync(path, `${path}.${realClock.wallMs()}.replaced`);
    const fresh = await step('a new authority key', () => makeAuthority(path, options));
    const signed = await signAgain(store, clusterset, known, { old, fresh });
    await step(`${signed.length} memberships, revocations and policies, signed by it`, async () => {
      for (let at = 0; at < signed.length; at += 50) {
        await store.commit({ compare: [], puts: signed.slice(at, at + 50), deletes: [] });
      }
    });
    writeNew(
      join(authorityDir, 'authority.pem'),
      createPublicKey(fresh).export({ type: 'spki', format: 'pem' }) as string,
      false,
    );
    for (const bundle of bundlesIn(authorityDir)) copyFileSync(join(authorityDir, 'authority.pem'), bundle);
    const detail = `${fingerprintOf(old)} replaced by ${fingerprintOf(fresh)}`;
    new Ledger(authorityDir).audit({ action: 'authority', outcome: 'done', detail });
    process.stderr.write(
      `${detail}\neach controller goes on with the old one until it is given the new:\n  isthmus authority install --context <cluster>, then restart its controllers, one cluster after the other\n`,
    );
  } finally {
    await store.close();
  }
};

export interface InstallOptions extends DeskOptions, ClusterOptions {}

/** The new public key into the Secret of one cluster. Its controllers read it when they start. */
export const authorityInstall = async (options: InstallOptions): Promise<void> => {
  const path = join(options.authorityDir, 'authority.pem');
  const key = publicKey('--authority-dir', path);
  const api = await openCluster(options);
  try {
    if ((await secretFiles(api, options.namespace, 'isthmus-member')) === undefined) {
      throw new IsthmusError('kube/not-found', 'this cluster has no Secret isthmus-member: it is no member', {
        hint: 'let it in: isthmus join',
      });
    }
    await step(`authority ${fingerprintOf(key)} is in the Secret isthmus-member`, () =>
      api.request({
        method: 'PATCH',
        path: `/api/v1/namespaces/${options.namespace}/secrets/isthmus-member`,
        contentType: 'application/merge-patch+json',
        body: { data: { 'authority.pem': Buffer.from(readNamed('authority.pem', path)).toString('base64') } },
      }),
    );
  } finally {
    api.close();
  }
};
