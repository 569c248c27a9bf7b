/** One prefix of the store that is ours to write: what should stand there, what does, and so what is to be written. Keys are relative. */
import type { StoreEntry } from '../core/store.ts';
import { MerkleSet, valueHash } from '../records/merkle.ts';
import type { Portion } from './thrift.ts';
import type { TickWrites } from './tick.ts';

const sameBytes = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean =>
  a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;

export class Section {
  readonly prefix: string;
  readonly #desired = new Map<string, Uint8Array>();
  #standing = new MerkleSet();
  /** Bytes of the values that stand there. */
  #lengths = new Map<string, number>();
  /** Keys that may differ. */
  #dirty = new Set<string>();
  /** Keys that differ, and were left out of a portion that is not all. */
  #back = new Set<string>();
  /** Keys that were new, or left out before, and are on their way: not there until that is known. */
  #sent = new Set<string>();
  /** Left out before. */
  #waited = new Set<string>();
  readonly #together: (key: string) => boolean;

  /** @param together - keys that make one thing: a part of what differs in them is not written without the rest */
  constructor(prefix: string, together: (key: string) => boolean = () => false) {
    this.prefix = prefix;
    this.#together = together;
  }

  get waiting(): boolean {
    return this.#dirty.size > 0;
  }
  get desired(): ReadonlyMap<string, Uint8Array> {
    return this.#desired;
  }
  /** Of what stands in the store once everything taken is written. */
  get count(): number {
    return this.#standing.count;
  }
  root(): Uint8Array {
    return new Uint8Array(this.#standing.root());
  }
  /** Records that differ and are not to be written now. */
  get heldBack(): number {
    return this.#back.size;
  }
  /** Whether it stands there as it should. */
  stands(key: string): boolean {
    return this.#desired.has(key) && ![this.#dirty, this.#back, this.#sent].some((keys) => keys.has(key));
  }
  /** Whether something stands there, as it should or not, once everything taken is written. */
  holds(key: string): boolean {
    return this.#lengths.has(key);
  }

  set(key: string, value: Uint8Array | undefined): void {
    if (sameBytes(this.#desired.get(key), value)) return;
    if (value === undefined) this.#desired.delete(key);
    else this.#desired.set(key, value);
    this.#dirty.add(key);
    this.#back.delete(key);
  }

  /** What was left out is looked at again. */
  bringForth(): void {
    // In the order in which they came.
    this.#dirty = this.#back.union(this.#dirty);
    this.#waited = this.#back;
    this.#back = new Set();
  }

  /** What was taken is written. */
  written(): void {
    this.#sent = new Set();
  }

  /** All entries under the prefix, as listed. @param except - a key in full that is none of the records */
  compare(entries: readonly StoreEntry[], except?: string): void {
    this.#standing = new MerkleSet();
    this.#dirty = new Set();
    this.#back = new Set();
    this.#sent = new Set();
    this.#lengths = new Map();
    for (const { key, value } of entries) {
      if (key === except) continue;
      const relative = key.slice(this.prefix.length);
      this.#standing.set(relative, valueHash(value));
      this.#lengths.set(relative, value.length);
      if (!this.#desired.has(relative)) this.#dirty.add(relative);
    }
    for (const [relative, value] of this.#desired) {
      if (!this.#standing.holds(relative, valueHash(value))) this.#dirty.add(relative);
    }
  }

  /**
   * The writes that make the store what it should be. They count as done: after a failure the store is compared again.
   * @param always - a key that is in every portion
   */
  take(portion: Portion = 'all', always?: string): TickWrites {
    const puts: { key: string; value: Uint8Array }[] = [];
    const deletes: string[] = [];
    const apart = this.#apart(portion);
    for (const relative of this.#dirty) {
      const key = this.prefix + relative;
      const value = this.#desired.get(relative);
      const hash = value && valueHash(value);
      if (hash === undefined ? !this.#lengths.has(relative) : this.#standing.holds(relative, hash)) continue;
      const fits = relative === always || (this.#fits(portion, relative) && !(apart && this.#together(relative)));
      if (!fits) this.#back.add(relative);
      else if (value === undefined || hash === undefined) {
        this.#lengths.delete(relative);
        if (this.#standing.delete(relative)) deletes.push(key);
      } else {
        if (!this.#lengths.has(relative) || this.#waited.has(relative)) this.#sent.add(relative);
        this.#lengths.set(relative, value.length);
        this.#standing.set(relative, hash);
        puts.push({ key, value });
      }
    }
    this.#dirty = new Set();
    this.#waited = new Set();
    return { puts, deletes };
  }

  /** The writes that leave nothing there. What should stand waits. */
  takeAway(): TickWrites {
    const deletes = [...this.#lengths.keys()].map((relative) => this.prefix + relative);
    this.#standing = new MerkleSet();
    this.#lengths = new Map();
    this.#back = new Set(this.#desired.keys());
    this.#dirty = new Set();
    return { puts: [], deletes };
  }

  #fits(portion: Portion, relative: string): boolean {
    if (portion === 'all') return true;
    const standing = this.#lengths.get(relative);
    const value = this.#desired.get(relative);
    if (portion === 'none' || standing === undefined) return value === undefined && standing === undefined;
    if (value === undefined || portion === 'no-new') return true;
    return portion === 'no-larger' && value.length <= standing;
  }

  /** Some of what belongs together would be left out. */
  #apart(portion: Portion): boolean {
    if (portion === 'all') return false;
    const left = (relative: string): boolean => this.#together(relative) && !this.#fits(portion, relative);
    return [...this.#dirty].some(left) || [...this.#back].some(left);
  }
}
