/**
 * The plan of a service as the state alone tells it, without a decision: what is served after a restart while decisions are frozen, and
 * by a replica that follows one whose decisions are.
 *
 * Cells that the view no longer has are left out, and services that the state does not know go by order and readiness; nothing else
 * is judged. Details for people are fewer than where the decision was made: states are told, reasons only as far as they are remembered.
 */

import type { ServiceKey } from '../core/names.ts';
import { capacityReady, capacityTotal } from '../federation/capacity.ts';
import { offersPort } from '../federation/exporters.ts';
import type { ServiceView } from '../federation/view.ts';
import { type CellState, cellKey, cellStates } from '../health/verdict.ts';
import type { Placement } from './decision.ts';
import type { RankedMember } from './order.ts';
import { membersOf, place, placePorts } from './placement.ts';
import type { CellStanding, GuardHold, GuardName, ServicePlan } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import { readyOf } from './scene.ts';
import { type CellFacts, healthy, phaseReasons } from './standing.ts';
import type { FailoverState, ServiceMemory } from './state.ts';

/** Exporters by order and readiness alone. */
export const plainCells = (view: ServiceView, ranked: readonly RankedMember[]): readonly CellFacts[] => {
  const cells: CellFacts[] = [];
  if (view.unsupported !== undefined) return cells;
  for (const member of ranked) {
    const record = view.remotes.get(member.name);
    if (record === undefined || record.headless || record.sessionAffinity) continue;
    const ready = capacityReady(record);
    const served = ready > 0 && member.gateways !== 'none';
    cells.push({
      member,
      ready,
      total: capacityTotal(record),
      verdict: healthy,
      bad: served ? undefined : { reason: 'NotReady', detail: 'no endpoint is ready', urgent: true },
      doubt: undefined,
      drain: undefined,
      grant: undefined,
      memory: undefined,
      calmAtMs: undefined,
    });
  }
  return cells;
};

/** Our own membership, as far as it matters. */
export interface Self {
  readonly name: string;
  readonly region: string;
}

export interface PlainPlan {
  readonly placement: Placement;
  readonly ports: ServicePlan['ports'];
  readonly usable: boolean;
}

/** Of a service about which nothing is decided. */
export const plainPlan = (view: ServiceView, cells: readonly CellFacts[]): PlainPlan => {
  const options = { lastGood: () => [], demand: undefined, before: [] };
  const { kind, tiers } = place(cells, options);
  return { placement: { localPercent: 100, tiers }, ports: placePorts(view, cells, options), usable: kind !== 'last' };
};

const heldOf = (keys: readonly string[]): GuardHold[] =>
  keys.map((key) => {
    const bar = key.indexOf('|');
    const member = key.slice(bar + 1);
    return { guard: key.slice(0, bar) as GuardName, member: member === '' ? undefined : member, detail: '' };
  });

/** The worst that the journal was told of a cell, its member or its region. */
const toldState = ({ told }: FailoverState, service: ServiceKey, member: string, region: string): CellState => {
  const states = [told.cells.get(cellKey(service, member)), told.members.get(member), told.regions.get(region)];
  return cellStates.findLast((state) => states.includes(state)) ?? 'fresh';
};

type Exporter = Pick<CellStanding, 'ready' | 'total' | 'tier' | 'percent'> & Self;

const standing = (
  service: ServiceKey,
  { name, region, ...numbers }: Exporter,
  memory: ServiceMemory | undefined,
  state: FailoverState,
): CellStanding => {
  const own = memory?.cells.get(name);
  const reason =
    own === undefined ? 'Healthy' : own.phase === 'out' || own.phase === 'doubt' ? own.cause : phaseReasons[own.phase];
  return {
    member: name,
    state: toldState(state, service, name, region),
    reason,
    detail: '',
    sinceMs: own?.sinceMs ?? 0,
    deadlineMs: undefined,
    ...numbers,
  };
};

const standings = (
  view: ServiceView,
  cells: readonly CellFacts[],
  placement: Placement,
  memory: ServiceMemory | undefined,
  state: FailoverState,
  self: Self,
): readonly CellStanding[] => {
  const found: CellStanding[] = [];
  if (view.local !== undefined) {
    const own = { name: self.name, region: self.region, ...readyOf(view.local), tier: undefined };
    found.push(standing(view.key, { ...own, percent: placement.localPercent }, memory, state));
  }
  for (const { member, ready, total } of cells) {
    const { name, region } = member;
    const tier = placement.tiers.findIndex((seats) => seats.some((seat) => seat.member === name));
    const percent = placement.tiers[tier]?.find((seat) => seat.member === name)?.percent ?? 0;
    const exporter = { name, region, ready, total, percent, tier: tier < 0 ? undefined : tier };
    found.push(standing(view.key, exporter, memory, state));
  }
  return found;
};

const keptTiers = (tiers: Placement['tiers'], has: (member: string) => boolean): Placement['tiers'] => {
  if (membersOf(tiers).every(has)) return tiers;
  return tiers.map((cells) => cells.filter(({ member }) => has(member))).filter((cells) => cells.length > 0);
};

/** One service as it is remembered; by order and readiness when nothing of its placement is left. */
export const rememberedPlan = (
  view: ServiceView,
  ranked: readonly RankedMember[],
  memory: ServiceMemory | undefined,
  policy: FailoverPolicy,
  state: FailoverState,
  self: Self,
): { readonly plan: ServicePlan; readonly placement: Placement } => {
  const cells = plainCells(view, ranked);
  const present = new Set(cells.map(({ member }) => member.name));
  const kept = memory === undefined ? [] : keptTiers(memory.placement.tiers, (member) => present.has(member));
  const plain = kept.length === 0 ? plainPlan(view, cells) : undefined;
  const tiers = plain?.placement.tiers ?? kept;
  const placement: Placement =
    memory !== undefined && tiers === memory.placement.tiers
      ? memory.placement
      : { localPercent: plain === undefined ? memory!.placement.localPercent : 100, tiers };
  const ports = plain === undefined ? portsOf(view, cells, tiers) : plain.ports;
  const plan: ServicePlan = {
    key: view.key,
    tiers,
    ...(ports === undefined ? {} : { ports }),
    usable:
      plain?.usable ?? cells.some(({ bad, member }) => bad === undefined && membersOf(tiers).includes(member.name)),
    local: { percent: placement.localPercent },
    failFast: plain === undefined && memory!.failFast,
    tunnelAgeMs: policy.failback.tunnelAgeMs,
    standings: standings(view, cells, placement, memory, state, self),
    held: heldOf(memory?.held ?? []),
    policy: policy.name,
  };
  return { plan, placement };
};

/** The same tiers without those who lack the port; whoever has it when nobody is left. */
const portsOf = (view: ServiceView, cells: readonly CellFacts[], tiers: Placement['tiers']): ServicePlan['ports'] => {
  const options = { lastGood: () => [], demand: undefined, before: [] };
  const plain = placePorts(view, cells, options);
  if (plain === undefined) return undefined;
  const ports = new Map<number, Placement['tiers']>();
  for (const [port, otherwise] of plain) {
    const kept = keptTiers(tiers, (member) => offersPort(view.remotes.get(member)!, port));
    ports.set(port, kept.length === 0 ? otherwise : kept);
  }
  return ports;
};
