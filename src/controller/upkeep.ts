/** What is done once a second, whatever happens: gauges, what has grown old, what is told of our own head. */
import type { Config } from '../config/controller.ts';
import type { Clock } from '../core/clock.ts';
import { revocationsText } from '../federation/revocation_text.ts';
import type { Metrics } from '../ops/metrics.ts';
import { headToTell, type ToldHead } from '../translate/envoy/head_pace.ts';
import type { Cluster } from './cluster.ts';
import type { Engine } from './engine.ts';
import type { Failover } from './failover.ts';
import { gauge } from './gauges.ts';
import type { MemberKeys } from './keys.ts';
import { gaugeMembership, membershipReport } from './membership.ts';
import type { MeshTrust } from './mesh_trust.ts';
import type { Opening } from './opening.ts';
import type { Publishing } from './publishing.ts';
import type { Records } from './records.ts';
import type { Sensing } from './sensing.ts';

export interface UpkeepOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly engine: Engine;
  readonly cluster: Cluster;
  readonly records: Records;
  readonly publishing: Publishing;
  readonly failover: Failover;
  readonly sensing: Sensing;
  readonly opening: Opening;
  readonly keys: MemberKeys;
  readonly trust: MeshTrust;
  readonly savedAge: () => number | null;
}

const everyMs = 1_000;

/** @returns ends it */
export const startUpkeep = (o: UpkeepOptions): (() => void) => {
  const { config, clock, metrics, engine, cluster, records, publishing, failover, sensing, opening, trust } = o;
  let told: ToldHead | undefined;
  let turn = 0;
  let digest = '';
  let deciding = false;
  const timer = setInterval(() => {
    cluster.recheckEgress();
    gauge(metrics, {
      self: config.member,
      nowMs: clock.monotonicMs(),
      writer: publishing.leading,
      members: records.members,
      verdicts: failover.deciding.verdicts,
      roundTrips: publishing.roundTrips(),
      gatewayHealth: engine.gatewayHealth,
      savedAgeSeconds: o.savedAge(),
      staleMs: cluster.staleMs(),
      denied: cluster.denied().keys(),
      egress: cluster.egress.counts(),
      tables: engine.tables,
      rootEndsAtMs: trust.authority().root.validToDate.getTime(),
      wallMs: clock.wallMs(),
    });
    const about = o.keys.about();
    gaugeMembership(metrics, membershipReport(about), about);
    failover.tick();
    sensing.tick();
    trust.tick();
    // Gateways report to the replica that decides: those that report here look for it.
    if (deciding && !publishing.chosen) opening.serving?.endReports();
    deciding = publishing.chosen;
    const next = headToTell(told, records.federation.seen(config.member), clock.monotonicMs()).told;
    const { revocations } = records.federation;
    if (next !== told || revocations.digest !== digest) {
      const marks = revocations.signed();
      const text = marks.length === 0 ? undefined : revocationsText(revocations.digest, marks, turn++);
      engine.tell({ head: next?.head, revocations: text });
    }
    told = next;
    digest = revocations.digest;
    void opening.open();
  }, everyMs);
  return () => clearInterval(timer);
};
