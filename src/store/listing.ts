/**
 * All entries under a prefix at one revision, page by page, so that a store larger than a gRPC message can be read. The
 * first page fixes the revision and is linearizable; the others read that revision on the same session, so no page can come
 * from another cluster.
 */

import { limits } from '../core/limits.ts';
import type { StoreEntry, StoreSnapshot } from '../core/store.ts';
import { KV, type RangeResponse } from '../gen/etcdserverpb/rpc_pb.ts';
import { isCompacted, isOversizedMessage } from './failure.ts';
import { keyAfter, prefixRange, toEntry } from './keyspace.ts';
import { ListBudget } from './list_budget.ts';
import type { Session } from './session.ts';

const compactedRetriesMax = 3;

/** Rejects with the transport's error; the caller maps it. */
export const listPrefix = async (session: Session, prefix: string): Promise<StoreSnapshot> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await listOnce(session, prefix);
    } catch (error) {
      // The revision of the first page was compacted away while the rest was read: start over at a newer one.
      if (!isCompacted(error) || attempt >= compactedRetriesMax) throw error;
    }
  }
};

const listOnce = async (session: Session, prefix: string): Promise<StoreSnapshot> => {
  const range = prefixRange(prefix);
  const entries: StoreEntry[] = [];
  const budget = new ListBudget();
  let key = range.key;
  let revision = 0n;
  let clusterId = 0n;
  let limit: number = limits.storePageKeysMax;
  for (;;) {
    let page: RangeResponse;
    try {
      page = await session.call(KV.method.range, { key, rangeEnd: range.rangeEnd, revision, limit: BigInt(limit) });
    } catch (error) {
      // Values far larger than records, written by somebody else: still listed, in smaller pages.
      if (!isOversizedMessage(error) || limit === 1) throw error;
      limit = Math.ceil(limit / 4);
      continue;
    }
    if (revision === 0n) {
      revision = page.header?.revision ?? 0n;
      clusterId = page.header?.clusterId ?? 0n;
    }
    for (const kv of page.kvs) {
      const entry = toEntry(kv);
      if (entry !== undefined && budget.take(entry)) entries.push(entry);
    }
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) return { clusterId, revision, entries };
    key = keyAfter(last.key);
  }
};
