/**
 * The lines of the policy that mattered to a service just now. A policy has some forty numbers; a reader wants the few that this
 * case turned on, each with what follows from it.
 */

import type { PolicyLine, StandingReport } from '../core/failover_report.ts';
import { span } from '../core/span.ts';
import type { GuardHold } from '../failover/plan.ts';
import type { FailoverPolicy } from '../failover/policy.ts';
import type { Thresholds } from '../health/thresholds.ts';
import { stepText } from './wording.ts';

type Rows = readonly StandingReport[];

const has = (rows: Rows, ...reasons: string[]): boolean => rows.some((row) => reasons.includes(row.reason));

const order = (policy: FailoverPolicy): PolicyLine => ({
  field: 'order',
  value: policy.order.map(stepText).join(' > '),
  effect: 'the first step with a usable cluster answers, the next ones stand behind it',
});

const capacity = (policy: FailoverPolicy, rows: Rows, partial: boolean): PolicyLine[] => {
  const own = rows.find((row) => row.local);
  if (own?.ready == null || own.total === null || own.total === 0 || own.ready === own.total) return [];
  const { localPercent } = policy.capacity;
  const share = Math.round((100 * own.ready) / own.total);
  const below = partial ? 'spills the rest' : 'would spill, but this mesh can move only all or nothing';
  return [
    {
      field: 'capacity.localPercent',
      value: `${localPercent} %`,
      effect: `${share} % are ready here: ${share >= localPercent ? 'they serve alone' : own.ready === 0 ? 'all goes elsewhere' : below}`,
    },
  ];
};

const failback = (
  { failback: { mode, holdDownMs, steps, stepMs, tunnelAgeMs } }: FailoverPolicy,
  rows: Rows,
): PolicyLine[] => {
  if (!has(rows, 'HoldDown', 'Ramping', 'Latched', 'Flapping') && rows.every((row) => row.state === 'fresh')) return [];
  const way = `${steps.join(' > ')} %, ${span(stepMs)} each`;
  const value = mode === 'latched' ? 'latched' : `ramp after ${span(holdDownMs)}: ${way}`;
  const effect =
    mode === 'latched'
      ? `healthy for ${span(holdDownMs)} and a person’s word; then ${way}`
      : 'what was out returns in these steps';
  const age: PolicyLine = {
    field: 'failback.tunnelAge',
    value: span(tunnelAgeMs ?? 0),
    effect: 'connections to where traffic was are ended after that',
  };
  return [{ field: 'failback', value, effect }, ...(tunnelAgeMs === undefined ? [] : [age])];
};

const thresholds = ({ thresholds: t }: FailoverPolicy, rows: Rows, mass: Thresholds | undefined): PolicyLine[] => {
  const lines: PolicyLine[] = [];
  const line = (field: string, value: string, effect: string): number => lines.push({ field, value, effect });
  if (has(rows, 'ProbeFailed', 'SilentAndUnreachable')) {
    line(
      'thresholds.probes',
      `${t.probeFailures} fail, ${t.probeSuccesses} succeed`,
      'so many in a row change the verdict of a data path',
    );
  }
  if (has(rows, 'ControlSilent', 'SilentAndUnreachable', 'StoreDark')) {
    line('thresholds.silent', span(t.silentMs), 'a manifest that does not rise for so long is silence');
  }
  if (has(rows, 'ConsecutiveErrors')) {
    line('thresholds.outlier.consecutiveErrors', String(t.outlier.consecutiveErrors), 'errors in a row');
  }
  if (has(rows, 'FailurePercentage')) {
    const volume = `of at least ${t.outlier.failurePercentageMinimumVolume} calls in ${span(t.outlier.intervalMs)}`;
    line('thresholds.outlier.failurePercentage', `${t.outlier.failurePercentage} %`, volume);
  }
  if (has(rows, 'GrayFailure')) {
    line('thresholds.gray', `${t.grayFailures} fail, ${t.graySuccesses} succeed`, 'application probes in a row');
  }
  if (rows.some((row) => row.state === 'suspect')) {
    line('thresholds.suspect', span(t.suspectMs), 'suspicion of a data path lasts so long, then quarantine');
  }
  if (rows.some((row) => row.state === 'quarantined')) {
    line('thresholds.evict', span(t.evictMs), 'silent and unreachable for so long: evicted');
  }
  if (has(rows, 'Flapping')) {
    line(
      'thresholds.flapLimit',
      String(t.flapLimit),
      `each change adds ${t.flapPenalty}, half is gone after ${span(t.flapHalfLifeMs)}`,
    );
  }
  if (mass !== undefined) {
    line(
      'thresholds.withdrawal',
      `${mass.withdrawalPercent} %`,
      `more than that withdrawn at once is held for ${span(mass.withdrawalHoldMs)}`,
    );
  }
  return lines;
};

export const policyLines = (
  policy: FailoverPolicy,
  rows: Rows,
  held: readonly Pick<GuardHold, 'guard'>[],
  partialSpill: boolean,
  /** Of the set's default, when it was withdrawn among very much and is kept: services have no say in that. */
  mass?: Thresholds,
): PolicyLine[] => {
  const guarded = (guard: string): boolean => held.some((hold) => hold.guard === guard);
  const bad =
    rows.length > 0 && rows.every((row) => row.state === 'quarantined' || row.state === 'evicted' || row.ready === 0);
  const drain: PolicyLine = {
    field: 'drain',
    value: `over ${span(policy.drain.overMs)}, grace ${span(policy.drain.graceMs)}`,
    effect: 'unless the command said otherwise',
  };
  const allBad: PolicyLine = {
    field: 'whenAllBad',
    value: policy.whenAllBad,
    effect: policy.whenAllBad === 'keep-last' ? 'goes on with the last cells that were good' : 'refuses calls at once',
  };
  const rate: PolicyLine = {
    field: 'maxMovesPerMinute',
    value: String(policy.maxMovesPerMinute),
    effect: 'further moves wait',
  };
  const perEndpoint = policy.capacity.perEndpoint;
  const headroom: PolicyLine = {
    field: 'capacity.perEndpoint',
    value: perEndpoint === undefined ? 'unknown' : `${perEndpoint}/s`,
    effect: `${policy.capacity.reservePercent} % of it is never offered to others`,
  };
  return [
    order(policy),
    ...capacity(policy, rows, partialSpill),
    ...failback(policy, rows),
    ...thresholds(policy, rows, mass),
    ...(bad || guarded('LastCell') ? [allBad] : []),
    ...(has(rows, 'Draining') ? [drain] : []),
    ...(guarded('Headroom') || guarded('Grant') ? [headroom] : []),
    ...(guarded('MoveRate') ? [rate] : []),
  ];
};
