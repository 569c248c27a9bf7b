/** What this replica says of itself: facts with their ages, from the state that serves traffic, never from a copy made for display. */
import type { IsthmusError } from '../core/errors.ts';
import type { PeerReport, ProblemReport, ProxyReport, ServiceReport, StatusReport } from '../core/report.ts';
import type { Plan } from '../failover/plan.ts';
import { readyOf } from '../failover/scene.ts';
import { capacityReady, capacityTotal } from '../federation/capacity.ts';
import type { LocalCluster } from '../federation/local.ts';
import type { MemberView, ServiceView, View } from '../federation/view.ts';
import type { PeerRoundTrip } from '../probe/rtt.ts';
import type { ProblemOf } from './cluster.ts';

export interface StatusInput {
  readonly identity: {
    readonly clusterset: string;
    readonly member: string;
    readonly replica: string;
    readonly version: string;
  };
  readonly nowMs: number;
  /** A peer without a higher sequence for this long is silent. */
  readonly silenceMs: number;
  readonly writer: boolean;
  readonly store: StatusReport['store'];
  readonly saved: StatusReport['saved'];
  readonly kubernetes: StatusReport['kubernetes'];
  readonly gatewayHealth: ReadonlyMap<string, boolean>;
  /** As this replica measures them. */
  readonly roundTrips: ReadonlyMap<string, PeerRoundTrip>;
  readonly local: LocalCluster;
  readonly problemOf: ProblemOf;
  readonly view: View;
  readonly plan: Plan;
  readonly proxies: readonly ProxyReport[];
  readonly problems: readonly IsthmusError[];
}

export const problemReport = (error: IsthmusError): ProblemReport => ({
  code: error.code,
  message: error.message,
  ...(error.hint === undefined ? {} : { hint: error.hint }),
});

/** Silence counts only while our own records read back: if they do not, it is the store that is dark. */
const controlState = (view: MemberView, input: StatusInput): PeerReport['control']['state'] => {
  if (view.freshAtMs === undefined) return view.head === undefined ? 'never' : 'unknown';
  if (input.nowMs - view.freshAtMs <= input.silenceMs) return 'fresh';
  const readBack = input.store.readBackSeconds;
  return readBack !== null && readBack * 1000 <= input.silenceMs ? 'silent' : 'unknown';
};

const peerReport = (view: MemberView, input: StatusInput): PeerReport => {
  const seen = input.roundTrips.get(view.member.name);
  let ready = 0;
  let total = 0;
  for (const record of view.services.values()) {
    ready += capacityReady(record);
    total += capacityTotal(record);
  }
  return {
    member: view.member.name,
    region: view.member.region,
    network: view.member.network,
    control: {
      state: controlState(view, input),
      ageSeconds: view.freshAtMs === undefined ? null : (input.nowMs - view.freshAtMs) / 1000,
      epoch: String(view.head?.epoch ?? 0n),
      sequence: String(view.head?.sequence ?? 0n),
      shuttingDown: view.shuttingDown,
    },
    data: {
      state: seen === undefined ? 'unknown' : seen.reachable ? 'reachable' : 'unreachable',
      rttMs: seen?.estimate?.srttMs ?? null,
      gateways: view.gateways?.gateways.length ?? 0,
    },
    ...(view.trust !== undefined && {
      trust: { roots: view.trust.roots.length, registered: (view.member.trustRoots?.length ?? 0) > 0 },
    }),
    services: view.services.size,
    capacity: { ready, total },
    problems: view.problems.map(problemReport),
  };
};

const servingOf = (service: ServiceView, localReady: number, plan: Plan): string => {
  const local = service.local === undefined ? false : localReady > 0;
  if (local) return 'local';
  const cells = plan.services.get(service.key);
  const first = cells?.tiers[0];
  if (cells === undefined || first === undefined) return 'nobody';
  return cells.usable ? first.map((c) => c.member).join(' + ') : 'nobody ready';
};

const notImported = (key: string, { view }: StatusInput): Pick<ServiceReport, 'notImported'> => {
  const members = view.notImported?.get(key);
  return members === undefined ? {} : { notImported: members };
};

/** A service that others have, and this cluster neither has nor imports. */
const foreignReport = (service: string, input: StatusInput): ServiceReport => ({
  service,
  mode: 'gateway',
  exported: false,
  ...notImported(service, input),
  local: { ready: 0, total: 0 },
  remotes: [],
  serving: 'nobody',
  problems: [],
});

const serviceReport = (service: ServiceView, input: StatusInput): ServiceReport => {
  const local = readyOf(service.local);
  const tiers = input.plan.services.get(service.key)?.tiers ?? [];
  const problem = input.problemOf(service.key);
  const tierOf = (member: string): number => {
    const at = tiers.findIndex((tier) => tier.some((cell) => cell.member === member));
    return at < 0 ? tiers.length : at;
  };
  return {
    service: service.key,
    mode: service.mode,
    exported: service.local?.exported !== undefined,
    ...(service.local?.exported?.to && { exportedTo: service.local.exported.to }),
    ...notImported(service.key, input),
    local,
    remotes: [...service.remotes]
      .map(([member, record]) => ({
        member,
        tier: tierOf(member),
        ready: capacityReady(record),
        total: capacityTotal(record),
      }))
      .sort((a, b) => a.tier - b.tier || (a.member < b.member ? -1 : 1)),
    serving: servingOf(service, local.ready, input.plan),
    problems: [
      ...(problem === undefined ? [] : [{ code: problem.code, message: problem.message }]),
      ...(service.unsupported === undefined || problem !== undefined ? [] : [problemReport(service.unsupported)]),
      ...service.conflicts.map((c) => ({ code: 'service/conflict', message: c.message })),
    ],
  };
};

export const buildStatus = (input: StatusInput): StatusReport => ({
  apiVersion: 'isthmus.dev/v1',
  kind: 'Status',
  ...input.identity,
  writer: input.writer,
  store: input.store,
  saved: input.saved,
  kubernetes: input.kubernetes,
  gateways: [...input.gatewayHealth]
    .map(([pod, healthy]) => ({ pod, healthy }))
    .sort((a, b) => (a.pod < b.pod ? -1 : 1)),
  peers: [...input.view.members.values()]
    .filter((m) => m.member.name !== input.view.self)
    .sort((a, b) => (a.member.name < b.member.name ? -1 : 1))
    .map((m) => peerReport(m, input)),
  services: [...new Set([...input.view.services.keys(), ...(input.view.notImported?.keys() ?? [])])]
    .sort()
    .flatMap((key) => {
      const service = input.view.services.get(key);
      if (service === undefined) return [foreignReport(key, input)];
      const { remotes, local } = service;
      const told = local?.exported !== undefined || input.local.problems.has(key) || input.view.notImported?.has(key);
      return remotes.size > 0 || told ? [serviceReport(service, input)] : [];
    }),
  proxies: input.proxies,
  problems: [
    ...input.problems.map(problemReport),
    ...input.local.policies.map((p) => ({
      code: 'policy/untranslatable',
      message: `${p.kind} ${p.namespace}/${p.name} cannot be translated`,
      hint: 'remove it, or run Isthmus beside istiod',
    })),
  ],
});
