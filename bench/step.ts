/**
 * What a decision costs: one step of 100 clusters that all export the same 1,000 services, the worst case, as one of them makes it.
 *
 * `all` is a step that has to look at everything (as after a restart, and when a cluster is lost that has a share of every
 * service); `one` is a step after one endpoint's change. Both with the verdicts, and in a state in which some clusters are
 * already out, for a healthy set has less to look at.
 */
import { create } from '@bufbuild/protobuf';
import { defaultPolicies } from '../src/failover/policy.ts';
import { decodeState, encodeState } from '../src/failover/saved.ts';
import { type FailoverState, initialState, type Step, step } from '../src/failover/step.ts';
import type { LocalService } from '../src/federation/local.ts';
import { mergeService } from '../src/federation/merge.ts';
import type { MemberView, ServiceView, View } from '../src/federation/view.ts';
import { GatewaysRecordSchema, type ServiceRecord, ServiceRecordSchema } from '../src/gen/isthmus/v1/records_pb.ts';
import { type ControlSignal, noSignals, type ProbeResult, type Signals } from '../src/health/signals.ts';
import { memberName, serviceName } from './population.ts';
import { atMost, type Figure, figureTable, percentile, shown } from './report.ts';

const members = Number(process.env['ISTHMUS_BENCH_MEMBERS'] ?? 100);
const services = Number(process.env['ISTHMUS_BENCH_SERVICES'] ?? 1_000);
const self = memberName(0);
const rounds = 15;
const singles = 300;

const region = (index: number): string => `region-${index % 10}`;

const record = (service: number, member: number, ready: number): ServiceRecord =>
  create(ServiceRecordSchema, {
    namespace: 'shop',
    name: serviceName(service),
    hostname: `${serviceName(service)}.shop.svc.cluster.local`,
    ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
    accounts: [`shop/${serviceName(service)}`],
    capacity: [{ locality: { region: region(member), zone: '', subzone: '' }, ready, total: 3 }],
    exportedMs: 1_700_000_000_000n,
  });

const memberView = (index: number): MemberView => ({
  member: {
    clusterset: 'bench',
    name: memberName(index),
    sequence: 1n,
    region: region(index),
    zone: '',
    network: `net-${index}`,
    addressRanges: [],
    namespaces: ['*'],
    serviceAccounts: [],
    federationCa: new Uint8Array(),
    recordKey: new Uint8Array(),
    notBeforeMs: 0,
    notAfterMs: 4_000_000_000_000,
  },
  head: undefined,
  freshAtMs: undefined,
  shuttingDown: false,
  gateways: create(GatewaysRecordSchema, {
    gateways: [{ id: 'gw-0', address: `10.0.${index}.1`, federationPort: 15028, hbonePort: 15008, draining: false }],
    account: 'isthmus-system/isthmus-gateway',
  }),
  trust: undefined,
  vantage: undefined,
  services: new Map(),
  problems: [],
});

const localService = (service: number, ready: number): LocalService => ({
  key: `shop/${serviceName(service)}`,
  namespace: 'shop',
  name: serviceName(service),
  type: 'ClusterIP',
  clusterIPs: ['10.96.0.1'],
  headless: false,
  sessionAffinity: false,
  ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
  labels: {},
  annotations: {},
  endpoints: Array.from({ length: 3 }, (_, i) => ({
    address: `10.1.0.${i}`,
    pod: undefined,
    ready: i < ready,
    serving: i < ready,
    terminating: false,
    ports: new Map([[80, 8080]]),
  })),
  exported: { by: 'label', sinceMs: 1_700_000_000_000 },
  mode: 'gateway',
  trafficPolicy: undefined,
});

class Set100 {
  readonly members = new Map(Array.from({ length: members }, (_, i) => [memberName(i), memberView(i)]));
  readonly views = new Map<string, ServiceView>();
  readonly #records = new Map<string, Map<string, ServiceRecord>>();
  now = 1_000_000;
  /** Members whose gateways do not answer. */
  dead = new Set<string>();

  constructor() {
    for (let s = 0; s < services; s++) {
      const of = new Map<string, ServiceRecord>();
      for (let m = 1; m < members; m++) of.set(memberName(m), record(s, m, 1 + ((s + m) % 3)));
      this.#records.set(`shop/${serviceName(s)}`, of);
      this.#merge(s);
    }
  }
  get view(): View {
    return { self, members: this.members, services: this.views };
  }
  #merge(service: number): void {
    const key = `shop/${serviceName(service)}`;
    const context = { self, clusterDomain: 'cluster.local' };
    this.views.set(key, mergeService(key, localService(service, 3), this.#records.get(key)!, context)!);
  }
  /** As after a restart: no view is one that a step has seen. */
  mergeAnew(): void {
    for (let s = 0; s < services; s++) this.#merge(s);
  }
  /** One endpoint of one service at one member comes or goes. */
  change(service: number, member: number, ready: number): void {
    this.#records.get(`shop/${serviceName(service)}`)!.set(memberName(member), record(service, member, ready));
    this.#merge(service);
  }
  signals(probed: readonly string[]): Signals {
    const control = new Map<string, ControlSignal>();
    for (const name of this.members.keys()) {
      if (name !== self) control.set(name, { ageMs: 300, shuttingDown: false, draining: false });
    }
    const probes = probed.map((member): ProbeResult => {
      const ok = !this.dead.has(member);
      return {
        member,
        service: undefined,
        atMs: this.now,
        ok,
        denied: false,
        failedAt: ok ? undefined : 'tcp',
        status: undefined,
        ms: ok ? 5 : undefined,
        head: undefined,
      };
    });
    return { ...noSignals, control, readBackMs: 300, probes };
  }
}

interface Timed {
  readonly made: Step;
  readonly ms: number;
}

const timed = (set: Set100, state: FailoverState, probed: readonly string[] = []): Timed => {
  const signals = set.signals(probed);
  const start = performance.now();
  const made = step(state, set.view, signals, defaultPolicies, set.now, Math.random);
  return { made, ms: performance.now() - start };
};

const must = <T>(result: { ok: true; value: T } | { ok: false; error: Error }): T => {
  if (!result.ok) throw result.error;
  return result.value;
};

export const run = async (): Promise<readonly Figure[]> => {
  const set = new Set100();
  const names = [...set.members.keys()].filter((name) => name !== self);
  let state = timed(set, initialState()).made.state;
  // A few members are lost, so that every service has cells that are out.
  for (const name of names.slice(0, 5)) set.dead.add(name);
  for (let second = 0; second < 20; second++) {
    set.now += 1_000;
    state = timed(set, state, names).made.state;
  }
  const cold: number[] = [];
  const bytes = encodeState(state);
  for (let i = 0; i < rounds; i++) {
    set.mergeAnew();
    cold.push(timed(set, must(decodeState(bytes))).ms);
  }
  const one: number[] = [];
  for (let i = 0; i < singles; i++) {
    set.now += 20;
    set.change((i * 7) % services, 6 + (i % (members - 6)), 1 + (i % 3));
    const { made, ms } = timed(set, state);
    if (made.changed.size > 1) throw new Error(`one change made ${made.changed.size} plans anew`);
    state = made.state;
    one.push(ms);
  }
  const lost: number[] = [];
  for (const name of names.slice(10, 10 + rounds)) {
    set.dead.add(name);
    for (let second = 0; second < 8; second++) {
      set.now += 1_000;
      const { made, ms } = timed(set, state, names);
      state = made.state;
      if (made.changed.size === services) lost.push(ms);
    }
  }
  const idle: number[] = [];
  for (let i = 0; i < singles; i++) {
    set.now += 20;
    const { made, ms } = timed(set, state);
    state = made.state;
    idle.push(ms);
  }
  const start = performance.now();
  const saved = encodeState(state);
  const encodeMs = performance.now() - start;
  return [
    atMost('step.all', percentile(cold, 0.5), 'ms', 50),
    shown('step.all.worst', Math.max(...cold), 'ms'),
    atMost('step.member lost', percentile(lost, 0.5), 'ms', 50),
    atMost('step.one change', percentile(one, 0.5), 'ms', 1),
    shown('step.one change.p99', percentile(one, 0.99), 'ms'),
    shown('step.nothing', percentile(idle, 0.5), 'ms'),
    shown('step.state', saved.length / 2 ** 20, 'MiB'),
    shown('step.state.encode', encodeMs, 'ms'),
  ];
};

if (import.meta.main) process.stdout.write(`${figureTable(await run())}\n`);
