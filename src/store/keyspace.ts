/** Between etcd's bytes and the port's strings: prefixes as ranges, and keys that are text. */

import type { StoreEntry, StoreEvent } from '../core/store.ts';
import type { Event, KeyValue } from '../gen/etcdserverpb/rpc_pb.ts';
import { Event_EventType } from '../gen/etcdserverpb/rpc_pb.ts';

export interface KeyRange {
  readonly key: Uint8Array;
  readonly rangeEnd: Uint8Array;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export const keyBytes = (key: string): Uint8Array => encoder.encode(key);

/**
 * The keys that start with `prefix`. Throws on an empty prefix: that would be every key in etcd, which no member may read.
 */
export const prefixRange = (prefix: string): KeyRange => {
  const key = keyBytes(prefix);
  const end = Uint8Array.from(key);
  for (let i = end.length - 1; i >= 0; i--) {
    if (end[i]! < 0xff) {
      end[i]! += 1;
      return { key, rangeEnd: end.subarray(0, i + 1) };
    }
  }
  throw new Error('prefixRange: the prefix is empty');
};

/** The first key after `key`: where the next page starts. */
export const keyAfter = (key: Uint8Array): Uint8Array => {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
};

/** Undefined for a key that is no text: nothing of ours is written under such a key. */
const keyText = (key: Uint8Array): string | undefined => {
  try {
    return decoder.decode(key);
  } catch {
    return undefined;
  }
};

export const toEntry = (kv: KeyValue): StoreEntry | undefined => {
  const key = keyText(kv.key);
  return key === undefined ? undefined : { key, value: kv.value, modRevision: kv.modRevision };
};

export const toEvent = (event: Event): StoreEvent | undefined => {
  const kv = event.kv;
  const key = kv === undefined ? undefined : keyText(kv.key);
  if (kv === undefined || key === undefined) return undefined;
  return event.type === Event_EventType.DELETE
    ? { type: 'delete', key, modRevision: kv.modRevision }
    : { type: 'put', key, value: kv.value, modRevision: kv.modRevision };
};
