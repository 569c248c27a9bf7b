/**
 * The decision, whole: signals → verdicts → plan, with memory. A pure function, so that the same code runs in the controller, in the
 * simulation, in dry runs and in replays of the journal.
 */
import type { Rng } from '../core/clock.ts';
import type { View } from '../federation/view.ts';
import { assess } from '../health/assess.ts';
import type { Signals } from '../health/signals.ts';
import type { Verdicts } from '../health/verdict.ts';
import { type Step as Decided, decide } from './decide.ts';
import type { Role } from './guards.ts';
import { type Policies, policyOf } from './policy.ts';
import type { FailoverState } from './state.ts';

export { type FailoverState, initialState } from './state.ts';

export interface Step extends Decided {
  /** What it was decided by. */
  readonly verdicts: Verdicts;
}

/**
 * @param state - of the step before, or as it was saved
 * @param signals - what stands, and the events since the step before. Arrays and maps that are passed again as the same object are known
 *   to be unchanged
 * @param now - ms on the scale that goes on over restarts; not less than at the step before
 * @param _rng - no rule draws lots so far; it is in the signature so that one could, and replays would still hold
 * @param role - `cut-off`: this replica does not hear the writer; it may withdraw, never bring back
 */
export const step = (
  state: FailoverState,
  view: View,
  signals: Signals,
  policy: Policies,
  now: number,
  _rng: Rng,
  role: Role = 'writer',
): Step => {
  const thresholds = {
    member: policy.default.thresholds,
    of: (service: string) => policyOf(policy, service).thresholds,
  };
  const verdict = assess(state.health, view, signals, thresholds, now);
  return { ...decide(state, view, verdict, signals, policy, now, role), verdicts: verdict.verdicts };
};
