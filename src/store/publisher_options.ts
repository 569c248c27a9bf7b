/** What a publisher is told at its start, and what it tells. */
import type { KeyObject } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { Store } from '../core/store.ts';
import type { PublishedHead } from '../records/journal_head.ts';

export interface PublisherOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly clusterset: string;
  readonly member: string;
  /** Our record key: Ed25519, private; asked for at each manifest. */
  readonly recordKey: KeyObject | (() => KeyObject);
  /** Public keys under which manifests of ours may stand in the store, besides that; default: none. */
  readonly ownKeys?: (() => readonly KeyObject[]) | undefined;
  readonly heartbeatMs: number;
  /** The highest epoch of ours known from elsewhere: saved on disk, echoed by peers. */
  readonly epochFloor: () => bigint;
  /** Newest durable entry of our journal: peers hold on to it. Undefined: there is none. */
  readonly journalHead?: (() => PublishedHead | undefined) | undefined;
  /** Likewise of our border audit. */
  readonly auditHead?: (() => PublishedHead | undefined) | undefined;
  /** `fenced` ends the term: call `lead` again if this replica should still write. Others are for the log. */
  readonly onEvent?: (event: PublisherEvent) => void;
}

export type PublisherEvent =
  | { readonly kind: 'term'; readonly epoch: bigint; readonly reason: string }
  | { readonly kind: 'fenced'; readonly error: IsthmusError }
  | { readonly kind: 'failed'; readonly error: IsthmusError }
  /** What is for one reader alone was refused; the rest goes on. */
  | { readonly kind: 'denied'; readonly reader: string; readonly error: IsthmusError }
  | { readonly kind: 'written'; readonly epoch: bigint; readonly sequence: bigint; readonly records: number };

export type PublisherState = 'following' | 'starting' | 'leading' | 'fenced' | 'closed';
