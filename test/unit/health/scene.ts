/** A cluster set seen from one cluster, and its steps: what is not told is in order. */
import type { TrafficPolicy } from '../../../src/federation/local.ts';
import type { MemberView, ServiceView, View } from '../../../src/federation/view.ts';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { type Assessment, assess, type HealthState, initialHealth } from '../../../src/health/assess.ts';
import {
  type ControlSignal,
  type GraySignal,
  noSignals,
  type ProbeResult,
  type Signals,
  type TrafficWindow,
} from '../../../src/health/signals.ts';
import { defaultThresholds, type OutlierThresholds, type Thresholds } from '../../../src/health/thresholds.ts';
import { cellKey } from '../../../src/health/verdict.ts';
import { localService } from '../federation/local.ts';
import { someService } from '../records/arbitrary.ts';

/** Suspicion long enough to be seen between two steps. */
const base: Thresholds = { ...defaultThresholds, suspectMs: 1_000 };

export const self = 'us-east';

export const memberView = (name: string, region = name, gateways: readonly string[] = []): MemberView => ({
  member: {
    clusterset: 'demo',
    name,
    sequence: 1n,
    region,
    zone: '',
    network: name,
    addressRanges: [],
    namespaces: ['*'],
    serviceAccounts: [],
    federationCa: new Uint8Array(),
    recordKey: new Uint8Array(),
    notBeforeMs: 0,
    notAfterMs: 1,
  },
  head: { epoch: 10n, sequence: 100n },
  freshAtMs: undefined,
  shuttingDown: false,
  gateways:
    gateways.length === 0
      ? undefined
      : {
          $typeName: 'isthmus.v1.GatewaysRecord',
          gateways: gateways.map((id) => ({
            $typeName: 'isthmus.v1.Gateway',
            id,
            address: '10.9.0.1',
            federationPort: 15028,
            hbonePort: 15008,
            draining: false,
          })),
          account: 'isthmus-system/isthmus-gateway',
          critical: [],
        },
  trust: undefined,
  vantage: undefined,
  services: new Map(),
  problems: [],
});

export interface Service {
  readonly by: readonly string[];
  readonly local?: boolean;
  readonly policy?: Partial<TrafficPolicy>;
}

const noPolicy: TrafficPolicy = {
  consecutive5xxErrors: undefined,
  consecutiveGatewayErrors: undefined,
  intervalMs: undefined,
  baseEjectionTimeMs: undefined,
  maxEjectionPercent: undefined,
  maxConnections: undefined,
};

export const serviceView = (key: string, { by, local = true, policy }: Service): ServiceView => {
  const [namespace = '', name = ''] = key.split('/');
  const remotes = new Map<string, ServiceRecord>(by.map((member) => [member, someService({ namespace, name })]));
  return {
    key,
    namespace,
    name,
    hostname: `${name}.${namespace}.svc.cluster.local`,
    local: local
      ? localService({
          key,
          namespace,
          name,
          trafficPolicy: policy === undefined ? undefined : { ...noPolicy, ...policy },
        })
      : undefined,
    remotes,
    ports: [],
    mode: 'gateway',
    unsupported: undefined,
    conflicts: [],
  };
};

export const viewOf = (members: readonly MemberView[], services: Readonly<Record<string, Service>> = {}): View => ({
  self,
  members: new Map([memberView(self), ...members].map((view) => [view.member.name, view])),
  services: new Map(Object.entries(services).map(([key, service]) => [key, serviceView(key, service)])),
});

export const thresholds = (
  change: Partial<Omit<Thresholds, 'outlier'>> & { outlier?: Partial<OutlierThresholds> } = {},
): Thresholds => ({ ...base, ...change, outlier: { ...base.outlier, ...change.outlier } });

export const probe = (member: string, atMs: number, change: Partial<ProbeResult> = {}): ProbeResult => ({
  member,
  service: undefined,
  atMs,
  ok: true,
  denied: false,
  failedAt: undefined,
  status: undefined,
  ms: 12,
  head: undefined,
  ...change,
});
export const badProbe = (member: string, atMs: number, change: Partial<ProbeResult> = {}): ProbeResult =>
  probe(member, atMs, { ok: false, failedAt: 'tcp', ms: undefined, ...change });

export const traffic = (member: string, atMs: number, change: Partial<TrafficWindow> = {}): TrafficWindow => ({
  member,
  service: undefined,
  atMs,
  windowMs: 1_000,
  tries:
    (change.established ?? 0) + (change.localErrors ?? 0) + (change.gatewayErrors ?? 0) + (change.otherErrors ?? 0),
  established: 0,
  localErrors: 0,
  gatewayErrors: 0,
  otherErrors: 0,
  refused: 0,
  cut: 0,
  connectMsSum: 0,
  ejected: 0,
  gateways: 2,
  ...change,
});

export const gray = (member: string, service: string, atMs: number, ok: boolean): GraySignal => ({
  member,
  service,
  atMs,
  ok,
  detail: ok ? '' : 'status 503',
});

export const talks = (ageMs: number | undefined = 300, change: Partial<ControlSignal> = {}): ControlSignal => ({
  ageMs,
  shuttingDown: false,
  draining: false,
  ...change,
});

export class Scene {
  view: View;
  thresholds: Thresholds;
  state: HealthState = initialHealth();
  last: Assessment | undefined;

  constructor(view: View, of: Thresholds = base) {
    this.view = view;
    this.thresholds = of;
  }

  /** Everybody talks and the store is light, unless told otherwise. */
  step(now: number, signals: Partial<Signals> = {}): Assessment {
    const control = new Map(
      [...this.view.members.keys()].filter((name) => name !== self).map((name) => [name, talks()]),
    );
    for (const [name, signal] of signals.control ?? []) control.set(name, signal);
    const told: Signals = { ...noSignals, readBackMs: 200, ...signals, control };
    const of = { member: this.thresholds, of: () => this.thresholds };
    this.last = assess(this.state, this.view, told, of, now);
    this.state = this.last.state;
    return this.last;
  }

  /** A step a second from `from` to `to`, both of them included. */
  run(from: number, to: number, signals: (now: number) => Partial<Signals> = () => ({})): Assessment {
    for (let now = from; now < to; now += 1_000) this.step(now, signals(now));
    return this.step(to, signals(to));
  }

  member(name: string) {
    return this.last!.verdicts.members.get(name)!;
  }
  cell(service: string, member: string) {
    return this.last!.verdicts.cells.get(cellKey(service, member));
  }
}
