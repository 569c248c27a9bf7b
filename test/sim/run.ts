/** One run: calm, then faults (safety), then none (liveness), with every invariant looking on. */
import { invariants } from './invariants/all.ts';
import { type Invariant, type Violation, Watch } from './invariants/invariant.ts';
import { applyFault } from './world/apply.ts';
import { expectedPlaces } from './world/expected.ts';
import { rememberSignatures } from './world/identities.ts';
import { boundMs } from './world/policies.ts';
import type { Scenario } from './world/scenario.ts';
import { World } from './world/world.ts';

const lookMs = 5_000;
/** As it should be for so many looks in a row: it stays so. */
const steadyLooks = 3;

export interface Outcome {
  readonly scenario: Scenario;
  readonly violation: Violation | undefined;
  readonly simulatedMs: number;
  /** From the last fault until all was as it should be; undefined: it never was. */
  readonly convergedMs: number | undefined;
  readonly requests: number;
  readonly steps: number;
  readonly shifts: number;
}

rememberSignatures();

/** Throws what the code under test throws: that is a failure of its own, made into a violation by the caller. */
const go = async (world: World, watch: Watch): Promise<number | undefined> => {
  const { scenario, time } = world;
  const stop = (): boolean => watch.violation !== undefined;
  const undo = new Set<() => void>();
  for (const fault of scenario.faults) {
    time.at(fault.atMs, () => {
      world.faulted();
      const lift = applyFault(world, fault);
      const once = (): void => {
        if (!undo.delete(once)) return;
        lift();
        world.faulted();
      };
      undo.add(once);
      if (fault.forMs > 0) time.after(fault.forMs, once);
    });
  }
  await time.run(scenario.safetyMs, stop);
  for (const once of [...undo]) once();
  world.lift();
  const from = time.nowMs;
  const until = from + boundMs(scenario.policy);
  let steady = 0;
  while (time.nowMs < until && !stop()) {
    await time.run(Math.min(until, time.nowMs + lookMs), stop);
    steady = expectedPlaces(world) === undefined ? steady + 1 : 0;
    if (steady >= steadyLooks) break;
  }
  if (!stop()) watch.end(world, time.nowMs - from);
  return steady >= steadyLooks ? time.nowMs - from - steadyLooks * lookMs : undefined;
};

export const runScenario = async (scenario: Scenario, watched: readonly Invariant[] = invariants): Promise<Outcome> => {
  const watch = new Watch(watched);
  const world = await World.build(scenario, watch);
  let convergedMs: number | undefined;
  let violation: Violation | undefined;
  try {
    convergedMs = await go(world, watch);
    violation = watch.violation;
  } catch (error) {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    violation = { invariant: 'no-crash', atMs: world.nowMs, detail };
  } finally {
    world.end();
  }
  const { requests, steps, shifts, nowMs } = world;
  return { scenario, violation, simulatedMs: nowMs, convergedMs, requests, steps, shifts };
};
