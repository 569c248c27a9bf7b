/**
 * One tick's writes as transactions: as few as the store's limits allow, the manifest last.
 *
 * A tick that fits one transaction is atomic, so readers never see a half of it. A larger one is staged: its records first, and its
 * manifest, which alone makes them count, in the last. Each transaction compares the manifest's revision, so that of two
 * writers in one cluster the later claim stops the earlier writer at its next write.
 */
import { limits } from '../core/limits.ts';
import type { StoreTxn } from '../core/store.ts';

export interface TickWrites {
  readonly puts: readonly { readonly key: string; readonly value: Uint8Array }[];
  readonly deletes: readonly string[];
}

type Operation = { readonly key: string; readonly value: Uint8Array | undefined };

/** The records of each transaction. The last list has room for the manifest, and may be empty. */
export const splitTick = (writes: TickWrites): TickWrites[] => {
  // What goes makes room for what comes, where room is counted.
  const operations: Operation[] = [...writes.deletes.map((key) => ({ key, value: undefined })), ...writes.puts];
  const lists: Operation[][] = [[]];
  let bytes = limits.manifestBytesMax * 2;
  for (const operation of operations) {
    const size = operation.key.length + (operation.value?.length ?? 0) + 16;
    const list = lists.at(-1)!;
    if (list.length + 1 >= limits.txnOpsMax || bytes + size > limits.txnBytesMax) {
      lists.push([operation]);
      bytes = limits.manifestBytesMax * 2 + size;
    } else {
      list.push(operation);
      bytes += size;
    }
  }
  return lists.map((list) => ({
    puts: list.flatMap(({ key, value }) => (value === undefined ? [] : [{ key, value }])),
    deletes: list.flatMap(({ key, value }) => (value === undefined ? [key] : [])),
  }));
};

/** @param manifest - undefined in all transactions of a tick but the last */
export const tickTxn = (
  writes: TickWrites,
  manifestKey: string,
  manifestRevision: bigint,
  manifest: Uint8Array | undefined,
): StoreTxn => ({
  compare: [{ key: manifestKey, modRevision: manifestRevision }],
  puts: manifest === undefined ? writes.puts : [...writes.puts, { key: manifestKey, value: manifest }],
  deletes: writes.deletes,
});
