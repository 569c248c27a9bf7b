/** One prefix of the store that is ours to write: what should stand there, what does, and so what is to be written. Keys are relative. */
import type { StoreEntry } from '../core/store.ts';
import { MerkleSet, valueHash } from '../records/merkle.ts';
import type { TickWrites } from './tick.ts';

const sameBytes = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean =>
  a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;

export class Section {
  readonly prefix: string;
  readonly #desired = new Map<string, Uint8Array>();
  #standing = new MerkleSet();
  /** Keys that may differ. */
  #dirty = new Set<string>();

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
  /** Whether it stands there as it should. */
  stands(key: string): boolean {
    return this.#desired.has(key) && !this.#dirty.has(key);
  }

  set(key: string, value: Uint8Array | undefined): void {
    if (sameBytes(this.#desired.get(key), value)) return;
    if (value === undefined) this.#desired.delete(key);
    else this.#desired.set(key, value);
    this.#dirty.add(key);
  }

  /** All entries under the prefix, as listed. @param except - a key in full that is none of the records */
  compare(entries: readonly StoreEntry[], except?: string): void {
    this.#standing = new MerkleSet();
    this.#dirty = new Set();
    for (const { key, value } of entries) {
      if (key === except) continue;
      const relative = key.slice(this.prefix.length);
      this.#standing.set(relative, valueHash(value));
      if (!this.#desired.has(relative)) this.#dirty.add(relative);
    }
    for (const [relative, value] of this.#desired) {
      if (!this.#standing.holds(relative, valueHash(value))) this.#dirty.add(relative);
    }
  }

  /** The writes that make the store what it should be. They count as done: after a failure the store is compared again. */
  take(): TickWrites {
    const puts: { key: string; value: Uint8Array }[] = [];
    const deletes: string[] = [];
    for (const relative of this.#dirty) {
      const key = this.prefix + relative;
      const value = this.#desired.get(relative);
      if (value === undefined) {
        if (this.#standing.delete(relative)) deletes.push(key);
      } else if (this.#standing.set(relative, valueHash(value))) puts.push({ key, value });
    }
    this.#dirty = new Set();
    return { puts, deletes };
  }
}
