/**
 * The verdict on one service at one member, ourselves included: by probes that the peer's gateway answered, by its calls, and by a
 * named signal for gray failures. It says nothing of the member, nor of other services there.
 *
 * While its member cannot be reached, failures say nothing of the service; what is known of it stays and its times run on. A
 * service comes back by good probes, or when its ejection is over, for nobody calls what is out of use.
 */
import type { ServiceKey } from '../core/names.ts';
import { addGray, grayEndMs, settleGray } from './gray.ts';
import { addWindow, ejectionMs, isEjected, outlierWakeMs, settleOutlier } from './outlier.ts';
import { addPenalty, penaltyAt } from './penalty.ts';
import { clockTime, type Presence, presenceTime } from './presence.ts';
import { readProbe, type Tally } from './reading.ts';
import type { GraySignal, ProbeResult } from './signals.ts';
import type { CellHealth, ServiceProbes } from './state.ts';
import { addOutcome } from './stream.ts';
import type { OutlierThresholds, Thresholds } from './thresholds.ts';
import type { CellState, Reason } from './verdict.ts';

export interface CellEvidence {
  readonly probes: ProbeResult[];
  readonly gray: GraySignal[];
  calls: Tally | undefined;
}

export interface CellContext {
  readonly service: ServiceKey;
  readonly member: string;
  readonly nowMs: number;
  readonly presence: Presence;
  readonly thresholds: Thresholds;
  /** The policy's, with what the user's DestinationRule overrides. */
  readonly rules: OutlierThresholds;
  readonly slackMs: number;
  /** The member cannot be reached: failures are its own. */
  readonly memberBroken: boolean;
  /** Errors to reach the member are shared by its services, so they are not this one's. */
  readonly sharedErrors: boolean;
  /** Undefined: it may be ejected; otherwise why not. */
  readonly spared: () => string | undefined;
}

interface Cause {
  readonly reason: Reason;
  readonly detail: string;
  /** Presence time at which it ends if nothing else is heard. */
  readonly untilMs: number;
  /** Bound by maxEjectionPercent and the last cell. */
  readonly ejection: boolean;
}

const newCell = (nowMs: number): CellHealth => ({ state: 'fresh', reason: 'Healthy', detail: '', sinceMs: nowMs });

const addProbe = (
  before: ServiceProbes | undefined,
  probe: ProbeResult,
  atMs: number,
  { thresholds, presence, memberBroken }: CellContext,
): ServiceProbes | undefined => {
  const { service: says, detail } = readProbe(probe);
  if (says === 'nothing' || (says === 'good' && before === undefined)) return before;
  if (says === 'bad' && (memberBroken || atMs < (presence.settledMs ?? Number.NEGATIVE_INFINITY))) return before;
  const stream = addOutcome(before?.stream, says, atMs);
  if (stream === before?.stream) return before;
  const { probeFailures, probeSuccesses } = thresholds;
  const failed = before?.failed === true ? stream.ok < probeSuccesses : stream.bad >= probeFailures;
  return { stream, failed, detail: says === 'bad' ? detail : (before?.detail ?? '') };
};

/** A failed service of which no probe tells any more gets a trial after this. */
const probesEndMs = ({ stream }: ServiceProbes, errors: CellHealth['errors'], rules: OutlierThresholds): number =>
  stream.atMs + ejectionMs(errors?.ejections ?? 1, rules);

const settleProbes = (cell: CellHealth, timeMs: number, rules: OutlierThresholds): ServiceProbes | undefined => {
  const { probes, errors } = cell;
  if (probes === undefined || timeMs >= probesEndMs(probes, errors, rules)) return undefined;
  // Kept a moment, so that what is told twice is known again.
  const done = !probes.failed && probes.stream.bad === 0 && timeMs - probes.stream.atMs >= 1_000;
  return done ? undefined : probes;
};

/** By time, and of one moment the good ones last: they hold, also where nothing is known yet. */
const inOrder = <T extends { readonly atMs: number; readonly ok: boolean }>(items: readonly T[] = []): readonly T[] =>
  items.length < 2 ? items : [...items].sort((a, b) => a.atMs - b.atMs || Number(a.ok) - Number(b.ok));

const addEvidence = (before: CellHealth, evidence: CellEvidence | undefined, context: CellContext): CellHealth => {
  const { nowMs, presence, rules, thresholds, memberBroken, sharedErrors } = context;
  const timeMs = presenceTime(presence, nowMs);
  const timeOf = (atMs: number) => presenceTime(presence, Math.min(atMs, nowMs));
  let { probes, errors, gray } = before;
  for (const probe of inOrder(evidence?.probes)) probes = addProbe(probes, probe, timeOf(probe.atMs), context);
  for (const { ok, detail, atMs } of inOrder(evidence?.gray))
    gray = addGray(gray, ok, detail, timeOf(atMs), thresholds);
  const calls = evidence?.calls;
  if (calls !== undefined && !memberBroken) {
    const { atMs, windowMs, established, localErrors, gatewayErrors, otherErrors } = calls;
    const local = sharedErrors ? 0 : localErrors;
    const counts = { atMs, windowMs, successes: established, localErrors: local, gatewayErrors, otherErrors };
    errors = addWindow(errors, counts, rules);
  }
  errors = settleOutlier(errors, timeMs, rules);
  probes = settleProbes({ ...before, probes, errors }, timeMs, rules);
  return { ...before, probes, errors, gray: settleGray(gray, timeMs, thresholds) };
};

/** What speaks against it, the gravest first. */
const causesOf = ({ probes, errors, gray }: CellHealth, timeMs: number, context: CellContext): Cause[] => {
  const { thresholds, rules } = context;
  const causes: Cause[] = [];
  if (gray?.out === true) {
    const detail = `the application: ${gray.detail}`;
    causes.push({ reason: 'GrayFailure', detail, untilMs: grayEndMs(gray, thresholds), ejection: false });
  }
  if (probes?.failed === true) {
    const detail = `${thresholds.probeFailures} probes of it in a row failed, the last: ${probes.detail}`;
    causes.push({ reason: 'ProbeFailed', detail, untilMs: probesEndMs(probes, errors, rules), ejection: false });
  }
  if (errors !== undefined && isEjected(errors, timeMs)) {
    causes.push({ reason: errors.cause!, detail: errors.detail!, untilMs: errors.untilMs!, ejection: true });
  }
  return causes;
};

const nextState = (
  { state, badMs }: CellHealth,
  causes: readonly Cause[],
  spared: string | undefined,
  timeMs: number,
  { thresholds, slackMs }: CellContext,
): CellState => {
  if (causes.length === 0) return 'fresh';
  if (state === 'fresh') return 'suspect';
  if (state === 'suspect') {
    return spared === undefined && timeMs >= badMs! + thresholds.suspectMs + slackMs ? 'quarantined' : 'suspect';
  }
  return state;
};

/** Undefined: there is nothing to know of it. */
export const assessCell = (
  known: CellHealth | undefined,
  evidence: CellEvidence | undefined,
  context: CellContext,
): { cell: CellHealth | undefined; wakeMs: number | undefined } => {
  const { nowMs, presence, thresholds, rules, slackMs } = context;
  const timeMs = presenceTime(presence, nowMs);
  let cell = addEvidence(known ?? newCell(nowMs), evidence, context);
  const causes = causesOf(cell, timeMs, context);
  const cause = causes[0];
  cell = { ...cell, badMs: cause === undefined ? undefined : (cell.badMs ?? timeMs) };
  // Ejections that stand were asked for when they began; what others do since does not end them.
  const bound = cell.state !== 'quarantined' && causes.length > 0 && causes.every(({ ejection }) => ejection);
  const spared = bound ? context.spared() : undefined;
  for (;;) {
    const state = nextState(cell, causes, spared, timeMs, context);
    if (state === cell.state) break;
    const penalty = addPenalty(cell.penalty, thresholds.flapPenalty, nowMs, thresholds.flapHalfLifeMs);
    cell = { ...cell, state, sinceMs: nowMs, penalty };
  }
  const untilMs = causes.reduce((max, c) => Math.max(max, c.untilMs), 0);
  const suspectEndMs = (cell.badMs ?? 0) + thresholds.suspectMs + slackMs;
  const endMs = cell.state === 'suspect' && spared === undefined ? suspectEndMs : untilMs;
  const reason: Reason = cause?.reason ?? 'Healthy';
  const detail = cause === undefined ? '' : spared === undefined ? cause.detail : `${cause.detail}; ${spared}`;
  const deadlineMs = cause === undefined ? undefined : clockTime(presence, endMs);
  cell = { ...cell, reason, detail, deadlineMs, sinceMs: Math.min(cell.sinceMs, nowMs) };
  const decayed = penaltyAt(cell.penalty, nowMs, thresholds.flapHalfLifeMs) === 0;
  if (decayed && cell.penalty !== undefined) cell = { ...cell, penalty: undefined };
  const { probes, errors, gray } = cell;
  if (cell.state === 'fresh' && decayed && probes === undefined && errors === undefined && gray === undefined) {
    return { cell: undefined, wakeMs: undefined };
  }
  const wakes = [outlierWakeMs(errors, timeMs, rules), cause === undefined ? undefined : endMs];
  const future = wakes.filter((wake) => wake !== undefined) as number[];
  return { cell, wakeMs: future.length === 0 ? undefined : Math.min(...future) };
};
