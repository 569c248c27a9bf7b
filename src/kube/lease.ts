/**
 * Who writes: leader election on a coordination.k8s.io Lease.
 *
 * A leader trusts only its own monotonic clock: it leads until ⅔ of the lease's time after it *sent* the last renewal that
 * was acknowledged, and stops by itself then. A rival takes over only after it has watched the lease unchanged for the whole
 * time on its own clock. So two never lead at once as long as clocks tick at about the same rate, whatever they show. A
 * process that was stopped wakes up with its time run out, and `leading()` says so before any timer has fired.
 *
 * The lease alone fences nothing (a write may be in flight when the time runs out); the epoch of the records does.
 */
import type { Clock, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { KubeApi, Log } from './api.ts';
import { statusOf } from './api_errors.ts';
import { count, isRecord, type Json, record, text } from './json.ts';

export type LostReason =
  /** No renewal was acknowledged in time. */
  | 'expired'
  /** Another holds the lease. */
  | 'taken'
  /** `close` was called. */
  | 'closed';

export interface ElectionOptions {
  readonly api: Pick<KubeApi, 'request'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly namespace: string;
  /** Name of the Lease object. */
  readonly name: string;
  /** Of this process, different for each: the pod's name and a random part. */
  readonly identity: string;
  /** Default 4000. The Lease stores whole seconds, rounded up: rivals wait that long. */
  readonly ttlMs?: number;
  /** Default 1000. */
  readonly renewMs?: number;
  /** Leads from now on. `term` rises with every change of leadership of this lease, also from a holder to itself. */
  onLead(term: number): void;
  onLost(reason: LostReason): void;
}

export interface Election {
  /** Checked against the clock at each call. */
  leading(): boolean;
  /** The holder as last read; empty when there is none. */
  holder(): string;
  /** Stops leading, gives the lease back so that another need not wait, and ends. Never rejects. */
  close(): Promise<void>;
}

interface LeaseView {
  readonly resourceVersion: string;
  readonly holder: string;
  readonly ttlMs: number;
  readonly transitions: number;
  readonly acquireTime: string;
}

const viewOf = (value: unknown): LeaseView => {
  const object: Json = isRecord(value) ? value : {};
  const spec = record(object, 'spec');
  return {
    resourceVersion: text(record(object, 'metadata'), 'resourceVersion'),
    holder: text(spec, 'holderIdentity'),
    ttlMs: (count(spec, 'leaseDurationSeconds') ?? 0) * 1_000,
    transitions: count(spec, 'leaseTransitions') ?? 0,
    acquireTime: text(spec, 'acquireTime'),
  };
};

/** Kubernetes' MicroTime. */
const microTime = (wallMs: number): string => new Date(wallMs).toISOString().replace('Z', '000Z');

export const startElection = (options: ElectionOptions): Election => {
  const { api, clock, log } = options;
  const ttlMs = options.ttlMs ?? 4_000;
  const renewMs = options.renewMs ?? 1_000;
  if (ttlMs < 1_000 || renewMs * 3 > ttlMs) {
    throw new IsthmusError('config/invalid', `a lease of ${ttlMs} ms cannot be renewed every ${renewMs} ms`, {
      hint: 'renew at least three times in the lease, which lasts a second or more',
    });
  }
  const collection = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`;
  const path = `${collection}/${options.name}`;
  /** Long enough for a slow server, short enough to leave room for another try before the fence. */
  const timeoutMs = Math.max(renewMs, ttlMs / 4);

  let seen: LeaseView | undefined;
  let seenAt = 0;
  let term: number | undefined;
  let leadsUntil = 0;
  let fence: Timer | undefined;
  let next: Timer | undefined;
  let closed = false;
  /** The term ended for want of a renewal, and nobody is known to hold the lease since. */
  let expired = false;
  let told = '';
  let turning: Promise<void> = Promise.resolve();

  const tell = (call: () => void): void => {
    try {
      call();
    } catch (error) {
      log('error', 'a handler of the election failed', { error });
    }
  };

  const lose = (reason: LostReason): void => {
    if (term === undefined) return;
    log('warn', 'no longer the writer', { reason, term, lease: options.name });
    term = undefined;
    expired = reason === 'expired';
    fence?.cancel();
    tell(() => options.onLost(reason));
  };

  /** The clock comes first: after a stop of the process the time may be up though no timer has fired. */
  const leading = (): boolean => {
    if (term !== undefined && clock.monotonicMs() >= leadsUntil) lose('expired');
    return term !== undefined;
  };

  const watchFence = (): void => {
    fence?.cancel();
    fence = clock.after(Math.max(0, leadsUntil - clock.monotonicMs()), () => {
      if (leading()) watchFence();
    });
  };

  /** Remembers what was read; the time starts anew only when the object has changed. */
  const note = (view: LeaseView): void => {
    if (seen?.resourceVersion !== view.resourceVersion) seenAt = clock.monotonicMs();
    seen = view;
  };

  const body = (view: LeaseView | undefined, holder: string, transitions: number, acquireTime: string) => ({
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: {
      name: options.name,
      namespace: options.namespace,
      ...(view && { resourceVersion: view.resourceVersion }),
    },
    spec: {
      holderIdentity: holder,
      leaseDurationSeconds: holder === '' ? 1 : Math.ceil(ttlMs / 1_000),
      leaseTransitions: transitions,
      acquireTime,
      renewTime: microTime(clock.wallMs()),
    },
  });

  /** Writes the lease as ours; a refusal by another's write is `undefined`. */
  const claim = async (view: LeaseView | undefined, transitions: number, acquireTime: string): Promise<boolean> => {
    const sentAt = clock.monotonicMs();
    try {
      const written = await api.request({
        method: view === undefined ? 'POST' : 'PUT',
        path: view === undefined ? collection : path,
        body: body(view, options.identity, transitions, acquireTime),
        timeoutMs,
      });
      note(viewOf(written));
      const until = sentAt + (ttlMs * 2) / 3;
      if (clock.monotonicMs() >= until) return false;
      leadsUntil = until;
      return true;
    } catch (error) {
      if (statusOf(error) !== 409) throw error;
      return false;
    }
  };

  const read = async (): Promise<LeaseView | undefined> => {
    try {
      const view = viewOf(await api.request({ method: 'GET', path, timeoutMs }));
      note(view);
      return view;
    } catch (error) {
      if (statusOf(error) !== 404) throw error;
      seen = undefined;
      return undefined;
    }
  };

  const renew = async (): Promise<void> => {
    if (seen !== undefined && (await claim(seen, seen.transitions, seen.acquireTime))) {
      if (leading()) watchFence();
      return;
    }
    // Somebody wrote in between, or our answer came too late: what does the lease say now?
    const view = await read();
    if (leading() && view?.holder !== options.identity) lose('taken');
  };

  const compete = async (): Promise<void> => {
    const view = await read();
    if (closed) return;
    const free = view === undefined || view.holder === '' || view.holder === options.identity;
    // Whoever went on without a lease has to hear that another took it.
    if (!free && expired) {
      expired = false;
      tell(() => options.onLost('taken'));
    }
    if (!free && clock.monotonicMs() - seenAt < (view.ttlMs || ttlMs)) return;
    const transitions = (view?.transitions ?? 0) + 1;
    if (!(await claim(view, transitions, microTime(clock.wallMs()))) || closed) return;
    term = transitions;
    watchFence();
    log('info', 'this process is the writer', { term, lease: options.name });
    const led = term;
    tell(() => options.onLead(led));
  };

  const turn = async (): Promise<void> => {
    const startedAt = clock.monotonicMs();
    try {
      await (leading() ? renew() : compete());
      told = '';
    } catch (error) {
      const cause = error instanceof IsthmusError ? error.code : 'bug';
      log(cause === told ? 'debug' : 'warn', 'the lease could not be read or written', { lease: options.name, error });
      told = cause;
    }
    leading();
    if (closed) return;
    // A failed renewal is tried again soon: only a few tries fit before the fence.
    const late = term !== undefined && leadsUntil - startedAt < (ttlMs * 2) / 3 - renewMs / 2;
    const waitMs = late ? renewMs / 4 : Math.max(0, renewMs - (clock.monotonicMs() - startedAt));
    next = clock.after(waitMs, () => {
      turning = turn();
    });
  };
  turning = turn();

  const release = async (): Promise<void> => {
    if (seen?.holder !== options.identity) return;
    try {
      const given = body(seen, '', seen.transitions, seen.acquireTime);
      await api.request({ method: 'PUT', path, body: given, timeoutMs });
    } catch (error) {
      log('debug', 'the lease was not given back; it runs out by itself', { lease: options.name, error });
    }
  };

  return {
    leading,
    holder: () => seen?.holder ?? '',
    close: async () => {
      if (closed) return;
      closed = true;
      next?.cancel();
      lose('closed');
      await turning;
      fence?.cancel();
      await release();
    },
  };
};
