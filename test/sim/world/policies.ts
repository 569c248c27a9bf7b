/** The policies that runs are drawn from. Times are short, so that a run sees a whole failback; the default's are among them. */
import { defaultPolicy, type FailoverPolicy, type Policies } from '../../../src/failover/policy.ts';

const quick: FailoverPolicy = {
  ...defaultPolicy,
  name: 'quick',
  thresholds: {
    ...defaultPolicy.thresholds,
    outlier: { ...defaultPolicy.thresholds.outlier, baseEjectionMs: 5_000, maxEjectionMs: 20_000 },
    withdrawalHoldMs: 40_000,
    flapHalfLifeMs: 15_000,
  },
  failback: { ...defaultPolicy.failback, holdDownMs: 5_000, steps: [25, 50, 100], stepMs: 4_000 },
  drain: { overMs: 10_000, graceMs: 20_000 },
};

const declared: FailoverPolicy = {
  ...quick,
  name: 'declared',
  capacity: { perEndpoint: 5, reservePercent: 20, localPercent: 70, maxSpillPercent: 100 },
};

const all = {
  quick: { policy: quick, partialSpill: true },
  /** The mesh adapter knows all or nothing. */
  whole: { policy: { ...quick, name: 'whole' }, partialSpill: false },
  'few-moves': { policy: { ...quick, name: 'few-moves', maxMovesPerMinute: 2 }, partialSpill: true },
  declared: { policy: declared, partialSpill: true },
  latched: {
    policy: { ...quick, name: 'latched', failback: { ...quick.failback, mode: 'latched' } },
    partialSpill: true,
  },
  'fail-fast': { policy: { ...quick, name: 'fail-fast', whenAllBad: 'fail-fast' }, partialSpill: true },
  observe: { policy: { ...quick, name: 'observe', mode: 'observe' }, partialSpill: true },
  default: { policy: defaultPolicy, partialSpill: true },
} as const satisfies Record<string, { policy: FailoverPolicy; partialSpill: boolean }>;

export type PolicyName = keyof typeof all;
export const policyNames = Object.keys(all) as readonly PolicyName[];

export const policyNamed = (name: PolicyName): FailoverPolicy => all[name].policy;

export const policiesNamed = (name: PolicyName): Policies => ({
  default: all[name].policy,
  services: new Map(),
  capabilities: { partialSpill: all[name].partialSpill },
});

/**
 * How long after the last fault a policy may take until everything is back: the longest ejection, the penalty of flapping down to
 * its limit, hold-down and every step, what was held, and some seconds to notice.
 */
export const boundMs = (name: PolicyName): number => {
  const { thresholds, failback, drain, maxMovesPerMinute } = policyNamed(name);
  const steps = failback.steps.length * failback.stepMs;
  // Several cells come back, each in its steps.
  const rate = (8 * failback.steps.length * 60_000) / maxMovesPerMinute;
  const penalty = 3 * thresholds.flapHalfLifeMs;
  return (
    thresholds.outlier.maxEjectionMs +
    penalty +
    thresholds.evictMs +
    failback.holdDownMs +
    steps +
    rate +
    drain.overMs +
    thresholds.withdrawalHoldMs +
    60_000
  );
};
