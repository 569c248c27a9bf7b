/** A reader as the port describes it: folds what it is given, and checks the port's promises about order on the way. */
import { expect } from 'vitest';
import type { SnapshotReason, StoreEntry, StoreEvent, StoreSnapshot, WatchHandler } from '../../src/core/store.ts';

/** Where the rig's store may read, and where it may write. */
export const clusterset = 'rig';
export const member = 'alpha';
/** Of the whole cluster set: its roles let nobody read all of it. */
export const root = `/isthmus/v1/${clusterset}/`;
/** What every member may read. */
export const prefix = `${root}public/`;
export const own = `${prefix}${member}/`;

export const text = (value: string): Uint8Array => Buffer.from(value);

export class Recorder implements WatchHandler {
  readonly reasons: SnapshotReason[] = [];
  readonly batches: (readonly StoreEvent[])[] = [];
  up = false;
  downs = 0;
  reason = '';
  revision = 0n;
  clusterId = 0n;
  private entries = new Map<string, StoreEntry>();

  get eventCount(): number {
    return this.batches.reduce((sum, batch) => sum + batch.length, 0);
  }

  snapshot(snapshot: StoreSnapshot, reason: SnapshotReason): void {
    if (this.reasons.length === 0) expect(reason).toBe('initial');
    else expect(reason).not.toBe('initial');
    // A periodic check must not take the reader back.
    if (reason === 'resync') expect(snapshot.revision).toBeGreaterThanOrEqual(this.revision);
    this.reasons.push(reason);
    this.revision = snapshot.revision;
    this.clusterId = snapshot.clusterId;
    this.entries = new Map(snapshot.entries.map((e) => [e.key, e]));
  }

  events(events: readonly StoreEvent[], revision: bigint): void {
    expect(this.reasons.length).toBeGreaterThan(0);
    expect(events.length).toBeGreaterThan(0);
    let last = this.revision;
    for (const [i, event] of events.entries()) {
      // A revision seen before, in whole or in part, must not come again.
      if (i === 0) expect(event.modRevision).toBeGreaterThan(last);
      else expect(event.modRevision).toBeGreaterThanOrEqual(last);
      last = event.modRevision;
      if (event.type === 'delete') this.entries.delete(event.key);
      else this.entries.set(event.key, { key: event.key, value: event.value, modRevision: event.modRevision });
    }
    expect(revision).toBe(last);
    this.revision = last;
    this.batches.push(events);
  }

  connected(up: boolean, reason: string): void {
    this.up = up;
    this.reason = reason;
    if (!up) this.downs += 1;
  }

  value(key: string): string | undefined {
    const entry = this.entries.get(key);
    return entry === undefined ? undefined : Buffer.from(entry.value).toString();
  }

  equals(truth: readonly StoreEntry[]): boolean {
    if (truth.length !== this.entries.size) return false;
    return truth.every((t) => {
      const mine = this.entries.get(t.key);
      return mine?.modRevision === t.modRevision && Buffer.compare(mine.value, t.value) === 0;
    });
  }

  summary(truth: readonly StoreEntry[]): string {
    return `${this.entries.size} of ${truth.length} keys when asked, at revision ${this.revision}`;
  }
}
