/** What the admin API answers, made of what runs: the functions behind its routes. */
import type { Config } from '../config/controller.ts';
import type { Clock, Rng } from '../core/clock.ts';
import type { DenialReport, EgressReport } from '../core/egress_report.ts';
import type { ExplainReport } from '../core/failover_report.ts';
import type { StatusReport, TraceReport } from '../core/report.ts';
import type { Plan } from '../failover/plan.ts';
import { step } from '../failover/step.ts';
import type { View } from '../federation/view.ts';
import { noSignals } from '../health/signals.ts';
import type { CellKey } from '../health/verdict.ts';
import type { AdminPorts } from './admin.ts';
import { journalDecisions } from './decisions.ts';
import { dryRun } from './dry_run.ts';
import type { EgressBook } from './egress_book.ts';
import type { Opinion } from './elsewhere.ts';
import { explain, explainFrom } from './explaining.ts';
import type { Failover } from './failover.ts';
import { observingPolicies, withFailover } from './failover_status.ts';
import type { TraceRequest } from './tracing.ts';

export interface AnswersOptions {
  readonly config: Config;
  readonly failover: Failover;
  readonly view: () => View;
  readonly plan: () => Plan;
  /** The facts, without what was decided. */
  readonly facts: () => StatusReport;
  readonly trace: (request: TraceRequest) => Promise<TraceReport>;
  readonly readBackMs: () => number | undefined;
  /** `GET /healthz` of a service that has a probe of its own. */
  readonly graySignal: (service: string) => string | undefined;
  /** New connections a second of our callers, by service and who answers. */
  readonly loads: () => ReadonlyMap<CellKey, number>;
  /** Who was denied what lately, newest first. */
  readonly denials: () => readonly DenialReport[];
  readonly egress: Pick<EgressBook, 'rules' | 'counts' | 'linesFor'>;
  readonly chosen: () => boolean;
  readonly clock: Clock;
  readonly rng: Rng;
}

const opinionsOf = (view: View): ReadonlyMap<string, Opinion> => {
  const found = new Map<string, Opinion>();
  for (const [name, { verdicts }] of view.members) {
    if (name !== view.self && verdicts !== undefined)
      found.set(name, { frozen: verdicts.frozen, more: verdicts.more, summary: verdicts.summary });
  }
  return found;
};

const denialsShown = 50;

const egressReport = ({ egress, denials }: AnswersOptions): EgressReport => {
  const { inForce, refused } = egress.counts();
  const denied = denials();
  return {
    policies: inForce,
    refused,
    deniesByDefault: egress.rules.allow !== undefined,
    denied: denied.slice(0, denialsShown),
    more: Math.max(0, denied.length - denialsShown),
  };
};

const rightsOf = (service: string, { egress, denials }: AnswersOptions): Pick<ExplainReport, 'rights' | 'denied'> => {
  const rights = egress.linesFor(service);
  const denied = denials().filter((one) => one.service === service);
  return {
    ...(rights.length === 0 ? {} : { rights }),
    ...(denied.length === 0 ? {} : { denied: denied.slice(0, denialsShown) }),
  };
};

export const answers = (o: AnswersOptions): AdminPorts => {
  const { config, failover, clock } = o;
  const { deciding, journaling, book } = failover;
  const common = () => ({
    view: o.view(),
    plan: o.plan(),
    verdicts: deciding.verdicts,
    policies: book.policies,
    nowMs: deciding.scale.now(),
    wallMs: clock.wallMs(),
    frozen: deciding.state.frozen,
    deciding: o.chosen(),
    withdrawals: failover.withdrawing.held,
  });
  const journalHealth = () => {
    const { failure, spooled } = journaling.journal.state;
    const writtenMs = failover.journalledAtMs;
    return {
      state:
        failure !== undefined ? ('unwritable' as const) : spooled > 0 ? ('spooled' as const) : ('written' as const),
      spooled,
      ageSeconds: writtenMs === undefined ? null : (clock.monotonicMs() - writtenMs) / 1000,
      reason: failure?.message ?? '',
    };
  };
  return {
    self: config.member,
    replica: config.replica,
    nowWallMs: () => clock.wallMs(),
    view: o.view,
    status: () => ({
      ...withFailover(o.facts(), {
        ...common(),
        drains: deciding.state.drains,
        journal: journalHealth(),
        graySignal: o.graySignal,
      }),
      egress: egressReport(o),
    }),
    trace: o.trace,
    explain: (service, from, decisions) => {
      const now = common();
      const input = {
        ...now,
        readBackMs: o.readBackMs(),
        opinions: opinionsOf(now.view),
        ageMs: (member: string) => {
          const at = now.view.members.get(member)?.freshAtMs;
          return at === undefined ? undefined : clock.monotonicMs() - at;
        },
        hasGraySignal: (key: string) => o.graySignal(key) !== undefined,
        decisions,
      };
      return from === config.member
        ? { ...explain(service, input), ...rightsOf(service, o) }
        : explainFrom(service, from, input);
    },
    decisions: (query) => journalDecisions(journaling.reader, query),
    observing: () => observingPolicies(book.policies),
    dryRun: (command) => {
      const view = o.view();
      return dryRun({
        step,
        state: deciding.state,
        view,
        signals: { ...noSignals, ...failover.standing() },
        policies: book.policies,
        nowMs: deciding.scale.now(),
        wallMs: clock.wallMs(),
        rng: o.rng,
        command,
        opinions: opinionsOf(view),
        loads: o.loads(),
        pause: () => new Promise((resolve) => setImmediate(resolve)),
      });
    },
    command: (command) => failover.command(command),
    notWriter: () => (o.chosen() ? undefined : 'another replica of this cluster does'),
    journalAccepts: (author) => journaling.journal.canAccept(author),
  };
};
