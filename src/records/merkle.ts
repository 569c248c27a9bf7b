/**
 * A set of (key, SHA-256 of value) with a root hash, kept up to date change by change.
 *
 * Keys fall into 256 buckets by a hash of the key, 16 buckets make a branch, 16 branches the root. A change rehashes one bucket,
 * one branch and the root: a few microseconds at 1,000 records, whatever changed. The shape depends on the set alone, so
 * whoever holds the same records finds the same root. A binary tree over the sorted keys was passed over: it needs balancing
 * to stay incremental, and inclusion proofs, its gain, are of no use to readers that hold the whole set.
 *
 *   bucket = SHA-256(0x00 ‖ for each key in order: length(key) as u32 ‖ key ‖ SHA-256(value)), 32 zero bytes when empty
 *   branch = SHA-256(0x01 ‖ 16 buckets)
 *   root   = SHA-256("isthmus/v1/records\0" ‖ count as u32 ‖ 16 branches)
 */
import { hash } from 'node:crypto';

const buckets = 256;
const fanout = 16;
const hashBytes = 32;
const empty = Buffer.alloc(hashBytes);
const rootTag = Buffer.from('isthmus/v1/records\0', 'latin1');

const sha256 = (bytes: Uint8Array): Buffer => hash('sha256', bytes, 'buffer');

/** The hash under which a value stands in the set. */
export const valueHash = (value: Uint8Array): Buffer => sha256(value);

interface Bucket {
  /** In order of their UTF-16 units, which for the ASCII keys of the store is byte order. */
  readonly keys: string[];
  /** 32 bytes for each key, with room to grow. */
  hashes: Buffer;
  digest: Buffer | undefined;
}

/** FNV-1a, folded to the bucket. Whoever crowds one bucket slows down the reading of its own records only. */
const bucketOf = (key: string): number => {
  let h = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) h = Math.imul(h ^ key.charCodeAt(i), 0x01000193);
  return (h ^ (h >>> 8) ^ (h >>> 16) ^ (h >>> 24)) & (buckets - 1);
};

/** The place of the key in a sorted list, or where it belongs (as -place - 1). */
const search = (keys: readonly string[], key: string): number => {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low < keys.length && keys[low] === key ? low : -low - 1;
};

export class MerkleSet {
  readonly #buckets: (Bucket | undefined)[] = [];
  readonly #branches: (Buffer | undefined)[] = [];
  #root: Buffer | undefined;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  has(key: string): boolean {
    const bucket = this.#buckets[bucketOf(key)];
    return bucket !== undefined && search(bucket.keys, key) >= 0;
  }

  /** True when the set holds this key with this hash. */
  holds(key: string, hash: Uint8Array): boolean {
    const bucket = this.#buckets[bucketOf(key)];
    if (bucket === undefined) return false;
    const at = search(bucket.keys, key);
    return at >= 0 && bucket.hashes.compare(hash, 0, hashBytes, at * hashBytes, (at + 1) * hashBytes) === 0;
  }

  /** The hash of a key's value, as a copy. */
  get(key: string): Buffer | undefined {
    const bucket = this.#buckets[bucketOf(key)];
    if (bucket === undefined) return undefined;
    const at = search(bucket.keys, key);
    return at < 0 ? undefined : Buffer.from(bucket.hashes.subarray(at * hashBytes, (at + 1) * hashBytes));
  }

  /** @returns whether the set changed */
  set(key: string, hash: Uint8Array): boolean {
    if (hash.length !== hashBytes) throw new Error(`MerkleSet: hash of ${hash.length} bytes`);
    const index = bucketOf(key);
    const bucket: Bucket = this.#buckets[index] ?? { keys: [], hashes: Buffer.alloc(0), digest: undefined };
    this.#buckets[index] = bucket;
    const at = search(bucket.keys, key);
    if (at >= 0) {
      if (bucket.hashes.compare(hash, 0, hashBytes, at * hashBytes, (at + 1) * hashBytes) === 0) return false;
      bucket.hashes.set(hash, at * hashBytes);
    } else {
      const place = -at - 1;
      const used = bucket.keys.length * hashBytes;
      if (used === bucket.hashes.length) {
        const grown = Buffer.alloc(Math.max(2 * hashBytes, used * 2));
        grown.set(bucket.hashes);
        bucket.hashes = grown;
      }
      bucket.hashes.copyWithin((place + 1) * hashBytes, place * hashBytes, used);
      bucket.hashes.set(hash, place * hashBytes);
      bucket.keys.splice(place, 0, key);
      this.#count++;
    }
    this.#touch(index, bucket);
    return true;
  }

  /** @returns whether the key was in the set */
  delete(key: string): boolean {
    const index = bucketOf(key);
    const bucket = this.#buckets[index];
    if (bucket === undefined) return false;
    const at = search(bucket.keys, key);
    if (at < 0) return false;
    bucket.hashes.copyWithin(at * hashBytes, (at + 1) * hashBytes, bucket.keys.length * hashBytes);
    bucket.keys.splice(at, 1);
    this.#count--;
    this.#touch(index, bucket);
    if (bucket.keys.length === 0) this.#buckets[index] = undefined;
    return true;
  }

  *keys(): Generator<string> {
    for (const bucket of this.#buckets) if (bucket !== undefined) yield* bucket.keys;
  }

  /** 32 bytes. */
  root(): Buffer {
    if (this.#root !== undefined) return this.#root;
    const input = Buffer.alloc(rootTag.length + 4 + fanout * hashBytes);
    input.set(rootTag);
    input.writeUInt32BE(this.#count, rootTag.length);
    for (let i = 0; i < buckets / fanout; i++) input.set(this.#branch(i), rootTag.length + 4 + i * hashBytes);
    this.#root = sha256(input);
    return this.#root;
  }

  #touch(index: number, bucket: Bucket): void {
    bucket.digest = undefined;
    this.#branches[Math.floor(index / fanout)] = undefined;
    this.#root = undefined;
  }

  #branch(index: number): Buffer {
    const known = this.#branches[index];
    if (known !== undefined) return known;
    const input = Buffer.alloc(1 + fanout * hashBytes);
    input[0] = 1;
    for (let i = 0; i < fanout; i++) input.set(this.#bucket(index * fanout + i), 1 + i * hashBytes);
    const digest = sha256(input);
    this.#branches[index] = digest;
    return digest;
  }

  #bucket(index: number): Buffer {
    const bucket = this.#buckets[index];
    if (bucket === undefined) return empty;
    if (bucket.digest !== undefined) return bucket.digest;
    const input = Buffer.alloc(bucket.keys.reduce((sum, key) => sum + 4 + Buffer.byteLength(key) + hashBytes, 1));
    let at = 1;
    for (const [i, key] of bucket.keys.entries()) {
      const length = input.write(key, at + 4);
      input.writeUInt32BE(length, at);
      at += 4 + length;
      input.set(bucket.hashes.subarray(i * hashBytes, (i + 1) * hashBytes), at);
      at += hashBytes;
    }
    bucket.digest = sha256(input);
    return bucket.digest;
  }
}
