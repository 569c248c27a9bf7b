/** Kubernetes objects as a kubelet, a scheduler and the endpoint slice controller would write them. Data in, objects out. */

export interface PodPort {
  readonly name: string;
  readonly port: number;
}

export interface PodSpec {
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ports: readonly PodPort[];
}

export interface PodState extends PodSpec {
  readonly uid: string;
  readonly node: string;
  readonly nodeAddress: string;
  readonly zone: string;
  readonly address: string;
  readonly ready: boolean;
  readonly terminating: boolean;
}

export const nodeObject = (name: string, address: string, region: string, zone: string) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: {
    name,
    labels: {
      'kubernetes.io/hostname': name,
      'kubernetes.io/os': 'linux',
      'topology.kubernetes.io/region': region,
      'topology.kubernetes.io/zone': zone,
    },
  },
  status: {
    addresses: [
      { type: 'InternalIP', address },
      { type: 'Hostname', address: name },
    ],
    conditions: [{ type: 'Ready', status: 'True', reason: 'KubeletReady', message: 'kubelet is posting ready status' }],
  },
});

export const podObject = (pod: PodSpec, node: string) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: pod.name, namespace: pod.namespace, labels: pod.labels, annotations: pod.annotations ?? {} },
  spec: {
    nodeName: node,
    serviceAccountName: pod.serviceAccount,
    automountServiceAccountToken: false,
    containers: [
      {
        name: 'main',
        image: 'lab/process',
        ports: pod.ports.map(({ name, port }) => ({ name, containerPort: port, protocol: 'TCP' })),
      },
    ],
  },
});

/** The status of a pod, `since` in RFC 3339. */
export const podStatus = (pod: PodState, since: string) => {
  const condition = (type: string, status: boolean) => ({
    type,
    status: status ? 'True' : 'False',
    lastTransitionTime: since,
  });
  return {
    status: {
      phase: 'Running',
      hostIP: pod.nodeAddress,
      podIP: pod.address,
      podIPs: [{ ip: pod.address }],
      startTime: since,
      conditions: [
        condition('PodScheduled', true),
        condition('Initialized', true),
        condition('ContainersReady', pod.ready),
        condition('Ready', pod.ready),
      ],
    },
  };
};

export interface ServiceShape {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly uid?: string };
  readonly spec: {
    readonly selector?: Readonly<Record<string, string>>;
    readonly ports?: readonly {
      readonly name?: string;
      readonly port: number;
      readonly targetPort?: number | string;
    }[];
  };
}

const selects = (selector: Readonly<Record<string, string>>, pod: PodState): boolean =>
  Object.entries(selector).every(([key, value]) => pod.labels[key] === value);

export const podsOf = (service: ServiceShape, pods: readonly PodState[]): PodState[] => {
  const { selector } = service.spec;
  if (selector === undefined || Object.keys(selector).length === 0) return [];
  return pods.filter((pod) => pod.namespace === service.metadata.namespace && selects(selector, pod));
};

const targetPort = (port: { port: number; targetPort?: number | string }, pods: readonly PodState[]): number => {
  if (typeof port.targetPort === 'number') return port.targetPort;
  if (port.targetPort === undefined) return port.port;
  const named = pods.flatMap((pod) => pod.ports).find(({ name }) => name === port.targetPort);
  return named?.port ?? (Number(port.targetPort) || port.port);
};

/** The endpoint slice of a service with a selector; undefined for one without. */
export const sliceObject = (service: ServiceShape, pods: readonly PodState[]) => {
  const { name, namespace, uid } = service.metadata;
  const { selector, ports = [] } = service.spec;
  if (selector === undefined || Object.keys(selector).length === 0) return undefined;
  const chosen = podsOf(service, pods);
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-lab`,
      namespace,
      labels: {
        'kubernetes.io/service-name': name,
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
      },
      ...(uid === undefined
        ? {}
        : { ownerReferences: [{ apiVersion: 'v1', kind: 'Service', name, uid, controller: true }] }),
    },
    addressType: 'IPv4',
    endpoints: chosen.map((pod) => ({
      addresses: [pod.address],
      conditions: { ready: pod.ready && !pod.terminating, serving: pod.ready, terminating: pod.terminating },
      nodeName: pod.node,
      zone: pod.zone,
      targetRef: { kind: 'Pod', name: pod.name, namespace: pod.namespace, uid: pod.uid },
    })),
    ports: ports.map((port) => ({ name: port.name ?? '', port: targetPort(port, chosen), protocol: 'TCP' })),
  };
};
