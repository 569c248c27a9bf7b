/** The facts of `isthmus status`, read off the parts of a controller; what was decided is laid over them. */
import type { Config } from '../config/controller.ts';
import type { Clock } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { ProxyReport, StatusReport } from '../core/report.ts';
import type { Plan } from '../failover/plan.ts';
import type { View } from '../federation/view.ts';
import type { EtcdStore } from '../store/etcd.ts';
import { version } from '../version.ts';
import type { Cluster, ProblemOf } from './cluster.ts';
import type { MemberKeys } from './keys.ts';
import { membershipProblems, membershipReport } from './membership.ts';
import type { Publishing } from './publishing.ts';
import type { Records } from './records.ts';
import { buildStatus } from './status.ts';

export interface FactsOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly store: EtcdStore;
  readonly records: Records;
  readonly publishing: Publishing;
  readonly cluster: Cluster;
  readonly view: () => View;
  readonly plan: () => Plan;
  readonly proxies: () => ProxyReport[];
  readonly problemOf: ProblemOf;
  readonly savedAge: () => number | null;
  readonly problems: () => readonly IsthmusError[];
  readonly keys: MemberKeys;
}

export const facts = (o: FactsOptions): StatusReport => {
  const { config, clock, store, records, publishing, cluster } = o;
  const seen = store.status();
  const membership = membershipReport(o.keys.about());
  const readBack = publishing.readBackMs() ?? records.readBackMs();
  const report = buildStatus({
    identity: { clusterset: config.clusterset, member: config.member, replica: config.replica, version },
    nowMs: clock.monotonicMs(),
    silenceMs: config.publish.silenceMs,
    writer: publishing.leading,
    store: {
      connected: seen.connected,
      endpoint: seen.endpoint ?? '',
      version: seen.version ?? '',
      revision: String(seen.revision),
      reason: seen.reason,
      readBackSeconds: readBack === null ? null : readBack / 1000,
    },
    saved: { ageSeconds: o.savedAge(), servingFromDisk: records.fromDisk },
    kubernetes: { staleSeconds: Math.max(0, ...Object.values(cluster.staleMs())) / 1000, pending: cluster.pending() },
    gatewayHealth: new Map(cluster.gatewayPods().map(({ name }) => [name, cluster.liveness.health.get(name) ?? false])),
    roundTrips: publishing.roundTrips(),
    local: cluster.local,
    problemOf: o.problemOf,
    view: o.view(),
    plan: o.plan(),
    proxies: o.proxies(),
    problems: [
      ...records.problems,
      ...(records.members.get(config.member)?.problems ?? []),
      ...o.problems(),
      ...membershipProblems(membership),
      ...publishing.problems,
    ],
  });
  return { ...report, membership };
};
