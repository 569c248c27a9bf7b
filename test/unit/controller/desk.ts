/**
 * A controller at its smallest, to send commands to and to ask: the real `step`, the real admin API over HTTP, and a journal that
 * is a list. Time stands still unless it is moved.
 */
import { type AdminPorts, adminRoutes } from '../../../src/controller/admin.ts';
import { journalDecisions } from '../../../src/controller/decisions.ts';
import { dryRun } from '../../../src/controller/dry_run.ts';
import { explainFrom } from '../../../src/controller/explaining.ts';
import { withFailover } from '../../../src/controller/failover_status.ts';
import { fail, ok } from '../../../src/core/errors.ts';
import type { StatusReport } from '../../../src/core/report.ts';
import type { Decision } from '../../../src/failover/decision.ts';
import { defaultPolicies } from '../../../src/failover/policy.ts';
import { initialState, step } from '../../../src/failover/step.ts';
import type { View } from '../../../src/federation/view.ts';
import { type Command, noSignals, type Signals } from '../../../src/health/signals.ts';
import type { Entry } from '../../../src/journal/entry.ts';
import { type HttpListener, listenHttp } from '../../../src/ops/http.ts';
import { explainInput, nowMs, wallMs } from './shop.ts';

export interface Desk {
  readonly url: string;
  readonly entries: readonly Entry[];
  readonly commands: readonly Command[];
  /** Lets time pass, with a step wherever one is due. */
  pass(ms: number): void;
  see(view: View): void;
  writer: boolean;
  journalFull: boolean;
  close(): Promise<void>;
}

const bare = (self: string): StatusReport => ({
  apiVersion: 'isthmus.dev/v1',
  kind: 'Status',
  clusterset: 'prod',
  member: self,
  replica: 'isthmus-controller-0',
  version: '0.1.0',
  writer: true,
  store: {
    connected: true,
    endpoint: 'https://etcd:2379',
    version: '3.7.3',
    revision: '9',
    reason: '',
    readBackSeconds: 0.3,
  },
  saved: { ageSeconds: 1, servingFromDisk: false },
  kubernetes: { staleSeconds: 0.1, pending: [] },
  gateways: [],
  peers: [],
  services: [],
  proxies: [],
  problems: [],
});

export const openDesk = async (first: View, replica = 'isthmus-controller-0'): Promise<Desk> => {
  let view = first;
  let now = nowMs;
  const wallNow = (): number => wallMs + now - nowMs;
  const entries: Entry[] = [];
  const commands: Command[] = [];
  const signals = (asked: readonly Command[]): Signals => ({
    ...noSignals,
    commands: asked,
    readBackMs: 300,
    control: new Map(
      [...view.members.keys()]
        .filter((member) => member !== view.self)
        .map((member) => [member, { ageMs: 300, shuttingDown: false, draining: false }]),
    ),
  });
  const write = (decision: Decision): Entry => {
    const entry: Entry = {
      sequence: entries.length + 1,
      kind: 'decision',
      chain: 'c',
      member: view.self,
      replica,
      epoch: '1',
      wallMs: wallNow(),
      monotonicMs: now,
      previous: '',
      step: { first: 1, count: 1 },
      inputs: undefined,
      // As it comes back from the disk.
      body: JSON.parse(JSON.stringify(decision)) as unknown,
    };
    entries.push(entry);
    return entry;
  };
  let last = step(initialState(), view, signals([]), defaultPolicies, now, () => 0.5);
  const decide = (asked: readonly Command[]): readonly Decision[] => {
    last = step(last.state, view, signals(asked), defaultPolicies, now, () => 0.5);
    last.journal.forEach(write);
    return last.journal;
  };
  const journal: Parameters<typeof journalDecisions>[0] = {
    entries: async ({ sinceMs = 0, untilMs = Number.POSITIVE_INFINITY, limit = 100, keep = 'newest', match }) => {
      const found = entries
        .filter((entry) => entry.wallMs >= sinceMs && entry.wallMs <= untilMs)
        .map((entry) => ({ entry, hash: '', intact: true }))
        .filter((one) => match?.(one) !== false);
      return keep === 'newest' ? found.slice(-limit) : found.slice(0, limit);
    },
  };
  const state = { writer: true, journalFull: false };
  const ports: AdminPorts = {
    self: first.self,
    replica,
    nowWallMs: wallNow,
    view: () => view,
    status: () =>
      withFailover(bare(view.self), {
        nowMs: now,
        deciding: state.writer,
        view,
        plan: last.plan,
        verdicts: last.verdicts,
        policies: defaultPolicies,
        frozen: last.state.frozen,
        drains: last.state.drains,
        journal: { state: 'written', spooled: 0, ageSeconds: 1, reason: '' },
        withdrawals: new Map(),
        graySignal: () => undefined,
      }),
    trace: () => Promise.reject(new Error('not here')),
    explain: (service, from, decisions) =>
      explainFrom(
        service,
        from,
        explainInput(view, [], {
          plan: last.plan,
          nowMs: now,
          wallMs: wallNow(),
          deciding: state.writer,
          frozen: last.state.frozen,
          decisions,
        }),
      ),
    decisions: (query) => journalDecisions(journal, query),
    observing: () => [],
    dryRun: (command) =>
      dryRun({
        step,
        state: last.state,
        view,
        signals: signals([]),
        policies: defaultPolicies,
        nowMs: now,
        wallMs: wallNow(),
        rng: () => 0.5,
        command,
        opinions: new Map(),
        loads: new Map(),
        pause: async () => {},
      }),
    command: async (command) => {
      commands.push(command);
      return decide([command]).filter((decision) => decision.author === command.author);
    },
    notWriter: () => (state.writer ? undefined : 'isthmus-controller-1 does'),
    journalAccepts: () =>
      state.journalFull
        ? fail('journal/unwritable', 'the change is refused: ENOSPC', { hint: 'free the disk' })
        : ok(true),
  };
  const routes = adminRoutes(ports);
  const listener: HttpListener = await listenHttp('127.0.0.1:0', routes.get, routes.post);
  return {
    url: `http://127.0.0.1:${listener.port}`,
    entries,
    commands,
    pass: (ms) => {
      const end = now + ms;
      while (last.wakeAt !== undefined && last.wakeAt <= end) {
        now = Math.max(now + 1, last.wakeAt);
        decide([]);
      }
      now = end;
    },
    see: (next) => {
      view = next;
      decide([]);
    },
    get writer() {
      return state.writer;
    },
    set writer(value) {
      state.writer = value;
    },
    get journalFull() {
      return state.journalFull;
    },
    set journalFull(value) {
      state.journalFull = value;
    },
    close: () => listener.close(),
  };
};
