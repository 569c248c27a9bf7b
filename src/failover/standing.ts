/**
 * One exporter of one service as the decisions see it: its record, the worse of what is held of it and of its member, and whether it may
 * be used.
 *
 * Whether a shift may be held back depends on the evidence: what our own data path shows, or that nothing is there to be used, is
 * acted on; what is inferred (errors that may be the callers', slowness, a vote, a wish) may wait.
 */
import { cellStates, type Reason, type Verdict } from '../health/verdict.ts';
import type { RankedMember } from './order.ts';
import type { CellStanding } from './plan.ts';
import { type Badness, percentOf } from './ramp.ts';
import type { CellMemory, Drain } from './state.ts';

export interface CellFacts {
  readonly member: RankedMember;
  readonly ready: number;
  readonly total: number;
  readonly verdict: Verdict;
  readonly bad: Badness | undefined;
  /** Why its data path is suspect. */
  readonly doubt: Badness | undefined;
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

export const doubtOf = ({ state, reason, detail }: Verdict): Badness | undefined =>
  state === 'suspect' && doubtful.has(reason) ? { reason, detail, urgent: !inferred.has(reason) } : undefined;

const isBad = ({ state, reason }: Verdict): boolean =>
  (state === 'quarantined' || state === 'evicted') && reason !== 'Draining';

/** @param whole - the verdict is of the member, by all of its services or by its gateways */
export const badnessOf = (verdict: Verdict, whole: boolean): Badness | undefined => {
  if (!isBad(verdict)) return undefined;
  const { reason, detail } = verdict;
  const outlier = seenByEnvoy.has(reason);
  return { reason, detail, urgent: verdict.state === 'evicted' || !inferred.has(reason) || (whole && outlier) };
};

/** Share of its weight that a cell gets by itself, 0–100. */
export const shareOf = ({ memory }: Pick<CellFacts, 'memory'>): number => percentOf(memory);

const calm = ({ calmAtMs, memory }: CellFacts): boolean =>
  calmAtMs === undefined || memory === undefined || memory.phase !== 'held';

/** What is said of a cell that waits, by the phase it is in. */
export const phaseReasons = {
  new: 'NotReady',
  held: 'HoldDown',
  latched: 'Latched',
  ramp: 'Ramping',
  drain: 'Draining',
} as const;

/**
 * For people: where it stands, and why.
 * @param dueMs - when it changes if only time goes on
 * @param before - what was said last: the same object, when it still says so
 */
export const standingOf = (
  facts: CellFacts,
  tier: number | undefined,
  percent: number,
  dueMs: number | undefined,
  before: CellStanding | undefined,
): CellStanding => {
  const { verdict, bad, memory, ready, total, member } = facts;
  let { reason, detail, sinceMs, deadlineMs } = verdict;
  if (bad === undefined && memory !== undefined && memory.phase !== 'out' && memory.phase !== 'doubt') {
    const { phase, cause } = memory;
    reason = calm(facts) ? phaseReasons[phase] : 'Flapping';
    detail = phase === 'drain' ? drainDetail(facts) : `it was out: ${cause}`;
    sinceMs = memory.sinceMs;
    deadlineMs = dueMs;
  } else if (bad !== undefined && bad.reason === 'NotReady' && reason !== 'NotReady') {
    reason = 'NotReady';
    detail = bad.detail;
    sinceMs = memory?.sinceMs ?? sinceMs;
    deadlineMs = undefined;
  }
  const { state } = verdict;
  if (
    before !== undefined &&
    before.member === member.name &&
    before.state === state &&
    before.reason === reason &&
    before.detail === detail &&
    before.sinceMs === sinceMs &&
    before.deadlineMs === deadlineMs &&
    before.tier === tier &&
    before.percent === percent &&
    before.ready === ready &&
    before.total === total
  ) {
    return before;
  }
  return { member: member.name, state, reason, detail, sinceMs, deadlineMs, tier, percent, ready, total };
};

const drainDetail = ({ drain }: CellFacts): string =>
  drain === undefined
    ? 'it was drained'
    : `drained by ${drain.author}${drain.reason === '' ? '' : `: ${drain.reason}`}`;
