/**
 * The controller's reading half as a process of its own: store → federation → plan → resources of both tables, as in a real
 * controller, with a local cluster of made-up services. Prints one line of JSON when the tables are complete, then, told so
 * on stdin, saves its state.
 */
import { createPublicKey } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { Engine } from '../src/controller/engine.ts';
import { Records } from '../src/controller/records.ts';
import { defaultPolicies } from '../src/failover/policy.ts';
import { initialState, step } from '../src/failover/step.ts';
import type { LocalCluster, LocalService } from '../src/federation/local.ts';
import { ViewKeeper } from '../src/federation/view_keeper.ts';
import { noSignals } from '../src/health/signals.ts';
import { realClock } from '../src/ops/clock.ts';
import { openMetrics } from '../src/ops/metrics.ts';
import { connectStore } from '../src/store/etcd.ts';
import { types } from '../src/xds/resource.ts';
import { memberName, serviceName } from './population.ts';

interface Task {
  readonly clusterset: string;
  readonly services: number;
  readonly members: number;
  readonly authority: string;
  readonly endpoint: string;
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly saved: string;
  readonly from: 'store' | 'disk';
}

const task = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as Task;
const start = performance.now();

const localService = (index: number): LocalService => ({
  key: `shop/${serviceName(index)}`,
  namespace: 'shop',
  name: serviceName(index),
  type: 'ClusterIP',
  clusterIPs: [`10.96.${Math.floor(index / 250)}.${1 + (index % 250)}`],
  headless: false,
  sessionAffinity: false,
  ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
  labels: {},
  annotations: {},
  endpoints: [],
  exported: { by: 'label', sinceMs: 1_700_000_000_000 },
  mode: 'gateway',
  trafficPolicy: undefined,
});
const local: LocalCluster = {
  services: new Map(Array.from({ length: task.services }, (_, i) => [`shop/${serviceName(i)}`, localService(i)])),
  pods: new Map(),
  nodes: new Map(),
  problems: new Map(),
  policies: [],
  failoverPolicies: new Map(),
};

const self = memberName(0);
const keeper = new ViewKeeper({ self, clusterDomain: 'cluster.local' });
let decisions = initialState();
const pem = { chain: 'chain', key: 'key' };
let reported = false;
const engine: Engine = new Engine({
  self,
  keeper,
  decide: (view) => {
    const decided = step(decisions, view, noSignals, defaultPolicies, performance.now(), Math.random);
    decisions = decided.state;
    return decided;
  },
  ztunnel: {
    clusterId: self,
    network: 'net-0',
    trustDomain: 'cluster.local',
    clusterDomain: 'cluster.local',
    namespace: 'isthmus-system',
    gatewayService: 'isthmus-egress',
  },
  gateway: {
    trustDomain: 'cluster.local',
    binding: { address: '0.0.0.0', egressPort: 15018, federationPort: 15028, hbonePort: 15008, podPort: 15008 },
  },
  schedule: (run) => setImmediate(run),
  local: () => local,
  members: () => records.members,
  clock: realClock,
  onResources: () => setImmediate(report),
});
const records: Records = new Records({
  federation: {
    clusterset: task.clusterset,
    self,
    trustDomain: 'cluster.local',
    authorityKey: createPublicKey(task.authority),
  },
  store: connectStore({
    endpoints: [task.endpoint],
    ca: Buffer.from(task.tls.ca),
    cert: Buffer.from(task.tls.cert),
    key: Buffer.from(task.tls.key),
    clock: realClock,
    log: () => {},
  }),
  clock: realClock,
  log: () => {},
  metrics: openMetrics('bench'),
  onChange: (change) => engine.markRecords(change),
});

const complete = (): boolean => {
  if (records.members.size < task.members) return false;
  for (const view of records.members.values()) if (view.services.size < task.services) return false;
  return engine.plan.services.size === task.services;
};
function report(): void {
  if (reported || !complete()) return;
  reported = true;
  const ms = performance.now() - start;
  globalThis.gc?.();
  const counts = Object.fromEntries(
    [...engine.tables.ztunnel.counts(), ...engine.tables.gateway.counts()].map((c) => [c.typeUrl, c.resources]),
  );
  process.stdout.write(
    `${JSON.stringify({ ms, rssMb: process.memoryUsage.rss() / 2 ** 20, heapMb: process.memoryUsage().heapUsed / 2 ** 20, addresses: counts[types.address], clusters: counts[types.cluster], services: engine.plan.services.size })}\n`,
  );
}

engine.setSecrets({ mesh: pem, federation: pem, meshRoots: 'roots', tradedRoots: 'roots' });
if (task.from === 'disk') records.restore(readFileSync(task.saved));
else records.start();
engine.markLocal({ services: new Set(), pods: new Set(), policies: false, failoverPolicies: false });

process.stdin.on('data', () => {
  const begin = performance.now();
  writeFileSync(task.saved, Buffer.concat([...records.federation.save(records.times())]));
  process.stdout.write(`${JSON.stringify({ savedMs: performance.now() - begin })}\n`);
  process.exit(0);
});
