/**
 * The admin API on loopback: what the command line asks, and what it sends. Each answer is made by a function that is handed in, so
 * this file knows the requests and nothing of what runs behind them.
 *
 * GET  /v1/status /v1/trace /v1/explain /v1/observe
 * POST /v1/dry-run /v1/commands
 */
import { IsthmusError, type Result } from '../core/errors.ts';
import type {
  CommandReport,
  DecisionReport,
  DryRunReport,
  ExplainReport,
  ObserveReport,
} from '../core/failover_report.ts';
import { parseServiceKey, type ServiceKey } from '../core/names.ts';
import type { StatusReport, TraceReport } from '../core/report.ts';
import type { View } from '../federation/view.ts';
import type { Command } from '../health/signals.ts';
import { json, type PostRoute, type Reply, type Route } from '../ops/http.ts';
import { checkCommand, parseCommand, parseDrain } from './commands.ts';
import type { DecisionQuery } from './decisions.ts';
import type { DrainCommand } from './dry_run.ts';
import { isoTime } from './explaining.ts';
import { explainPast } from './explaining_past.ts';
import { observeReport, observeSinceMs } from './observing.ts';
import type { TraceRequest } from './tracing.ts';

export interface AdminPorts {
  readonly self: string;
  readonly replica: string;
  nowWallMs(): number;
  view(): View;
  status(): StatusReport;
  trace(request: TraceRequest): Promise<TraceReport>;
  /** Of now. `from` is a member, perhaps another than this one; the decisions are the newest of the service. */
  explain(service: ServiceKey, from: string, decisions: readonly DecisionReport[]): ExplainReport;
  decisions(query: DecisionQuery): Promise<readonly DecisionReport[]>;
  /** Names of policies that only observe. */
  observing(): readonly string[];
  dryRun(command: DrainCommand): Promise<DryRunReport>;
  /** Takes it into the next step; resolves with what was decided, once that is in the journal. */
  command(command: Command): Promise<readonly DecisionReport[]>;
  /** Why this replica takes no commands: it is not the one that decides. Undefined: it is. */
  notWriter(): string | undefined;
  /** Whether the journal would take a change by this author; its error says why not. */
  journalAccepts(author: string): Result<true>;
}

export interface AdminRoutes {
  readonly get: Route;
  readonly post: PostRoute;
}

const decisionsMax = 200;
const observedMax = 10_000;
const observedDaysMax = 90;
const explainedMax = 24;

const invalid = (field: string, value: string, why: string, hint: string): IsthmusError =>
  new IsthmusError('usage/invalid', `${field} "${value}" ${why}`, { hint, subject: { field, value } });

const serviceOf = (query: URLSearchParams): ServiceKey => {
  const key = query.get('service') ?? '';
  const parsed = parseServiceKey(key);
  if (!parsed.ok) throw invalid('service', key, 'is not a service', 'write it as <namespace>/<service>');
  return key;
};

/** ISO 8601 with its zone; undefined when it is not asked for. */
const timeOf = (query: URLSearchParams, nowWallMs: number): number | undefined => {
  const text = query.get('at');
  if (text === null) return undefined;
  const at = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) throw invalid('at', text, 'is not a time', 'write it as 2026-11-21T14:32:05Z');
  if (at > nowWallMs + 1_000) throw invalid('at', text, 'is in the future', 'leave it out for what is now');
  return at;
};

const past = async (service: ServiceKey, atWallMs: number, ports: AdminPorts): Promise<ExplainReport> => {
  const query = { service, observed: undefined, limit: decisionsMax };
  const [before, after] = await Promise.all([
    ports.decisions({ ...query, fromWallMs: undefined, untilWallMs: atWallMs, newestFirst: true }),
    ports.decisions({ ...query, fromWallMs: atWallMs + 1, untilWallMs: undefined, newestFirst: false }),
  ]);
  return explainPast({ service, self: ports.self, atWallMs, nowWallMs: ports.nowWallMs(), before, after });
};

const explained = async (query: URLSearchParams, ports: AdminPorts): Promise<Reply> => {
  const service = serviceOf(query);
  const from = query.get('from') ?? ports.self;
  const at = timeOf(query, ports.nowWallMs());
  if (at !== undefined) {
    if (from !== ports.self) {
      const hint = `isthmus explain ${service} --at ${query.get('at')} --context <the context of ${from}>`;
      throw invalid('from', from, 'keeps a journal of its own', hint);
    }
    return json(await past(service, at, ports));
  }
  const decisions = await ports.decisions({
    service,
    fromWallMs: undefined,
    untilWallMs: undefined,
    observed: undefined,
    newestFirst: true,
    limit: explainedMax,
  });
  return json(ports.explain(service, from, decisions));
};

const observed = async (query: URLSearchParams, ports: AdminPorts): Promise<Reply> => {
  const text = query.get('days') ?? '7';
  const days = Number(text);
  if (!Number.isInteger(days) || days < 1 || days > observedDaysMax) {
    throw invalid('days', text, 'is not a number of days', `use 1 to ${observedDaysMax}`);
  }
  const nowWallMs = ports.nowWallMs();
  const decisions = await ports.decisions({
    service: undefined,
    fromWallMs: observeSinceMs(nowWallMs, days),
    untilWallMs: undefined,
    observed: true,
    newestFirst: true,
    limit: observedMax,
  });
  const report: ObserveReport = observeReport({
    self: ports.self,
    nowWallMs,
    days,
    decisions,
    observing: ports.observing(),
  });
  return json(report);
};

const traced = async (query: URLSearchParams, ports: AdminPorts): Promise<Reply> =>
  json(
    await ports.trace({
      from: query.get('from') ?? '',
      service: query.get('service') ?? '',
      timeoutMs: Math.min(60_000, Number(query.get('timeoutMs') ?? 10_000) || 10_000),
    }),
  );

const commanded = async (body: unknown, ports: AdminPorts): Promise<Reply> => {
  const command = parseCommand(body, ports.self);
  checkCommand(command, ports.view());
  const elsewhere = ports.notWriter();
  if (elsewhere !== undefined) {
    throw new IsthmusError('command/not-writer', `${ports.replica} does not decide: ${elsewhere}`, {
      hint: 'send it to the replica that writes; isthmus status shows which',
    });
  }
  // What cannot be told afterwards is not begun.
  const accepted = ports.journalAccepts(command.author);
  if (!accepted.ok) throw accepted.error;
  const report: CommandReport = {
    apiVersion: 'isthmus.dev/v1',
    kind: 'Command',
    at: isoTime(ports.nowWallMs()),
    member: ports.self,
    replica: ports.replica,
    author: command.author,
    decisions: await ports.command(command),
  };
  return json(report);
};

const rehearsed = async (body: unknown, ports: AdminPorts): Promise<Reply> => {
  const command = parseDrain(body, ports.self);
  checkCommand(command, ports.view());
  return json(await ports.dryRun(command));
};

export const adminRoutes = (ports: AdminPorts): AdminRoutes => ({
  get: (path, query) => {
    if (path === '/v1/status') return json(ports.status());
    if (path === '/v1/trace') return traced(query, ports);
    if (path === '/v1/explain') return explained(query, ports);
    return path === '/v1/observe' ? observed(query, ports) : undefined;
  },
  post: (path, body) => {
    if (path === '/v1/commands') return commanded(body, ports);
    return path === '/v1/dry-run' ? rehearsed(body, ports) : undefined;
  },
});
