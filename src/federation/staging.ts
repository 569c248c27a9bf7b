/**
 * A member's records as the store has them, whether or not a manifest covers them yet.
 *
 * Hashes of all of them make the Merkle root; values are held only until they are admitted. Both are bounded: who floods
 * the store is no longer followed, and its last good records stay in use until a snapshot fits again.
 */
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { MerkleSet, valueHash } from '../records/merkle.ts';
import { intern } from '../records/wire.ts';

/** A value waiting for its manifest; undefined when the key was deleted. */
export type StagedValue = Uint8Array | undefined;

export class Staging {
  readonly #set = new MerkleSet();
  readonly #pending = new Map<string, StagedValue>();
  readonly #member: string;
  #pendingBytes = 0;
  /** Hash of what was admitted, for each pending key, to go back to when staging is given up. */
  readonly #before = new Map<string, Uint8Array | undefined>();
  #overflow: IsthmusError | undefined;

  constructor(member: string) {
    this.#member = member;
  }

  get count(): number {
    return this.#set.count;
  }
  get pending(): number {
    return this.#pending.size;
  }
  get empty(): boolean {
    return this.#overflow === undefined && this.#set.count === 0;
  }
  /** Why this member is not followed at present. */
  get overflow(): IsthmusError | undefined {
    return this.#overflow;
  }

  /** Does the set of all records have this root and count? */
  matches(root: Uint8Array, count: number): boolean {
    return this.#overflow === undefined && count === this.#set.count && this.#set.root().equals(root);
  }

  /** As `matches`, for a root that holds the count. */
  hasRoot(root: Uint8Array): boolean {
    return this.#overflow === undefined && this.#set.root().equals(root);
  }

  /** A value that is admitted already, from the saved state. */
  adopt(key: string, hash: Uint8Array): void {
    this.#set.set(intern(key), hash);
  }

  /** The hash of an admitted key's value as it was admitted, whatever is staged by now. */
  admittedHash(key: string): Uint8Array {
    const hash = this.#before.has(key) ? this.#before.get(key) : this.#set.get(key);
    if (hash === undefined) throw new Error(`staging: ${key} was never admitted`);
    return hash;
  }

  put(key: string, value: Uint8Array, bytesMax: number): void {
    if (this.#overflow !== undefined) return;
    const hash = valueHash(value);
    const name = intern(key);
    if (this.#set.holds(name, hash)) return;
    this.#remember(name);
    this.#set.set(name, hash);
    this.#hold(name, value);
    if (this.#set.count > limits.recordsPerMemberMax) {
      this.#giveUp(`more than ${limits.recordsPerMemberMax} records`);
    } else if (this.#pendingBytes > bytesMax) {
      this.#giveUp(
        `more bytes of records than a reader keeps of one member (${this.#pendingBytes} are not yet covered)`,
      );
    }
  }

  delete(key: string): void {
    if (this.#overflow !== undefined || !this.#set.has(key)) return;
    const name = intern(key);
    this.#remember(name);
    this.#set.delete(name);
    this.#hold(name, undefined);
  }

  /** The whole content of the store; what is not in it is gone. */
  replace(entries: ReadonlyMap<string, Uint8Array>, bytesMax: number): void {
    this.#overflow = undefined;
    for (const key of [...this.#set.keys()]) if (!entries.has(key)) this.delete(key);
    for (const [key, value] of entries) this.put(key, value, bytesMax);
  }

  /** Hands over everything that changed since the last admission. Call it when a manifest covers the set. */
  take(): ReadonlyMap<string, StagedValue> {
    const taken = new Map(this.#pending);
    this.#clear();
    return taken;
  }

  /** A value that is admitted no longer, although it stands in the store: it waits again, should it be covered once more. */
  giveBack(key: string, value: Uint8Array): void {
    const name = intern(key);
    this.#before.set(name, undefined);
    if (this.#set.has(name) && !this.#pending.has(name)) this.#hold(name, value);
  }

  #remember(key: string): void {
    if (!this.#before.has(key)) this.#before.set(key, this.#set.get(key));
  }

  #hold(key: string, value: StagedValue): void {
    this.#pendingBytes += (value?.length ?? 0) - (this.#pending.get(key)?.length ?? 0);
    this.#pending.set(key, value);
  }

  #clear(): void {
    this.#pending.clear();
    this.#before.clear();
    this.#pendingBytes = 0;
  }

  /** Back to what is admitted; nothing more is staged until a snapshot comes. */
  #giveUp(why: string): void {
    for (const [key, hash] of this.#before) {
      if (hash === undefined) this.#set.delete(key);
      else this.#set.set(key, hash);
    }
    this.#clear();
    this.#overflow = new IsthmusError('record/too-large', `${this.#member}: ${why}`, {
      hint: 'its last good records stay in use; remove what floods the store',
      subject: { member: this.#member },
    });
  }
}
