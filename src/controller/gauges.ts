/** The gauges that follow from the status, set once a second. */
import type { StatusReport } from '../core/report.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { ResourceTable } from '../xds/table.ts';

const perPeer = [
  'isthmus_peer_manifest_age_seconds',
  'isthmus_peer_round_trip_seconds',
  'isthmus_peer_reachable',
  'isthmus_peer_services',
] as const;

export const gauge = (
  metrics: Metrics,
  status: StatusReport,
  tables: Readonly<Record<string, ResourceTable>>,
): void => {
  for (const name of perPeer) metrics.reset(name);
  for (const peer of status.peers) {
    const labels = { peer: peer.member };
    if (peer.control.ageSeconds !== null)
      metrics.set('isthmus_peer_manifest_age_seconds', peer.control.ageSeconds, labels);
    if (peer.data.rttMs !== null) metrics.set('isthmus_peer_round_trip_seconds', peer.data.rttMs / 1000, labels);
    if (peer.data.state !== 'unknown')
      metrics.set('isthmus_peer_reachable', peer.data.state === 'reachable' ? 1 : 0, labels);
    metrics.set('isthmus_peer_services', peer.services, labels);
  }
  metrics.set('isthmus_gateway_pod_healthy', status.gateways.filter((g) => g.healthy).length);
  if (status.saved.ageSeconds !== null) metrics.set('isthmus_state_age_seconds', status.saved.ageSeconds);
  metrics.set('isthmus_kube_watch_staleness_seconds', status.kubernetes.staleSeconds, { kind: 'any' });
  for (const table of Object.values(tables)) {
    for (const { typeUrl, resources } of table.counts()) {
      metrics.set('isthmus_xds_resources', resources, { type: typeUrl.slice(typeUrl.lastIndexOf('.') + 1) });
    }
  }
};
