/**
 * A peer's verdict: two planes judged apart, and a state that needs both of them to end.
 *
 * Its path alone, as we see it, takes it out of use here (quarantined); only a path that fails *and* a control plane that is silent
 * make it evicted. Silent but reachable is frozen and kept. States are entered one after the other, never skipped, each after its
 * time; the way back needs several answers in a row.
 *
 * A detector that turns arrival times into a suspicion level (phi accrual) was passed over: the few numbers here can be read out to
 * a person at night, and each has its threshold in the policy.
 */
import type { MemberView } from '../federation/view.ts';
import { pathSlackMs } from './lateness.ts';
import { isEjected, outlierWakeMs } from './outlier.ts';
import { addEvidence, evidenceTtlMs, type PeerEvidence } from './peer_evidence.ts';
import { addPenalty } from './penalty.ts';
import { clockTime, judgedMs, type Presence, presenceTime } from './presence.ts';
import type { ControlSignal, PathTime } from './signals.ts';
import type { PeerHealth } from './state.ts';
import type { Stream } from './stream.ts';
import type { Thresholds } from './thresholds.ts';
import type { CellState, MemberVerdict, Reason } from './verdict.ts';

/** Traffic that succeeded this long ago still speaks for a peer whose probes fail: windows come once a second. */
const trafficProofMs = 1_200;
/** Traffic this long ago still tells whether anybody calls it. */
const trafficAgeMs = 4_000;

export interface PeerContext {
  readonly nowMs: number;
  readonly presence: Presence;
  readonly thresholds: Thresholds;
}

export interface PeerInput {
  readonly view: MemberView;
  readonly control: ControlSignal | undefined;
  readonly path: PathTime | undefined;
  readonly evidence: PeerEvidence;
}

/** Of a peer just met. Nothing is known of its path, and that speaks neither for it nor against it. */
export const newPeer = (nowMs: number): PeerHealth => ({
  state: 'fresh',
  reason: 'Healthy',
  detail: 'nothing speaks against it',
  sinceMs: nowMs,
  control: 'never',
  data: 'unknown',
  gateways: {},
  broken: false,
  by: 'ProbeFailed',
  silent: false,
});

interface Moment extends PeerContext {
  readonly timeMs: number;
  readonly slackMs: number;
}

/** Since it last gave a sign of life, by the store or by a probe. */
const signAgeMs = (
  { ahead }: PeerHealth,
  { ageMs = Number.POSITIVE_INFINITY }: ControlSignal,
  timeMs: number,
): number => Math.min(ageMs, ahead === undefined ? Number.POSITIVE_INFINITY : timeMs - ahead.roseMs);

const controlOf = (peer: PeerHealth, control: ControlSignal, at: Moment): MemberVerdict['control'] => {
  const { timeMs, presence, thresholds, slackMs } = at;
  if (control.ageMs === undefined && peer.ahead === undefined) return 'never';
  const ageMs = signAgeMs(peer, control, timeMs);
  const limitMs = thresholds.silentMs + slackMs;
  if (ageMs <= limitMs) return 'fresh';
  const judged = judgedMs(presence, timeMs);
  return control.dark !== true && judged !== undefined && judged > limitMs ? 'silent' : 'unknown';
};

interface Path {
  readonly data: MemberVerdict['data'];
  readonly broken: boolean;
  readonly by: PeerHealth['by'];
}

const pathOf = (peer: PeerHealth, at: Moment): Path => {
  const { probeFailures, probeSuccesses } = at.thresholds;
  const current = (stream: Stream) => at.timeMs - stream.atMs <= evidenceTtlMs + 2 * at.slackMs;
  const gateways = Object.values(peer.gateways).filter(current);
  const traffic = peer.traffic !== undefined && current(peer.traffic) ? peer.traffic : undefined;
  const streams = traffic === undefined ? gateways : [...gateways, traffic];
  if (streams.length === 0) return { data: 'unknown', broken: peer.broken, by: peer.by };
  const failing = (stream: Stream) => stream.bad >= probeFailures;
  const proven = traffic?.okMs !== undefined && at.timeMs - traffic.okMs <= trafficProofMs + at.slackMs;
  if (streams.some(failing) && gateways.every(failing) && !proven) {
    return { data: 'unreachable', broken: true, by: gateways.some(failing) ? 'ProbeFailed' : 'ConsecutiveErrors' };
  }
  const broken = peer.broken && !streams.some(({ ok }) => ok >= probeSuccesses);
  const answered = streams.some(({ ok }) => ok > 0);
  // Failing less often than it takes to condemn it, with no answer between: what was, stays.
  if (broken && !answered) return { data: peer.data === 'unknown' ? 'degraded' : peer.data, broken, by: peer.by };
  const partly = broken || streams.some(failing) || peer.ejected !== undefined || isDoubted(peer, at);
  return { data: partly ? 'degraded' : 'reachable', broken, by: peer.by };
};

/** A share of errors to reach it, or a row, that answers since have not made up for. */
const isDoubted = ({ errors, traffic, gateways }: PeerHealth, at: Moment): boolean => {
  if (!isEjected(errors, at.timeMs)) return false;
  const { probeSuccesses } = at.thresholds;
  if (traffic !== undefined && at.timeMs - traffic.atMs <= trafficAgeMs) return traffic.ok < probeSuccesses;
  // Nobody calls it now, so probes have to do.
  const probed = Object.values(gateways);
  return probed.length === 0 || probed.some(({ ok }) => ok < probeSuccesses);
};

const nextState = (peer: PeerHealth, at: Moment): CellState => {
  const { thresholds, timeMs, slackMs } = at;
  const { data, control, broken, silent } = peer;
  const unreachable = data === 'unreachable';
  const kept: CellState = broken || silent || isDoubted(peer, at) ? 'suspect' : 'fresh';
  switch (peer.state) {
    case 'fresh':
      return unreachable ? 'suspect' : kept;
    case 'suspect':
      return unreachable && timeMs >= peer.badMs! + thresholds.suspectMs + slackMs ? 'quarantined' : kept;
    case 'quarantined':
      if (peer.bothMs !== undefined && timeMs >= peer.bothMs + thresholds.evictMs + slackMs) return 'evicted';
      if (data === 'unknown') return timeMs >= forgottenMs(peer, thresholds) ? 'suspect' : 'quarantined';
      return broken ? 'quarantined' : kept;
    case 'evicted':
      if (!broken && data !== 'unknown') return kept;
      return control === 'fresh' ? 'quarantined' : 'evicted';
  }
};

/** When a quarantine of which nothing more is heard gives way to a trial. */
const forgottenMs = (peer: PeerHealth, { outlier }: Thresholds): number =>
  (peer.evidenceMs ?? 0) + Math.max(outlier.baseEjectionMs, evidenceTtlMs);

const reasonOf = (peer: PeerHealth, control: ControlSignal, at: Moment): Reason => {
  switch (peer.state) {
    case 'evicted':
      return 'SilentAndUnreachable';
    case 'quarantined':
      return peer.by;
    case 'suspect':
      if (peer.broken) return peer.by;
      if (isDoubted(peer, at)) return peer.errors!.cause!;
      if (peer.control === 'unknown') return 'StoreDark';
      return control.shuttingDown ? 'ShuttingDown' : 'ControlSilent';
    case 'fresh':
      if (control.draining) return 'Draining';
      if (control.shuttingDown) return 'ShuttingDown';
      return peer.control === 'unknown' ? 'StoreDark' : 'Healthy';
  }
};

const detailOf = (peer: PeerHealth, reason: Reason, at: Moment): string => {
  const { thresholds } = at;
  switch (reason) {
    case 'SilentAndUnreachable':
      return `its manifest does not rise and its gateways do not answer, both for ${thresholds.evictMs} ms`;
    case 'ProbeFailed':
      return `${thresholds.probeFailures} probes of its gateways in a row failed${peer.lastFailure === undefined ? '' : `, the last ${peer.lastFailure}`}`;
    case 'ConsecutiveErrors':
      return peer.broken
        ? `no call reached it in ${thresholds.probeFailures} windows of traffic in a row`
        : `to reach it: ${peer.errors?.detail}`;
    case 'FailurePercentage':
      return `to reach it: ${peer.errors?.detail}`;
    case 'ControlSilent':
      return `its manifest has not risen for ${thresholds.silentMs} ms, its gateways ${peer.data === 'reachable' ? 'answer' : `are ${peer.data}`}: its records are kept as they are`;
    case 'StoreDark':
      return 'our own records do not read back from the store, or did not until just now: nobody is held for silent';
    case 'ShuttingDown':
      return 'it said that its controller shuts down';
    case 'Draining':
      return 'it says that it drains';
    default:
      return peer.control === 'never' ? 'it has not published anything yet' : 'nothing speaks against it';
  }
};

const deadlineOf = (peer: PeerHealth, at: Moment): number | undefined => {
  const { thresholds, presence, slackMs } = at;
  const clock = (timeMs: number) => clockTime(presence, timeMs);
  if (peer.state === 'suspect') {
    if (peer.data === 'unreachable') return clock(peer.badMs! + thresholds.suspectMs + slackMs);
    return !peer.broken && isDoubted(peer, at) && !peer.silent ? clock(peer.errors!.untilMs!) : undefined;
  }
  if (peer.state !== 'quarantined') return undefined;
  if (peer.bothMs !== undefined) return clock(peer.bothMs + thresholds.evictMs + slackMs);
  return peer.data === 'unknown' ? clock(forgottenMs(peer, thresholds)) : undefined;
};

/** Presence time at which it must be looked at again, without new evidence. */
const wakeOf = (peer: PeerHealth, control: ControlSignal, at: Moment): number | undefined => {
  const { thresholds, timeMs, slackMs } = at;
  const times = [outlierWakeMs(peer.errors, timeMs, thresholds.outlier)];
  if (peer.control === 'fresh') {
    times.push(timeMs + Math.max(1, thresholds.silentMs + slackMs - signAgeMs(peer, control, timeMs) + 1));
  }
  if (peer.deadlineMs !== undefined) times.push(presenceTime(at.presence, peer.deadlineMs));
  return times.reduce((a, b) => (a === undefined ? b : b === undefined ? a : Math.min(a, b)), undefined);
};

/** A state entered: its age begins, and the penalty grows. */
const enter = (peer: PeerHealth, state: CellState, { nowMs, thresholds }: Moment): PeerHealth => ({
  ...peer,
  state,
  sinceMs: nowMs,
  penalty: addPenalty(peer.penalty, thresholds.flapPenalty, nowMs, thresholds.flapHalfLifeMs),
});

/** One step of one peer. */
export const assessPeer = (
  before: PeerHealth,
  { view, control: told, path, evidence }: PeerInput,
  context: PeerContext,
): { peer: PeerHealth; wakeMs: number | undefined } => {
  const { nowMs, presence, thresholds } = context;
  const timeMs = presenceTime(presence, nowMs);
  const at: Moment = { ...context, timeMs, slackMs: pathSlackMs(path) };
  const control = told ?? {
    ageMs: view.freshAtMs === undefined ? undefined : nowMs - view.freshAtMs,
    shuttingDown: view.shuttingDown,
    draining: false,
  };
  const timeOf = (atMs: number) => presenceTime(presence, Math.min(atMs, nowMs));
  const settledMs = presence.settledMs ?? Number.NEGATIVE_INFINITY;
  let peer = addEvidence(before, evidence, { view, thresholds, timeOf, timeMs, settledMs });
  const plane = controlOf(peer, control, at);
  const { data, broken, by } = pathOf(peer, at);
  const unreachable = data === 'unreachable';
  peer = {
    ...peer,
    control: plane,
    silent: plane === 'silent' || (plane === 'unknown' && peer.silent),
    data,
    broken,
    by,
    badMs: unreachable ? (peer.badMs ?? timeMs) : undefined,
    bothMs: unreachable && plane === 'silent' ? (peer.bothMs ?? timeMs) : undefined,
  };
  for (let state = nextState(peer, at); state !== peer.state; state = nextState(peer, at))
    peer = enter(peer, state, at);
  const reason = reasonOf(peer, control, at);
  const same =
    peer.state === before.state &&
    reason === before.reason &&
    peer.control === before.control &&
    peer.data === before.data;
  const detail = same ? before.detail : detailOf(peer, reason, at);
  peer = { ...peer, reason, detail, sinceMs: Math.min(peer.sinceMs, nowMs), deadlineMs: deadlineOf(peer, at) };
  return { peer, wakeMs: wakeOf(peer, control, at) };
};
