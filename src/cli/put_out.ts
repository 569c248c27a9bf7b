/**
 * Putting a member out of a cluster set: what `leave` and `revoke` share.
 *
 * The mark comes first, so that every controller closes the member before anything of it goes; then its etcd user, so that nothing new
 * comes; then its records. Deleting the membership alone would put nobody out: a store is not believed when it says less than before.
 */
import { createHash } from 'node:crypto';
import { IsthmusError } from '../core/errors.ts';
import type { CommitResult, StoreEntry } from '../core/store.ts';
import { realClock } from '../ops/clock.ts';
import { refusalText } from '../records/joining.ts';
import { storeKeys } from '../records/keys.ts';
import { revocationReasonMax } from '../records/revocation.ts';
import { signRevocation } from '../trust/revocation.ts';
import { type Desk, isMember, type Known, nextSequence } from './desk.ts';
import { aligned, print, step, table } from './output.ts';

const batchKeys = 100;

/** Keys that are the member's own, the authority's about it, or for it alone. */
export const isOf = (clusterset: string, name: string): ((key: string) => boolean) => {
  const keys = storeKeys(clusterset);
  const single = [keys.member(name), keys.revocation(name)];
  const alone = `${keys.root}to/`;
  return (key) => {
    if (key.startsWith(keys.memberPrefix(name)) || single.includes(key)) return true;
    // What it published for one reader alone, and what was for it alone.
    return key.startsWith(alone) && key.slice(alone.length).split('/', 2).includes(name);
  };
};

export interface Loss {
  readonly service: string;
  /** Members that export it too. */
  readonly remaining: readonly string[];
}

/** Its exported services, and who else has each. Members that are out do not count. */
export const lossesOf = (
  entries: readonly StoreEntry[],
  clusterset: string,
  name: string,
  known: ReadonlyMap<string, Known>,
): readonly Loss[] => {
  const { root } = storeKeys(clusterset);
  const exporters = new Map<string, string[]>();
  for (const { key } of entries) {
    const [first, ...rest] = key.startsWith(root) ? key.slice(root.length).split('/') : [];
    // What is for single readers is exported too; the reader's name stands before the member's.
    const parts = first === 'public' ? rest : first === 'to' ? rest.slice(1) : [];
    const [member = '', kind, namespace, service, more] = parts;
    if (kind !== 'services' || service === undefined || more !== undefined) continue;
    const of = known.get(member);
    if (member !== name && (of === undefined || !isMember(of))) continue;
    const id = `${namespace}/${service}`;
    exporters.set(id, [...new Set([...(exporters.get(id) ?? []), member])]);
  }
  return [...exporters]
    .filter(([, members]) => members.includes(name))
    .map(([service, members]) => ({ service, remaining: members.filter((other) => other !== name) }))
    .sort((a, b) => (a.service < b.service ? -1 : 1));
};

/** On stdout: what everybody else would notice. */
export const showLosses = (name: string, losses: readonly Loss[], known: ReadonlyMap<string, Known>): void => {
  const others = [...known].filter(([other, k]) => other !== name && isMember(k)).map(([other]) => other);
  print(`without ${name}, for ${others.length === 0 ? 'nobody: it is the only member' : others.join(', ')}:`);
  if (losses.length === 0) print(aligned([['it exports no service: nothing changes for anybody']]));
  else {
    print(
      table(
        ['SERVICE', 'REMAINS IN'],
        losses.map(({ service, remaining }) => [
          service,
          remaining.length === 0 ? 'NOBODY: it is gone' : remaining.join(' '),
        ]),
      ),
    );
  }
};

export interface PutOut {
  readonly sequence: bigint;
  /** Revisions of etcd that this command made. */
  readonly revisions: ReadonlySet<bigint>;
  readonly removed: number;
}

export interface PutOutSettings {
  readonly reason: string;
  /** Leave its records in etcd, unused, for a look at them. */
  readonly keepRecords: boolean;
  /** The other members. */
  readonly others: readonly string[];
}

const committed = (result: CommitResult, revisions: Set<bigint>): void => {
  if (!result.ok) {
    throw new IsthmusError('store/conflict', 'somebody else changed this member at the same moment', {
      hint: 'look at it, and run this again',
    });
  }
  revisions.add(result.revision);
};

/** Mark, user, records. Each may be run again. */
export const putOut = async (desk: Desk, name: string, known: Known, settings: PutOutSettings): Promise<PutOut> => {
  const { clusterset, store } = desk;
  const keys = storeKeys(clusterset);
  const revisions = new Set<bigint>();
  const sequence = nextSequence(known);
  const reason = refusalText(settings.reason).slice(0, revocationReasonMax);
  const mark = signRevocation(
    { clusterset, member: name, sequence, reason, wallMs: realClock.wallMs() },
    desk.authority,
  );
  if (!mark.ok) throw mark.error;
  await step(`${name} is out, by the authority's word: every controller closes it`, async () => {
    const membership = known.modRevision === 0n ? [] : [keys.member(name)];
    const done = await store.commit({
      compare: [{ key: keys.member(name), modRevision: known.modRevision }],
      puts: [{ key: keys.revocation(name), value: mark.value }],
      deletes: membership,
    });
    committed(done, revisions);
  });
  await step(`etcd user and role of ${name} are gone`, () =>
    desk.admin.removeMember(clusterset, name, settings.others),
  );
  let removed = 0;
  if (!settings.keepRecords) {
    await step(`records of ${name} are gone`, async () => {
      // Whoever has flooded the store has more there than one list holds.
      const parts = settings.others.map((other) => keys.partPrefix(other, name));
      for (const prefix of [keys.memberPrefix(name), keys.readerPrefix(name), ...parts]) {
        for (;;) {
          const { entries } = await store.list(prefix);
          if (entries.length === 0) break;
          for (let at = 0; at < entries.length; at += batchKeys) {
            const deletes = entries.slice(at, at + batchKeys).map(({ key }) => key);
            committed(await store.commit({ compare: [], puts: [], deletes }), revisions);
            removed += deletes.length;
          }
        }
      }
    });
  }
  return { sequence, revisions, removed };
};

export interface Untouched {
  readonly same: number;
  /** Written or withdrawn by their own members meanwhile. */
  readonly byOthers: number;
  /** SHA-256 over the keys and values that are as they were. */
  readonly digest: string;
}

/**
 * That nothing of anybody else was touched: every other key is as it was, or was written by somebody else since: at a revision of etcd
 * that is none of ours. @throws IsthmusError store/conflict naming a key that this command changed
 */
export const proveUntouched = (
  before: readonly StoreEntry[],
  after: readonly StoreEntry[],
  own: (key: string) => boolean,
  revisions: ReadonlySet<bigint>,
): Untouched => {
  const then = new Map(before.map((entry) => [entry.key, entry]));
  const hash = createHash('sha256');
  let same = 0;
  let byOthers = 0;
  for (const entry of after) {
    if (own(entry.key)) continue;
    const was = then.get(entry.key);
    then.delete(entry.key);
    if (was?.modRevision === entry.modRevision && Buffer.compare(was.value, entry.value) === 0) {
      same++;
      hash.update(`${entry.key}\0`).update(entry.value);
    } else if (revisions.has(entry.modRevision)) throw touched(entry.key);
    else byOthers++;
  }
  // What is gone was deleted in none of our transactions: they name no key but the member's.
  for (const key of then.keys()) if (!own(key)) byOthers++;
  return { same, byOthers, digest: hash.digest('hex') };
};

const touched = (key: string): IsthmusError =>
  new IsthmusError('store/conflict', `${key} was changed by this command, and should not have been`, {
    hint: 'keep a copy of etcd, and report this',
  });
