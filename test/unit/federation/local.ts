/** A local cluster for tests: small values to change one thing about. */
import type { LocalCluster, LocalEndpoint, LocalPod, LocalService } from '../../../src/federation/local.ts';

export const localService = (change: Partial<LocalService> = {}): LocalService => ({
  key: 'shop/checkout',
  namespace: 'shop',
  name: 'checkout',
  type: 'ClusterIP',
  clusterIPs: ['10.96.0.10'],
  headless: false,
  sessionAffinity: false,
  ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
  labels: {},
  annotations: {},
  endpoints: [],
  exported: { by: 'label', sinceMs: 1_000 },
  mode: 'gateway',
  trafficPolicy: undefined,
  ...change,
});

export const localPod = (name: string, change: Partial<LocalPod> = {}): LocalPod => ({
  uid: `uid-${name}`,
  namespace: 'shop',
  name,
  addresses: ['10.1.0.1'],
  node: 'node-1',
  serviceAccount: 'checkout',
  ready: true,
  terminating: false,
  hostNetwork: false,
  hbone: true,
  labels: {},
  locality: { region: 'us-east', zone: 'us-east-1a', subzone: '' },
  workloadName: 'checkout',
  ...change,
});

export const endpoint = (pod: string | undefined, change: Partial<LocalEndpoint> = {}): LocalEndpoint => ({
  address: '10.1.0.1',
  pod: pod === undefined ? undefined : `shop/${pod}`,
  ready: true,
  serving: true,
  terminating: false,
  ports: new Map([[80, 8080]]),
  ...change,
});

export const localCluster = (services: readonly LocalService[], pods: readonly LocalPod[] = []): LocalCluster => ({
  services: new Map(services.map((service) => [service.key, service])),
  pods: new Map(pods.map((pod) => [`${pod.namespace}/${pod.name}`, pod])),
  nodes: new Map(),
  problems: new Map(),
  policies: [],
  failoverPolicies: new Map(),
});
