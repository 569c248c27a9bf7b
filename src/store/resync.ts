/**
 * A list from time to time, in case a watch has lost something and does not know (etcd has had such bugs). The list is taken
 * while events go on; those that came meanwhile are folded into it, so that the snapshot is never behind what was already
 * delivered and no event has to wait for a long list.
 */
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { limits } from '../core/limits.ts';
import type { StoreEntry, StoreEvent, StoreSnapshot } from '../core/store.ts';
import { storeError } from './failure.ts';
import { listPrefix } from './listing.ts';
import type { Session, StoreLog } from './session.ts';

export interface ResyncOptions {
  readonly prefix: string;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: StoreLog;
  readonly resyncIntervalMs: number;
}

/** The list as it is after `events`. Those at or below its revision are in it already. */
export const fold = (list: StoreSnapshot, events: readonly StoreEvent[]): StoreSnapshot => {
  const later = events.filter((e) => e.modRevision > list.revision);
  if (later.length === 0) return list;
  const entries = new Map<string, StoreEntry>(list.entries.map((e) => [e.key, e]));
  for (const event of later) {
    if (event.type === 'delete') entries.delete(event.key);
    else entries.set(event.key, { key: event.key, value: event.value, modRevision: event.modRevision });
  }
  return { clusterId: list.clusterId, revision: later.at(-1)!.modRevision, entries: [...entries.values()] };
};

export class Resync {
  private readonly o: ResyncOptions;
  private readonly session: Session;
  private timer: Timer | undefined;
  private noted: StoreEvent[] | undefined;
  private stopped = false;

  constructor(options: ResyncOptions, session: Session) {
    this.o = options;
    this.session = session;
  }

  /** Events delivered while a list is under way. */
  note(events: readonly StoreEvent[]): void {
    if (this.noted === undefined) return;
    for (const event of events) this.noted.push(event);
  }

  schedule(deliver: (snapshot: StoreSnapshot) => void): void {
    // Spread by a fifth either way: controllers that started together must not list together.
    const ms = this.o.resyncIntervalMs * (0.8 + 0.4 * this.o.rng());
    this.timer = this.o.clock.after(ms, () => {
      void this.list(deliver).finally(() => {
        if (!this.stopped) this.schedule(deliver);
      });
    });
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
  }

  private async list(deliver: (snapshot: StoreSnapshot) => void): Promise<void> {
    const noted: StoreEvent[] = [];
    this.noted = noted;
    try {
      const list = await listPrefix(this.session, this.o.prefix);
      if (this.stopped) return;
      if (noted.length > limits.resyncLogEventsMax) {
        this.o.log('warn', 'periodic list given up: too many changes meanwhile', { prefix: this.o.prefix });
        return;
      }
      this.noted = undefined;
      deliver(fold(list, noted));
    } catch (error) {
      const failure = storeError(error, { what: `list ${this.o.prefix}`, endpoint: this.session.endpoint });
      if (!this.stopped) this.o.log('warn', 'periodic list failed', { code: failure.code, reason: failure.message });
    } finally {
      this.noted = undefined;
    }
  }
}
