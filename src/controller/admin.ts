/**
 * The admin API on loopback: what the command line asks, and what it sends. Each answer is made by a function that is handed in, so
 * this file knows the requests and nothing of what runs behind them.
 *
 * GET  /v1/status /v1/trace /v1/explain /v1/decisions
 * POST /v1/dry-run /v1/commands
 *
 * What was decided in the past is in the journals of all replicas, each of which wrote while it was the one that decides: `decisions` gives
 * those of one, and the command line puts them together.
 */
import { IsthmusError, type Result } from '../core/errors.ts';
import type {
  CommandReport,
  DecisionListReport,
  DecisionReport,
  DryRunReport,
  ExplainReport,
} from '../core/failover_report.ts';
import { parseServiceKey, type ServiceKey } from '../core/names.ts';
import type { StatusReport, TraceReport } from '../core/report.ts';
import type { Decision } from '../failover/decision.ts';
import type { View } from '../federation/view.ts';
import type { Command } from '../health/signals.ts';
import { json, type PostRoute, type Reply, type Route } from '../ops/http.ts';
import { checkCommand, parseCommand, parseDrain } from './commands.ts';
import { type DecisionQuery, freshReport } from './decisions.ts';
import type { DrainCommand } from './dry_run.ts';
import { isoTime } from './explaining.ts';
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
  /** Takes it into the next step; resolves with what was decided upon it, once that is in the journal. */
  command(command: Command): Promise<readonly Decision[]>;
  /** Why this replica takes no commands: it is not the one that decides. Undefined: it is. */
  notWriter(): string | undefined;
  /** Whether the journal would take a change by this author; its error says why not. */
  journalAccepts(author: string): Result<true>;
}

export interface AdminRoutes {
  readonly get: Route;
  readonly post: PostRoute;
}

const decisionsMax = 10_000;
const explainedMax = 24;

const invalid = (field: string, value: string, why: string, hint: string): IsthmusError =>
  new IsthmusError('usage/invalid', `${field} "${value}" ${why}`, { hint, subject: { field, value } });

const serviceOf = (query: URLSearchParams): ServiceKey => {
  const key = query.get('service') ?? '';
  const parsed = parseServiceKey(key);
  if (!parsed.ok) throw invalid('service', key, 'is not a service', 'write it as <namespace>/<service>');
  return key;
};

const explained = async (query: URLSearchParams, ports: AdminPorts): Promise<Reply> => {
  const service = serviceOf(query);
  const decisions = await ports.decisions({
    service,
    fromWallMs: undefined,
    untilWallMs: undefined,
    observed: undefined,
    newestFirst: true,
    limit: explainedMax,
  });
  return json(ports.explain(service, query.get('from') ?? ports.self, decisions));
};

/** A whole number, or undefined when it is not asked for. */
const numberOf = (query: URLSearchParams, field: string, max: number): number | undefined => {
  const text = query.get(field);
  if (text === null) return undefined;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0 && value <= max && text !== '') return value;
  throw invalid(field, text, 'is not a number', `use a whole number from 0 to ${max}`);
};

const wordOf = <Word extends string>(
  query: URLSearchParams,
  field: string,
  words: readonly Word[],
): Word | undefined => {
  const text = query.get(field);
  const word = words.find((known) => known === text);
  if (text === null || word !== undefined) return word;
  throw invalid(field, text, 'is not known', `use ${words.join(' or ')}`);
};

const decided = async (query: URLSearchParams, ports: AdminPorts): Promise<Reply> => {
  const observed = wordOf(query, 'observed', ['true', 'false']);
  const report: DecisionListReport = {
    apiVersion: 'isthmus.dev/v1',
    kind: 'DecisionList',
    member: ports.self,
    replica: ports.replica,
    at: isoTime(ports.nowWallMs()),
    observing: ports.observing(),
    decisions: await ports.decisions({
      service: query.has('service') ? serviceOf(query) : undefined,
      fromWallMs: numberOf(query, 'since', Number.MAX_SAFE_INTEGER),
      untilWallMs: numberOf(query, 'until', Number.MAX_SAFE_INTEGER),
      observed: observed === undefined ? undefined : observed === 'true',
      newestFirst: wordOf(query, 'first', ['newest', 'oldest']) !== 'oldest',
      limit: numberOf(query, 'limit', decisionsMax) ?? decisionsMax,
    }),
  };
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
  const decisions = await ports.command(command);
  const wallMs = ports.nowWallMs();
  const report: CommandReport = {
    apiVersion: 'isthmus.dev/v1',
    kind: 'Command',
    at: isoTime(wallMs),
    member: ports.self,
    replica: ports.replica,
    author: command.author,
    decisions: decisions.map((decision) => freshReport(decision, wallMs, ports.replica)),
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
    return path === '/v1/decisions' ? decided(query, ports) : undefined;
  },
  post: (path, body) => {
    if (path === '/v1/commands') return commanded(body, ports);
    return path === '/v1/dry-run' ? rehearsed(body, ports) : undefined;
  },
});
