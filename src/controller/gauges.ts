/** The gauges that follow from the state, set once a second: from the state itself, for a status report is dear to make. */
import type { MemberView } from '../federation/view.ts';
import { cellStates, type Verdicts } from '../health/verdict.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { PeerRoundTrip } from '../probe/rtt.ts';
import type { ResourceTable } from '../xds/table.ts';

const perPeer = [
  'isthmus_peer_manifest_age_seconds',
  'isthmus_peer_round_trip_seconds',
  'isthmus_peer_reachable',
  'isthmus_peer_services',
  'isthmus_peer_state',
  'isthmus_peer_frozen',
  'isthmus_trust_roots',
  'isthmus_trust_root_lacking',
  'isthmus_trust_old_root_in_use',
] as const;

export interface GaugeInput {
  readonly self: string;
  readonly nowMs: number;
  readonly writer: boolean;
  readonly members: ReadonlyMap<string, MemberView>;
  readonly verdicts: Verdicts;
  readonly roundTrips: ReadonlyMap<string, PeerRoundTrip>;
  readonly gatewayHealth: ReadonlyMap<string, boolean>;
  readonly savedAgeSeconds: number | null;
  /** Per kind, ms. */
  readonly staleMs: Readonly<Record<string, number>>;
  /** Kinds that we may not read. */
  readonly denied: Iterable<string>;
  readonly egress?: { readonly inForce: number; readonly refused: number };
  readonly tables: Readonly<Record<string, ResourceTable>>;
  /** When the root that this cluster's workload certificates end in ends itself, and wall time now, ms. */
  readonly rootEndsAtMs: number;
  readonly wallMs: number;
}

/** Of our own too: what a rotation of roots waits for, at every member. Nothing where nothing may be concluded yet. */
const gaugeRoots = (metrics: Metrics, peer: string, { loaded, trust }: MemberView): void => {
  const labels = { peer };
  if (trust !== undefined) metrics.set('isthmus_trust_roots', trust.roots.length, labels);
  if (loaded === undefined || loaded.unknown.length > 0) return;
  // The record has the peer's roots too; what lacks one is what a rotation anywhere would wait for.
  metrics.set('isthmus_trust_root_lacking', Math.max(0, ...loaded.roots.map(({ lacking }) => lacking)), labels);
  const old = loaded.roots.reduce((sum, { inUse }) => sum + inUse, 0);
  metrics.set('isthmus_trust_old_root_in_use', old, labels);
};

export const gauge = (metrics: Metrics, input: GaugeInput): void => {
  for (const name of perPeer) metrics.reset(name);
  for (const [peer, view] of input.members) {
    gaugeRoots(metrics, peer, view);
    if (peer === input.self) continue;
    const labels = { peer };
    const trip = input.roundTrips.get(peer);
    if (view.freshAtMs !== undefined)
      metrics.set('isthmus_peer_manifest_age_seconds', (input.nowMs - view.freshAtMs) / 1000, labels);
    if (trip !== undefined) metrics.set('isthmus_peer_reachable', trip.reachable ? 1 : 0, labels);
    if (trip?.estimate !== undefined)
      metrics.set('isthmus_peer_round_trip_seconds', trip.estimate.srttMs / 1000, labels);
    metrics.set('isthmus_peer_services', view.services.size, labels);
    metrics.set('isthmus_peer_frozen', view.frozen === true ? 1 : 0, labels);
    const verdict = input.verdicts.members.get(peer);
    if (verdict !== undefined)
      for (const state of cellStates)
        metrics.set('isthmus_peer_state', state === verdict.state ? 1 : 0, { peer, state });
  }
  metrics.set('isthmus_mesh_root_remaining_seconds', (input.rootEndsAtMs - input.wallMs) / 1_000);
  metrics.set('isthmus_writer', input.writer ? 1 : 0);
  metrics.set('isthmus_gateway_pod_healthy', [...input.gatewayHealth.values()].filter((healthy) => healthy).length);
  if (input.savedAgeSeconds !== null) metrics.set('isthmus_state_age_seconds', input.savedAgeSeconds);
  for (const [kind, ms] of Object.entries(input.staleMs))
    metrics.set('isthmus_kube_watch_staleness_seconds', ms / 1000, { kind });
  metrics.reset('isthmus_kube_kind_denied');
  for (const kind of input.denied) metrics.set('isthmus_kube_kind_denied', 1, { kind });
  if (input.egress !== undefined) {
    metrics.set('isthmus_egress_policies', input.egress.inForce, { state: 'in-force' });
    metrics.set('isthmus_egress_policies', input.egress.refused, { state: 'refused' });
  }
  for (const table of Object.values(input.tables)) {
    for (const { typeUrl, resources } of table.counts()) {
      metrics.set('isthmus_xds_resources', resources, { type: typeUrl.slice(typeUrl.lastIndexOf('.') + 1) });
    }
  }
};
