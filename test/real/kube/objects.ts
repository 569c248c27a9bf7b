/** Objects as a cluster would have them, written through the API: what kubelets and controllers do elsewhere. */
import type { ApiServer } from '../apiserver.ts';

const json = 'application/json';
const merge = 'application/merge-patch+json';

export const serviceExportPath = (namespace: string) =>
  `/apis/multicluster.x-k8s.io/v1beta1/namespaces/${namespace}/serviceexports`;

export const world = (api: ApiServer) => ({
  namespace: (name: string, labels: Record<string, string> = {}) =>
    api.call('POST', '/api/v1/namespaces', { metadata: { name, labels } }),
  label: (path: string, labels: Record<string, string | null>) =>
    api.call('PATCH', path, { metadata: { labels } }, merge),
  node: (name: string, labels: Record<string, string> = {}) =>
    api.call('POST', '/api/v1/nodes', { metadata: { name, labels } }),
  service: (namespace: string, name: string, spec: object = {}, metadata: object = {}) =>
    api.call('POST', `/api/v1/namespaces/${namespace}/services`, {
      metadata: { name, ...metadata },
      spec: { ports: [{ name: 'http', port: 80, targetPort: 8080 }], ...spec },
    }),
  slice: (namespace: string, name: string, service: string, endpoints: object[], rest: object = {}) =>
    api.call('POST', `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`, {
      metadata: { name, labels: { 'kubernetes.io/service-name': service } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
      endpoints,
      ...rest,
    }),
  pod: async (
    namespace: string,
    name: string,
    node: string,
    ip: string,
    extra: { labels?: object; spec?: object } = {},
  ) => {
    await api.call('POST', `/api/v1/namespaces/${namespace}/pods`, {
      metadata: { name, labels: extra.labels ?? {} },
      spec: { nodeName: node, containers: [{ name: 'c', image: 'none' }], ...extra.spec },
    });
    await api.call(
      'PATCH',
      `/api/v1/namespaces/${namespace}/pods/${name}/status`,
      { status: { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions: [{ type: 'Ready', status: 'True' }] } },
      merge,
    );
  },
  serviceExport: (namespace: string, name: string, annotations: Record<string, string> = {}) =>
    api.call('POST', serviceExportPath(namespace), {
      apiVersion: 'multicluster.x-k8s.io/v1beta1',
      kind: 'ServiceExport',
      metadata: { name, annotations },
    }),
  create: (path: string, body: object) => api.call('POST', path, body, json),
  patch: (path: string, body: object) => api.call('PATCH', path, body, merge),
  remove: (path: string) => api.call('DELETE', path),
});

/** A structural custom resource definition that accepts anything: enough to stand for Istio's. */
export const openCrd = (group: string, kind: string, plural: string, versions: string[]) => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: `${plural}.${group}` },
  spec: {
    group,
    scope: 'Namespaced',
    names: { plural, kind, singular: kind.toLowerCase(), listKind: `${kind}List` },
    versions: versions.map((name, index) => ({
      name,
      served: true,
      storage: index === 0,
      schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
    })),
  },
});

/** Polls until `probe` is true; the failure names what was waited for. */
export const eventually = async (
  what: string,
  probe: () => boolean | Promise<boolean>,
  withinMs = 20_000,
): Promise<void> => {
  const deadline = performance.now() + withinMs;
  while (!(await probe())) {
    if (performance.now() > deadline) throw new Error(`after ${withinMs} ms still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
