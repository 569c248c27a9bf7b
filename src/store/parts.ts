/**
 * Writing what is for one reader alone. A part may be refused where all else is not: etcd's role of this member may be of a time when there
 * was no such reader. Then that part is left out, and said; what is for everybody, and for other readers, goes on.
 */
import { IsthmusError } from '../core/errors.ts';
import type { Store } from '../core/store.ts';
import type { PartWrites, Publication } from './publication.ts';
import type { PublisherOptions } from './publisher_options.ts';
import { splitTick, type TickWrites } from './tick.ts';

const deniedError = (error: unknown): IsthmusError => {
  if (error instanceof IsthmusError && error.code === 'store/denied') return error;
  throw error;
};

/** Learns what stands in these readers' parts. Rejects as the store does, but for what it denies. */
export const listParts = async (
  store: Store,
  prefixOf: (reader: string) => string,
  readers: readonly string[],
  records: Publication,
): Promise<void> => {
  for (const reader of readers) {
    const found = await store.list(prefixOf(reader)).catch(deniedError);
    records.comparePart(reader, found instanceof IsthmusError ? found : found.entries);
  }
};

/**
 * All parts together, and one by one where that is denied.
 * @param commit - resolves with whether to go on
 * @returns whether to go on
 */
export const writeParts = async (
  parts: readonly PartWrites[],
  commit: (writes: TickWrites) => Promise<boolean>,
  records: Publication,
  onEvent: PublisherOptions['onEvent'],
): Promise<boolean> => {
  const write = async (writes: TickWrites): Promise<boolean> => {
    for (const list of splitTick(writes)) if (!(await commit(list))) return false;
    return true;
  };
  const all = { puts: parts.flatMap(({ puts }) => puts), deletes: parts.flatMap(({ deletes }) => deletes) };
  const together = await write(all).catch(deniedError);
  if (!(together instanceof IsthmusError)) return together;
  for (const part of parts) {
    const done = parts.length === 1 ? together : await write(part).catch(deniedError);
    if (done === false) return false;
    if (!(done instanceof IsthmusError)) continue;
    records.deny(part.reader, done);
    onEvent?.({ kind: 'denied', reader: part.reader, error: done });
  }
  return true;
};
