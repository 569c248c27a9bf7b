/**
 * What a scenario may ask of a lab, and nothing about how a lab is made: today every node and pod is a network namespace, another
 * backend may bring them up in containers. Places and processes are named the way an operator would name them.
 *
 * Time: `at` and call logs are in milliseconds since 1970, from one clock for the whole lab.
 */
import type { CallRecord } from './outcome.ts';

export interface ClusterSpec {
  /** Name of the cluster, and of the member in the cluster set. */
  readonly name: string;
  readonly region: string;
  /** One node is made in each. */
  readonly zones: readonly string[];
}

export type Place =
  | { readonly kind: 'cluster'; readonly cluster: string }
  | { readonly kind: 'pod'; readonly cluster: string; readonly namespace: string; readonly name: string }
  /** All pods with the label `app` of this value. */
  | { readonly kind: 'pods'; readonly cluster: string; readonly namespace: string; readonly app: string }
  | { readonly kind: 'apiserver'; readonly cluster: string }
  /** The federation's etcd member in this cluster's region. */
  | { readonly kind: 'etcd'; readonly cluster: string };

/** A process at a place: `controller`, `gateway`, `envoy`, `ztunnel`, `app`, `etcd`, `kube-apiserver`; all of its processes if absent. */
export interface Target {
  readonly place: Place;
  readonly process?: string;
  /** One process out of several of that name (the Envoys of a gateway): 0, 1… */
  readonly index?: number;
}

export type Fault =
  /** SIGKILL. Lifting starts it again, unless something else did. */
  | { readonly kind: 'kill'; readonly target: Target }
  /** SIGSTOP; lifting sends SIGCONT. */
  | { readonly kind: 'stop'; readonly target: Target }
  /** Silent drop. Without `to`: from and to everybody outside the place. `oneWay`: only what `from` sends is dropped. */
  | { readonly kind: 'partition'; readonly from: Place; readonly to?: Place; readonly oneWay?: boolean }
  /** TCP gets a reset, all else an ICMP error. */
  | { readonly kind: 'refuse'; readonly from: Place; readonly to?: Place }
  | { readonly kind: 'loss'; readonly from: Place; readonly to?: Place; readonly perMyriad: number }
  /** Between places whose traffic crosses the wide area. */
  | {
      readonly kind: 'delay';
      readonly between: readonly [Place, Place];
      readonly oneWayMs: number;
      readonly lossPerMyriad?: number;
    }
  /**
   * All processes of the pod end at once; the API says so `noticedAfterMs` later (default 1000). `silent`: it also answers nothing any
   * more, as when the machine is gone. Lifting makes the pod anew.
   */
  | {
      readonly kind: 'pod-death';
      readonly cluster: string;
      readonly namespace: string;
      readonly name: string;
      readonly noticedAfterMs?: number;
      readonly silent?: boolean;
    }
  /** The apps behind a service answer with this status; `share` of the requests (default all). */
  | {
      readonly kind: 'service-errors';
      readonly cluster: string;
      readonly namespace: string;
      readonly service: string;
      readonly status: number;
      readonly share?: number;
    }
  /** The apps behind a service answer late; `share` of the requests (default all). */
  | {
      readonly kind: 'service-slow';
      readonly cluster: string;
      readonly namespace: string;
      readonly service: string;
      readonly delayMs: number;
      readonly share?: number;
    }
  /** Pods behind a service fail their readiness probe and go on answering; `share` of the pods (default all). */
  | {
      readonly kind: 'unready';
      readonly cluster: string;
      readonly namespace: string;
      readonly service: string;
      readonly share?: number;
    }
  /** The wall clock that a process of ours sees is shifted; its monotonic clock, and TLS, are not. */
  | { readonly kind: 'clock-skew'; readonly target: Target; readonly skewMs: number };

export interface FaultHandle {
  readonly fault: Fault;
  /** When the fault was in place. */
  readonly at: number;
  /** Undoes it. Calling it again does nothing. */
  lift(): Promise<void>;
}

export interface WorkloadSpec {
  readonly namespace: string;
  readonly name: string;
  readonly replicas: number;
  /** Default: the name. */
  readonly serviceAccount?: string;
  /** `server`: answers HTTP behind a Service of its name. `client`: calls others. Default server. */
  readonly kind?: 'server' | 'client';
  /** The Service's port; the app listens on 8080. Default 80. */
  readonly port?: number;
  /** Export the Service to the other clusters: by label, or by a ServiceExport. Default no. */
  readonly exported?: 'label' | 'export';
  /** Of the Service, such as `isthmus.dev/mode`. */
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface LoadSpec {
  readonly namespace: string;
  /** The client workload that calls; its first pod. */
  readonly client: string;
  /** `namespace/name` of the Service called. */
  readonly service: string;
  readonly port?: number;
  /** New connections a second, whether or not earlier ones were answered. */
  readonly perSecond: number;
  /** Connections that are kept open and asked again every `everyMs` (default 100). */
  readonly keep?: number;
  readonly everyMs?: number;
  /** A call without an answer after this is failed. Default 15 s. */
  readonly timeoutMs?: number;
}

export interface Load {
  readonly spec: LoadSpec;
  /** The calls that ended so far, oldest first. */
  calls(): Promise<CallRecord[]>;
  /** How late the client's own timers were at worst since the last time asked, ms: above some tens the figures say nothing. */
  lagMs(): Promise<number>;
  /** Ends the client when its last calls ended, and returns all calls. */
  stop(): Promise<CallRecord[]>;
}

export interface ExecResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface PodInfo {
  readonly namespace: string;
  readonly name: string;
  readonly address: string;
  readonly node: string;
  readonly ready: boolean;
}

export interface ClusterHandle {
  readonly name: string;
  readonly region: string;
  /** Path of an administrator's kubeconfig; it works for programs run with `exec`. */
  readonly kubeconfig: string;
  /** One request to the API server, as administrator: rejects unless it answers 2xx. */
  api<T = Record<string, unknown>>(method: string, path: string, body?: unknown, contentType?: string): Promise<T>;
  /** Creates or changes a workload and waits until its pods are ready. */
  deploy(spec: WorkloadSpec): Promise<void>;
  /** Changes the number of pods: of a workload, `isthmus-system/isthmus-gateway` or `…/isthmus-controller`. Waits. */
  scale(namespace: string, name: string, replicas: number): Promise<void>;
  /** Planned: out of the endpoints, SIGTERM, gone, made anew, ready. */
  restartPod(namespace: string, name: string): Promise<void>;
  pods(namespace?: string): PodInfo[];
  /** Starts calling. */
  load(spec: LoadSpec): Promise<Load>;
  /** Runs a program at this cluster's operator's desk: inside the lab's network, with KUBECONFIG set. */
  exec(argv: readonly string[], timeoutMs?: number): Promise<ExecResult>;
  /** Runs `isthmus` against this cluster. */
  isthmus(args: readonly string[], timeoutMs?: number): Promise<ExecResult>;
  /** HTTP to a port of a pod, from its own node, past every fault of the path. */
  http(namespace: string, pod: string, port: number, path: string): Promise<{ status: number; body: string }>;
  /** What the admin interface of a gateway pod's Envoy (0, 1…) answers to a GET of `path`; rejects unless it is 200. */
  envoy(pod: string, index: number, path: string): Promise<string>;
  /** The log of a process of a pod so far. */
  log(namespace: string, pod: string, process: string): Promise<string>;
}

export interface TimelineEvent {
  readonly at: number;
  readonly what: string;
}

export interface Lab {
  readonly clusters: readonly ClusterHandle[];
  /** The named cluster; throws if there is none. */
  cluster(name: string): ClusterHandle;
  /** Everything that was done to the lab, oldest first. */
  readonly timeline: readonly TimelineEvent[];
  /** Adds a line to the timeline. */
  note(what: string): void;
  now(): number;
  inject(fault: Fault): Promise<FaultHandle>;
  /** `isthmus trust rotate …` at a cluster's desk, and what it wrote into every cluster. */
  rotateTrust(cluster: string, args: readonly string[], timeoutMs?: number): Promise<ExecResult>;
  /** The cluster whose federation etcd member leads, or undefined when none does. */
  storeLeader(): Promise<string | undefined>;
  moveStoreLeader(cluster: string): Promise<void>;
  /** Ends everything and leaves nothing behind. Calling it again does nothing. */
  down(): Promise<void>;
}

export interface LabOptions {
  readonly clusters: readonly ClusterSpec[];
  /** Install Isthmus into the clusters. Default true; without it there are clusters and an etcd, and nobody joined. */
  readonly isthmus?: boolean;
  /** Gateway pods of each cluster. Default 2. */
  readonly gateways?: number;
  /** Controllers of each cluster. Default 2. */
  readonly controllers?: number;
  /** Namespaces that workloads live in, part of the mesh and granted to every member. Default `shop`. */
  readonly namespaces?: readonly string[];
  /** The cluster in which the federation etcd's leader starts. Default: the second, or the only one. */
  readonly storeLeader?: string;
  /** Each cluster with a root certificate of its own. Default: one root. */
  readonly separateRoots?: boolean;
  /** Further configuration of the controllers, merged over the lab's. */
  readonly controllerConfig?: Readonly<Record<string, unknown>>;
  /** Receives progress, a line each. */
  readonly report?: (line: string) => void;
}

/** The three clusters of the scenarios. */
export const threeClusters: readonly ClusterSpec[] = [
  { name: 'us-east', region: 'us-east', zones: ['us-east-a', 'us-east-b'] },
  { name: 'us-west', region: 'us-west', zones: ['us-west-a', 'us-west-b'] },
  { name: 'eu-central', region: 'eu-central', zones: ['eu-central-a', 'eu-central-b'] },
];
