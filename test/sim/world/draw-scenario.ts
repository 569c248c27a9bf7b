/**
 * A seed's scenario. Everything is drawn, sizes and moods too ("swarm"): a run in which all faults happen at once finds other things
 * than one in which only etcd suffers.
 */
import { Draw } from './draw.ts';
import { type Fault, type FaultKind, hostileActs } from './fault.ts';
import { type PolicyName, policyNames } from './policies.ts';
import { type ClusterSpec, guardedNamespace, manyClusters, type Scenario, type ServiceSpec } from './scenario.ts';

/** A mood is the kinds of faults that a run has. */
const moods: readonly (readonly FaultKind[])[] = [
  ['controller-crash', 'controllers-down', 'controller-stopped', 'clock-jump', 'api-dark'],
  ['etcd-stopped', 'etcd-hung', 'etcd-compacted', 'etcd-dropped', 'etcd-cut', 'etcd-lost', 'etcd-restored'],
  ['path-slow', 'path-lossy', 'controllers-down', 'etcd-cut'],
  ['path-cut', 'path-one-way', 'gateway-cut', 'region-cut', 'path-flapping'],
  ['gateway-down', 'gateways-down', 'cluster-down', 'region-cut'],
  ['pods-unready', 'pods-flapping', 'gray', 'overload'],
  ['drain', 'freeze', 'pods-unready', 'cluster-down'],
  ['hostile', 'etcd-restored', 'controllers-down'],
];

const clusterCount = (draw: Draw): number => {
  const size = draw.next();
  if (size < 0.7) return draw.int(2, 5);
  if (size < 0.95) return draw.int(5, 9);
  return draw.int(10, 24);
};

const drawClusters = (draw: Draw, count: number): ClusterSpec[] => {
  const regions = Math.min(count, draw.int(1, Math.max(2, Math.ceil(count / 2))));
  return Array.from({ length: count }, (_, i) => {
    // The cost of a run grows with the square of its controllers.
    const replicas = draw.chance(0.7) && count <= manyClusters ? 2 : 1;
    return {
      name: `c${i}`,
      region: `r${i < regions ? i : draw.int(0, regions - 1)}`,
      replicas,
      gateways: draw.int(1, 3),
      ppm: Array.from({ length: replicas }, () => draw.int(-300, 300)),
      wallOffsetMs: Array.from({ length: replicas }, () => (draw.chance(0.3) ? draw.int(-300_000, 300_000) : 0)),
    };
  });
};

const drawServices = (draw: Draw, clusters: readonly ClusterSpec[], hostile: string | undefined): ServiceSpec[] => {
  const count = clusters.length > manyClusters ? 1 : clusters.length > 9 ? 2 : draw.int(1, 4);
  return Array.from({ length: count }, (_, i) => {
    const namespace = i > 0 && draw.chance(0.3) ? guardedNamespace : 'shop';
    const able = clusters.filter(({ name }) => namespace !== guardedNamespace || name !== hostile);
    const exporters = able.filter(() => draw.chance(0.75));
    if (exporters.length === 0) exporters.push(draw.pick(able));
    const pods: Record<string, number> = {};
    const load: Record<string, number> = {};
    for (const { name } of exporters) pods[name] = draw.int(1, 6);
    for (const { name } of clusters) if (name in pods || draw.chance(0.5)) load[name] = draw.int(1, 8);
    // Undisturbed, nobody is asked for too much: whoever has no pods may call any one of those that have.
    const homeless = Object.entries(load).reduce((sum, [name, rate]) => sum + (name in pods ? 0 : rate), 0);
    const needed = Object.entries(pods).map(([name, n]) => ((load[name] ?? 0) + homeless) / n);
    const perPod = Math.ceil(Math.max(4, ...needed) * (1.4 + draw.next()));
    return { key: `${namespace}/s${i}`, pods, perPod, load };
  });
};

/** One fault of a kind, without its time; undefined where the world has no place for it. */
const drawFault = (
  kind: FaultKind,
  draw: Draw,
  { clusters, services, hostile }: Pick<Scenario, 'clusters' | 'services' | 'hostile'>,
  atMs: number,
): Fault | undefined => {
  const spec = draw.pick(clusters);
  const cluster = spec.name;
  const others = clusters.filter(({ name }) => name !== cluster);
  const other = others.length === 0 ? spec : draw.pick(others);
  const served = draw.pick(services);
  const exporter = draw.pick(Object.keys(served.pods));
  const service = served.key;
  const when = { atMs, forMs: draw.chance(0.2) ? draw.int(500, 4_000) : draw.int(4_000, 60_000) };
  const replica = draw.int(0, spec.replicas - 1);
  switch (kind) {
    case 'controller-crash':
      return { ...when, kind, cluster, replica, disk: draw.chance(0.8) };
    case 'controller-stopped':
      return { ...when, kind, cluster, replica };
    case 'clock-jump':
      return { ...when, forMs: 0, kind, cluster, replica, ms: draw.int(-7_200_000, 7_200_000) };
    case 'controllers-down':
    case 'api-dark':
    case 'etcd-cut':
    case 'gateways-down':
    case 'cluster-down':
      return { ...when, kind, cluster };
    case 'etcd-stopped':
    case 'etcd-hung':
      return { ...when, kind };
    case 'etcd-compacted':
    case 'etcd-dropped':
    case 'etcd-lost':
      return { ...when, forMs: 0, kind };
    case 'etcd-restored':
      return { ...when, forMs: 0, kind, agoMs: draw.int(1_000, 40_000) };
    case 'path-cut':
      return { ...when, kind, a: cluster, b: other.name };
    case 'path-one-way':
      return { ...when, kind, from: cluster, to: other.name };
    case 'gateway-cut':
      return { ...when, kind, from: cluster, to: other.name, gateway: draw.int(0, other.gateways - 1) };
    case 'region-cut':
      return { ...when, kind, region: spec.region };
    case 'path-slow':
      return { ...when, kind, a: cluster, b: other.name, addMs: draw.int(20, 300) };
    case 'path-lossy':
      return { ...when, kind, a: cluster, b: other.name, loss: draw.int(1, 5) / 100 };
    case 'path-flapping':
      return { ...when, kind, a: cluster, b: other.name, periodMs: draw.int(2_000, 12_000) };
    case 'gateway-down':
      return { ...when, kind, cluster, gateway: draw.int(0, spec.gateways - 1) };
    case 'pods-unready':
      return { ...when, kind, cluster: exporter, service, percent: draw.pick([40, 70, 100, 100]) };
    case 'pods-flapping':
      return { ...when, kind, cluster: exporter, service, periodMs: draw.int(2_000, 12_000) };
    case 'gray':
      return { ...when, kind, cluster: exporter, service, percent: draw.pick([50, 80, 100]) };
    case 'overload':
      return { ...when, kind, cluster, service, factor: draw.int(2, 6) };
    case 'drain':
      return { ...when, kind, at: cluster, member: other.name, service: draw.chance(0.5) ? service : undefined };
    case 'freeze':
      return { ...when, kind, at: cluster };
    case 'hostile':
      return hostile === undefined ? undefined : { ...when, kind, act: draw.pick(hostileActs) };
  }
};

/** What the seed is not asked for. */
export interface Wanted {
  /** So many clusters. */
  readonly clusters?: number | undefined;
  readonly kinds?: readonly FaultKind[] | undefined;
  readonly policy?: PolicyName | undefined;
}

export const drawScenario = (seed: number, wanted: Wanted = {}): Scenario => {
  const root = new Draw(seed);
  const clusters = drawClusters(root.fork('clusters'), wanted.clusters ?? clusterCount(root.fork('size')));
  const mood = root.fork('mood');
  const count = mood.pick([1, 1, 1, 2, 2, 3, moods.length]);
  const drawn = Array.from({ length: count }, () => mood.pick(moods)).flat();
  const kinds = wanted.kinds ?? drawn;
  const hostile = kinds.includes('hostile') && clusters.length > 2 ? clusters.at(-1)!.name : undefined;
  const services = drawServices(root.fork('services'), clusters, hostile);
  const calmMs = 25_000;
  const safetyMs = calmMs + mood.int(30_000, 120_000);
  const faults: Fault[] = [];
  const draw = root.fork('faults');
  const number = mood.int(1, mood.chance(0.5) ? 4 : 12);
  for (let i = 0; i < number; i++) {
    const atMs = draw.int(calmMs, safetyMs - 5_000);
    const fault = drawFault(draw.pick(kinds), draw.fork(`fault ${i}`), { clusters, services, hostile }, atMs);
    if (fault === undefined) continue;
    faults.push({ ...fault, forMs: Math.min(fault.forMs, safetyMs - atMs) });
  }
  return {
    seed,
    clusters,
    services,
    policy: wanted.policy ?? root.fork('policy').pick([...policyNames, 'quick', 'quick', 'declared']),
    etcdRegion: root.fork('etcd').pick(clusters).region,
    hostile,
    calmMs,
    safetyMs,
    faults: faults.sort((a, b) => a.atMs - b.atMs),
  };
};
