/**
 * A peer's evidence: what probes, traffic and its own word add to what is known of it. Concludes nothing but what single numbers
 * are; `peer.ts` judges.
 */
import { limits } from '../core/limits.ts';
import type { ManifestHead, MemberView } from '../federation/view.ts';
import { addWindow, settleOutlier } from './outlier.ts';
import { type PeerTraffic, readProbe } from './reading.ts';
import type { ProbeResult } from './signals.ts';
import { own, type PeerHealth } from './state.ts';
import { addOutcome, type Stream } from './stream.ts';
import type { Thresholds } from './thresholds.ts';

/** How long Envoy's own ejection is left to work before it is taken for evidence, presence ms: its base time with some rounds. */
export const ejectionPeriodMs = 3_000;
/** Evidence of a path that is older says nothing any more. */
export const evidenceTtlMs = 15_000;

export interface PeerEvidence {
  readonly probes: readonly ProbeResult[];
  readonly traffic: PeerTraffic | undefined;
}

interface EvidenceContext {
  readonly view: MemberView;
  readonly thresholds: Thresholds;
  /** To presence time, never later than now. */
  readonly timeOf: (atMs: number) => number;
  readonly timeMs: number;
  /** Probes that failed earlier were late through us. */
  readonly settledMs: number;
}

const headAbove = (a: ManifestHead, b: ManifestHead): boolean =>
  a.epoch > b.epoch || (a.epoch === b.epoch && a.sequence > b.sequence);

/** The second channel of freshness: a head that rises on the data path shows a live controller behind a store that withholds it. */
const addHead = (before: PeerHealth['ahead'], head: ManifestHead, known: ManifestHead | undefined, atMs: number) => {
  if (known !== undefined && !headAbove(head, known)) return before;
  const last = before === undefined ? undefined : { epoch: BigInt(before.epoch), sequence: BigInt(before.sequence) };
  if (last !== undefined && !headAbove(head, last)) return before;
  return { epoch: String(head.epoch), sequence: String(head.sequence), roseMs: atMs };
};

const caughtUp = (ahead: PeerHealth['ahead'], known: ManifestHead | undefined): boolean =>
  ahead !== undefined &&
  known !== undefined &&
  !headAbove({ epoch: BigInt(ahead.epoch), sequence: BigInt(ahead.sequence) }, known);

/** Streams of gateways that the peer still has. */
const known = (streams: PeerHealth['gateways'], view: MemberView): PeerHealth['gateways'] => {
  const ids = view.gateways?.gateways;
  const names = Object.keys(streams);
  if (names.every((name) => name === '' || ids === undefined || ids.some(({ id }) => id === name))) return streams;
  return Object.fromEntries(
    Object.entries(streams).filter(([name]) => name === '' || ids!.some(({ id }) => id === name)),
  );
};

const addProbes = (peer: PeerHealth, probes: readonly ProbeResult[], context: EvidenceContext): PeerHealth => {
  const { view, timeOf, settledMs } = context;
  let streams: Record<string, Stream> | undefined;
  let ahead = peer.ahead;
  let evidenceMs = peer.evidenceMs;
  let detail = '';
  for (const probe of probes) {
    const atMs = timeOf(probe.atMs);
    if (probe.head !== undefined) ahead = addHead(ahead, probe.head, view.head, atMs);
    const reading = readProbe(probe);
    if (reading.peer === 'nothing' || (reading.peer === 'bad' && atMs < settledMs)) continue;
    streams ??= { ...peer.gateways };
    const name = probe.gateway ?? '';
    if (!Object.hasOwn(streams, name) && Object.keys(streams).length > limits.gatewaysPerMemberMax) continue;
    streams[name] = addOutcome(own(streams, name), reading.peer, atMs);
    evidenceMs = Math.max(evidenceMs ?? atMs, atMs);
    if (reading.peer === 'bad') detail = reading.detail;
  }
  if (streams === undefined) return ahead === peer.ahead ? peer : { ...peer, ahead };
  return { ...peer, gateways: streams, ahead, evidenceMs, lastFailure: detail === '' ? peer.lastFailure : detail };
};

const addTraffic = (peer: PeerHealth, traffic: PeerTraffic, context: EvidenceContext): PeerHealth => {
  const { thresholds } = context;
  const { total, sharedErrors, gateways } = traffic;
  const { atMs, windowMs, established, localErrors, gatewayErrors, otherErrors, refused } = total;
  if (peer.trafficMs !== undefined && atMs <= peer.trafficMs) return peer;
  const all = gateways > 0 && traffic.ejected >= gateways;
  const ejected =
    traffic.ejected === 0
      ? gateways > 0
        ? undefined
        : peer.ejected
      : { all, sinceMs: peer.ejected?.all === all ? peer.ejected.sinceMs : atMs, atMs };
  const shared = sharedErrors ? localErrors : 0;
  // A 200 and a refusal by a limit are the peer's own answers. An error may be the answer of a gateway on the way, ours too, or of a
  // kind that was not told: it proves nothing, and is no failure to reach it either.
  const answered = established + refused;
  const unclear = gatewayErrors + otherErrors;
  const ejectedLong = ejected?.all === true && atMs - ejected.sinceMs >= ejectionPeriodMs;
  const errors = addWindow(
    peer.errors,
    { atMs, windowMs, successes: answered, localErrors: shared, gatewayErrors: 0, otherErrors: 0 },
    thresholds.outlier,
  );
  const fails = shared * 100 >= thresholds.outlier.failurePercentage * (answered + shared);
  const bad = answered + unclear === 0 && (shared > 0 || ejectedLong);
  const told = bad || answered > 0;
  return {
    ...peer,
    trafficMs: atMs,
    ejected,
    errors,
    traffic: told ? addOutcome(peer.traffic, bad ? 'bad' : fails ? 'mixed' : 'good', atMs) : peer.traffic,
    evidenceMs: told ? Math.max(peer.evidenceMs ?? atMs, atMs) : peer.evidenceMs,
  };
};

/** The peer with its new evidence, and without what became too old. */
export const addEvidence = (before: PeerHealth, evidence: PeerEvidence, context: EvidenceContext): PeerHealth => {
  const { view, timeMs, thresholds } = context;
  let peer = before;
  if (evidence.probes.length > 0) peer = addProbes(peer, evidence.probes, context);
  if (evidence.traffic !== undefined) peer = addTraffic(peer, evidence.traffic, context);
  const gateways = known(peer.gateways, view);
  if (gateways !== peer.gateways) peer = { ...peer, gateways };
  if (caughtUp(peer.ahead, view.head)) peer = { ...peer, ahead: undefined };
  const errors = settleOutlier(peer.errors, timeMs, thresholds.outlier);
  if (errors !== peer.errors) peer = { ...peer, errors };
  if (peer.ejected !== undefined && timeMs - peer.ejected.atMs > evidenceTtlMs) peer = { ...peer, ejected: undefined };
  return peer;
};
