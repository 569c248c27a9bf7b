/**
 * How long a decision takes to reach the proxies: from its taking effect to the first response with resources that it changed, and on to
 * the acknowledgement of every connected gateway.
 *
 * A decision that changed no resource (a verdict on a peer that nobody calls, a hold) has nothing to send, and the next response
 * is somebody else's: it is not timed. Resources are told apart by type, for a response has all that changed of its type.
 */
import type { Clock } from '../core/clock.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { ProxyStatus } from '../server/api.ts';

type Role = ProxyStatus['role'];

/** Types of resources that a decision changed, by who gets them. */
export type Programmed = Readonly<Record<Role, ReadonlySet<string>>>;

interface Pending {
  readonly atMs: number;
  readonly types: Programmed;
  pushedMs: number | undefined;
}

/** More than these wait only when nobody is connected. */
const pendingMax = 32;

export class Programming {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  #pending: Pending[] = [];

  constructor(clock: Clock, metrics: Metrics) {
    this.#clock = clock;
    this.#metrics = metrics;
  }

  /** Before anything of it is sent. @param atMs - when the decision took effect, monotonic */
  programmed(types: Programmed, atMs: number): void {
    this.#pending.push({ atMs, types, pushedMs: undefined });
    if (this.#pending.length > pendingMax) this.#pending.shift();
  }

  pushed(role: Role, typeUrl: string): void {
    if (this.#pending.length === 0) return;
    const nowMs = this.#clock.monotonicMs();
    for (const pending of this.#pending) {
      if (pending.pushedMs !== undefined || !pending.types[role].has(typeUrl)) continue;
      pending.pushedMs = nowMs;
      this.#metrics.observe('isthmus_failover_push_seconds', (nowMs - pending.atMs) / 1000);
    }
    // What ztunnels alone get is not followed to their acknowledgements: there may be thousands of them.
    this.#pending = this.#pending.filter(({ pushedMs, types }) => pushedMs === undefined || types.gateway.size > 0);
  }

  /** A gateway acknowledged something. @param proxies - all that are connected */
  acked(proxies: () => readonly ProxyStatus[]): void {
    if (!this.#pending.some(({ pushedMs }) => pushedMs !== undefined)) return;
    const nowMs = this.#clock.monotonicMs();
    const waiting = new Set<string>();
    for (const { role, types } of proxies()) {
      if (role !== 'gateway') continue;
      for (const { typeUrl, synced } of types) if (!synced) waiting.add(typeUrl);
    }
    this.#pending = this.#pending.filter(({ pushedMs, types }) => {
      if (pushedMs === undefined || !types.gateway.isDisjointFrom(waiting)) return true;
      this.#metrics.observe('isthmus_failover_ack_seconds', (nowMs - pushedMs) / 1000);
      return false;
    });
  }
}
