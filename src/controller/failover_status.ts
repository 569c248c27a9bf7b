/**
 * What `status` says of failover: verdicts with their ages and deadlines, drains, the journal. Laid over the report of facts, so that
 * a controller that has decided nothing yet reports just those.
 */
import type {
  DrainReport,
  FailoverReport,
  JournalHealth,
  VerdictReport,
  WithdrawalReport,
} from '../core/failover_report.ts';
import type { ServiceKey } from '../core/names.ts';
import type { PeerReport, ServiceReport, StatusReport } from '../core/report.ts';
import { targetText } from '../failover/drains.ts';
import type { CellStanding, Plan } from '../failover/plan.ts';
import { type Policies, policyOf } from '../failover/policy.ts';
import type { View } from '../federation/view.ts';
import type { HeldShown } from '../federation/withdrawals.ts';
import type { DrainTarget } from '../health/signals.ts';
import { cellKey, type Verdict, type Verdicts } from '../health/verdict.ts';
import { membersOf } from './dry_run.ts';
import { type Frozen, holdReport } from './explaining.ts';
import { servingShares } from './standings.ts';

export interface StandingDrain {
  readonly target: DrainTarget;
  readonly author: string;
  readonly reason: string;
  readonly sinceMs: number;
  readonly overMs: number | undefined;
  readonly graceMs: number | undefined;
}

export interface FailoverStatusInput {
  readonly nowMs: number;
  /** Whether this replica decides. */
  readonly deciding: boolean;
  readonly view: View;
  readonly plan: Plan;
  readonly verdicts: Verdicts;
  readonly policies: Policies;
  readonly frozen: Frozen | undefined;
  readonly drains: readonly StandingDrain[];
  readonly journal: JournalHealth;
  /** What members withdrew and is held, by member. */
  readonly withdrawals: ReadonlyMap<string, readonly HeldShown[]>;
  /** `GET /healthz` of a service that has a named signal for gray failures. */
  graySignal(service: ServiceKey): string | undefined;
}

const verdictReport = (verdict: Verdict, nowMs: number): VerdictReport => ({
  state: verdict.state,
  reason: verdict.reason,
  detail: verdict.detail,
  ageSeconds: Math.max(0, nowMs - verdict.sinceMs) / 1000,
  untilSeconds: verdict.deadlineMs === undefined ? null : Math.max(0, verdict.deadlineMs - nowMs) / 1000,
});

/** Cells of the plan that a drain is about. */
const drained = (drain: StandingDrain, input: FailoverStatusInput): CellStanding[] => {
  const { target } = drain;
  const members = new Set(membersOf(target, input.view));
  const plans = target.scope === 'service' ? [input.plan.services.get(target.service)] : input.plan.services.values();
  return [...plans].flatMap((plan) =>
    (plan?.standings ?? []).filter((cell) => cell.reason === 'Draining' && members.has(cell.member)),
  );
};

const drainReport = (drain: StandingDrain, input: FailoverStatusInput): DrainReport => {
  const { nowMs, policies, plan, view } = input;
  const { target } = drain;
  const policy = target.scope === 'service' ? policyOf(policies, target.service) : policies.default;
  const overMs = drain.overMs ?? policy.drain.overMs;
  const passedMs = Math.max(0, nowMs - drain.sinceMs);
  const cells = drained(drain, input);
  // What the plan still gives it counts; only where the plan has no such cell does the time tell.
  const byTime = overMs === 0 ? 100 : Math.min(100, (100 * passedMs) / overMs);
  const percent = cells.length === 0 ? byTime : 100 - Math.max(...cells.map((cell) => cell.percent));
  const graceMs = drain.graceMs ?? policy.drain.graceMs;
  const members = new Set(membersOf(target, view));
  const held = [...plan.services.values()]
    .filter((service) => target.scope !== 'service' || service.key === target.service)
    .flatMap((service) => service.held)
    .filter((hold) => hold.member !== undefined && members.has(hold.member));
  return {
    target: targetText(target),
    author: drain.author,
    reason: drain.reason,
    ageSeconds: passedMs / 1000,
    percent: Math.round(percent),
    doneInSeconds: percent >= 100 ? null : Math.max(0, overMs - passedMs) / 1000,
    graceSeconds: passedMs >= overMs + graceMs ? null : (overMs + graceMs - passedMs) / 1000,
    held: [...new Map(held.map((hold) => [`${hold.guard}|${hold.member}`, holdReport(hold)])).values()],
  };
};

const withdrawalReport = (member: string, held: readonly HeldShown[], nowMs: number): WithdrawalReport => ({
  member,
  services: held.length,
  mass: held.some(({ reason }) => reason === 'Mass'),
  ageSeconds: Math.max(0, nowMs - Math.min(...held.map(({ sinceMs }) => sinceMs))) / 1000,
  untilSeconds: Math.max(0, Math.max(...held.map(({ deadlineMs }) => deadlineMs)) - nowMs) / 1000,
});

/** Names of the policies that only observe. */
export const observingPolicies = (policies: Policies): string[] => {
  const all = [policies.default, ...(policies.namespaces?.values() ?? []), ...policies.services.values()];
  return [...new Set(all.filter((policy) => policy.mode === 'observe').map((policy) => policy.name))].sort();
};

const failover = (input: FailoverStatusInput): FailoverReport => {
  const { nowMs, frozen, policies } = input;
  return {
    deciding: input.deciding,
    frozen:
      frozen === undefined
        ? null
        : { author: frozen.author, reason: frozen.reason, ageSeconds: Math.max(0, nowMs - frozen.sinceMs) / 1000 },
    observing: observingPolicies(policies),
    drains: input.drains.map((drain) => drainReport(drain, input)),
    journal: input.journal,
    withdrawals: [...input.withdrawals]
      .filter(([, held]) => held.length > 0)
      .map(([member, held]) => withdrawalReport(member, held, nowMs))
      .sort((a, b) => (a.member < b.member ? -1 : 1)),
    regions: [...input.verdicts.regions]
      .map(([region, verdict]) => ({ region, ...verdictReport(verdict, nowMs) }))
      .map(({ untilSeconds: _until, ...region }) => region)
      .sort((a, b) => (a.region < b.region ? -1 : 1)),
  };
};

const withVerdict = (peer: PeerReport, input: FailoverStatusInput): PeerReport => {
  const verdict = input.verdicts.members.get(peer.member);
  if (verdict === undefined) return peer;
  return {
    ...peer,
    // The two planes as they are judged: a probe that is late does not make a peer unreachable at once.
    control: { ...peer.control, state: verdict.control },
    // A replica that does not probe knows nothing of its own: what was measured stands.
    data: verdict.data === 'unknown' ? peer.data : { ...peer.data, state: verdict.data },
    verdict: verdictReport(verdict, input.nowMs),
  };
};

/** A service's serving text, its cells that are not healthy, and whether anything can see it fail in a gray way. */
const withCells = (service: ServiceReport, input: FailoverStatusInput): ServiceReport => {
  const key = service.service;
  const view = input.view.services.get(key);
  if (view === undefined) return service;
  const plan = input.plan.services.get(key);
  const shares = servingShares(view, plan, input.view.self);
  const members = [input.view.self, ...view.remotes.keys()];
  const judged = members.flatMap((member) => {
    const verdict = input.verdicts.cells.get(cellKey(key, member));
    return verdict === undefined ? [] : [{ member, ...verdictReport(verdict, input.nowMs) }];
  });
  const moving = (plan?.standings ?? [])
    .filter((cell) => cell.reason !== 'Healthy' && !judged.some(({ member }) => member === cell.member))
    .map((cell) => ({ member: cell.member, ...verdictReport({ ...cell, penalty: 0 }, input.nowMs) }));
  const probe = input.graySignal(key);
  return {
    ...service,
    shares: [...shares].map(([member, percent]) => ({ member, percent })),
    cells: [...judged, ...moving].filter((cell) => cell.reason !== 'Healthy'),
    held: (plan?.held ?? []).map(holdReport),
    gray: probe === undefined ? null : { probe },
  };
};

export const withFailover = (report: StatusReport, input: FailoverStatusInput): StatusReport => ({
  ...report,
  failover: failover(input),
  peers: report.peers.map((peer) => withVerdict(peer, input)),
  services: report.services.map((service) => withCells(service, input)),
});
