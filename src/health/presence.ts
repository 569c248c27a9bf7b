/**
 * What we may hold against others for being late: only time during which we were here ourselves, and our store with us.
 *
 * A process that was stopped, starved or restarted wakes up to a world in which everybody looks old. So ages of evidence are
 * measured on presence time: our clock without the stretches in which no step ran. A peer's silence counts from where both our
 * presence and the light of our store (our own manifest reads back) began without a break.
 *
 * Moving every stored time on after a break was passed over: one offset does the same, and the times that people read stay true.
 */

/** Steps further apart than this are an absence. */
export const absenceMs = 3_000;
/** A step is asked for at least this often, or the quiet of a healthy set would look like an absence. */
export const pulseMs = 1_000;
/** Probes that fail within this after an absence were late through us. */
const settlingMs = 1_000;

export interface Presence {
  /** When the last step was; undefined before the first. */
  readonly nowMs?: number | undefined;
  /** Sum of all absences: presence time is the clock minus this. */
  readonly absentMs: number;
  /** In presence time: since when we are here. */
  readonly hereMs: number;
  /** In presence time: probes that failed before this are not counted. */
  readonly settledMs?: number | undefined;
  /** In presence time: from when on silence counts; undefined: our store is dark. May be a little ahead. */
  readonly lightMs?: number | undefined;
  /** Whether it was ever light. */
  readonly lit?: boolean | undefined;
}

export const initialPresence: Presence = { absentMs: 0, hereMs: 0 };

/** Presence time of a moment on our clock. */
export const presenceTime = ({ absentMs }: Presence, atMs: number): number => atMs - absentMs;
/** The moment on our clock at which presence time reaches this, if nothing interrupts it. */
export const clockTime = ({ absentMs }: Presence, timeMs: number): number => timeMs + absentMs;

/**
 * @param readBackMs - age of our own manifest as the store gives it back
 * @param silentMs - after which a peer counts as silent: our own must be younger than half of it, so that a store that stops
 *   shows on us before it shows on anybody else
 */
export const advance = (
  before: Presence,
  nowMs: number,
  readBackMs: number | undefined,
  silentMs: number,
): { presence: Presence; absent: boolean } => {
  const gapMs = before.nowMs === undefined ? 0 : nowMs - before.nowMs;
  const absent = gapMs > absenceMs || gapMs < 0;
  const absentMs = before.absentMs + (absent ? gapMs : 0);
  const timeMs = nowMs - absentMs;
  const light = readBackMs !== undefined && readBackMs <= silentMs / 2;
  // After a dark time the others find their way back to the store as we did, some of them later.
  const from = before.lightMs ?? (before.lit === true ? timeMs + silentMs : timeMs);
  const presence: Presence = {
    nowMs,
    absentMs,
    hereMs: absent || before.nowMs === undefined ? timeMs : before.hereMs,
    settledMs: absent ? timeMs + settlingMs : before.settledMs,
    lightMs: light ? from : undefined,
    lit: light || before.lit === true ? true : undefined,
  };
  return { presence, absent };
};

/** For how long anybody's silence can have lasted as far as we may judge; negative: not at all. Undefined: the store is dark. */
export const judgedMs = ({ hereMs, lightMs }: Presence, timeMs: number): number | undefined =>
  lightMs === undefined ? undefined : timeMs - Math.max(hereMs, lightMs);
