/**
 * Whole revisions out of fragments. etcd splits a large answer anywhere, also between the keys of one transaction; a reader
 * must never see half a transaction. All but the last revision of a fragment is whole, so only that one is held back.
 */
import type { StoreEvent } from '../core/store.ts';

/** More keys than this in one transaction is not something that etcd accepts by any sane configuration. */
const heldEventsMax = 100_000;

export class Assembler {
  private held: StoreEvent[] = [];

  /**
   * Takes the events of one answer, in revision order, and returns those whose revisions are whole. Throws when a single
   * revision grows beyond all bounds.
   */
  push(events: readonly StoreEvent[], fragment: boolean): StoreEvent[] {
    const all = this.held.length === 0 ? [...events] : this.held.concat(events);
    this.held = [];
    const last = all.at(-1)?.modRevision;
    if (!fragment || last === undefined) return all;
    let cut = all.length;
    while (cut > 0 && all[cut - 1]!.modRevision === last) cut -= 1;
    this.held = all.splice(cut);
    if (this.held.length > heldEventsMax) throw new Error(`revision ${last} has more than ${heldEventsMax} keys`);
    return all;
  }
}
