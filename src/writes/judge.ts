/**
 * Whether a member's write may go on to etcd: its own names, sizes, its manifest signed and newer than the one that stands there, and
 * within what it may fill and how fast. All of it from what was read of the store, so that the same write is judged alike by every gateway.
 *
 * Records are not decoded here: readers do that, and keep what they refuse from doing harm. What is looked at is what readers cannot
 * mend: room in the store, its speed, and other names.
 */
import type { KeyObject } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { StoreTxn } from '../core/store.ts';
import type { Manifest } from '../gen/isthmus/v1/records_pb.ts';
import { storeKeys } from '../records/keys.ts';
import { verifyManifest } from '../records/manifest.ts';
import { shown } from '../records/wire.ts';
import { tokenOfUser } from '../trust/tokens.ts';
import { type Allowance, spend } from './allowance.ts';
import type { Note } from './ledger.ts';
import { ownName } from './names.ts';
import { costOf, type Filled, type Usage } from './usage.ts';

/** Of each member. */
export interface WriteQuota {
  readonly keys: number;
  readonly bytes: number;
  /** Keys put or deleted. */
  readonly changes: Allowance;
  /** Written, whether it replaces something or not: etcd keeps what was replaced until it is compacted. */
  readonly written: Allowance;
}

export interface Scene {
  readonly clusterset: string;
  readonly member: string;
  /** That count for the member now. */
  readonly recordKeys: readonly KeyObject[];
  readonly isMember: (name: string) => boolean;
  readonly usage: Usage;
  /** The manifest that stands in the store, as bytes. */
  readonly manifest: Uint8Array | undefined;
  readonly note: Note;
  readonly quota: WriteQuota;
  readonly wallMs: number;
}

export interface Verdict {
  /** To be written with it. */
  readonly note: Note;
  /** Until it may be written; 0: now. Never more than `limits.writeWaitMaxMs`. */
  readonly waitMs: number;
}

/** Of the note that goes with each write. */
const noteCost = 128 + limits.writeOverheadBytes;
const manifestName = 'manifest';

/** Of whoever joins by a token: a request, a note that it came second, and that it has its answer. */
const joinerQuota: WriteQuota = {
  keys: 8,
  bytes: 4 * limits.joinRequestBytesMax,
  changes: { perSecond: 1, burst: 32 },
  written: { perSecond: 1024, burst: 8 * limits.joinRequestBytesMax },
};

const verified = (bytes: Uint8Array, { clusterset, member, recordKeys }: Scene): Result<Manifest> => {
  let last: Result<Manifest> = fail('manifest/signature', `manifest of ${member}: there is no key to verify it with`);
  for (const key of recordKeys) {
    last = verifyManifest(bytes, { clusterset, member, key });
    if (last.ok) return last;
  }
  return last;
};

const checkManifest = (bytes: Uint8Array, scene: Scene): Result<void> => {
  const { member } = scene;
  const next = verified(bytes, scene);
  if (!next.ok) return next;
  const standing = scene.manifest === undefined ? undefined : verified(scene.manifest, scene);
  if (standing?.ok !== true) return ok(undefined);
  const { epoch, sequence } = standing.value;
  const newer = next.value.epoch > epoch || (next.value.epoch === epoch && next.value.sequence > sequence);
  if (newer) return ok(undefined);
  return fail(
    'manifest/stale',
    `manifest of ${member}: epoch ${next.value.epoch}, sequence ${next.value.sequence} is not above epoch ${epoch}, sequence ${sequence}, which stands there`,
    {
      hint: 'normal for a writer that was replaced; otherwise somebody sends what was written before',
      subject: { member },
    },
  );
};

const joins = ({ member }: Scene): boolean => tokenOfUser(member) !== undefined;

const checkKeys = (txn: StoreTxn, scene: Scene): Result<void> => {
  const { clusterset, member, isMember } = scene;
  for (const { key, value } of txn.puts) {
    const name = ownName(clusterset, member, key, isMember);
    if (!name.ok) return name;
    const bytesMax = joins(scene) ? limits.joinRequestBytesMax : limits.recordBytesMax;
    if (value.length > bytesMax) {
      return fail('record/too-large', `the value of ${shown(key)} has ${value.length} bytes, ${bytesMax} are allowed`, {
        hint: 'no record of Isthmus is larger',
        subject: { member },
      });
    }
    if (joins(scene) || name.value.reader !== undefined || name.value.rest !== manifestName) continue;
    const manifest = checkManifest(value, scene);
    if (!manifest.ok) return manifest;
  }
  // What was written for somebody who is gone may be taken away.
  for (const key of [...txn.deletes, ...txn.compare.map((compare) => compare.key)]) {
    const name = ownName(clusterset, member, key, () => true);
    if (!name.ok) return name;
  }
  const own = storeKeys(clusterset).manifest(member);
  if (!txn.deletes.includes(own)) return ok(undefined);
  return fail('store/denied', `key ${shown(own)} may be replaced by a newer manifest, not deleted`, {
    hint: 'whoever leaves has the authority remove it: isthmus leave',
    subject: { member },
  });
};

const overQuota = (field: 'keys' | 'bytes', after: Filled, { member, quota }: Scene): Result<never> =>
  fail('store/quota', `${member} would fill ${after[field]} ${field} of the store, quota.${field} is ${quota[field]}`, {
    hint: 'export less, or have the quota of the store gateway raised; deletions are always taken',
    subject: { member, [field]: after[field] },
  });

const tooFast = (what: string, { perSecond, burst }: Allowance, member: string): Result<never> =>
  fail('store/rate', `${member} writes faster than ${perSecond} ${what} a second, after ${burst} at once`, {
    hint: 'it is taken when there is room again; see the quota of the store gateway',
    subject: { member },
  });

/** Errors: `store/denied`, `store/quota`, `store/rate`, `record/too-large`, `manifest/…`. */
export const judge = (txn: StoreTxn, given: Scene): Result<Verdict> => {
  const scene = joins(given) ? { ...given, quota: joinerQuota } : given;
  const { member, usage, note, quota, wallMs } = scene;
  const keys = checkKeys(txn, scene);
  if (!keys.ok) return keys;
  const before = usage.of(member);
  const after = usage.after(member, txn.puts, txn.deletes);
  // A member that has too much must be able to say that it lives, and to take away: its manifest, which grows by a byte now and then, does
  // not count against it.
  const own = storeKeys(scene.clusterset).manifest(member);
  const records = txn.puts.filter(({ key }) => key !== own);
  const counted = usage.after(member, records, txn.deletes);
  for (const field of ['keys', 'bytes'] as const) {
    if (counted[field] > quota[field] && counted[field] > before[field]) return overQuota(field, counted, scene);
  }
  const puts = txn.puts.reduce((sum, { key, value }) => sum + costOf(key, value.length), noteCost);
  const bytes = txn.deletes.reduce((sum, key) => sum + costOf(key, 0), puts);
  const changes = spend(quota.changes, note.changesUntilMs, txn.puts.length + txn.deletes.length, wallMs);
  const written = spend(quota.written, note.bytesUntilMs, bytes, wallMs);
  if (changes.waitMs > limits.writeWaitMaxMs) return tooFast('keys', quota.changes, member);
  if (written.waitMs > limits.writeWaitMaxMs) return tooFast('bytes', quota.written, member);
  return ok({
    note: { ...after, changesUntilMs: changes.untilMs, bytesUntilMs: written.untilMs },
    waitMs: Math.max(changes.waitMs, written.waitMs),
  });
};
