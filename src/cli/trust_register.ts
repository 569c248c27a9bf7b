/** `isthmus trust register`: at the authority's desk, which roots a member's bundle may hold. */
import { certificatesOf } from '../ca/pem.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { storeKeys } from '../records/keys.ts';
import { parseRoot, rootFingerprint, shortFingerprint } from '../trust/bundle.ts';
import { signMembership } from '../trust/membership.ts';
import type { DeskOptions } from './authority_desk.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { type Desk, isMember, membersOf, mustBeKnown, nextSequence, openDesk } from './desk.ts';
import { readNamed } from './files.ts';
import { print, step, table } from './output.ts';

/** Fingerprints of the roots in a PEM file. @throws IsthmusError trust/…, config/file */
export const rootsInFile = (option: string, path: string): string[] => rootsInPem(readNamed(option, path), path);

export const rootsInPem = (pem: string, what: string): string[] => {
  const found = certificatesOf(pem, what).map((certificate, i) => {
    const root = parseRoot(new Uint8Array(certificate.raw), `${what}, certificate ${i + 1}`);
    if (!root.ok) throw root.error;
    return rootFingerprint(certificate.raw);
  });
  return [...new Set(found)];
};

/**
 * Signs the membership again with other roots, at the next sequence. Nothing is written when nothing changes.
 * @returns the roots that are registered now
 * @throws IsthmusError member/unknown, usage/invalid, store/conflict
 */
export const registerRoots = async (
  desk: Desk,
  cluster: string,
  change: (before: readonly string[]) => readonly string[],
): Promise<readonly string[]> => {
  const known = mustBeKnown(await membersOf(desk.store, desk.clusterset, desk.authority), cluster, desk.clusterset);
  const { member } = known;
  if (member === undefined || !isMember(known)) {
    throw new IsthmusError('member/unknown', `${cluster} is no member now`, { subject: { member: cluster } });
  }
  const before = member.trustRoots ?? [];
  const trustRoots = [...new Set(change(before))];
  if (trustRoots.length === before.length && trustRoots.every((root) => before.includes(root))) return before;
  if (trustRoots.length === 0 || trustRoots.length > limits.registeredRootsMax) {
    const why =
      trustRoots.length === 0
        ? 'no root would be left, and then any would be taken'
        : `${trustRoots.length} roots, ${limits.registeredRootsMax} allowed`;
    throw new IsthmusError('usage/invalid', `${cluster}: ${why}`, {
      hint: 'to put a member out: isthmus revoke; to drop old roots: --remove',
    });
  }
  const signed = signMembership({ ...member, trustRoots, sequence: nextSequence(known) }, desk.authority);
  if (!signed.ok) throw signed.error;
  const key = storeKeys(desk.clusterset).member(cluster);
  const done = await desk.store.commit({
    compare: [{ key, modRevision: known.modRevision }],
    puts: [{ key, value: signed.value }],
    deletes: [],
  });
  if (!done.ok) {
    throw new IsthmusError('store/conflict', `somebody else changed the membership of ${cluster} at the same time`, {
      hint: 'look at it, and try again',
    });
  }
  const said = (roots: readonly string[]) => roots.map(shortFingerprint).join(' ') || 'none';
  const detail = `roots ${said(trustRoots)}, before ${said(before)}`;
  desk.ledger.audit({ action: 'trust', outcome: 'done', cluster, detail });
  return trustRoots;
};

export interface RegisterOptions extends DeskOptions, PassphraseOptions {
  readonly cluster: string;
  readonly root: readonly string[];
  readonly remove: boolean;
}

export const trustRegister = async (options: RegisterOptions): Promise<void> => {
  const { cluster, remove } = options;
  const roots = options.root.flatMap((path) => (/^[0-9a-f]{64}$/.test(path) ? [path] : rootsInFile('--root', path)));
  const desk = await openDesk(options);
  try {
    const now = await step(`roots of ${cluster}, signed`, () =>
      registerRoots(desk, cluster, (before) =>
        remove ? before.filter((root) => !roots.includes(root)) : [...before, ...roots],
      ),
    );
    print(
      table(
        ['CLUSTER', 'ROOT (SHA-256)'],
        now.map((root) => [cluster, root]),
      ),
    );
  } finally {
    await desk.close();
  }
};
