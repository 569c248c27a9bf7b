/**
 * Events on Kubernetes objects: what changed its mind, where `kubectl describe` shows it. For people, and best effort: what cannot be
 * written is let go, what comes too fast is left out and counted in the next one. Conditions say what stands; these say when it
 * changed.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import { limits } from '../core/limits.ts';
import type { KubeApi, Log } from './api.ts';

export interface EventSubject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export interface KubeEvent {
  readonly regarding: EventSubject;
  readonly type: 'Normal' | 'Warning';
  /** CamelCase. */
  readonly reason: string;
  /** What was done, CamelCase. */
  readonly action: string;
  readonly note: string;
}

export interface EventsOptions {
  readonly api: Pick<KubeApi, 'request'>;
  readonly clock: Clock;
  readonly log: Log;
  /** Names this process. */
  readonly identity: string;
}

export interface Events {
  /** Returns at once. @returns false when it is left out: too many of this object, or of all */
  tell(event: KubeEvent): boolean;
  close(): void;
}

/** So many at once, and one more each `refillMs`. */
interface Bucket {
  tokens: number;
  atMs: number;
}

const take = (bucket: Bucket, burst: number, refillMs: number, nowMs: number): boolean => {
  bucket.tokens = Math.min(burst, bucket.tokens + (nowMs - bucket.atMs) / refillMs);
  bucket.atMs = nowMs;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
};

interface Subject extends Bucket {
  leftOut: number;
}

const atOnceMax = 4;
const subjectsMax = 10_000;

export const openEvents = ({ api, clock, log, identity }: EventsOptions): Events => {
  const all: Bucket = { tokens: limits.eventsBurst, atMs: clock.monotonicMs() };
  const subjects = new Map<string, Subject>();
  const queue: KubeEvent[] = [];
  let busy = 0;
  let told = 0;
  let closed = false;

  const subjectOf = (key: string, nowMs: number): Subject => {
    const known = subjects.get(key);
    if (known !== undefined) return known;
    // Forgetting lets a few events more through, never fewer.
    if (subjects.size >= subjectsMax) subjects.clear();
    const subject = { tokens: limits.eventsPerObjectBurst, atMs: nowMs, leftOut: 0 };
    subjects.set(key, subject);
    return subject;
  };

  const write = async ({ regarding, type, reason, action, note }: KubeEvent): Promise<void> => {
    const atMs = clock.wallMs();
    const id = createHash('sha256').update(`${identity} ${++told} ${regarding.uid} ${reason} ${atMs}`).digest('hex');
    const { name } = regarding;
    // Of what has none, where Kubernetes itself puts them.
    const namespace = regarding.namespace === '' ? 'default' : regarding.namespace;
    await api.request({
      method: 'POST',
      path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
      body: {
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: { name: `${name.slice(0, 200)}.${id.slice(0, 16)}`, namespace },
        eventTime: new Date(atMs).toISOString().replace('Z', '000Z'),
        reportingController: 'isthmus.dev/controller',
        reportingInstance: identity.slice(0, 128),
        action: action.slice(0, 128),
        reason: reason.slice(0, 128),
        type,
        note: note.slice(0, 1_000),
        regarding,
      },
    });
  };

  const pump = (): void => {
    while (busy < atOnceMax && !closed) {
      const event = queue.shift();
      if (event === undefined) return;
      busy++;
      void write(event)
        .catch((error) => log('debug', 'an event was not written', { reason: event.reason, error }))
        .finally(() => {
          busy--;
          pump();
        });
    }
  };

  return {
    tell: (event) => {
      const nowMs = clock.monotonicMs();
      const { kind, namespace, name } = event.regarding;
      const subject = subjectOf(`${kind} ${namespace}/${name}`, nowMs);
      const mayTell =
        !closed &&
        queue.length < limits.eventsBurst &&
        take(subject, limits.eventsPerObjectBurst, limits.eventsPerObjectRefillMs, nowMs) &&
        take(all, limits.eventsBurst, limits.eventsRefillMs, nowMs);
      if (!mayTell) {
        subject.leftOut++;
        return false;
      }
      const before = subject.leftOut === 0 ? '' : `(${subject.leftOut} before this were left out) `;
      subject.leftOut = 0;
      queue.push({ ...event, note: before + event.note });
      pump();
      return true;
    },
    close: () => {
      closed = true;
      queue.length = 0;
    },
  };
};
