/**
 * What would change where a service's traffic goes: deadlines that come by themselves, evidence that is awaited, and words that a
 * person can say. Soonest first, for that is what a reader waits for.
 */

import type { ChangeReport, StandingReport } from '../core/failover_report.ts';
import { span } from '../core/span.ts';
import type { FailoverPolicy } from '../failover/policy.ts';
import { rowMax } from '../health/gray.ts';
import { listed } from './wording.ts';

export interface Withdrawal {
  readonly member: string;
  readonly untilSeconds: number;
  /** So much at once that a person's word is asked for; else a probe tells. */
  readonly mass: boolean;
}

export interface ChangesInput {
  readonly service: string;
  readonly from: string;
  readonly rows: readonly StandingReport[];
  readonly policy: FailoverPolicy;
  readonly partialSpill: boolean;
  readonly frozen: boolean;
  /** What members withdrew of it and is kept. */
  readonly withdrawals: readonly Withdrawal[];
}

const change = (inSeconds: number | null, what: string, command: string | null = null): ChangeReport => ({
  inSeconds,
  what,
  command,
});

/** The step that a ramp takes next, of those that the policy names. */
const nextStep = ({ failback: { steps } }: FailoverPolicy, percent: number): number =>
  steps.find((step) => step > percent) ?? 100;

const evidence = (row: StandingReport, { thresholds: t, failback }: FailoverPolicy): string => {
  const then =
    failback.mode === 'latched'
      ? 'then a person’s word is needed'
      : `then ${span(failback.holdDownMs)} of health, and it returns in steps`;
  if (row.reason === 'GrayFailure') {
    const longer = t.graySuccesses < rowMax ? ` (up to ${rowMax}, where such rows broke)` : '';
    return `${t.graySuccesses} application probes of ${row.member} in a row succeed${longer}; ${then}`;
  }
  if (row.reason === 'ControlSilent') return `${row.member}’s manifest rises again`;
  if (row.reason === 'StoreDark') return 'the store answers again';
  if (row.reason === 'SilentAndUnreachable')
    return `${row.member}’s manifest rises again, and ${t.probeSuccesses} probes of it in a row succeed; ${then}`;
  if (row.reason === 'ShuttingDown') return `${row.member}’s controller starts again`;
  if (row.reason === 'RegionCondemned')
    return `the quorum takes back its votes against ${row.member}’s region; ${then}`;
  if (row.reason === 'Withdrawn') return `${row.member} exports the service again`;
  if (row.reason === 'NotReady') return `endpoints of ${row.member} become ready`;
  return `${t.probeSuccesses} probes of ${row.member} in a row succeed; ${then}`;
};

const rowChanges = (row: StandingReport, input: ChangesInput): ChangeReport[] => {
  const { policy, service } = input;
  const at = row.untilSeconds;
  const { member, reason, state } = row;
  if (reason === 'Healthy') return [];
  if (reason === 'HoldDown')
    return [
      change(
        at,
        `${member} starts to get traffic back, ${policy.failback.steps[0] ?? 100} % at first, if it stays healthy`,
      ),
    ];
  if (reason === 'Ramping') {
    return [
      change(
        at,
        `${member} goes from ${row.weightPercent} to ${nextStep(policy, row.weightPercent)} %, if it stays healthy`,
      ),
    ];
  }
  if (reason === 'Latched') {
    const where = row.local ? '' : ` --cluster ${member}`;
    return [change(null, `a person lets ${member} have its traffic back`, `isthmus failback ${service}${where}`)];
  }
  if (reason === 'Flapping') return [change(at, `${member}’s penalty for changing too often has decayed`)];
  if (reason === 'Draining') {
    const ended = at === null ? [] : [change(at, `the next step of draining ${member}`)];
    return [...ended, change(null, `a person ends the drain of ${member}`, `isthmus undrain cluster ${member}`)];
  }
  const worse =
    at === null
      ? []
      : [
          change(
            at,
            state === 'suspect' && reason !== 'ControlSilent'
              ? `${member} is quarantined if the evidence stays`
              : state === 'quarantined'
                ? `${member} is judged again`
                : `${member} changes its state if nothing else is seen`,
          ),
        ];
  return [...worse, change(null, evidence(row, policy))];
};

const withdrawalChanges = ({ member, untilSeconds, mass }: Withdrawal): ChangeReport[] => [
  change(untilSeconds, `what ${member} withdrew is believed`),
  mass
    ? change(null, 'or at once, when a person knows that it is meant', `isthmus confirm-withdrawal --cluster ${member}`)
    : change(null, `or at once, when a gateway of ${member} refuses a probe of it`),
];

/** What would take the traffic from whoever has it now. */
const wouldFail = (input: ChangesInput): ChangeReport[] => {
  const { rows, policy, partialSpill } = input;
  const own = rows.find((row) => row.local && row.sharePercent > 0);
  const behind = rows.filter(
    (row) => !row.local && row.state !== 'evicted' && row.state !== 'quarantined' && row.tier !== null,
  );
  const first = Math.min(...behind.map((row) => row.tier ?? Number.POSITIVE_INFINITY));
  const next = listed(behind.filter((row) => row.tier === first).map((row) => row.member));
  if (own === undefined || own.sharePercent < 100) return [];
  if (behind.length === 0) return [change(null, `${own.member} has nobody behind it: if it fails, calls fail`)];
  if (!partialSpill) return [change(null, `no endpoint of ${own.member} is ready: ${next} takes over`)];
  const { localPercent } = policy.capacity;
  return [change(null, `fewer than ${localPercent} % of ${own.member}’s endpoints are ready: ${next} takes the rest`)];
};

export const changesOf = (input: ChangesInput): ChangeReport[] => {
  const found = [
    ...input.rows.flatMap((row) => rowChanges(row, input)),
    ...input.withdrawals.flatMap(withdrawalChanges),
    ...wouldFail(input),
  ];
  // Deadlines of states that are no longer acted upon would promise what does not come.
  const thaw = change(null, 'nothing is moved while decisions are frozen; they go on with', 'isthmus thaw');
  const timed = found.filter((one) => one.inSeconds !== null).sort((a, b) => a.inSeconds! - b.inSeconds!);
  const rest = found.filter((one) => one.inSeconds === null);
  return [...(input.frozen ? [thaw] : []), ...timed, ...rest];
};
