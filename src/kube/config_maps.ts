/** ConfigMaps by which the replicas of a program tell each other things: each writes its own, and reads all that have a label. */
import type { KubeApi } from './api.ts';
import { statusOf } from './api_errors.ts';
import { isRecord, record, stringMap, text } from './json.ts';

export interface ConfigMap {
  readonly name: string;
  readonly data: Readonly<Record<string, string>>;
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

/** Creates it or replaces it, whatever it held: it has one writer. */
export const putConfigMap = async (
  api: Api,
  namespace: string,
  { name, data }: ConfigMap,
  labels: Readonly<Record<string, string>>,
): Promise<void> => {
  const metadata = { namespace, name, labels: { 'app.kubernetes.io/managed-by': 'isthmus', ...labels } };
  const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata, data };
  try {
    await api.request({ method: 'PUT', path: `${collection(namespace)}/${name}`, body });
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
    await api.request({ method: 'POST', path: collection(namespace), body });
  }
};

export const deleteConfigMap = async (api: Api, namespace: string, name: string): Promise<void> => {
  try {
    await api.request({ method: 'DELETE', path: `${collection(namespace)}/${name}` });
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
  }
};
