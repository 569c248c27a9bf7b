/**
 * What a command would move, without moving it: the same `step` that decides, run on a copy of the state with the command in it, then
 * forward in time until its ramp is over, everything else staying as it is now.
 *
 * A formula of its own for dry runs was passed over: it would agree with the decisions until the day it matters. What other
 * clusters would do is theirs to decide; that part is estimated, and says so.
 */
import type { Rng } from '../core/clock.ts';
import type { DryRunReport, HoldReport, LandingReport, MoveReport } from '../core/failover_report.ts';
import type { ServiceKey } from '../core/names.ts';
import type { Decision } from '../failover/decision.ts';
import { targetText } from '../failover/drains.ts';
import type { Plan, ServicePlan } from '../failover/plan.ts';
import { type Policies, policyOf } from '../failover/policy.ts';
import { readyOf } from '../failover/scene.ts';
import { capacityReady, capacityTotal } from '../federation/capacity.ts';
import type { ServiceView, View } from '../federation/view.ts';
import type { Command, DrainTarget, Signals } from '../health/signals.ts';
import { type CellKey, cellKey } from '../health/verdict.ts';
import { movesElsewhere } from './dry_run_elsewhere.ts';
import type { Opinion } from './elsewhere.ts';
import { holdReport, isoTime } from './explaining.ts';
import { movedPercent, type Shares } from './shares.ts';
import { servingShares } from './standings.ts';
import { listed } from './wording.ts';

export type Step<State> = (
  state: State,
  view: View,
  signals: Signals,
  policies: Policies,
  nowMs: number,
  rng: Rng,
) => {
  readonly state: State;
  readonly plan: Plan;
  readonly journal: readonly Decision[];
  readonly wakeAt: number | undefined;
};

export type DrainCommand = Extract<Command, { readonly target: DrainTarget }>;

export interface DryRunInput<State> {
  readonly step: Step<State>;
  /** Immutable, or a copy: the run goes on from it. */
  readonly state: State;
  readonly view: View;
  /** What stands now; its events are left out, for they have been judged. */
  readonly signals: Signals;
  readonly policies: Policies;
  readonly nowMs: number;
  readonly wallMs: number;
  readonly rng: Rng;
  readonly command: DrainCommand;
  readonly opinions: ReadonlyMap<string, Opinion>;
  /** New connections a second of this cluster's callers, by service and who answers; what is not in it is not known. */
  readonly loads: ReadonlyMap<CellKey, number>;
  /** Lets others run between two steps: a dry run must not hold up what serves. */
  pause(): Promise<void>;
}

/** However long the ramp, it is looked at in so many steps. */
const looks = 100;
const rampPointsMax = 12;
const settleMs = 10_000;
const horizonMaxMs = 3_600_000;

/** Of the slowest policy that the target may fall under. */
const overMs = (command: DrainCommand, policies: Policies): number => {
  const { target } = command;
  const all =
    target.scope === 'service'
      ? [policyOf(policies, target.service)]
      : [policies.default, ...(policies.namespaces?.values() ?? []), ...policies.services.values()];
  if (command.kind === 'drain') return command.overMs ?? Math.max(...all.map(({ drain }) => drain.overMs));
  return Math.max(...all.map(({ failback: f }) => f.holdDownMs + f.steps.length * f.stepMs));
};

type AllShares = ReadonlyMap<ServiceKey, Shares>;

const allShares = (view: View, plan: Plan): AllShares => {
  const shares = new Map<ServiceKey, Shares>();
  for (const [key, service] of view.services) {
    const found = servingShares(service, plan.services.get(key), view.self);
    if (found.size > 0) shares.set(key, found);
  }
  return shares;
};

const nothing: Shares = new Map();
const movedIn = (before: AllShares, after: AllShares): number => {
  let sum = 0;
  for (const key of new Set([...before.keys(), ...after.keys()])) {
    sum += movedPercent(before.get(key) ?? nothing, after.get(key) ?? nothing);
  }
  return sum;
};

interface Run {
  readonly before: AllShares;
  readonly after: AllShares;
  /** Guards that held on the way and did not before, by service. */
  readonly held: ReadonlyMap<ServiceKey, readonly HoldReport[]>;
  readonly ramp: readonly { readonly afterMs: number; readonly moved: number }[];
  readonly unfinished: boolean;
}

const holdKey = ({ guard, member }: HoldReport): string => `${guard}|${member ?? ''}`;

const holds = (plan: ServicePlan | undefined): HoldReport[] => (plan?.held ?? []).map(holdReport);

/** Runs the command to the end of its ramp. */
const run = async <State>(input: DryRunInput<State>): Promise<Run> => {
  const { view, policies, nowMs, rng } = input;
  const quiet: Signals = { ...input.signals, probes: [], traffic: [], gray: [], commands: [] };
  const length = Math.min(horizonMaxMs, overMs(input.command, policies) + settleMs);
  const first = input.step(input.state, view, quiet, policies, nowMs, rng);
  const before = allShares(view, first.plan);
  const known = new Map([...first.plan.services].map(([key, plan]) => [key, new Set(holds(plan).map(holdKey))]));
  const held = new Map<ServiceKey, Map<string, HoldReport>>();
  const ramp: { afterMs: number; moved: number }[] = [];
  let at = nowMs;
  let last = input.step(first.state, view, { ...quiet, commands: [input.command] }, policies, at, rng);
  let after = before;
  for (;;) {
    after = allShares(view, last.plan);
    ramp.push({ afterMs: at - nowMs, moved: movedIn(before, after) });
    for (const [key, plan] of last.plan.services) {
      for (const hold of holds(plan)) {
        if (known.get(key)?.has(holdKey(hold))) continue;
        const found = held.get(key) ?? new Map<string, HoldReport>();
        held.set(key, found.set(holdKey(hold), hold));
      }
    }
    const next = last.wakeAt === undefined ? undefined : Math.max(last.wakeAt, at + length / looks);
    if (next === undefined || next > nowMs + length) break;
    await input.pause();
    at = next;
    last = input.step(last.state, view, quiet, policies, at, rng);
  }
  const unfinished = ramp.length > 1 && at - nowMs > length * 0.9 && ramp.at(-1)!.moved > ramp.at(-2)!.moved + 0.5;
  return { before, after, held: new Map([...held].map(([key, of]) => [key, [...of.values()]])), ramp, unfinished };
};

const endpointsOf = (service: ServiceView, member: string, self: string): { ready: number; total: number } => {
  if (member === self) return readyOf(service.local);
  const record = service.remotes.get(member);
  return record === undefined ? { ready: 0, total: 0 } : { ready: capacityReady(record), total: capacityTotal(record) };
};

/** What the member offers us for the service: its grant, or else what its declared capacity leaves after the reserve. */
const headroom = <State>(service: ServiceView, member: string, input: DryRunInput<State>): number | null => {
  const offers = input.signals.grants.filter((grant) => grant.member === member);
  const offer = offers.find((o) => o.service === service.key) ?? offers.find((o) => o.service === '*');
  if (offer !== undefined && member !== input.view.self) return offer.perSecond;
  const { perEndpoint, reservePercent } = policyOf(input.policies, service.key).capacity;
  const declared = service.remotes.get(member)?.declaredCapacityPerSecond ?? perEndpoint;
  if (declared === undefined) return null;
  return (declared * endpointsOf(service, member, input.view.self).ready * (100 - reservePercent)) / 100;
};

const landings = <State>(
  service: ServiceView,
  before: Shares,
  after: Shares,
  perSecond: number | null,
  input: DryRunInput<State>,
): LandingReport[] =>
  [...new Set([...before.keys(), ...after.keys()])].sort().map((member) => {
    const from = before.get(member) ?? 0;
    const to = after.get(member) ?? 0;
    return {
      member,
      beforePercent: from,
      afterPercent: to,
      ...endpointsOf(service, member, input.view.self),
      morePerSecond: perSecond === null ? null : (perSecond * (to - from)) / 100,
      headroomPerSecond: headroom(service, member, input),
    };
  });

/** New connections a second of this cluster's callers of a service; null: of somebody who answers them it is not measured. */
const loadOf = <State>(service: ServiceView, before: Shares, input: DryRunInput<State>): number | null => {
  let sum = 0;
  for (const member of before.keys()) {
    const load = input.loads.get(cellKey(service.key, member));
    if (load === undefined) return null;
    sum += load;
  }
  return before.size === 0 ? null : sum;
};

/** Calls that stay with what is drained, for there is nobody else with ready endpoints: nothing is decided, so no guard says so. */
const staysLast = <State>(service: ServiceView, after: Shares, input: DryRunInput<State>): HoldReport[] => {
  const { command, view } = input;
  const { target } = command;
  if (command.kind !== 'drain' || target.scope === 'gateway') return [];
  if (target.scope === 'service' && target.service !== service.key) return [];
  const drained = new Set(membersOf(target, view));
  const stays = [...after.keys()].find((member) => drained.has(member));
  if (stays === undefined) return [];
  const others = [view.self, ...service.remotes.keys()].filter((member) => !drained.has(member));
  if (others.some((member) => endpointsOf(service, member, view.self).ready > 0)) return [];
  const detail = `nobody else has ready endpoints of ${service.key}: calls from ${view.self} stay with ${stays}`;
  return [{ guard: 'LastCell', member: stays, detail }];
};

const ownMoves = <State>(done: Run, input: DryRunInput<State>): MoveReport[] => {
  const moves: MoveReport[] = [];
  for (const [key, service] of input.view.services) {
    const before = done.before.get(key) ?? nothing;
    const after = done.after.get(key) ?? nothing;
    const moved = movedPercent(before, after);
    const found = done.held.get(key) ?? [];
    const held = found.length > 0 ? found : staysLast(service, after, input);
    if (moved < 0.5 && held.length === 0) continue;
    const load = loadOf(service, before, input);
    const perSecond = load === null ? null : (load * moved) / 100;
    moves.push({
      service: key,
      client: input.view.self,
      estimated: false,
      movedPercent: moved,
      perSecond,
      landings: landings(service, before, after, load, input),
      held,
    });
  }
  return moves.sort((a, b) => (a.service < b.service ? -1 : 1));
};

/** Members of the target, whoever decides about them. */
export const membersOf = (target: DrainTarget, view: View): string[] => {
  if (target.scope !== 'region') return [target.member];
  return [...view.members.values()].filter((m) => m.member.region === target.region).map((m) => m.member.name);
};

const notesOf = <State>(input: DryRunInput<State>, done: Run): string[] => {
  const { view, command } = input;
  const { target } = command;
  const members = membersOf(target, view);
  const others = members.filter((member) => member !== view.self);
  const notes: string[] = [];
  if (others.length > 0) {
    const many = others.length > 1;
    notes.push(
      `Only calls from ${view.self} move away from ${listed(others)}. To ${command.kind} ${many ? 'them' : 'it'} for every cluster, ` +
        `run this with --context of ${many ? 'each' : others[0]}.`,
    );
  }
  if (target.scope === 'gateway') {
    const gateways = view.members.get(target.member)?.gateways?.gateways ?? [];
    const left = gateways.filter((g) => g.id !== target.gateway && !g.draining);
    notes.push(
      left.length === 0
        ? `It is the last gateway of ${target.member} that takes connections.`
        : `New connections go to ${target.member}’s other gateways: ${listed(left.map((g) => g.id))}.`,
    );
  }
  if (done.unfinished) notes.push('The ramp is not over at the end of what was looked at: more will move.');
  return notes;
};

/** A few points of the curve: those at which most of it changed. */
const rampOf = (done: Run): { afterSeconds: number; percent: number }[] => {
  const all = done.ramp.at(-1)?.moved ?? 0;
  if (all < 0.5) return [];
  const points: { afterSeconds: number; percent: number }[] = [];
  for (const { afterMs, moved } of done.ramp) {
    const percent = Math.round((100 * moved) / all);
    if (percent !== (points.at(-1)?.percent ?? 0)) points.push({ afterSeconds: afterMs / 1000, percent });
  }
  const every = Math.ceil(points.length / rampPointsMax);
  return points.filter((_, i) => (points.length - 1 - i) % every === 0);
};

/** One line for each guard and member: of many services the first, and how many more. */
const grouped = (moves: readonly MoveReport[]): HoldReport[] => {
  const groups = new Map<string, HoldReport[]>();
  for (const hold of moves.flatMap((move) => move.held)) {
    const group = groups.get(holdKey(hold));
    if (group === undefined) groups.set(holdKey(hold), [hold]);
    else group.push(hold);
  }
  return [...groups.values()].map(([first, ...rest]) => ({
    ...first!,
    detail: rest.length === 0 ? first!.detail : `${first!.detail}; and ${rest.length} more like it`,
  }));
};

export const dryRun = async <State>(input: DryRunInput<State>): Promise<DryRunReport> => {
  const { command, view } = input;
  const done = await run(input);
  const own = ownMoves(done, input);
  const elsewhere = await movesElsewhere(input);
  const moves = [...own, ...elsewhere];
  const held = grouped(moves);
  const moved = moves.some((move) => move.movedPercent >= 0.5);
  return {
    apiVersion: 'isthmus.dev/v1',
    kind: 'DryRun',
    at: isoTime(input.wallMs),
    member: view.self,
    command: {
      kind: command.kind,
      target: targetText(command.target),
      overSeconds: overMs(command, input.policies) / 1000,
    },
    moves,
    unchanged: view.services.size - own.filter((move) => move.movedPercent >= 0.5).length,
    ramp: rampOf(done),
    held,
    blocked: !moved && held.length > 0,
    notes: notesOf(input, done),
  };
};
