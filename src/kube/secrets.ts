/**
 * One named Secret: read it, follow it, write it with compare-and-swap.
 *
 * Gateway certificates, member credentials and the cluster's CA live in Secrets that several replicas read and one writes. A
 * write always says which version it replaces, so a writer that lost its lease cannot undo its successor's.
 */
import type { Clock, Rng } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { KubeApi, Log } from './api.ts';
import { statusOf } from './api_errors.ts';
import { startInformer } from './informer.ts';
import { isRecord, type Json, record, stringMap, text } from './json.ts';

export interface SecretName {
  readonly namespace: string;
  readonly name: string;
}

export interface Secret {
  readonly type: string;
  readonly data: Readonly<Record<string, Uint8Array>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly resourceVersion: string;
}

export interface SecretWrite {
  readonly data: Readonly<Record<string, Uint8Array>>;
  /** The version that is replaced; undefined: it must not exist yet. */
  readonly replaces: string | undefined;
  /** Default Opaque. Cannot be changed later. */
  readonly type?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

const collection = (namespace: string): string => `/api/v1/namespaces/${namespace}/secrets`;

const secretOf = (object: Json): Secret => ({
  type: text(object, 'type'),
  data: Object.fromEntries(
    Object.entries(stringMap(object, 'data')).map(([key, value]) => [key, Buffer.from(value, 'base64')]),
  ),
  labels: stringMap(record(object, 'metadata'), 'labels'),
  resourceVersion: text(record(object, 'metadata'), 'resourceVersion'),
});

/** Undefined when there is none. */
export const readSecret = async (api: Pick<KubeApi, 'request'>, at: SecretName): Promise<Secret | undefined> => {
  try {
    const object = await api.request({ method: 'GET', path: `${collection(at.namespace)}/${at.name}` });
    return isRecord(object) ? secretOf(object) : undefined;
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
};

/**
 * Creates or replaces it as a whole.
 * @throws IsthmusError 'kube/conflict' when it is not at the version that `replaces` says: read again and decide anew.
 */
export const writeSecret = async (
  api: Pick<KubeApi, 'request'>,
  at: SecretName,
  write: SecretWrite,
): Promise<Secret> => {
  const data = Object.fromEntries(
    Object.entries(write.data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
  );
  const create = write.replaces === undefined;
  const written = await api.request({
    method: create ? 'POST' : 'PUT',
    path: create ? collection(at.namespace) : `${collection(at.namespace)}/${at.name}`,
    body: {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: {
        ...at,
        labels: { 'app.kubernetes.io/managed-by': 'isthmus', ...write.labels },
        ...(create ? {} : { resourceVersion: write.replaces }),
      },
      type: write.type ?? 'Opaque',
      data,
    },
  });
  return secretOf(isRecord(written) ? written : {});
};

export interface SecretWatch {
  /** As last seen; undefined when there is none, or nothing is known yet. */
  readonly current: Secret | undefined;
  /** Whether it is known that it exists or does not. */
  readonly synced: boolean;
  close(): void;
}

/** Follows one Secret. `onChange` comes first once it is known whether it exists, then at each change. */
export const watchSecret = (options: {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly rng?: Rng;
  readonly log: Log;
  readonly at: SecretName;
  onChange(secret: Secret | undefined): void;
  onProblem?(error: IsthmusError): void;
}): SecretWatch => {
  const { at } = options;
  const key = `${at.namespace}/${at.name}`;
  let synced = false;
  const informer = startInformer<Secret>({
    api: options.api,
    clock: options.clock,
    rng: options.rng ?? Math.random,
    log: options.log,
    kind: `secret ${key}`,
    paths: [collection(at.namespace)],
    // With the name selected, a role for this one Secret suffices.
    query: { fieldSelector: `metadata.name=${at.name}` },
    project: secretOf,
    onChange: (_, value) => {
      if (synced) options.onChange(value);
    },
    onSynced: () => {
      synced = true;
      options.onChange(informer.items.get(key));
    },
    ...(options.onProblem && { onProblem: options.onProblem }),
  });
  return {
    get current() {
      return informer.items.get(key);
    },
    get synced() {
      return synced;
    },
    close: () => informer.close(),
  };
};
