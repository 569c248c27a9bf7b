/** A service that several clusters share, as its owners would set it up. */
import { serviceHostname } from '../../../src/core/names.ts';
import type { TestCluster } from './cluster.ts';
import type { Harness } from './harness.ts';

export const namespace = 'shop';
const global = { 'istio.io/global': 'true' };

export const hostnameOf = (name: string): string => serviceHostname(namespace, name, 'cluster.local');
/** Name of the workload that stands for all other clusters. */
export const remoteWorkload = (name: string): string =>
  `isthmus/SplitHorizonWorkload/isthmus-system/isthmus-egress/isthmus-egress.isthmus-system.svc.cluster.local/shop/${hostnameOf(name)}`;

/** `name` in one cluster, exported by its label, with so many pods behind it, all ready. */
export const share = async (cluster: TestCluster, name: string, pods: number, spec: object = {}): Promise<void> => {
  await cluster.objects.service(namespace, name, spec, { labels: global });
  const endpoints = [];
  for (let i = 1; i <= pods; i++) {
    const pod = `${name}-${i}`;
    endpoints.push({ pod, address: await cluster.pod(namespace, pod, name, { app: name }), ready: true });
  }
  if (pods > 0) await cluster.slice(namespace, name, endpoints);
};

/** The same name in two clusters; only the first has pods. */
export const shareBoth = async (harness: Harness, name: string, pods = 2): Promise<void> => {
  const [east, west] = [harness.cluster('east'), harness.cluster('west')];
  await share(east, name, pods);
  await share(west, name, 0);
};

export const servicePath = (name: string): string => `/api/v1/namespaces/${namespace}/services/${name}`;

/** Sets or removes the label by which a service is exported. */
export const exported = (cluster: TestCluster, name: string, on: boolean): Promise<unknown> =>
  cluster.objects.label(servicePath(name), { 'istio.io/global': on ? 'true' : null });
