/**
 * Puts objects into a cluster by server-side apply: the manifests that ship with Isthmus, and the Secrets of `join`.
 *
 * Applying again changes nothing, takes over only the fields that are in the manifest, and says what it did. The plural and
 * the scope of a kind come from a table of the kinds that we ship: asking the server would mean a request for each group.
 */
import { readFile } from 'node:fs/promises';
import { parseAllDocuments } from 'yaml';
import { IsthmusError } from '../core/errors.ts';
import type { KubeApi } from './api.ts';
import { statusOf } from './api_errors.ts';
import { policyGroup } from './failover_policies.ts';
import { isRecord, type Json, record, text } from './json.ts';

/** In the order in which they must exist. */
export const manifestFiles = [
  'crd-serviceexports.yaml',
  'crd-failoverpolicies.yaml',
  'crd-egresspolicies.yaml',
  'namespace.yaml',
  'rbac.yaml',
  'service-status-guard.yaml',
  'egress-service.yaml',
] as const;

export interface Applied {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** kept: it exists and is not ours to change. */
  readonly action: 'created' | 'configured' | 'unchanged' | 'kept';
}

export interface ApplyOptions {
  /** Ask the server what would happen, and change nothing. */
  readonly dryRun?: boolean;
  /** Take over fields that another manager set. Default true. */
  readonly force?: boolean;
}

const kinds: Readonly<Record<string, { readonly plural: string; readonly namespaced: boolean }>> = {
  Namespace: { plural: 'namespaces', namespaced: false },
  CustomResourceDefinition: { plural: 'customresourcedefinitions', namespaced: false },
  ClusterRole: { plural: 'clusterroles', namespaced: false },
  ClusterRoleBinding: { plural: 'clusterrolebindings', namespaced: false },
  Role: { plural: 'roles', namespaced: true },
  RoleBinding: { plural: 'rolebindings', namespaced: true },
  ValidatingAdmissionPolicy: { plural: 'validatingadmissionpolicies', namespaced: false },
  ValidatingAdmissionPolicyBinding: { plural: 'validatingadmissionpolicybindings', namespaced: false },
  ServiceAccount: { plural: 'serviceaccounts', namespaced: true },
  Service: { plural: 'services', namespaced: true },
  Secret: { plural: 'secrets', namespaced: true },
  ConfigMap: { plural: 'configmaps', namespaced: true },
  Deployment: { plural: 'deployments', namespaced: true },
  PodDisruptionBudget: { plural: 'poddisruptionbudgets', namespaced: true },
};

interface Located {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly path: string;
}

const locate = (object: Json): Located => {
  const kind = text(object, 'kind');
  const metadata = record(object, 'metadata');
  const name = text(metadata, 'name');
  const known = kinds[kind];
  const bad = (why: string) =>
    new IsthmusError('files/invalid', `manifest ${kind || '?'} "${name}" cannot be applied: ${why}`);
  if (known === undefined) throw bad(`its kind is not one of ${Object.keys(kinds).join(', ')}`);
  if (name === '') throw bad('metadata.name is missing');
  const apiVersion = text(object, 'apiVersion');
  if (apiVersion === '') throw bad('apiVersion is missing');
  const namespace = known.namespaced ? text(metadata, 'namespace') : '';
  if (known.namespaced && namespace === '') throw bad('metadata.namespace is missing');
  const root = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const scope = known.namespaced ? `/namespaces/${namespace}` : '';
  return { kind, namespace, name, path: `${root}${scope}/${known.plural}/${name}` };
};

const resourceVersion = (object: unknown): string =>
  isRecord(object) ? text(record(object, 'metadata'), 'resourceVersion') : '';

const applyOne = async (api: Pick<KubeApi, 'request'>, object: Json, options: ApplyOptions): Promise<Applied> => {
  const { path, ...what } = locate(object);
  let before: unknown;
  try {
    before = await api.request({ method: 'GET', path });
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
  }
  // A kind that several implementations share: whoever installed it keeps it at the version they need. Our own we bring up to date.
  const shared = what.kind === 'CustomResourceDefinition' && !what.name.endsWith(`.${policyGroup}`);
  if (shared && before !== undefined) return { ...what, action: 'kept' };
  const query = {
    fieldManager: 'isthmus',
    force: String(options.force ?? true),
    ...(options.dryRun && { dryRun: 'All' }),
  };
  try {
    const contentType = 'application/apply-patch+yaml';
    const after = await api.request({ method: 'PATCH', path, query, contentType, body: object });
    if (before === undefined) return { ...what, action: 'created' };
    return { ...what, action: resourceVersion(before) === resourceVersion(after) ? 'unchanged' : 'configured' };
  } catch (error) {
    // A dry run makes no namespace, so what would live in it cannot be checked; it would be created.
    if (options.dryRun && statusOf(error) === 404 && before === undefined) return { ...what, action: 'created' };
    throw error;
  }
};

/**
 * Applies objects in order and stops at the first that fails.
 * @throws IsthmusError 'files/invalid' before anything is sent; 'kube/…' from the server.
 */
export const applyObjects = async (
  api: Pick<KubeApi, 'request'>,
  objects: readonly Json[],
  options: ApplyOptions = {},
): Promise<readonly Applied[]> => {
  for (const object of objects) locate(object);
  const applied: Applied[] = [];
  for (const object of objects) applied.push(await applyOne(api, object, options));
  return applied;
};

/** The objects of a YAML stream. */
export const parseManifests = (yaml: string, from: string): readonly Json[] => {
  const objects: Json[] = [];
  for (const document of parseAllDocuments(yaml)) {
    const problem = 'errors' in document ? document.errors[0] : undefined;
    if (problem) throw new IsthmusError('files/invalid', `${from} is not YAML: ${problem.message}`);
    const value: unknown = 'toJS' in document ? document.toJS() : undefined;
    if (isRecord(value)) objects.push(value);
  }
  return objects;
};

/** The manifests that ship with Isthmus, for a namespace other than isthmus-system too. */
export const shippedManifests = async (namespace = 'isthmus-system'): Promise<readonly Json[]> => {
  const objects: Json[] = [];
  for (const file of manifestFiles) {
    const yaml = await readFile(new URL(`../../deploy/${file}`, import.meta.url), 'utf8');
    objects.push(...parseManifests(yaml.replaceAll('isthmus-system', namespace), file));
  }
  return objects;
};

/** A Secret as an object to apply. */
export const secretManifest = (
  at: { readonly namespace: string; readonly name: string },
  data: Readonly<Record<string, Uint8Array>>,
): Json => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { ...at, labels: { 'app.kubernetes.io/managed-by': 'isthmus' } },
  type: 'Opaque',
  data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')])),
});
