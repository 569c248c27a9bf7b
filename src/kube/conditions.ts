/**
 * What an export amounts to, written where its owner looks: as conditions on the ServiceExport (types and reasons of the MCS
 * API) and, when one of them changes its mind, as an event.
 *
 * Only the writer of the cluster writes, and only what differs from what stands there. Server-side apply owns our condition
 * types alone, so another implementation's stay.
 */
import { createHash } from 'node:crypto';
import type { Clock, Timer } from '../core/clock.ts';
import { errorCodes, IsthmusError } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { ExportProblem } from '../federation/local.ts';
import type { Conflict } from '../federation/view.ts';
import type { KubeApi, Log } from './api.ts';
import { statusOf } from './api_errors.ts';
import type { Condition, ExportObject } from './objects.ts';

export interface DesiredCondition {
  readonly type: 'Valid' | 'Ready' | 'Conflict';
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: string;
  readonly message: string;
}

const conflictReasons: Readonly<Record<Conflict['field'], string>> = {
  ports: 'PortConflict',
  sessionAffinity: 'SessionAffinityConflict',
  headless: 'TypeConflict',
  mode: 'ModeConflict',
};

/** Problems that leave the export valid, but without a data path. */
const servable: readonly string[] = ['service/headless', 'service/session-affinity', 'record/not-granted'];

export interface ExportState {
  readonly problem: ExportProblem | undefined;
  readonly conflicts: readonly Conflict[];
  /** Our own record of it is in the store. */
  readonly published: boolean;
}

/** The conditions that a state amounts to, in a fixed order. */
export const exportConditions = (state: ExportState): readonly DesiredCondition[] => {
  const { problem, conflicts } = state;
  const reason = problem && errorCodes[problem.code].reason;
  const valid = problem === undefined || servable.includes(problem.code);
  const conflictReason = [...new Set(conflicts.map((conflict) => conflictReasons[conflict.field]))].sort().join(',');
  return [
    valid
      ? { type: 'Valid', status: 'True', reason: 'Valid', message: 'the Service can be exported' }
      : { type: 'Valid', status: 'False', reason: reason ?? 'Unknown', message: problem?.message ?? '' },
    problem !== undefined
      ? { type: 'Ready', status: 'False', reason: reason ?? 'Failed', message: problem.message }
      : state.published
        ? { type: 'Ready', status: 'True', reason: 'Exported', message: 'the other clusters of the set can reach it' }
        : { type: 'Ready', status: 'False', reason: 'Pending', message: 'not yet shared with the other clusters' },
    conflicts.length === 0
      ? { type: 'Conflict', status: 'False', reason: 'NoConflicts', message: 'all clusters export it alike' }
      : {
          type: 'Conflict',
          status: 'True',
          reason: conflictReason,
          message: conflicts
            .map((conflict) => conflict.message)
            .join('; ')
            .slice(0, 1_024),
        },
  ];
};

export interface ConditionsOptions {
  readonly api: Pick<KubeApi, 'request'>;
  readonly clock: Clock;
  readonly log: Log;
  /** The ServiceExports as discovery sees them. */
  readonly exports: ReadonlyMap<ServiceKey, ExportObject>;
  /** Whether this replica is the cluster's writer, asked right before each write. */
  isWriter(): boolean;
  /** Name of this process on events. */
  readonly identity: string;
}

export interface ConditionsWriter {
  /** What should stand on this export. Repeating it costs nothing. */
  set(key: ServiceKey, conditions: readonly DesiredCondition[]): void;
  /** The export is gone. */
  forget(key: ServiceKey): void;
  /** Looks at everything again: call it on becoming the writer. */
  recheck(): void;
  close(): void;
}

const atOnceMax = 4;
const retryMs = 2_000;
/** How often everything is compared again, for what others wrote over and for new generations. */
const recheckMs = 60_000;

const stands = (existing: readonly Condition[], desired: DesiredCondition, generation: number): boolean =>
  existing.some(
    (condition) =>
      condition.type === desired.type &&
      condition.status === desired.status &&
      condition.reason === desired.reason &&
      condition.message === desired.message &&
      // Older definitions of the kind prune this field.
      (condition.observedGeneration ?? generation) === generation,
  );

/** Seconds precision, as metav1.Time wants it. */
const time = (wallMs: number): string => new Date(wallMs).toISOString().replace(/\.\d+Z$/, 'Z');

export const openConditions = (options: ConditionsOptions): ConditionsWriter => {
  const { api, clock, log } = options;
  const desired = new Map<ServiceKey, readonly DesiredCondition[]>();
  const queue = new Set<ServiceKey>();
  /** Written, and not yet seen back through the watch: not to be written again meanwhile. */
  const written = new Map<ServiceKey, string>();
  const busy = new Set<ServiceKey>();
  let retry: Timer | undefined;
  let closed = false;

  const announce = async (object: ExportObject, to: DesiredCondition): Promise<void> => {
    const at = clock.wallMs();
    const id = createHash('sha256').update(`${object.uid} ${to.type} ${to.status} ${to.reason} ${at}`).digest('hex');
    await api.request({
      method: 'POST',
      path: `/apis/events.k8s.io/v1/namespaces/${object.namespace}/events`,
      body: {
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: { name: `${object.name.slice(0, 200)}.${id.slice(0, 16)}`, namespace: object.namespace },
        eventTime: new Date(at).toISOString().replace('Z', '000Z'),
        reportingController: 'isthmus.dev/controller',
        reportingInstance: options.identity.slice(0, 128),
        action: 'Export',
        reason: to.reason.slice(0, 128),
        type: (to.type === 'Conflict') === (to.status === 'True') ? 'Warning' : 'Normal',
        note: `${to.type} is ${to.status}: ${to.message}`.slice(0, 1_000),
        regarding: {
          apiVersion: object.apiVersion,
          kind: 'ServiceExport',
          namespace: object.namespace,
          name: object.name,
          uid: object.uid,
        },
      },
    });
  };

  const write = async (key: ServiceKey): Promise<void> => {
    const object = options.exports.get(key);
    const wanted = desired.get(key);
    if (object === undefined || wanted === undefined || closed || !options.isWriter()) return;
    if (wanted.every((each) => stands(object.conditions, each, object.generation))) return;
    const signature = JSON.stringify([object.uid, object.generation, wanted]);
    if (written.get(key) === signature) return;
    const now = time(clock.wallMs());
    const changed: DesiredCondition[] = [];
    const conditions = wanted.map((each) => {
      const existing = object.conditions.find((condition) => condition.type === each.type);
      const same = existing?.status === each.status;
      if (!same || existing.reason !== each.reason) changed.push(each);
      const lastTransitionTime = (same && existing.lastTransitionTime) || now;
      return { ...each, observedGeneration: object.generation, lastTransitionTime };
    });
    await api.request({
      method: 'PATCH',
      path: `/apis/${object.apiVersion}/namespaces/${object.namespace}/serviceexports/${object.name}/status`,
      query: { fieldManager: 'isthmus', force: 'true' },
      contentType: 'application/apply-patch+yaml',
      body: {
        apiVersion: object.apiVersion,
        kind: 'ServiceExport',
        // The uid pins this very export: one that was deleted meanwhile must not come back as an empty one.
        metadata: { name: object.name, namespace: object.namespace, uid: object.uid },
        status: { conditions },
      },
    });
    written.set(key, signature);
    for (const each of changed) {
      // The first good news is what everybody expects: an event would only be noise.
      const quiet = (each.type === 'Conflict') !== (each.status === 'True') && each.reason !== 'Exported';
      if (quiet && !object.conditions.some((condition) => condition.type === each.type)) continue;
      await announce(object, each).catch((error) => log('debug', 'an event was not written', { service: key, error }));
    }
  };

  const run = async (key: ServiceKey): Promise<void> => {
    try {
      await write(key);
    } catch (error) {
      const status = statusOf(error);
      if (status === 404 || status === 409) return;
      const soon = error instanceof IsthmusError && error.retryable;
      log(soon ? 'debug' : 'warn', 'the conditions of an export were not written', { service: key, error });
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
      // One write of an export at a time, so that an older one cannot land last.
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
    set: (key, conditions) => {
      desired.set(key, conditions);
      queue.add(key);
      pump();
    },
    forget: (key) => {
      desired.delete(key);
      written.delete(key);
      queue.delete(key);
    },
    recheck,
    close: () => {
      closed = true;
      retry?.cancel();
      periodic.cancel();
      queue.clear();
    },
  };
};
