/**
 * What one cell's memory should become next: out when it is bad, held down when it is good again, then back in steps, or by a
 * person's word; out in steps when it is drained.
 *
 * This says what is wished; the guards decide whether it happens now. Only `percent` moves traffic, so a change of phase alone needs
 * nobody's leave. Ramps go by time since the last step that happened, not by the clock since their start: a ramp that a guard stopped
 * goes on where it was, and never jumps.
 */
import type { Reason } from '../health/verdict.ts';
import type { FailoverPolicy } from './policy.ts';
import type { CellMemory, Drain } from './state.ts';

/** What speaks against a cell. */
export interface Badness {
  readonly reason: Reason;
  readonly detail: string;
  /** What our own data path shows, or nothing there to be used. */
  readonly urgent: boolean;
}

export interface CellSituation {
  /** Why it may not be used; undefined: it may. */
  readonly bad: Badness | undefined;
  /** Its data path is suspect: it has less weight, and makes no progress on its way back. */
  readonly doubt: Badness | undefined;
  readonly drain: Drain | undefined;
  /** It was there at an earlier step. */
  readonly known: boolean;
  /** A person let it come back. */
  readonly released: boolean;
  /** It changed its state too often; until when, if it stays calm. */
  readonly calmAtMs: number | undefined;
  /** Somebody else has its traffic now: without that there is nothing to ramp from. */
  readonly relieved: boolean;
  /** The mesh can give it a part: else it comes back whole. */
  readonly partial: boolean;
}

export interface Wish {
  /** Undefined: in full use. */
  readonly to: CellMemory | undefined;
  readonly kind: 'withdraw' | 'drain' | 'undrain' | 'failback' | 'ramp' | 'note';
  /** Our own failed data path, or nothing there to be used: not for discretion. */
  readonly urgent: boolean;
  readonly rule: Reason | 'Command';
  readonly detail: string;
}

/** Levels of a drain's ramp, at the beginning of each third of its time. */
const drainLevels = [75, 50, 25] as const;

const out = (cause: Reason, now: number): CellMemory => ({ phase: 'out', percent: 0, sinceMs: now, cause });

export const percentOf = (memory: CellMemory | undefined): number => memory?.percent ?? 100;

const note = (to: CellMemory, detail: string): Wish => ({ to, kind: 'note', urgent: true, rule: to.cause, detail });

/** One level down when its time has come; the first one at once. */
const drainStep = (
  memory: CellMemory | undefined,
  drain: Drain,
  policy: FailoverPolicy,
  now: number,
): Wish | undefined => {
  const overMs = drain.overMs ?? policy.drain.overMs;
  const detail = `drained by ${drain.author}${drain.reason === '' ? '' : `: ${drain.reason}`}`;
  const percent = percentOf(memory);
  // What is out for another reason stays so: an undrain must not bring it back past its hold-down.
  if (percent === 0) return undefined;
  if (memory?.phase === 'drain' && now < memory.sinceMs + overMs / drainLevels.length) return undefined;
  const level = overMs <= 0 ? 0 : (drainLevels.find((value) => value < percent) ?? 0);
  const to: CellMemory = { phase: 'drain', percent: level, sinceMs: now, cause: 'Draining' };
  return { to, kind: 'drain', urgent: false, rule: 'Draining', detail: `${detail}, ${level} % left` };
};

/** The next step up from `percent`; `first`: it begins to come back. */
const stepUp = (
  percent: number,
  cause: Reason,
  first: boolean,
  situation: CellSituation,
  policy: FailoverPolicy,
  now: number,
): Wish => {
  const next =
    situation.relieved && situation.partial ? policy.failback.steps.find((step) => step > percent) : undefined;
  const to: CellMemory | undefined =
    next === undefined || next >= 100 ? undefined : { phase: 'ramp', percent: next, sinceMs: now, cause };
  const undrain = cause === 'Draining';
  return {
    to,
    kind: undrain ? 'undrain' : first ? 'failback' : 'ramp',
    urgent: false,
    rule: situation.released || undrain ? 'Command' : to === undefined ? 'Healthy' : 'Ramping',
    detail: `${first ? 'comes back' : 'goes on coming back'} at ${to?.percent ?? 100} %`,
  };
};

const comeBack = (
  memory: CellMemory,
  situation: CellSituation,
  policy: FailoverPolicy,
  now: number,
): Wish | undefined => {
  const { holdDownMs, mode, stepMs } = policy.failback;
  const { phase, percent, cause, sinceMs } = memory;
  if (phase === 'doubt') {
    if (situation.doubt !== undefined) return undefined;
    return { to: undefined, kind: 'ramp', urgent: false, rule: 'Healthy', detail: 'in doubt no more' };
  }
  if (phase === 'drain') return stepUp(percent, 'Draining', true, situation, policy, now);
  if (situation.doubt !== undefined) {
    // Healthy again is healthy throughout: the hold-down begins anew, a ramp waits.
    return phase === 'held' || phase === 'latched' ? note(out(cause, now), 'in doubt again') : undefined;
  }
  if (phase === 'ramp') {
    return now < sinceMs + stepMs ? undefined : stepUp(percent, cause, false, situation, policy, now);
  }
  if (phase === 'new') {
    const detail = 'ready for the first time';
    return { to: undefined, kind: 'failback', urgent: false, rule: 'Healthy', detail };
  }
  if (situation.released) return stepUp(percent, cause, true, situation, policy, now);
  if (phase === 'out') {
    return note({ phase: 'held', percent: 0, sinceMs: now, cause }, 'good again, held down');
  }
  if (phase === 'held') {
    if (now < Math.max(sinceMs + holdDownMs, situation.calmAtMs ?? 0)) return undefined;
    if (mode === 'latched') {
      return note({ phase: 'latched', percent: 0, sinceMs: now, cause }, 'good again, waits for a person');
    }
    return stepUp(percent, cause, true, situation, policy, now);
  }
  return undefined;
};

const doubted = ({ reason, detail, urgent }: Badness, policy: FailoverPolicy, now: number): Wish => {
  const percent = Math.min(99, Math.max(1, Math.round(policy.thresholds.suspectWeight * 100)));
  const to: CellMemory = { phase: 'doubt', percent, sinceMs: now, cause: reason };
  return { to, kind: 'withdraw', urgent, rule: reason, detail };
};

/** @returns undefined: as it is */
export const wishOf = (
  memory: CellMemory | undefined,
  situation: CellSituation,
  policy: FailoverPolicy,
  now: number,
): Wish | undefined => {
  const { bad, drain } = situation;
  if (bad !== undefined) {
    const waits = bad.reason === 'NotReady' && (memory === undefined ? !situation.known : memory.phase === 'new');
    if (memory?.phase === 'out' || (memory?.phase === 'new' && waits)) return undefined;
    const to: CellMemory = waits ? { phase: 'new', percent: 0, sinceMs: now, cause: 'NotReady' } : out(bad.reason, now);
    if (percentOf(memory) === 0) return note(to, bad.detail);
    return { to, kind: 'withdraw', urgent: bad.urgent, rule: bad.reason, detail: bad.detail };
  }
  if (drain !== undefined) return drainStep(memory, drain, policy, now);
  if (memory !== undefined) return comeBack(memory, situation, policy, now);
  return situation.doubt === undefined ? undefined : doubted(situation.doubt, policy, now);
};

/** When `wishOf` says something else if nothing but time happens. */
export const wishDueMs = (
  memory: CellMemory | undefined,
  situation: CellSituation,
  policy: FailoverPolicy,
): number | undefined => {
  if (memory === undefined || situation.bad !== undefined) return undefined;
  if (situation.drain !== undefined) {
    if (memory.percent === 0) return undefined;
    return memory.sinceMs + (situation.drain.overMs ?? policy.drain.overMs) / drainLevels.length;
  }
  if (situation.doubt !== undefined) return undefined;
  if (memory.phase === 'held') return Math.max(memory.sinceMs + policy.failback.holdDownMs, situation.calmAtMs ?? 0);
  return memory.phase === 'ramp' ? memory.sinceMs + policy.failback.stepMs : undefined;
};
