/**
 * Watches the objects that say what this cluster is, and keeps a `LocalCluster` of them.
 *
 * Nothing is reported before every kind has been listed once: a service seen before its namespace would look withdrawn, and
 * a restart would tell every peer so. Changes of one macrotask are reported together.
 */
import type { KubeConfig } from '@kubernetes/client-node';
import type { Clock, Rng } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { LocalChange, LocalCluster } from '../federation/local.ts';
import { type Log, openKubeApi } from './api.ts';
import { type EgressObject, egressPlural, projectEgressPolicy } from './egress_policies.ts';
import {
  type PolicyObject,
  policyGroup,
  policyPlural,
  policyVersion,
  projectFailoverPolicy,
} from './failover_policies.ts';
import { type Informer, startInformer } from './informer.ts';
import type { Json } from './json.ts';
import { createLocalState, type Kind, type Objects } from './local_state.ts';
import {
  type ExportObject,
  projectExport,
  projectNamespace,
  projectNode,
  projectPod,
  projectService,
  projectSlice,
  type ServiceObject,
  serviceNameLabel,
} from './objects.ts';
import { projectPolicy, projectRule } from './policies.ts';

interface Source<K extends Kind> {
  readonly paths: readonly string[];
  readonly query?: Readonly<Record<string, string>>;
  /** A role of an earlier version may not allow it: it is gone without, and said. */
  readonly dispensable?: boolean;
  project(object: Json): Objects[K] | undefined;
}

const versions = (group: string, plural: string, ...all: readonly string[]) =>
  all.map((version) => `/apis/${group}/${version}/${plural}`);

const sources: { readonly [K in Kind]: Source<K> } = {
  services: { paths: ['/api/v1/services'], project: projectService },
  endpointslices: {
    paths: ['/apis/discovery.k8s.io/v1/endpointslices'],
    query: { labelSelector: serviceNameLabel },
    project: projectSlice,
  },
  pods: {
    paths: ['/api/v1/pods'],
    query: { fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed' },
    project: projectPod,
  },
  nodes: { paths: ['/api/v1/nodes'], project: projectNode },
  namespaces: { paths: ['/api/v1/namespaces'], project: projectNamespace },
  serviceexports: {
    paths: versions('multicluster.x-k8s.io', 'serviceexports', 'v1beta1', 'v1alpha1'),
    project: projectExport,
  },
  destinationrules: {
    paths: versions('networking.istio.io', 'destinationrules', 'v1', 'v1beta1', 'v1alpha3'),
    project: projectRule,
  },
  authorizationpolicies: {
    paths: versions('security.istio.io', 'authorizationpolicies', 'v1', 'v1beta1'),
    project: projectPolicy('AuthorizationPolicy'),
  },
  peerauthentications: {
    paths: versions('security.istio.io', 'peerauthentications', 'v1', 'v1beta1'),
    project: projectPolicy('PeerAuthentication'),
  },
  // A cluster without the kind has no policies of its own: the cluster set's default decides.
  failoverpolicies: {
    paths: versions(policyGroup, policyPlural, policyVersion),
    dispensable: true,
    project: projectFailoverPolicy,
  },
  // Without the kind every workload may call everything.
  egresspolicies: {
    paths: versions(policyGroup, egressPlural, policyVersion),
    dispensable: true,
    project: projectEgressPolicy,
  },
};

const nothing: LocalChange = { services: new Set(), pods: new Set(), policies: false, failoverPolicies: false };

export interface DiscoveryOptions {
  readonly kubeConfig: KubeConfig;
  readonly clock: Clock;
  /** Jitter of retries and of watch ends. */
  readonly rng?: Rng;
  readonly log: Log;
  /** Of services without the annotation isthmus.dev/mode. */
  readonly defaultMode: 'gateway' | 'direct';
  /** Default cluster.local. */
  readonly clusterDomain?: string;
  /** After the first complete view, and then after each macrotask that changed it. `cluster` is already up to date. */
  onChange(change: LocalChange): void;
  /** A kind could not be read: 'kube/denied' wants a person, 'kube/unavailable' is being retried. */
  onProblem?(kind: string, error: IsthmusError): void;
}

export interface Discovery {
  readonly cluster: LocalCluster;
  /** ServiceExports as they are, with their conditions, for whoever writes those. */
  readonly exports: ReadonlyMap<ServiceKey, ExportObject>;
  readonly serviceObjects: ReadonlyMap<ServiceKey, ServiceObject>;
  readonly policyObjects: ReadonlyMap<string, PolicyObject>;
  readonly egressObjects: ReadonlyMap<string, EgressObject>;
  /** Kinds not yet listed once. Empty: the cluster is complete. */
  synced(): { readonly pending: readonly string[] };
  /** Kinds that are gone without, for we may not read them. */
  denied(): ReadonlyMap<string, IsthmusError>;
  /** Per kind: since the API server was last heard about it. Up to `limits.kubeWatchSilenceMaxMs` (80 s) is normal. */
  staleMs(): Readonly<Record<string, number>>;
  close(): void;
}

export const startDiscovery = (options: DiscoveryOptions): Discovery => {
  const { clock, log } = options;
  const api = openKubeApi(options.kubeConfig, clock);
  const state = createLocalState({
    defaultMode: options.defaultMode,
    clusterDomain: options.clusterDomain ?? 'cluster.local',
  });
  const informers = new Map<Kind, Informer<unknown>>();
  let complete = false;
  let scheduled = false;
  let closed = false;

  const pending = (): string[] => [...informers].filter(([, informer]) => !informer.synced).map(([kind]) => kind);

  const flush = (): void => {
    scheduled = false;
    if (closed) return;
    const first = !complete;
    if (first && (informers.size < Object.keys(sources).length || pending().length > 0)) return;
    complete = true;
    const change = state.flush() ?? (first ? nothing : undefined);
    if (change === undefined) return;
    try {
      options.onChange(change);
    } catch (error) {
      log('error', 'a handler of local changes failed', { error });
    }
  };
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(flush);
  };

  const start = <K extends Kind>(kind: K): void => {
    const source: Source<K> = sources[kind];
    const informer = startInformer<Objects[K]>({
      api,
      clock,
      rng: options.rng ?? Math.random,
      log,
      kind,
      paths: source.paths,
      ...(source.query && { query: source.query }),
      dispensable: source.dispensable === true,
      project: source.project,
      onChange: (key, value) => {
        if (state.set(kind, key, value)) schedule();
      },
      onSynced: schedule,
      onProblem: (error) => options.onProblem?.(kind, error),
    });
    informers.set(kind, informer);
  };
  for (const kind of Object.keys(sources) as Kind[]) start(kind);

  return {
    cluster: state.cluster,
    exports: state.exports,
    serviceObjects: state.serviceObjects,
    policyObjects: state.policyObjects,
    egressObjects: state.egressObjects,
    synced: () => ({ pending: pending() }),
    denied: () =>
      new Map([...informers].flatMap(([kind, { denied }]) => (denied === undefined ? [] : [[kind, denied] as const]))),
    staleMs: () => Object.fromEntries([...informers].map(([kind, informer]) => [kind, informer.staleMs()])),
    close: () => {
      closed = true;
      for (const informer of informers.values()) informer.close();
      api.close();
    },
  };
};
