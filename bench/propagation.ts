/**
 * From an endpoint's readiness, changed through one cluster's API server, to the changed resource in the hands of a proxy in another
 * cluster. Real API servers, a real etcd with TLS and synced writes, one controller in each cluster as a process of its own.
 *
 * One process changes and receives, so one clock measures. What counts begins when the API server has answered that the
 * change is made; the time from sending it is shown too, for the API server's share. Changes come at fixed times, whether or not
 * earlier ones have arrived.
 */
import { Agent, request } from 'node:https';
import { fromBinary } from '@bufbuild/protobuf';
import { AddressSchema } from '../src/gen/istio/workload/workload_pb.ts';
import { types } from '../src/xds/resource.ts';
import type { ApiServer } from '../test/real/apiserver.ts';
import type { TestCluster } from '../test/real/controller/cluster.ts';
import { Harness } from '../test/real/controller/harness.ts';
import { eventually } from '../test/real/kube/objects.ts';
import { atMost, type Figure, percentile, shown } from './report.ts';

const namespace = 'shop';
const services = 100;
const endpoints = 3;
const seconds = { slow: 40, fast: 15 } as const;
const aims = { p50: 10, p99: 30 } as const;
const label = { labels: { 'istio.io/global': 'true' } };
const nameOf = (index: number): string => `service-${index}`;
const wait = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs `work` for every index, some at a time. */
const each = async (count: number, work: (index: number) => Promise<unknown>): Promise<void> => {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: 8 }, worker));
};

/** Changes endpoint slices over connections that stay open, as a controller would. */
class Changer {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 16 });
  readonly #api: ApiServer;
  readonly #token: string;

  constructor(api: ApiServer) {
    this.#api = api;
    this.#token = api.kubeConfig.getCurrentUser()?.token ?? '';
  }

  /** Makes the third endpoint ready or not. Resolves when the API server has answered. */
  ready(service: string, ready: boolean): Promise<void> {
    const body = JSON.stringify([{ op: 'replace', path: '/endpoints/2/conditions/ready', value: ready }]);
    const { url, ca } = this.#api;
    return new Promise((resolve, reject) => {
      const call = request(
        `${url}/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices/${service}-1`,
        {
          method: 'PATCH',
          agent: this.#agent,
          ca,
          headers: { authorization: `Bearer ${this.#token}`, 'content-type': 'application/json-patch+json' },
        },
        (response) => {
          response.resume();
          response.on('end', () =>
            response.statusCode === 200
              ? resolve()
              : reject(new Error(`the change was refused: ${response.statusCode}`)),
          );
        },
      );
      call.on('error', reject);
      call.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

const populate = async (east: TestCluster, west: TestCluster): Promise<void> => {
  await each(services, async (i) => {
    const name = nameOf(i);
    await west.objects.service(namespace, name, {}, label);
    await east.objects.service(namespace, name, {}, label);
    const list = [];
    for (let pod = 0; pod < endpoints; pod++) {
      const podName = `${name}-${pod}`;
      list.push({ pod: podName, address: await east.pod(namespace, podName, name), ready: pod < 2 });
    }
    await east.slice(namespace, name, list);
  });
};

interface Change {
  readonly service: string;
  readonly capacity: number;
  readonly sentMs: number;
  madeMs: number | undefined;
  receivedMs: number | undefined;
}

interface Measured {
  /** From the API server's answer; 0 where the resource was faster. */
  readonly made: readonly number[];
  readonly sent: readonly number[];
  readonly lost: number;
  /** In the order in which they were sent. */
  readonly changes: readonly Readonly<Change>[];
}

export class Bench {
  readonly #changer: Changer;
  readonly #ready = new Map<string, number>();
  /** The change under way of each service. */
  readonly #open = new Map<string, Change>();

  constructor(api: ApiServer) {
    this.#changer = new Changer(api);
    for (let i = 0; i < services; i++) this.#ready.set(nameOf(i), 2);
  }

  /** A remote workload came. */
  received(bytes: Uint8Array): void {
    const now = performance.now();
    const { type } = fromBinary(AddressSchema, bytes);
    if (type.case !== 'workload') return;
    const change = this.#open.get(type.value.canonicalName);
    if (change !== undefined && change.capacity === type.value.capacity) change.receivedMs ??= now;
  }

  /** `perSecond` changes a second, spread over all services. */
  async run(perSecond: number, forSeconds: number): Promise<Measured> {
    const count = perSecond * forSeconds;
    const startMs = performance.now();
    const changes: Change[] = [];
    for (let i = 0; i < count; i++) {
      const waitMs = startMs + (i * 1000) / perSecond - performance.now();
      if (waitMs > 0) await wait(waitMs);
      changes.push(this.#change(nameOf(i % services)));
    }
    await eventually('all changes arrived', () => changes.every((c) => c.receivedMs !== undefined), 10_000).catch(
      () => {},
    );
    const whole = changes.filter((c) => c.receivedMs !== undefined && c.madeMs !== undefined);
    return {
      made: whole.map((c) => Math.max(0, c.receivedMs! - c.madeMs!)),
      sent: whole.map((c) => c.receivedMs! - c.sentMs),
      lost: changes.length - whole.length,
      changes,
    };
  }

  close(): void {
    this.#changer.close();
  }

  #change(service: string): Change {
    const capacity = this.#ready.get(service) === 2 ? 3 : 2;
    this.#ready.set(service, capacity);
    const change: Change = { service, capacity, sentMs: performance.now(), madeMs: undefined, receivedMs: undefined };
    this.#open.set(service, change);
    this.#changer.ready(service, capacity === 3).then(
      () => {
        change.madeMs = performance.now();
      },
      (error: Error) => process.stderr.write(`a change was not made: ${error.message}\n`),
    );
    return change;
  }
}

const figures = (rate: string, { made, sent, lost }: Measured): Figure[] => [
  atMost(`propagation p50, ${rate}`, percentile(made, 0.5), 'ms', aims.p50),
  atMost(`propagation p99, ${rate}`, percentile(made, 0.99), 'ms', aims.p99),
  shown(`propagation p50 with the API server's write, ${rate}`, percentile(sent, 0.5), 'ms'),
  shown(`propagation p99 with the API server's write, ${rate}`, percentile(sent, 0.99), 'ms'),
  atMost(`changes that never arrived, ${rate}`, lost, '', 0),
];

/** Sets everything up, and hands over a bench that is ready to run. */
export const withBench = async <T>(use: (bench: Bench, harness: Harness) => Promise<T>): Promise<T> => {
  const harness = await Harness.start({ replicas: 1, set: [] });
  try {
    const [east, west] = [harness.cluster('east'), harness.cluster('west')];
    await populate(east, west);
    await west.pod(namespace, 'client', 'client');
    const proxy = await west.ztunnel(namespace, 'client', 'client');
    const bench = new Bench(east.api);
    proxy.connect(west.first.ports.token);
    await eventually('the proxy knows every remote service', () => {
      const remote = proxy.names(types.address).filter((name) => name.includes('/SplitHorizonWorkload/'));
      return remote.length === services;
    });
    await proxy.quiet(1_000);
    proxy.onResource = (typeUrl, _name, bytes) => {
      if (typeUrl === types.address) bench.received(bytes);
    };
    try {
      return await use(bench, harness);
    } finally {
      bench.close();
      proxy.close();
    }
  } finally {
    await harness.stop();
  }
};

export const run = (): Promise<Figure[]> =>
  withBench(async (bench) => {
    await bench.run(20, 3);
    const slow = await bench.run(1, seconds.slow);
    const fast = await bench.run(100, seconds.fast);
    return [...figures('1 a second', slow), ...figures('100 a second', fast)];
  });
