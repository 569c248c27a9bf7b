/**
 * The window before a fault: if calls fail or stall while nothing is wrong, the run measures the machine and not the fault. Such a run
 * is invalid, which is neither passed nor failed, and whoever asked for it may try again.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab, Load } from './lab.ts';
import { type Outcome, outcome } from './outcome.ts';

export class InvalidRun extends Error {}

/** By default, the longest call before any fault. */
export const controlStallMs = 250;
/** By default, how late the client's own timers may be. */
export const controlLagMs = 150;

export interface ControlLimits {
  readonly forMs: number;
  /** Default: half of what the load's rate makes in that time. */
  readonly callsMin?: number;
  /** Default 0. */
  readonly failedMax?: number;
  /** Default `controlStallMs`. */
  readonly stallMaxMs?: number;
  /** Default `controlLagMs`. */
  readonly lagMaxMs?: number;
  /** The only cluster that may answer. */
  readonly answeredBy?: string;
}

/** Why a window cannot serve as control; undefined if it can. */
export function invalidBecause(
  seen: Outcome,
  lagMs: number,
  limits: ControlLimits & { callsMin: number },
): string | undefined {
  const { failedMax = 0, stallMaxMs = controlStallMs, lagMaxMs = controlLagMs, callsMin, answeredBy } = limits;
  if (seen.sent < callsMin) return `only ${seen.sent} calls were sent, ${callsMin} are needed`;
  if (seen.failed > failedMax) {
    return `${seen.failed} of ${seen.sent} calls failed before any fault (${Object.keys(seen.errors).join('; ')})`;
  }
  if (lagMs > lagMaxMs) return `the client's own timers were ${Math.round(lagMs)} ms late: the machine is too busy`;
  if (seen.longestStallMs > stallMaxMs) return `a call took ${Math.round(seen.longestStallMs)} ms before any fault`;
  const others = Object.keys(seen.answeredBy).filter((cluster) => cluster !== answeredBy);
  if (answeredBy !== undefined && others.length > 0) return `${others.join(', ')} answered, not ${answeredBy} alone`;
  return undefined;
}

/** Watches a load for a while. Returns what it saw, or throws InvalidRun. */
export async function controlWindow(lab: Lab, load: Load, limits: ControlLimits): Promise<Outcome> {
  await load.lagMs();
  const from = lab.now();
  await sleep(limits.forMs);
  const until = lab.now();
  // Calls that started last need a moment to end; a call that hangs shows as missing.
  await sleep(limits.stallMaxMs ?? controlStallMs);
  const seen = outcome(await load.calls(), { from, until });
  const callsMin = limits.callsMin ?? Math.floor((load.spec.perSecond * (until - from)) / 2_000);
  const reason = invalidBecause(seen, await load.lagMs(), { ...limits, callsMin });
  if (reason !== undefined) throw new InvalidRun(reason);
  return seen;
}
