/** Where in the cluster set a key of the store belongs. Names are kept and shown, so no member has one that is no label. */
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';
import { storeKeys } from '../records/keys.ts';
import { valueHash } from '../records/merkle.ts';

export type Place =
  /** `forUs`: what it publishes for us alone. `rest`: relative to the member's prefix. */
  | { readonly member: string; readonly rest: string; readonly forUs: boolean }
  | { readonly membership: string }
  | { readonly revocation: string }
  | { readonly policy: true }
  | undefined;

/**
 * Keys are kept for as long as they stand in the store, which takes keys of a megabyte. One that is longer than any of ours stands
 * here by its hash: it spoils the root like any other record that no manifest covers, until it is deleted.
 */
const boundedKey = (rest: string): string =>
  rest.length <= limits.recordKeyLengthMax ? rest : `#${valueHash(Buffer.from(rest)).toString('hex')}`;

const recordPlace = (key: string, start: number, forUs: boolean): Place => {
  const slash = key.indexOf('/', start);
  if (slash < 0 || slash === key.length - 1) return undefined;
  const member = key.slice(start, slash);
  return isDnsLabel(member) ? { member, rest: boundedKey(key.slice(slash + 1)), forUs } : undefined;
};

/** @param self - our own name: what members publish for others is none of ours */
export const placesOf = (clusterset: string, self: string): ((key: string) => Place) => {
  const keys = storeKeys(clusterset);
  const ourPrefix = keys.readerPrefix(self);
  return (key) => {
    if (key.startsWith(keys.publicPrefix)) return recordPlace(key, keys.publicPrefix.length, false);
    if (key.startsWith(ourPrefix)) return recordPlace(key, ourPrefix.length, true);
    if (key === keys.policy) return { policy: true };
    if (key.startsWith(keys.revocationsPrefix)) return { revocation: key.slice(keys.revocationsPrefix.length) };
    if (!key.startsWith(keys.membersPrefix)) return undefined;
    const membership = key.slice(keys.membersPrefix.length);
    return isDnsLabel(membership) ? { membership } : undefined;
  };
};
