/**
 * Which keys a member may write: its own names, for all and for each other member; and whoever joins by a token, what it asks. The same that
 * their roles give them where they write to etcd themselves.
 */
import { fail, ok, type Result } from '../core/errors.ts';
import { isDnsLabel } from '../core/names.ts';
import { storeKeys } from '../records/keys.ts';
import { shown } from '../records/wire.ts';
import { tokenUser } from '../trust/tokens.ts';

export interface OwnName {
  /** For whom alone; undefined: for all. */
  readonly reader: string | undefined;
  /** Relative to the member's prefix, or its prefix to that reader. */
  readonly rest: string;
}

export interface Owned {
  readonly member: string;
  readonly name: OwnName;
}

const joins = /^set\/joins\/([0-9a-f]{32})\/(request(?:\/[0-9a-f]{16})?|done)$/;
const shape = /^(?:public|to\/([^/]+))\/([^/]+)\/(.+)$/;

/** Whose key it is, by its place alone: a member, or the user of a token; undefined: nobody's of them. @param key - in full */
export const ownerOf = (clusterset: string, key: string): Owned | undefined => {
  const { root } = storeKeys(clusterset);
  if (!key.startsWith(root)) return undefined;
  const [, token, asked] = joins.exec(key.slice(root.length)) ?? [];
  if (token !== undefined && asked !== undefined) {
    return { member: tokenUser(token), name: { reader: undefined, rest: asked } };
  }
  const [, reader, member, rest] = shape.exec(key.slice(root.length)) ?? [];
  if (member === undefined || rest === undefined || !isDnsLabel(member)) return undefined;
  return { member, name: { reader, rest } };
};

const hint = 'a member writes under public/<itself>/ and to/<another member>/<itself>/';

/** Errors: `store/denied`. @param isMember - whether there is somebody of that name to write for */
export const ownName = (
  clusterset: string,
  member: string,
  key: string,
  isMember: (name: string) => boolean,
): Result<OwnName> => {
  const owned = ownerOf(clusterset, key);
  const subject = { member };
  if (owned?.member !== member) {
    return fail('store/denied', `key ${shown(key)} is not among the names of ${member}`, { hint, subject });
  }
  const { reader, rest } = owned.name;
  if (rest.split('/').some((part) => part === '' || part === '.' || part === '..')) {
    return fail('store/denied', `key ${shown(key)} has an empty part`, { hint, subject });
  }
  if (reader !== undefined && (reader === member || !isDnsLabel(reader) || !isMember(reader))) {
    return fail('store/denied', `key ${shown(key)} is for ${shown(reader)}, which is no other member`, {
      hint,
      subject,
    });
  }
  return ok(owned.name);
};
