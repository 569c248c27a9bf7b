/** ConfigMaps by which the replicas of a program tell each other things: one that each writes and all read, or one that the writer alone writes. */
import type { KubeApi } from './api.ts';
import { statusOf } from './api_errors.ts';
import { isRecord, record, stringMap, text } from './json.ts';

export interface ConfigMap {
  readonly name: string;
  readonly data: Readonly<Record<string, string>>;
  /** Bytes, as base64. */
  readonly binary?: Readonly<Record<string, string>>;
}

type Api = Pick<KubeApi, 'request'>;
const collection = (namespace: string): string => `/api/v1/namespaces/${namespace}/configmaps`;

/** All that carry `label=value`. */
export const listConfigMaps = async (
  api: Api,
  namespace: string,
  selector: { readonly label: string; readonly value: string },
): Promise<readonly ConfigMap[]> => {
  const query = { labelSelector: `${selector.label}=${selector.value}`, limit: '500' };
  const list = await api.request({ method: 'GET', path: collection(namespace), query });
  const items = isRecord(list) && Array.isArray(list.items) ? list.items : [];
  return items.flatMap((item) =>
    isRecord(item) ? [{ name: text(record(item, 'metadata'), 'name'), data: stringMap(item, 'data') }] : [],
  );
};

/** Undefined: there is none. */
export const getConfigMap = async (
  api: Api,
  namespace: string,
  name: string,
  timeoutMs: number,
): Promise<ConfigMap | undefined> => {
  try {
    const found = await api.request({ method: 'GET', path: `${collection(namespace)}/${name}`, timeoutMs });
    const item = isRecord(found) ? found : {};
    return { name, data: stringMap(item, 'data'), binary: stringMap(item, 'binaryData') };
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
    return undefined;
  }
};

/** Creates it or replaces it, whatever it held: it has one writer. */
export const putConfigMap = async (
  api: Api,
  namespace: string,
  { name, data, binary }: ConfigMap,
  labels: Readonly<Record<string, string>>,
  timeoutMs?: number,
): Promise<void> => {
  const inTime = timeoutMs === undefined ? {} : { timeoutMs };
  const metadata = { namespace, name, labels: { 'app.kubernetes.io/managed-by': 'isthmus', ...labels } };
  const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data, ...(binary && { binaryData: binary }) };
  try {
    await api.request({ method: 'PUT', path: `${collection(namespace)}/${name}`, body, ...inTime });
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
    await api.request({ method: 'POST', path: collection(namespace), body, ...inTime });
  }
};

export const deleteConfigMap = async (api: Api, namespace: string, name: string): Promise<void> => {
  try {
    await api.request({ method: 'DELETE', path: `${collection(namespace)}/${name}` });
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
  }
};
