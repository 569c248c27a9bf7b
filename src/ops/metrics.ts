/**
 * Every metric, in one table: name, help, kind, labels. docs/METRICS.md names each (a test compares). Never a label per pod
 * or per service: a cluster set has thousands. Base units, `_total` for counters.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export const metricTable = {
  isthmus_build_info: { kind: 'gauge', help: 'Always 1; the version is a label.', labels: ['version'] },
  isthmus_store_connected: { kind: 'gauge', help: 'Whether the store answers this replica.', labels: [] },
  isthmus_store_events_total: { kind: 'counter', help: 'Keys changed as seen by the watch.', labels: [] },
  isthmus_store_snapshots_total: { kind: 'counter', help: 'Full states read, by reason.', labels: ['reason'] },
  isthmus_store_gateway_connected: {
    kind: 'gauge',
    help: 'At a store gateway: whether its etcd answers, so that members can write.',
    labels: [],
  },
  isthmus_store_gateway_certificate_remaining_seconds: {
    kind: 'gauge',
    help: 'At a store gateway: until its own certificates end: `etcd` (as a client) and `serving`. Nobody renews them by itself.',
    labels: ['of'],
  },
  isthmus_store_gateway_writes_total: {
    kind: 'counter',
    help: 'At a store gateway: writes of a member, by result: `written`, `lost` (a comparison failed) or `refused`.',
    labels: ['member', 'result'],
  },
  isthmus_store_gateway_refused_total: {
    kind: 'counter',
    help: 'At a store gateway: calls refused, by member (empty: nobody was proven) and code.',
    labels: ['member', 'code'],
  },
  isthmus_store_gateway_held_seconds_total: {
    kind: 'counter',
    help: 'At a store gateway: time for which writes of a member were held back for their rate.',
    labels: ['member'],
  },
  isthmus_store_gateway_certificates_total: {
    kind: 'counter',
    help: 'At a store gateway: client certificates for etcd issued to a member.',
    labels: ['member'],
  },
  isthmus_store_gateway_keys: {
    kind: 'gauge',
    help: 'At a store gateway: keys of a member in the store.',
    labels: ['member'],
  },
  isthmus_store_gateway_bytes: {
    kind: 'gauge',
    help: 'At a store gateway: bytes of a member in the store, as its quota counts them.',
    labels: ['member'],
  },
  isthmus_writer: { kind: 'gauge', help: 'Whether this replica writes the records of its member.', labels: [] },
  isthmus_publish_total: { kind: 'counter', help: 'Transactions of records, by result.', labels: ['result'] },
  isthmus_publish_records: { kind: 'gauge', help: 'Records that this member publishes.', labels: [] },
  isthmus_publish_held_back: {
    kind: 'gauge',
    help: 'Records that should be published and are not, because a store gateway refuses more of this member: its quota or its rate.',
    labels: [],
  },
  isthmus_peer_manifest_age_seconds: {
    kind: 'gauge',
    help: 'Time since the peer’s sequence last rose.',
    labels: ['peer'],
  },
  isthmus_peer_round_trip_seconds: {
    kind: 'gauge',
    help: 'Smoothed round trip to the peer’s gateways.',
    labels: ['peer'],
  },
  isthmus_peer_reachable: { kind: 'gauge', help: 'Whether a gateway of the peer answers.', labels: ['peer'] },
  isthmus_peer_services: { kind: 'gauge', help: 'Services that the peer exports.', labels: ['peer'] },
  isthmus_peer_store_connected: {
    kind: 'gauge',
    help: 'Whether the store of a member that has its own is read.',
    labels: ['peer'],
  },
  isthmus_peer_frozen: {
    kind: 'gauge',
    help: 'Whether the peer changes more than it may, and is frozen at its last good state.',
    labels: ['peer'],
  },
  isthmus_record_refused_total: {
    kind: 'counter',
    help: 'Records, manifests or memberships refused.',
    labels: ['peer', 'code'],
  },
  isthmus_revocations_learnt_total: {
    kind: 'counter',
    help: 'Marks of revocation that a peer’s gateway told and the store did not: something keeps them from this cluster.',
    labels: ['peer'],
  },
  isthmus_membership_remaining_seconds: {
    kind: 'gauge',
    help: 'Until a membership ends; nothing new is admitted then, and a day later nothing is used.',
    labels: ['peer'],
  },
  isthmus_members_revoked: {
    kind: 'gauge',
    help: 'Members that were put out, as far as this controller knows.',
    labels: [],
  },
  isthmus_keys_age_seconds: { kind: 'gauge', help: 'Age of the record key and federation CA in use.', labels: [] },
  isthmus_keys_number: { kind: 'gauge', help: 'How often these keys were replaced since the membership.', labels: [] },
  isthmus_keys_late: {
    kind: 'gauge',
    help: 'Whether new keys are overdue, or were announced and are still not in use.',
    labels: [],
  },
  isthmus_keys_waiting: {
    kind: 'gauge',
    help: 'Live peers that have not said that they know the announced keys.',
    labels: [],
  },
  isthmus_federation_ca_remaining_seconds: { kind: 'gauge', help: 'Until the federation CA in use ends.', labels: [] },
  isthmus_etcd_certificate_remaining_seconds: {
    kind: 'gauge',
    help: 'Until the client certificate for etcd ends; a store gateway with the CA’s key renews it, or people do.',
    labels: [],
  },
  isthmus_mesh_root_remaining_seconds: {
    kind: 'gauge',
    help: 'Until the root ends in which this cluster’s workload certificates end.',
    labels: [],
  },
  isthmus_trust_roots: {
    kind: 'gauge',
    help: 'Roots in a member’s bundle: more than one in a rotation.',
    labels: ['peer'],
  },
  isthmus_trust_root_lacking: {
    kind: 'gauge',
    help: 'Proxies of a member that lack a root they should have, at most of one root; our own member too.',
    labels: ['peer'],
  },
  isthmus_trust_old_root_in_use: {
    kind: 'gauge',
    help: 'Certificates of a member in use under a root that no longer issues; our own member too.',
    labels: ['peer'],
  },
  isthmus_mesh_revocation_lists: {
    kind: 'gauge',
    help: 'Revocation lists in force from `ca-crl.pem`, one of each CA.',
    labels: [],
  },
  isthmus_mesh_revocation_lists_refused: {
    kind: 'gauge',
    help: 'Whether `ca-crl.pem` is refused as it stands, and the last good lists are in use.',
    labels: [],
  },
  isthmus_xds_streams: { kind: 'gauge', help: 'Connected proxies, by role.', labels: ['role'] },
  isthmus_xds_resources: { kind: 'gauge', help: 'Resources served, by type.', labels: ['type'] },
  isthmus_xds_pushes_total: { kind: 'counter', help: 'Responses sent, by type.', labels: ['type'] },
  isthmus_xds_nacks_total: { kind: 'counter', help: 'Resources that proxies rejected, by type.', labels: ['type'] },
  isthmus_xds_denied_total: { kind: 'counter', help: 'Streams or requests denied, by code.', labels: ['code'] },
  isthmus_certificates_total: { kind: 'counter', help: 'Certificate requests, by result.', labels: ['result'] },
  isthmus_kube_watch_staleness_seconds: {
    kind: 'gauge',
    help: 'Time since the API server was last heard, by kind.',
    labels: ['kind'],
  },
  isthmus_kube_kind_denied: {
    kind: 'gauge',
    help: 'Kinds that this controller may not read and goes without: 1.',
    labels: ['kind'],
  },
  isthmus_egress_policies: {
    kind: 'gauge',
    help: 'EgressPolicies: of which a version is in force, and whose newest version is refused.',
    labels: ['state'],
  },
  isthmus_gateway_pod_healthy: { kind: 'gauge', help: 'Local gateway pods that answer.', labels: [] },
  isthmus_state_age_seconds: { kind: 'gauge', help: 'Age of the last good state on disk.', labels: [] },
  isthmus_journal_entries_total: { kind: 'counter', help: 'Entries made durable.', labels: [] },
  isthmus_journal_spooled: { kind: 'gauge', help: 'Entries in memory that wait for the disk.', labels: [] },
  isthmus_journal_errors_total: {
    kind: 'counter',
    help: 'Writes of the journal that failed, and damage that was found in it.',
    labels: ['code'],
  },
  isthmus_audit_entries_total: { kind: 'counter', help: 'Entries of the border audit made durable.', labels: [] },
  isthmus_audit_waiting: { kind: 'gauge', help: 'Entries of the border audit that wait for the disk.', labels: [] },
  isthmus_audit_lost_total: {
    kind: 'counter',
    help: 'Entries of the border audit lost for want of disk and memory.',
    labels: [],
  },
  isthmus_audit_errors_total: {
    kind: 'counter',
    help: 'Writes of the border audit that failed, and damage that was found in it.',
    labels: ['code'],
  },
  isthmus_border_connections_total: {
    kind: 'counter',
    help: 'Connections over the border that ended, or came to nothing, as gateways report them.',
    labels: ['side', 'result'],
  },
  isthmus_border_denied_total: {
    kind: 'counter',
    help: 'Of them, those that got no tunnel, by reason.',
    labels: ['side', 'reason'],
  },
  isthmus_peer_state: {
    kind: 'gauge',
    help: 'The verdict about a peer: 1 for the state that it is in, 0 for the others.',
    labels: ['peer', 'state'],
  },
  isthmus_probes_total: {
    kind: 'counter',
    help: 'Probes of the data path, by peer and where they broke (`ok`: nowhere).',
    labels: ['peer', 'result'],
  },
  isthmus_decisions_total: { kind: 'counter', help: 'Decisions of this replica, by kind.', labels: ['kind'] },
  isthmus_state_beside_store_total: {
    kind: 'counter',
    help: 'While the store is dark: states of decisions that went through the API server, by result: `shipped`, `too-large`, `taken`, `refused`, `failed`.',
    labels: ['result'],
  },
  isthmus_withdrawals_held_total: {
    kind: 'counter',
    help: 'Services that vanished from a peer’s records and were held at first.',
    labels: ['peer'],
  },
  isthmus_failover_detect_seconds: {
    kind: 'histogram',
    help: 'From the first signal against a peer, or a service at one, to the verdict.',
    labels: [],
    buckets: [0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30],
  },
  isthmus_failover_decide_seconds: {
    kind: 'histogram',
    help: 'From the beginning of a step to its decisions in the journal.',
    labels: [],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1],
  },
  isthmus_failover_push_seconds: {
    kind: 'histogram',
    help: 'From a decision that changed resources to the first response with them.',
    labels: [],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1],
  },
  isthmus_failover_ack_seconds: {
    kind: 'histogram',
    help: 'From that response to the moment when every connected gateway has acknowledged these resources.',
    labels: [],
    buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5],
  },
  isthmus_translate_seconds: {
    kind: 'histogram',
    help: 'Time to turn one batch of changes into resources.',
    labels: [],
    buckets: [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
  },
  isthmus_propagation_seconds: {
    kind: 'histogram',
    help: 'From a peer’s records seen to the push of their resources.',
    labels: [],
    buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1],
  },
} as const satisfies Record<
  string,
  { kind: 'gauge' | 'counter' | 'histogram'; help: string; labels: readonly string[]; buckets?: readonly number[] }
>;

export type MetricName = keyof typeof metricTable;
type Labels = Record<string, string>;

export interface Metrics {
  set(name: MetricName, value: number, labels?: Labels): void;
  add(name: MetricName, labels?: Labels, by?: number): void;
  observe(name: MetricName, seconds: number): void;
  /** Forgets all label values of a gauge: for peers that left. */
  reset(name: MetricName): void;
  text(): Promise<string>;
  readonly contentType: string;
}

const gatewayMetric = /^isthmus_(build_info$|store_gateway_)/;
const controllerMetric = /^isthmus_(?!store_gateway_)/;

/** @param program - whose metrics: those of the other would stand there as zeros */
export const openMetrics = (version: string, program: 'controller' | 'store-gateway' = 'controller'): Metrics => {
  const ours = program === 'controller' ? controllerMetric : gatewayMetric;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const made = new Map<string, Gauge | Counter | Histogram>();
  for (const [name, spec] of Object.entries(metricTable)) {
    if (!ours.test(name)) continue;
    const common = { name, help: spec.help, labelNames: [...spec.labels], registers: [registry] };
    if (spec.kind === 'gauge') made.set(name, new Gauge(common));
    else if (spec.kind === 'counter') made.set(name, new Counter(common));
    else made.set(name, new Histogram({ ...common, buckets: [...spec.buckets] }));
  }
  const metrics: Metrics = {
    set: (name, value, labels = {}) => (made.get(name) as Gauge).set(labels, value),
    add: (name, labels = {}, by = 1) => (made.get(name) as Counter).inc(labels, by),
    observe: (name, seconds) => (made.get(name) as Histogram).observe(seconds),
    reset: (name) => (made.get(name) as Gauge).reset(),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
  metrics.set('isthmus_build_info', 1, { version });
  return metrics;
};
