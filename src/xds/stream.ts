/**
 * All subscriptions of one proxy stream, and the order in which its types are served: make before break.
 *
 * Clusters go before the endpoints that fill them, both before the listeners and routes that lead to them; what is
 * removed goes the other way round, after everything that replaces it. Listeners and routes wait until the clusters sent before
 * them are answered, and until the proxy has asked for the endpoints of the new ones, but not longer than
 * `limits.orderWaitMs`: order is worth some milliseconds, not a stuck proxy. Clusters are not removed while the proxy
 * refuses a listener or a route, for then it still works with the old one that leads to them. Endpoints never wait: they
 * are what a failover is made of.
 */
import { fail, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Aliases } from './aliases.ts';
import { removalOrder, upsertOrder } from './behaviour.ts';
import type { DeltaRequest } from './decode.ts';
import type { Push } from './push.ts';
import { types } from './resource.ts';
import { type Answer, type TypeStatus, TypeSubscription } from './subscription.ts';
import type { ResourceTable } from './table.ts';

const waitsForClusters: ReadonlySet<string> = new Set([types.listener, types.routes]);

export class StreamSubscriptions {
  readonly #table: ResourceTable;
  readonly #aliases: Aliases | undefined;
  readonly #subscriptions = new Map<string, TypeSubscription>();
  /** Subscribed types in the order in which their upserts are served. */
  #order: readonly TypeSubscription[] = [];
  /** Those of them whose removals have an order, in that order. */
  #removals: readonly TypeSubscription[] = [];
  /** Revision of the table at which nothing was left to do; most calls of `next` find it unchanged. */
  #quietAt = -1;
  /** Since when something has been held back, by what is held back. */
  readonly #heldSince = new Map<string, number>();
  readonly #heldNow = new Set<string>();
  /** New clusters whose endpoints the proxy has not asked for yet. */
  readonly #endpointsDue = new Set<string>();

  /** `table` holds the types that this stream may ask for, and no others. */
  constructor(table: ResourceTable, aliases?: Aliases) {
    this.#table = table;
    this.#aliases = aliases;
  }

  /** Takes a request. Fails with `xds/type-denied` or `xds/malformed`; the stream is of no use then. */
  request(request: DeltaRequest, nowMs: number): Result<Answer> {
    const { typeUrl } = request;
    let subscription = this.#subscriptions.get(typeUrl);
    if (subscription === undefined) {
      if (!this.#table.holds(typeUrl)) {
        return fail('xds/type-denied', `resources of type "${typeUrl}" are not for this proxy`, {
          hint: `it may ask for ${this.#table.typeUrls.join(', ')}`,
        });
      }
      subscription = new TypeSubscription(typeUrl, this.#table, this.#aliases);
      this.#subscriptions.set(typeUrl, subscription);
      this.#order = inOrder(this.#subscriptions, upsertOrder);
      this.#removals = removalOrder.flatMap((type) => this.#subscriptions.get(type) ?? []);
    }
    const answer = subscription.request(request, nowMs);
    // An acknowledgement gives nothing new to send, unless something waits for it.
    const changesNothing =
      answer.ok && answer.value.kind === 'ack' && request.subscribe.length + request.unsubscribe.length === 0;
    if (!changesNothing || this.#heldSince.size > 0) this.#quietAt = -1;
    if (typeUrl === types.endpoints) for (const name of request.subscribe) this.#endpointsDue.delete(name);
    return answer;
  }

  /** The next response to write, if any is due. Call it whenever the stream can be written and something may have changed. */
  next(nowMs: number): Push | undefined {
    if (this.#quietAt === this.#table.revision) return undefined;
    if (this.#heldNow.size > 0) this.#heldNow.clear();
    for (const subscription of this.#order) {
      const part = subscription.behaviour.ordered ? 'upserts' : 'all';
      if (waitsForClusters.has(subscription.typeUrl)) {
        if (!subscription.waiting(part) || this.#upsertsHeld(subscription, nowMs)) continue;
      }
      const push = subscription.next(part);
      if (push === undefined) continue;
      if (push.typeUrl === types.cluster) this.#expectEndpoints(push);
      return push;
    }
    for (const subscription of this.#removals) {
      if (!subscription.waiting('removals') || this.#removalsHeld(subscription, nowMs)) continue;
      const push = subscription.next('removals');
      if (push !== undefined) return push;
    }
    for (const what of this.#heldSince.keys()) if (!this.#heldNow.has(what)) this.#heldSince.delete(what);
    // Removals that wait for the end of a refusal are not on the clock, but a request that ends it wakes us too.
    if (this.#heldSince.size === 0) this.#quietAt = this.#table.revision;
    return undefined;
  }

  /** When `next` should be called again even if nothing happens: something is held back until then. */
  wakeAt(): number | undefined {
    let wakeAt: number | undefined;
    for (const since of this.#heldSince.values()) {
      const until = since + limits.orderWaitMs;
      if (wakeAt === undefined || until < wakeAt) wakeAt = until;
    }
    return wakeAt;
  }

  /** True when the client fell so far behind that only a new stream with its resource versions can help. */
  get overrun(): boolean {
    return this.#order.some((subscription) => subscription.overrun);
  }

  status(): readonly TypeStatus[] {
    return this.#order.map((subscription) => subscription.status());
  }

  #upsertsHeld(subscription: TypeSubscription, nowMs: number): boolean {
    const blocked = this.#endpointsDue.size > 0 || this.#unanswered([types.cluster, types.endpoints]);
    return this.#hold(`+${subscription.typeUrl}`, blocked, nowMs);
  }

  #removalsHeld(subscription: TypeSubscription, nowMs: number): boolean {
    const referring = removalOrder.slice(0, removalOrder.indexOf(subscription.typeUrl));
    if (referring.some((typeUrl) => this.#subscriptions.get(typeUrl)?.rejecting === true)) return true;
    const blocked =
      this.#order.some((other) => other.behaviour.ordered && other.waiting('upserts')) || this.#unanswered(referring);
    return this.#hold(`-${subscription.typeUrl}`, blocked, nowMs);
  }

  #unanswered(typeUrls: readonly string[]): boolean {
    return typeUrls.some((typeUrl) => (this.#subscriptions.get(typeUrl)?.unanswered ?? 0) > 0);
  }

  /** True while `what` has to wait: it is blocked, and has not been for too long. */
  #hold(what: string, blocked: boolean, nowMs: number): boolean {
    if (!blocked) {
      this.#heldSince.delete(what);
      return false;
    }
    const since = this.#heldSince.get(what);
    if (since === undefined) this.#heldSince.set(what, nowMs);
    if (since === undefined || nowMs - since < limits.orderWaitMs) {
      this.#heldNow.add(what);
      return true;
    }
    this.#heldSince.delete(what);
    this.#endpointsDue.clear();
    return false;
  }

  #expectEndpoints(push: Push): void {
    if (!this.#table.holds(types.endpoints)) return;
    const endpoints = this.#subscriptions.get(types.endpoints);
    for (const item of push.items) {
      if (item.before !== undefined || item.version === undefined) continue;
      if (this.#table.get(types.endpoints, item.name) === undefined) continue;
      if (endpoints?.subscribed(item.name) !== true) this.#endpointsDue.add(item.name);
    }
  }
}

const inOrder = (
  subscriptions: ReadonlyMap<string, TypeSubscription>,
  order: readonly string[],
): readonly TypeSubscription[] => {
  const known = order.flatMap((typeUrl) => subscriptions.get(typeUrl) ?? []);
  return [...known, ...[...subscriptions.values()].filter((subscription) => !order.includes(subscription.typeUrl))];
};
