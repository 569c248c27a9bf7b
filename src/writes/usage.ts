/** How much of the store each member fills: keys and bytes, counted from what stands there. What is nobody's name counts for nobody. */
import { limits } from '../core/limits.ts';
import type { StoreEntry, StoreEvent } from '../core/store.ts';
import { ownerOf } from './names.ts';

export interface Filled {
  readonly keys: number;
  /** Keys and values, and for each key what etcd needs beside. */
  readonly bytes: number;
}

/** What one key costs. */
export const costOf = (key: string, valueBytes: number): number => key.length + valueBytes + limits.writeOverheadBytes;

class Share {
  readonly sizes = new Map<string, number>();
  bytes = 0;

  set(key: string, size: number | undefined): void {
    this.bytes -= this.sizes.get(key) ?? 0;
    if (size === undefined) this.sizes.delete(key);
    else {
      this.sizes.set(key, size);
      this.bytes += size;
    }
  }
}

const nothing: Filled = { keys: 0, bytes: 0 };

export class Usage {
  readonly #clusterset: string;
  #shares = new Map<string, Share>();

  constructor(clusterset: string) {
    this.#clusterset = clusterset;
  }

  get members(): Iterable<string> {
    return this.#shares.keys();
  }

  of(member: string): Filled {
    const share = this.#shares.get(member);
    return share === undefined ? nothing : { keys: share.sizes.size, bytes: share.bytes };
  }

  /** Everything that stands there. */
  replace(entries: readonly StoreEntry[]): void {
    this.#shares = new Map();
    for (const { key, value } of entries) this.#set(key, costOf(key, value.length));
  }

  apply(event: StoreEvent): void {
    this.#set(event.key, event.type === 'put' ? costOf(event.key, event.value.length) : undefined);
  }

  /** What a member would fill after these writes. */
  after(
    member: string,
    puts: readonly { readonly key: string; readonly value: Uint8Array }[],
    deletes: readonly string[],
  ): Filled {
    const share = this.#shares.get(member);
    let { keys, bytes } = this.of(member);
    for (const { key, value } of puts) {
      const before = share?.sizes.get(key);
      if (before === undefined) keys++;
      bytes += costOf(key, value.length) - (before ?? 0);
    }
    for (const key of deletes) {
      const before = share?.sizes.get(key);
      if (before === undefined) continue;
      keys--;
      bytes -= before;
    }
    return { keys, bytes };
  }

  #set(key: string, size: number | undefined): void {
    const owner = ownerOf(this.#clusterset, key)?.member;
    if (owner === undefined) return;
    const share = this.#shares.get(owner) ?? new Share();
    this.#shares.set(owner, share);
    share.set(key, size);
    if (share.sizes.size === 0) this.#shares.delete(owner);
  }
}
