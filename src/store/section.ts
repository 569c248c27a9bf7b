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

  constructor(prefix: string) {
    this.prefix = prefix;
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
    return this.#desired.has(key) && !this.#dirty.has(key) && !this.#back.has(key);
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
    this.#dirty = this.#dirty.union(this.#back);
    this.#back = new Set();
  }

  /** All entries under the prefix, as listed. @param except - a key in full that is none of the records */
  compare(entries: readonly StoreEntry[], except?: string): void {
    this.#standing = new MerkleSet();
    this.#dirty = new Set();
    this.#back = new Set();
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

  /** The writes that make the store what it should be. They count as done: after a failure the store is compared again. */
  take(portion: Portion = 'all'): TickWrites {
    const puts: { key: string; value: Uint8Array }[] = [];
    const deletes: string[] = [];
    for (const relative of this.#dirty) {
      const key = this.prefix + relative;
      const value = this.#desired.get(relative);
      if (!this.#fits(portion, relative, value)) this.#back.add(relative);
      else if (value === undefined) {
        this.#lengths.delete(relative);
        if (this.#standing.delete(relative)) deletes.push(key);
      } else {
        this.#lengths.set(relative, value.length);
        if (this.#standing.set(relative, valueHash(value))) puts.push({ key, value });
      }
    }
    this.#dirty = new Set();
    return { puts, deletes };
  }

  #fits(portion: Portion, relative: string, value: Uint8Array | undefined): boolean {
    const standing = this.#lengths.get(relative);
    if (portion === 'all' || (value === undefined && standing === undefined)) return true;
    if (portion === 'none' || standing === undefined) return false;
    return portion === 'no-new' || (value?.length ?? 0) <= standing;
  }
}
