/**
 * Writes conditions on objects of one kind, and an event when one of them changes its mind.
 *
 * Only the writer of the cluster writes, and only what differs from what stands there. Server-side apply owns our condition
 * types alone, so another implementation's stay.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Clock, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { KubeApi, Log } from './api.ts';
import { statusOf } from './api_errors.ts';
import type { Events, KubeEvent } from './events.ts';
import type { Condition, ConditionTarget } from './objects.ts';

export interface DesiredCondition {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

/** What is told of a condition that changed status or reason. */
export type Announcement = Pick<KubeEvent, 'type' | 'reason' | 'note'>;

/** How one kind of object is written. */
export interface ConditionKind {
  readonly kind: string;
  readonly plural: string;
  /** Of the fields: each kind of condition on one kind of object has one. */
  readonly manager: string;
  /** Of the events: what was done. */
  readonly action: string;
  /** Leave out what is False and was never True: most objects have nothing to say. */
  readonly sparse: boolean;
  /** @param before - undefined: the condition is new. @returns undefined for what everybody expects */
  announce(to: DesiredCondition, before: Condition | undefined): Announcement | undefined;
}

export interface ConditionWriterOptions {
  readonly api: Pick<KubeApi, 'request'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly kind: ConditionKind;
  /** Objects as they were last seen, by `namespace/name`; live. */
  readonly objects: ReadonlyMap<string, ConditionTarget & AcceptedStatus>;
  readonly isWriter: () => boolean;
  readonly events: Pick<Events, 'tell'>;
}

/** What stands in the status beside the conditions. */
export interface AcceptedStatus {
  readonly accepted?: unknown;
}

export interface ConditionsWriter {
  /** What should stand on this object. Repeating it costs nothing. */
  set(key: string, conditions: readonly DesiredCondition[], more?: AcceptedStatus): void;
  /** The object is gone. */
  forget(key: string): void;
  /** Looks at everything again: call it on becoming the writer. */
  recheck(): void;
  close(): void;
}

const atOnceMax = 4;
const retryMs = 2_000;
/** How often everything is compared again, for what others wrote over and for new generations. */
const recheckMs = 60_000;
/**
 * How long after its last write an object waits for another wording of the same status and reason. A wording counts endpoints, and
 * changes with each that comes or goes; each write costs the API server a transaction and everybody who watches Services an event.
 */
const wordingMs = 10_000;
/** How often those that wait are looked at. */
const wordingEveryMs = 1_000;

type Standing = Pick<ConditionTarget, 'conditions'> & AcceptedStatus;

const find = (existing: readonly Condition[], type: string): Condition | undefined =>
  existing.find((condition) => condition.type === type);

const stands = (existing: Condition | undefined, desired: DesiredCondition, generation: number): boolean =>
  existing !== undefined &&
  existing.status === desired.status &&
  existing.reason === desired.reason &&
  existing.message === desired.message &&
  // Older definitions of the kind prune this field.
  (existing.observedGeneration ?? generation) === generation;

/** In other words. */
const standsOtherwise = (existing: Condition | undefined, desired: DesiredCondition, generation: number): boolean =>
  existing !== undefined && stands({ ...existing, message: desired.message }, desired, generation);

/** Seconds precision, as metav1.Time wants it. */
const time = (wallMs: number): string => new Date(wallMs).toISOString().replace(/\.\d+Z$/, 'Z');

const statusPath = ({ apiVersion, namespace, name }: ConditionTarget, plural: string): string => {
  const within = namespace === '' ? '' : `/namespaces/${namespace}`;
  return `/${apiVersion.includes('/') ? 'apis' : 'api'}/${apiVersion}${within}/${plural}/${name}/status`;
};

export const openConditionWriter = (options: ConditionWriterOptions): ConditionsWriter => {
  const { api, clock, log, kind, events } = options;
  const desired = new Map<string, readonly DesiredCondition[]>();
  const beside = new Map<string, AcceptedStatus>();
  const queue = new Set<string>();
  /** Written, and not yet seen back through the watch: not to be written again meanwhile. */
  const written = new Map<string, string>();
  /** What was written over this version of an object: it stands, though the watch has not brought it. */
  const over = new Map<string, { readonly object: ConditionTarget; readonly standing: Standing }>();
  const busy = new Set<string>();
  const writtenAtMs = new Map<string, number>();
  /** Wait to be worded anew, and until when. */
  const late = new Map<string, number>();
  let wording: Timer | undefined;
  let retry: Timer | undefined;
  let closed = false;

  /** Whether it is too early for another wording; it is looked at again when it is not. */
  const waits = (key: string): boolean => {
    const dueMs = (writtenAtMs.get(key) ?? Number.NEGATIVE_INFINITY) + wordingMs;
    if (dueMs <= clock.monotonicMs()) return false;
    late.set(key, dueMs);
    wording ??= clock.after(wordingEveryMs, word);
    return true;
  };

  const word = (): void => {
    wording = undefined;
    for (const [key, dueMs] of late) {
      if (dueMs > clock.monotonicMs()) continue;
      late.delete(key);
      queue.add(key);
    }
    if (late.size > 0) wording = clock.after(wordingEveryMs, word);
    pump();
  };

  const write = async (key: string): Promise<void> => {
    const object = options.objects.get(key);
    const wanted = desired.get(key);
    if (object === undefined || wanted === undefined || closed || !options.isWriter()) return;
    const { apiVersion, namespace, name, uid, generation } = object;
    const more = beside.get(key) ?? {};
    const last = over.get(key);
    const now: Standing = last?.object === object ? last.standing : object;
    const standing = (stand: typeof stands): boolean =>
      isDeepStrictEqual(now.accepted, more.accepted) &&
      wanted.every((each) => {
        const existing = find(now.conditions, each.type);
        return stand(existing, each, generation) || (kind.sparse && existing === undefined && each.status === 'False');
      });
    if (standing(stands)) return;
    const signature = JSON.stringify([uid, generation, wanted, more]);
    if (written.get(key) === signature) return;
    if (standing(standsOtherwise) && waits(key)) return;
    const at = time(clock.wallMs());
    const news: Announcement[] = [];
    const conditions = wanted.map((each) => {
      const existing = find(now.conditions, each.type);
      const same = existing?.status === each.status;
      const told = same && existing.reason === each.reason ? undefined : kind.announce(each, existing);
      if (told !== undefined) news.push(told);
      const lastTransitionTime = (same && existing.lastTransitionTime) || at;
      return { ...each, observedGeneration: generation, lastTransitionTime };
    });
    await api.request({
      method: 'PATCH',
      path: statusPath(object, kind.plural),
      query: { fieldManager: kind.manager, force: 'true' },
      contentType: 'application/apply-patch+yaml',
      body: {
        apiVersion,
        kind: kind.kind,
        // The uid pins this very object: one that was deleted meanwhile must not come back as an empty one.
        metadata: { name, ...(namespace === '' ? {} : { namespace }), uid },
        status: { conditions, ...more },
      },
    });
    written.set(key, signature);
    over.set(key, { object, standing: { conditions, accepted: more.accepted } });
    writtenAtMs.set(key, clock.monotonicMs());
    const regarding = { apiVersion, kind: kind.kind, namespace, name, uid };
    for (const each of news) events.tell({ ...each, regarding, action: kind.action });
  };

  const run = async (key: string): Promise<void> => {
    try {
      await write(key);
    } catch (error) {
      const status = statusOf(error);
      if (status === 404 || status === 409) return;
      const soon = error instanceof IsthmusError && error.retryable;
      log(soon ? 'debug' : 'warn', 'conditions were not written', { kind: kind.kind, object: key, error });
      // Denied too: a person may grant it, and nothing else would make us try again.
      retry ??= clock.after(soon ? retryMs : retryMs * 15, () => {
        retry = undefined;
        recheck();
      });
    }
  };

  const pump = (): void => {
    for (const key of queue) {
      if (busy.size >= atOnceMax || closed) return;
      // One write of an object at a time, so that an older one cannot land last.
      if (busy.has(key)) continue;
      queue.delete(key);
      busy.add(key);
      void run(key).finally(() => {
        busy.delete(key);
        pump();
      });
    }
  };

  const recheck = (): void => {
    written.clear();
    over.clear();
    for (const key of desired.keys()) queue.add(key);
    pump();
  };

  let periodic: Timer;
  const again = (): void => {
    recheck();
    periodic = clock.after(recheckMs, again);
  };
  periodic = clock.after(recheckMs, again);

  return {
    set: (key, conditions, more) => {
      desired.set(key, conditions);
      if (more !== undefined) beside.set(key, more);
      queue.add(key);
      pump();
    },
    forget: (key) => {
      desired.delete(key);
      beside.delete(key);
      written.delete(key);
      over.delete(key);
      writtenAtMs.delete(key);
      late.delete(key);
      queue.delete(key);
    },
    recheck,
    close: () => {
      closed = true;
      retry?.cancel();
      wording?.cancel();
      periodic.cancel();
      queue.clear();
    },
  };
};
