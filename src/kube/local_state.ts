/**
 * The local cluster, derived from its objects. An object that came or went marks the services and pods that it bears on;
 * `flush` derives only those again and reports the ones that came out different. No sockets and no time here, so every
 * rule of what counts as exported is tested without an API server.
 */
import { type ServiceKey, serviceKey } from '../core/names.ts';
import { exportToOf } from '../federation/export_to.ts';
import type {
  ExportProblem,
  LocalChange,
  LocalCluster,
  LocalFailoverPolicy,
  LocalNode,
  LocalPod,
  LocalService,
  TrafficPolicy,
  UntranslatablePolicy,
} from '../federation/local.ts';
import type { LocalEgressPolicy } from '../trust/egress_rules.ts';
import { type EgressObject, localEgressPolicy } from './egress_policies.ts';
import { joinEndpoints } from './endpoints.ts';
import { localPolicy, type PolicyObject } from './failover_policies.ts';
import {
  dataplaneLabel,
  type ExportObject,
  type NamespaceObject,
  type PodObject,
  type ServiceObject,
  type SliceObject,
  same,
} from './objects.ts';
import { byAge, hasPolicy, type RuleObject, ruleTarget } from './policies.ts';

/** What is kept of each kind, by `namespace/name` (or name). */
export interface Objects {
  readonly services: ServiceObject;
  readonly endpointslices: SliceObject;
  readonly pods: PodObject;
  readonly nodes: LocalNode;
  readonly namespaces: NamespaceObject;
  readonly serviceexports: ExportObject;
  readonly destinationrules: RuleObject;
  readonly authorizationpolicies: UntranslatablePolicy;
  readonly peerauthentications: UntranslatablePolicy;
  readonly failoverpolicies: PolicyObject;
  readonly egresspolicies: EgressObject;
}
export type Kind = keyof Objects;

export interface LocalStateOptions {
  readonly defaultMode: 'gateway' | 'direct';
  readonly clusterDomain: string;
}

export interface LocalState {
  readonly cluster: LocalCluster;
  readonly exports: ReadonlyMap<ServiceKey, ExportObject>;
  /** As they are, with their conditions. */
  readonly serviceObjects: ReadonlyMap<ServiceKey, ServiceObject>;
  readonly policyObjects: ReadonlyMap<string, PolicyObject>;
  readonly egressObjects: ReadonlyMap<string, EgressObject>;
  /** Takes an object in, or out. Returns whether that may change anything. */
  set<K extends Kind>(kind: K, key: string, value: Objects[K] | undefined): boolean;
  /** Derives what is marked. Undefined when nothing came out different. */
  flush(): LocalChange | undefined;
}

export const modeAnnotation = 'isthmus.dev/mode';
export const globalLabel = 'istio.io/global';

/** A set of keys under each key. */
class Index {
  readonly #sets = new Map<string, Set<string>>();
  add(under: string, key: string): void {
    const found = this.#sets.get(under);
    if (found === undefined) this.#sets.set(under, new Set([key]));
    else found.add(key);
  }
  delete(under: string, key: string): void {
    const found = this.#sets.get(under);
    if (found?.delete(key) && found.size === 0) this.#sets.delete(under);
  }
  get(under: string): Iterable<string> {
    return this.#sets.get(under) ?? [];
  }
}

const problem = (key: ServiceKey, code: ExportProblem['code'], message: string): ExportProblem => ({
  key,
  code,
  message,
});

/** Why an exported service cannot work, or cannot wholly. `fatal`: it is not exported at all. */
const fault = (key: ServiceKey, service: ServiceObject): { problem: ExportProblem; fatal: boolean } | undefined => {
  if (service.type === 'ExternalName') {
    return {
      problem: problem(key, 'service/external-name', 'a Service of type ExternalName has no endpoints here to export'),
      fatal: true,
    };
  }
  if (service.ports.length === 0) {
    return { problem: problem(key, 'service/no-ports', 'the Service has no ports; add spec.ports'), fatal: true };
  }
  if (service.headless) {
    return {
      problem: problem(
        key,
        'service/headless',
        'a headless Service (clusterIP: None) has no data path across clusters',
      ),
      fatal: false,
    };
  }
  if (service.sessionAffinity) {
    return {
      problem: problem(
        key,
        'service/session-affinity',
        'session affinity (sessionAffinity: ClientIP) cannot be kept across clusters',
      ),
      fatal: false,
    };
  }
  return undefined;
};

export const createLocalState = (options: LocalStateOptions): LocalState => {
  const objects: { readonly [K in Kind]: Map<string, Objects[K]> } = {
    services: new Map(),
    endpointslices: new Map(),
    pods: new Map(),
    nodes: new Map(),
    namespaces: new Map(),
    serviceexports: new Map(),
    destinationrules: new Map(),
    authorizationpolicies: new Map(),
    peerauthentications: new Map(),
    failoverpolicies: new Map(),
    egresspolicies: new Map(),
  };
  const slicesOf = new Index();
  const rulesOf = new Index();
  const servicesIn = new Index();
  const podsIn = new Index();
  const podsOn = new Index();

  const services = new Map<ServiceKey, LocalService>();
  const pods = new Map<string, LocalPod>();
  const nodes = new Map<string, LocalNode>();
  const problems = new Map<ServiceKey, ExportProblem>();
  const failoverPolicies = new Map<string, LocalFailoverPolicy>();
  const egressPolicies = new Map<string, LocalEgressPolicy>();
  const imports = new Map<string, boolean>();
  let policies: readonly UntranslatablePolicy[] = [];

  const dirtyServices = new Set<ServiceKey>();
  const dirtyPods = new Set<string>();
  const dirtyFailoverPolicies = new Set<string>();
  const dirtyEgressPolicies = new Set<string>();
  const dirtyNamespaces = new Set<string>();
  let dirtyPolicies = false;

  const mark = (kind: Kind, key: string, object: Objects[Kind], gone: boolean): void => {
    const index = (to: Index, under: string) => (gone ? to.delete(under, key) : to.add(under, key));
    switch (kind) {
      case 'services':
        index(servicesIn, (object as ServiceObject).namespace);
        dirtyServices.add(key);
        break;
      case 'endpointslices': {
        const slice = object as SliceObject;
        const owner = serviceKey(slice.namespace, slice.service);
        index(slicesOf, owner);
        dirtyServices.add(owner);
        break;
      }
      case 'pods': {
        const pod = object as PodObject;
        index(podsIn, pod.namespace);
        index(podsOn, pod.node);
        dirtyPods.add(key);
        break;
      }
      case 'nodes':
        if (gone) nodes.delete(key);
        else nodes.set(key, object as LocalNode);
        for (const pod of podsOn.get(key)) dirtyPods.add(pod);
        break;
      case 'namespaces':
        dirtyNamespaces.add(key);
        for (const service of servicesIn.get(key)) dirtyServices.add(service);
        for (const exported of objects.serviceexports.keys())
          if (exported.startsWith(`${key}/`)) dirtyServices.add(exported);
        for (const pod of podsIn.get(key)) dirtyPods.add(pod);
        break;
      case 'serviceexports':
        dirtyServices.add(key);
        break;
      case 'destinationrules': {
        const target = ruleTarget(object as RuleObject, options.clusterDomain);
        if (target === undefined) break;
        index(rulesOf, target);
        dirtyServices.add(target);
        break;
      }
      case 'failoverpolicies':
        dirtyFailoverPolicies.add(key);
        break;
      case 'egresspolicies':
        dirtyEgressPolicies.add(key);
        break;
      default:
        dirtyPolicies = true;
    }
  };

  const ambient = (namespace: string): boolean => objects.namespaces.get(namespace)?.ambient ?? false;

  const trafficPolicy = (key: ServiceKey): TrafficPolicy | undefined => {
    const rules: RuleObject[] = [];
    for (const name of rulesOf.get(key)) {
      const rule = objects.destinationrules.get(name);
      if (rule !== undefined && hasPolicy(rule.policy)) rules.push(rule);
    }
    return rules.sort(byAge)[0]?.policy;
  };

  const deriveExport = (
    key: ServiceKey,
  ): { exported: LocalService['exported']; problem: ExportProblem | undefined } => {
    const service = objects.services.get(key);
    const asked = objects.serviceexports.get(key);
    const byExport = asked !== undefined && !asked.deleting ? asked : undefined;
    if (service === undefined) {
      if (byExport === undefined) return { exported: undefined, problem: undefined };
      return { exported: undefined, problem: problem(key, 'service/missing', `there is no Service ${key} to export`) };
    }
    const byLabel = service.labels[globalLabel] === 'true';
    if (byExport === undefined && !byLabel) return { exported: undefined, problem: undefined };
    if (!ambient(service.namespace)) {
      const text = `namespace ${service.namespace} is not in the mesh; label it ${dataplaneLabel}=ambient`;
      return { exported: undefined, problem: problem(key, 'service/not-ambient', text) };
    }
    const found = fault(key, service);
    if (found?.fatal) return { exported: undefined, problem: found.problem };
    const { to, problem: slip } = exportToOf(key, byExport?.annotations, service.annotations);
    if (slip !== undefined) return { exported: undefined, problem: slip };
    return {
      exported: {
        ...(byExport
          ? { by: 'ServiceExport', sinceMs: byExport.createdMs }
          : { by: 'label', sinceMs: service.createdMs }),
        ...(to && { to }),
      },
      problem: found?.problem,
    };
  };

  const deriveService = (key: ServiceKey, service: ServiceObject, exported: LocalService['exported']): LocalService => {
    const slices: SliceObject[] = [];
    for (const name of slicesOf.get(key)) {
      const slice = objects.endpointslices.get(name);
      if (slice !== undefined) slices.push(slice);
    }
    const mode = service.annotations[modeAnnotation];
    return {
      key,
      namespace: service.namespace,
      name: service.name,
      type: service.type,
      clusterIPs: service.clusterIPs,
      headless: service.headless,
      sessionAffinity: service.sessionAffinity,
      ports: service.ports.map(({ name, port, protocol }) => ({ name, port, protocol })),
      labels: service.labels,
      annotations: service.annotations,
      endpoints: joinEndpoints(service, slices),
      exported,
      mode: mode === 'gateway' || mode === 'direct' ? mode : options.defaultMode,
      trafficPolicy: trafficPolicy(key),
    };
  };

  const flushService = (key: ServiceKey): boolean => {
    const service = objects.services.get(key);
    const { exported, problem: found } = deriveExport(key);
    const derived = service && deriveService(key, service, exported);
    const changed = !same(services.get(key), derived) || !same(problems.get(key), found);
    if (!changed) return false;
    if (derived === undefined) services.delete(key);
    else services.set(key, derived);
    if (found === undefined) problems.delete(key);
    else problems.set(key, found);
    return true;
  };

  const flushPod = (key: string): boolean => {
    const pod = objects.pods.get(key);
    const mode = pod?.labels[dataplaneLabel];
    const derived: LocalPod | undefined = pod && {
      ...pod,
      // A pod may join the mesh alone, and may stay out of it; what shares the node's network has no ztunnel in front.
      hbone: !pod.hostNetwork && mode !== 'none' && (mode === 'ambient' || ambient(pod.namespace)),
      locality: nodes.get(pod.node)?.locality ?? { region: '', zone: '', subzone: '' },
    };
    if (same(pods.get(key), derived)) return false;
    if (derived === undefined) pods.delete(key);
    else pods.set(key, derived);
    return true;
  };

  const flushFailoverPolicy = (key: string): boolean => {
    const object = objects.failoverpolicies.get(key);
    const derived = object && localPolicy(object);
    if (same(failoverPolicies.get(key), derived)) return false;
    if (derived === undefined) failoverPolicies.delete(key);
    else failoverPolicies.set(key, derived);
    return true;
  };

  const flushEgressPolicy = (key: string): boolean => {
    const object = objects.egresspolicies.get(key);
    const derived = object && localEgressPolicy(object);
    if (same(egressPolicies.get(key), derived)) return false;
    if (derived === undefined) egressPolicies.delete(key);
    else egressPolicies.set(key, derived);
    return true;
  };

  const flushImports = (namespace: string): boolean => {
    const imported = objects.namespaces.get(namespace)?.imported;
    if (imports.get(namespace) === imported) return false;
    if (imported === undefined) imports.delete(namespace);
    else imports.set(namespace, imported);
    return true;
  };

  const flushPolicies = (): boolean => {
    const next = [...objects.authorizationpolicies.values(), ...objects.peerauthentications.values()];
    if (same(next, policies)) return false;
    policies = next;
    return true;
  };

  return {
    cluster: {
      services,
      pods,
      nodes,
      problems,
      failoverPolicies,
      egressPolicies,
      imports,
      get policies() {
        return policies;
      },
    },
    exports: objects.serviceexports,
    serviceObjects: objects.services,
    policyObjects: objects.failoverpolicies,
    egressObjects: objects.egresspolicies,
    set: (kind, key, value) => {
      const kept = objects[kind];
      const previous = kept.get(key);
      if (same(previous, value)) return false;
      // Unmarked under what it was, before it is marked under what it is: both sides of a move are derived again.
      if (previous !== undefined) mark(kind, key, previous, true);
      if (value === undefined) kept.delete(key);
      else {
        kept.set(key, value);
        mark(kind, key, value, false);
      }
      return true;
    },
    flush: () => {
      const changed = {
        services: new Set([...dirtyServices].filter(flushService)),
        pods: new Set([...dirtyPods].filter(flushPod)),
        policies: dirtyPolicies && flushPolicies(),
        failoverPolicies: [...dirtyFailoverPolicies].filter(flushFailoverPolicy).length > 0,
        egressPolicies: [...dirtyEgressPolicies].filter(flushEgressPolicy).length > 0,
        imports: new Set([...dirtyNamespaces].filter(flushImports)),
      };
      dirtyServices.clear();
      dirtyPods.clear();
      dirtyFailoverPolicies.clear();
      dirtyEgressPolicies.clear();
      dirtyNamespaces.clear();
      dirtyPolicies = false;
      const { services: some, pods: others, imports: choices } = changed;
      const rules = changed.policies || changed.failoverPolicies || changed.egressPolicies;
      return some.size + others.size + choices.size > 0 || rules ? changed : undefined;
    },
  };
};
