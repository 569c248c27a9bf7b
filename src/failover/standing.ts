/**
 * One exporter of one service as the decisions see it: its record, the worse of what is held of it and of its member, and whether it may
 * be used.
 *
 * Whether a shift may be held back depends on the evidence: what our own data path shows, or that nothing is there to be used, is
 * acted on; what is inferred (errors that may be the callers', slowness, a vote, a wish) may wait.
 */
import { cellStates, type MemberVerdict, type Reason, type Verdict } from '../health/verdict.ts';
import type { RankedMember } from './order.ts';
import type { CellStanding } from './plan.ts';
import { percentOf } from './ramp.ts';
import type { CellMemory, Drain } from './state.ts';

export interface Badness {
  readonly reason: Reason;
  readonly detail: string;
  readonly urgent: boolean;
}

export interface CellFacts {
  readonly member: RankedMember;
  readonly ready: number;
  readonly total: number;
  readonly verdict: Verdict;
  readonly bad: Badness | undefined;
  /** Suspect for its data path. */
  readonly doubt: boolean;
  readonly drain: Drain | undefined;
  /** What it grants us of this service, new connections a second; undefined: it says nothing. */
  readonly grant: number | undefined;
  readonly memory: CellMemory | undefined;
  /** Its flap penalty is above the limit until then, if nothing more happens. */
  readonly calmAtMs: number | undefined;
}

export const healthy: Verdict = {
  state: 'fresh',
  reason: 'Healthy',
  detail: '',
  sinceMs: 0,
  deadlineMs: undefined,
  penalty: 0,
};

const inferred: ReadonlySet<Reason> = new Set<Reason>([
  'ConsecutiveErrors',
  'FailurePercentage',
  'GrayFailure',
  'RegionCondemned',
  'Flapping',
]);
const doubtful: ReadonlySet<Reason> = new Set<Reason>([
  'ProbeFailed',
  'ConsecutiveErrors',
  'FailurePercentage',
  'GrayFailure',
  'SilentAndUnreachable',
]);
/** Envoy sees the same evidence, and may have acted on it. */
export const seenByEnvoy: ReadonlySet<Reason> = new Set<Reason>(['ConsecutiveErrors', 'FailurePercentage']);

/** Of two equals the first. */
export const worse = (a: Verdict, b: Verdict | undefined): Verdict =>
  b === undefined || cellStates.indexOf(b.state) <= cellStates.indexOf(a.state) ? a : b;

export const isDoubtful = ({ state, reason }: Verdict): boolean => state === 'suspect' && doubtful.has(reason);

const isBad = ({ state, reason }: Verdict): boolean =>
  (state === 'quarantined' || state === 'evicted') && reason !== 'Draining';

/** @param whole - the verdict is of the member, by all of its services or by its gateways */
export const badnessOf = (verdict: Verdict, whole: boolean): Badness | undefined => {
  if (!isBad(verdict)) return undefined;
  const { reason, detail } = verdict;
  const outlier = seenByEnvoy.has(reason);
  return { reason, detail, urgent: verdict.state === 'evicted' || !inferred.has(reason) || (whole && outlier) };
};

/** Of a member's verdict, a service's own at it, and what its record says. */
export const judge = (
  member: RankedMember,
  ofMember: MemberVerdict | undefined,
  ofRegion: Verdict | undefined,
  ofCell: Verdict | undefined,
  ready: number,
): { readonly verdict: Verdict; readonly bad: Badness | undefined } => {
  const general = worse(ofMember ?? healthy, ofRegion);
  const verdict = worse(general, ofCell);
  const bad = badnessOf(verdict, verdict !== ofCell);
  if (bad !== undefined) return { verdict, bad };
  if (ready > 0 && member.gateways !== 'none') return { verdict, bad: undefined };
  const detail = ready > 0 ? 'it has no gateway' : 'no endpoint is ready';
  return { verdict, bad: { reason: 'NotReady', detail, urgent: true } };
};

/** Share of its weight that a cell gets by itself, 0–100. */
export const shareOf = ({ memory, doubt }: Pick<CellFacts, 'memory' | 'doubt'>, suspectWeight: number): number => {
  const percent = percentOf(memory);
  return doubt && percent > 0 ? Math.max(1, Math.round(percent * suspectWeight)) : percent;
};

export interface Seat {
  readonly tier: number | undefined;
  readonly percent: number;
}

const calm = ({ calmAtMs, memory }: CellFacts): boolean =>
  calmAtMs === undefined || memory === undefined || memory.phase !== 'held';

const waiting = {
  held: 'HoldDown',
  latched: 'Latched',
  ramp: 'Ramping',
  drain: 'Draining',
} as const;

/** For people: where it stands, and why. @param dueMs - when it changes if only time goes on */
export const standingOf = (facts: CellFacts, seat: Seat, dueMs: number | undefined): CellStanding => {
  const { verdict, bad, memory, ready, total, member } = facts;
  const common = { member: member.name, ...seat, ready, total, state: verdict.state };
  if (bad === undefined && memory !== undefined && memory.phase !== 'out') {
    const { phase, sinceMs, cause } = memory;
    const reason = calm(facts) ? waiting[phase] : 'Flapping';
    const detail = phase === 'drain' ? drainDetail(facts) : `it was out: ${cause}`;
    return { ...common, reason, detail, sinceMs, deadlineMs: dueMs };
  }
  if (bad?.reason === 'NotReady' && verdict.reason !== 'NotReady') {
    const sinceMs = memory?.sinceMs ?? verdict.sinceMs;
    return { ...common, reason: 'NotReady', detail: bad.detail, sinceMs, deadlineMs: undefined };
  }
  const { reason, detail, sinceMs, deadlineMs } = verdict;
  return {
    member: member.name,
    tier: seat.tier,
    percent: seat.percent,
    ready,
    total,
    state: verdict.state,
    reason,
    detail,
    sinceMs,
    deadlineMs,
  };
};

const drainDetail = ({ drain }: CellFacts): string =>
  drain === undefined
    ? 'it was drained'
    : `drained by ${drain.author}${drain.reason === '' ? '' : `: ${drain.reason}`}`;
