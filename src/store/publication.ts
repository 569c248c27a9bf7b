/**
 * What should stand in the store under our prefix, what stands there, and so what is to be written. Keys are relative to the
 * prefix; the manifest is not among them.
 */
import type { StoreEntry } from '../core/store.ts';
import { MerkleSet, valueHash } from '../records/merkle.ts';
import type { TickWrites } from './tick.ts';

export class Publication {
  readonly #prefix: string;
  readonly #manifestKey: string;
  readonly #desired = new Map<string, Uint8Array>();
  #standing = new MerkleSet();
  /** Keys that may differ. */
  #dirty = new Set<string>();

  constructor(prefix: string, manifestKey: string) {
    this.#prefix = prefix;
    this.#manifestKey = manifestKey;
  }

  get waiting(): boolean {
    return this.#dirty.size > 0;
  }
  /** Of what stands in the store once everything taken is written. */
  get count(): number {
    return this.#standing.count;
  }
  root(): Uint8Array {
    return new Uint8Array(this.#standing.root());
  }

  change(changes: ReadonlyMap<string, Uint8Array | undefined>): void {
    for (const [key, value] of changes) {
      const before = this.#desired.get(key);
      if (before === undefined ? value === undefined : value !== undefined && Buffer.compare(before, value) === 0)
        continue;
      if (value === undefined) this.#desired.delete(key);
      else this.#desired.set(key, value);
      this.#dirty.add(key);
    }
  }

  /** All entries under the prefix, as listed. */
  compare(entries: readonly StoreEntry[]): void {
    this.#standing = new MerkleSet();
    this.#dirty = new Set();
    for (const { key, value } of entries) {
      if (key === this.#manifestKey) continue;
      const relative = key.slice(this.#prefix.length);
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
      const key = this.#prefix + relative;
      const value = this.#desired.get(relative);
      if (value === undefined) {
        if (this.#standing.delete(relative)) deletes.push(key);
      } else if (this.#standing.set(relative, valueHash(value))) puts.push({ key, value });
    }
    this.#dirty = new Set();
    return { puts, deletes };
  }
}
