/**
 * How much of the store one list takes into memory.
 *
 * etcd has no quotas for its users, so whoever may write under one name may fill it, and every reader of the cluster set lists it
 * when it starts. What stands under one name is therefore listed up to what its reader would stage, and a little more, so that
 * the reader sees a flood for what it is; the rest is left out, and all other names are listed whole.
 */
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { StoreEntry } from '../core/store.ts';

/** Of objects, for each entry: an entry without a value is not free. */
const entryBytes = 200;
const written = /^\/isthmus\/v1\/[^/]+\/(?:public|to\/[^/]+|issued)\/([^/]{1,63})\//;

interface Share {
  bytes: number;
  keys: number;
}

export class ListBudget {
  readonly #shares = new Map<string, Share>();
  #bytes = 0;

  /** Whether the entry is taken. @throws IsthmusError `store/too-large` when the whole list is more than a reader can hold. */
  take({ key, value }: StoreEntry): boolean {
    const name = written.exec(key)?.[1] ?? '';
    const share = this.#shares.get(name) ?? { bytes: 0, keys: 0 };
    this.#shares.set(name, share);
    if (share.bytes > limits.storeListNameBytesMax || share.keys >= limits.storeListNameKeysMax) return false;
    const bytes = key.length + value.length + entryBytes;
    share.bytes += bytes;
    share.keys++;
    this.#bytes += bytes;
    if (this.#bytes <= limits.storeListBytesMax) return true;
    throw new IsthmusError(
      'store/too-large',
      `the store holds more than ${limits.storeListBytesMax} bytes of records`,
      {
        hint: 'find who wrote them with `etcdctl get --prefix --keys-only`; traffic keeps its last good state meanwhile',
      },
    );
  }
}
