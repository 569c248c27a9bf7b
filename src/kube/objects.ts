/**
 * What is kept of each kind of object, taken from its JSON. Everything else (managed fields, annotations of others, container
 * states) is dropped here, so that ten thousand pods cost megabytes and a heartbeat of a node is no change.
 */
import { isDeepStrictEqual } from 'node:util';
import { importChoice, importName } from '../federation/imports.ts';
import type { LocalPort } from '../federation/local.ts';
import { count, flag, type Json, record, records, stringMap, text, texts } from './json.ts';

/** Its conditions are those of ours alone. */
export interface ServiceObject extends ConditionTarget {
  readonly createdMs: number;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  readonly clusterIPs: readonly string[];
  readonly headless: boolean;
  readonly sessionAffinity: boolean;
  /** The family of the first cluster address, which decides for endpoints that have one of each. */
  readonly family: 'IPv4' | 'IPv6';
  readonly ports: readonly ServicePortObject[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface ServicePortObject extends LocalPort {
  /** TCP | UDP | SCTP: what EndpointSlice ports are matched by, with the name. */
  readonly transport: string;
}

export interface SliceObject {
  readonly namespace: string;
  readonly service: string;
  readonly family: 'IPv4' | 'IPv6';
  readonly ports: readonly { readonly name: string; readonly transport: string; readonly port: number | undefined }[];
  readonly endpoints: readonly {
    readonly address: string;
    readonly pod: string | undefined;
    readonly ready: boolean;
    readonly serving: boolean;
    readonly terminating: boolean;
  }[];
}

export interface PodObject {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly node: string;
  readonly serviceAccount: string;
  readonly ready: boolean;
  readonly terminating: boolean;
  readonly hostNetwork: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly workloadName: string;
}

export interface NamespaceObject {
  readonly ambient: boolean;
  /** Whether services of others are imported there, where it says. */
  readonly imported?: boolean;
}

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration: number | undefined;
  readonly lastTransitionTime: string;
}

/** What conditions are written on: an object, as it was last seen. */
export interface ConditionTarget {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly apiVersion: string;
  readonly generation: number;
  readonly conditions: readonly Condition[];
}

export interface ExportObject extends ConditionTarget {
  /** Such as multicluster.x-k8s.io/v1beta1: the version it was read as, and is written as. */
  readonly apiVersion: string;
  readonly createdMs: number;
  readonly deleting: boolean;
  readonly annotations: Readonly<Record<string, string>>;
}

export const createdMs = (metadata: Json): number => {
  const at = Date.parse(text(metadata, 'creationTimestamp'));
  return Number.isNaN(at) ? 0 : at;
};

/** Our own annotations and Istio's: those of kubectl and of controllers are large and change for no reason of ours. */
const keptAnnotations = (metadata: Json): Record<string, string> => {
  const out: Record<string, string> = {};
  for (const [key, value] of Object.entries(stringMap(metadata, 'annotations'))) {
    const domain = key.split('/')[0] ?? '';
    if (/(^|\.)(isthmus\.dev|istio\.io)$/.test(domain)) out[key] = value;
  }
  return out;
};

export const projectConditions = (object: Json): readonly Condition[] =>
  records(record(object, 'status'), 'conditions').map((condition) => ({
    type: text(condition, 'type'),
    status: text(condition, 'status'),
    reason: text(condition, 'reason'),
    message: text(condition, 'message'),
    observedGeneration: count(condition, 'observedGeneration'),
    lastTransitionTime: text(condition, 'lastTransitionTime'),
  }));

const serviceType = (value: string): ServiceObject['type'] =>
  value === 'NodePort' || value === 'LoadBalancer' || value === 'ExternalName' ? value : 'ClusterIP';

export const projectService = (object: Json): ServiceObject => {
  const metadata = record(object, 'metadata');
  const spec = record(object, 'spec');
  const clusterIP = text(spec, 'clusterIP');
  const listed = texts(spec, 'clusterIPs');
  const clusterIPs = (listed.length > 0 ? listed : [clusterIP]).filter((ip) => ip !== '' && ip !== 'None');
  const families = texts(spec, 'ipFamilies');
  return {
    namespace: text(metadata, 'namespace'),
    name: text(metadata, 'name'),
    uid: text(metadata, 'uid'),
    apiVersion: 'v1',
    generation: count(metadata, 'generation') ?? 0,
    conditions: projectConditions(object).filter(({ type }) => type.startsWith('isthmus.dev/')),
    createdMs: createdMs(metadata),
    type: serviceType(text(spec, 'type')),
    clusterIPs,
    headless: clusterIP === 'None',
    sessionAffinity: text(spec, 'sessionAffinity') === 'ClientIP',
    family: families[0] === 'IPv6' || (families.length === 0 && clusterIPs[0]?.includes(':')) ? 'IPv6' : 'IPv4',
    ports: records(spec, 'ports').map((port) => {
      const transport = text(port, 'protocol') || 'TCP';
      return {
        name: text(port, 'name'),
        port: count(port, 'port') ?? 0,
        transport,
        protocol: transport === 'TCP' ? text(port, 'appProtocol') || 'TCP' : transport,
      };
    }),
    labels: stringMap(metadata, 'labels'),
    annotations: keptAnnotations(metadata),
  };
};

export const serviceNameLabel = 'kubernetes.io/service-name';

export const projectSlice = (object: Json): SliceObject | undefined => {
  const metadata = record(object, 'metadata');
  const family = text(object, 'addressType');
  const service = stringMap(metadata, 'labels')[serviceNameLabel] ?? '';
  // FQDN endpoints have no address that a ztunnel could dial.
  if (service === '' || (family !== 'IPv4' && family !== 'IPv6')) return undefined;
  const namespace = text(metadata, 'namespace');
  const endpoints: SliceObject['endpoints'][number][] = [];
  for (const endpoint of records(object, 'endpoints')) {
    // The API says of several addresses that they are one endpoint, and that consumers use the first.
    const address = texts(endpoint, 'addresses')[0];
    if (address === undefined) continue;
    const conditions = record(endpoint, 'conditions');
    const target = record(endpoint, 'targetRef');
    // Unknown readiness is to be read as ready, and unknown serving as readiness.
    const ready = flag(conditions, 'ready') ?? true;
    endpoints.push({
      address,
      pod:
        text(target, 'kind') === 'Pod'
          ? `${text(target, 'namespace') || namespace}/${text(target, 'name')}`
          : undefined,
      ready,
      serving: flag(conditions, 'serving') ?? ready,
      terminating: flag(conditions, 'terminating') ?? false,
    });
  }
  return {
    namespace,
    service,
    family,
    ports: records(object, 'ports').map((port) => ({
      name: text(port, 'name'),
      transport: text(port, 'protocol') || 'TCP',
      port: count(port, 'port'),
    })),
    endpoints,
  };
};

/** The name that people know: the Deployment of a ReplicaSet, the CronJob of a Job, else the owner or the pod itself. */
const workloadName = (metadata: Json): string => {
  const name = text(metadata, 'name');
  const owners = records(metadata, 'ownerReferences');
  const owner = owners.find((candidate) => flag(candidate, 'controller') === true) ?? owners[0];
  if (owner === undefined) return name;
  const ownerName = text(owner, 'name');
  const hash = stringMap(metadata, 'labels')['pod-template-hash'];
  if (text(owner, 'kind') === 'ReplicaSet' && hash !== undefined && ownerName.endsWith(`-${hash}`)) {
    return ownerName.slice(0, -hash.length - 1);
  }
  if (text(owner, 'kind') === 'Job') return ownerName.replace(/-\d{8,10}$/, '');
  return ownerName === '' ? name : ownerName;
};

export const projectPod = (object: Json): PodObject => {
  const metadata = record(object, 'metadata');
  const spec = record(object, 'spec');
  const status = record(object, 'status');
  const many = records(status, 'podIPs').map((entry) => text(entry, 'ip'));
  const addresses = (many.length > 0 ? many : [text(status, 'podIP')]).filter((ip) => ip !== '');
  return {
    uid: text(metadata, 'uid'),
    namespace: text(metadata, 'namespace'),
    name: text(metadata, 'name'),
    addresses,
    node: text(spec, 'nodeName'),
    serviceAccount: text(spec, 'serviceAccountName') || 'default',
    ready: records(status, 'conditions').some((c) => text(c, 'type') === 'Ready' && text(c, 'status') === 'True'),
    terminating: text(metadata, 'deletionTimestamp') !== '',
    hostNetwork: flag(spec, 'hostNetwork') ?? false,
    labels: stringMap(metadata, 'labels'),
    workloadName: workloadName(metadata),
  };
};

export const projectNode = (object: Json) => {
  const metadata = record(object, 'metadata');
  const labels = stringMap(metadata, 'labels');
  const label = (name: string) => labels[`topology.kubernetes.io/${name}`] ?? '';
  return {
    name: text(metadata, 'name'),
    locality: { region: label('region'), zone: label('zone'), subzone: labels['topology.istio.io/subzone'] ?? '' },
  };
};

export const dataplaneLabel = 'istio.io/dataplane-mode';

export const projectNamespace = (object: Json): NamespaceObject => {
  const metadata = record(object, 'metadata');
  const labels = stringMap(metadata, 'labels');
  const imported = importChoice(labels[importName] ?? stringMap(metadata, 'annotations')[importName]);
  return { ambient: labels[dataplaneLabel] === 'ambient', ...(imported !== undefined && { imported }) };
};

export const projectExport = (object: Json): ExportObject => {
  const metadata = record(object, 'metadata');
  return {
    namespace: text(metadata, 'namespace'),
    name: text(metadata, 'name'),
    uid: text(metadata, 'uid'),
    apiVersion: text(object, 'apiVersion') || 'multicluster.x-k8s.io/v1beta1',
    generation: count(metadata, 'generation') ?? 0,
    createdMs: createdMs(metadata),
    deleting: text(metadata, 'deletionTimestamp') !== '',
    annotations: keptAnnotations(metadata),
    conditions: projectConditions(object),
  };
};

/** Equal content: the API server gave it a new version for a reason that is none of ours. */
export const same = (a: unknown, b: unknown): boolean => isDeepStrictEqual(a, b);
