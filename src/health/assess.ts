/**
 * From signals to verdicts: what is concluded of each peer, of each service at each member, and of regions.
 *
 * Pure: time is an argument, the state is data. A step without new evidence looks at each member once and at the few cells of
 * which something is known; services of which nothing is known cost nothing. Cells are judged after their members, for what
 * fails at a peer that cannot be reached says nothing of the service.
 */
import type { ServiceKey } from '../core/names.ts';
import type { View } from '../federation/view.ts';
import { assessCell, type CellEvidence } from './cell.ts';
import { pathSlackMs } from './lateness.ts';
import { rulesOf } from './outlier.ts';
import { assessPeer, newPeer } from './peer.ts';
import { penaltyAt } from './penalty.ts';
import { advance, clockTime, type Presence, presenceTime, pulseMs } from './presence.ts';
import { type PeerTraffic, readTraffic } from './reading.ts';
import { assessRegions } from './region.ts';
import type { ProbeResult, Signals, TrafficWindow } from './signals.ts';
import { type CellHealth, type HealthState, own, type PeerHealth, type RegionHealth, type Standing } from './state.ts';
import type { OutlierThresholds, Thresholds } from './thresholds.ts';
import { type CellKey, cellKey, cellOf, type MemberVerdict, type Verdict, type Verdicts } from './verdict.ts';

export { type HealthState, initialHealth } from './state.ts';

/** By policy: those for peers as a whole, and those for a service. */
export interface PolicyThresholds {
  readonly member: Thresholds;
  of(service: ServiceKey): Thresholds;
}

export interface Assessment {
  readonly state: HealthState;
  readonly verdicts: Verdicts;
  /** Whose verdict is not what it was: state, reason, detail, deadline, or one of the planes. Those that went are named too. */
  readonly changed: {
    readonly members: ReadonlySet<string>;
    readonly cells: ReadonlySet<CellKey>;
    readonly regions: ReadonlySet<string>;
  };
  /** When to step again at the latest, ms on the same scale as `now`. */
  readonly wakeAt: number | undefined;
}

interface Step {
  readonly view: View;
  readonly signals: Signals;
  readonly thresholds: PolicyThresholds;
  readonly nowMs: number;
  readonly presence: Presence;
  readonly traffic: ReadonlyMap<string, PeerTraffic>;
  readonly changed: { readonly members: Set<string>; readonly cells: Set<CellKey>; readonly regions: Set<string> };
  wakeMs: number;
}

const byMember = <T extends { readonly member: string }>(items: readonly T[]): Map<string, T[]> => {
  const grouped = new Map<string, T[]>();
  for (const item of items) {
    const group = grouped.get(item.member);
    if (group === undefined) grouped.set(item.member, [item]);
    else group.push(item);
  }
  return grouped;
};

const tallies = (windows: readonly TrafficWindow[], presence: Presence, nowMs: number): Map<string, PeerTraffic> => {
  const read = new Map<string, PeerTraffic>();
  for (const [member, of] of byMember(windows)) {
    const traffic = readTraffic(of, (atMs) => presenceTime(presence, Math.min(atMs, nowMs)));
    if (traffic !== undefined) read.set(member, traffic);
  }
  return read;
};

const verdictOf = (
  standing: Standing & { readonly deadlineMs?: number | undefined },
  nowMs: number,
  halfLifeMs: number,
): Verdict => ({
  state: standing.state,
  reason: standing.reason,
  detail: standing.detail,
  sinceMs: standing.sinceMs,
  deadlineMs: standing.deadlineMs,
  penalty: penaltyAt(standing.penalty, nowMs, halfLifeMs),
});

type Shown = Standing & { readonly deadlineMs?: number | undefined; readonly control?: string; readonly data?: string };

const differ = (a: Shown | undefined, b: Shown | undefined): boolean =>
  a?.state !== b?.state ||
  a?.reason !== b?.reason ||
  a?.detail !== b?.detail ||
  a?.deadlineMs !== b?.deadlineMs ||
  a?.control !== b?.control ||
  a?.data !== b?.data;

const assessMembers = (before: HealthState['members'], step: Step) => {
  const { view, signals, nowMs, presence, changed } = step;
  const thresholds = step.thresholds.member;
  const probes = byMember<ProbeResult>(signals.probes);
  const entries: [string, PeerHealth][] = [];
  const verdicts = new Map<string, MemberVerdict>();
  for (const [name, memberView] of view.members) {
    if (name === view.self) continue;
    const known = own(before, name);
    const { peer, wakeMs } = assessPeer(
      known ?? newPeer(nowMs),
      {
        view: memberView,
        control: signals.control.get(name),
        path: signals.paths.get(name),
        evidence: { probes: probes.get(name) ?? [], traffic: step.traffic.get(name) },
      },
      { nowMs, presence, thresholds },
    );
    entries.push([name, peer]);
    const verdict = verdictOf(peer, nowMs, thresholds.flapHalfLifeMs);
    verdicts.set(name, { ...verdict, control: peer.control, data: peer.data });
    if (known === undefined || differ(known, peer)) changed.members.add(name);
    if (wakeMs !== undefined) step.wakeMs = Math.min(step.wakeMs, clockTime(presence, wakeMs));
  }
  for (const name of Object.keys(before)) if (!verdicts.has(name)) changed.members.add(name);
  return { members: Object.fromEntries(entries), verdicts };
};

/** Evidence of single services, by cell: only what concerns a service that the member has, or that is known already. */
const cellEvidence = (
  step: Step,
  known: HealthState['cells'],
): Map<CellKey, { evidence: CellEvidence; service: ServiceKey; member: string }> => {
  const { view, signals } = step;
  const found = new Map<CellKey, { evidence: CellEvidence; service: ServiceKey; member: string }>();
  const at = (service: ServiceKey, member: string): CellEvidence | undefined => {
    const key = cellKey(service, member);
    const entry = found.get(key);
    if (entry !== undefined) return entry.evidence;
    const service_ = view.services.get(service);
    const has = member === view.self ? service_?.local !== undefined : service_?.remotes.has(member) === true;
    if (!has && !Object.hasOwn(known, key)) return undefined;
    const evidence: CellEvidence = { probes: [], gray: [], calls: undefined };
    found.set(key, { evidence, service, member });
    return evidence;
  };
  for (const probe of signals.probes) {
    if (probe.service !== undefined && probe.member !== view.self) at(probe.service, probe.member)?.probes.push(probe);
  }
  for (const signal of signals.gray) at(signal.service, signal.member)?.gray.push(signal);
  for (const [member, { services }] of step.traffic) {
    if (member === view.self) continue;
    for (const [service, calls] of services) {
      const failures = calls.localErrors + calls.gatewayErrors + calls.otherErrors;
      // What only succeeds leaves no trace where there is none.
      if (failures === 0 && !Object.hasOwn(known, cellKey(service, member))) continue;
      const evidence = at(service, member);
      if (evidence !== undefined) evidence.calls = calls;
    }
  }
  return found;
};

const isOut = (state: string | undefined): boolean => state === 'quarantined' || state === 'evicted';

/** Why an ejection may not be: the share of clusters that may be out, and the last one that is left. */
const sparedBy = (
  { service, member }: ReturnType<typeof cellOf>,
  view: View,
  rules: OutlierThresholds,
  cells: ReadonlyMap<CellKey, CellHealth>,
  members: ReadonlyMap<string, MemberVerdict>,
): string | undefined => {
  const of = view.services.get(service);
  if (of === undefined) return 'nobody has the service';
  const exporters = [...of.remotes.keys(), ...(of.local?.exported === undefined ? [] : [view.self])];
  let ejected = 0;
  let usable = 0;
  for (const name of exporters) {
    if (name === member) continue;
    const cell = cells.get(cellKey(service, name));
    const out = isOut(cell?.state);
    if (out && (cell!.reason === 'ConsecutiveErrors' || cell!.reason === 'FailurePercentage')) ejected++;
    if (!out && !isOut(members.get(name)?.state)) usable++;
  }
  if (usable === 0) return 'it is kept, for no other cluster is left';
  const allowed = (ejected + 1) * 100 <= rules.maxEjectionPercent * exporters.length;
  return allowed
    ? undefined
    : `it is kept, for at most ${rules.maxEjectionPercent} % of ${exporters.length} clusters may be out`;
};

const assessCells = (
  before: HealthState['cells'],
  step: Step,
  members: ReadonlyMap<string, MemberVerdict>,
  peers: HealthState['members'],
) => {
  const { view, signals, nowMs, presence, changed } = step;
  const fresh = cellEvidence(step, before);
  const keys = [...new Set([...Object.keys(before), ...fresh.keys()])].sort() as CellKey[];
  const verdicts = new Map<CellKey, Verdict>();
  if (keys.length === 0) return { cells: before, verdicts };
  const cells = new Map(Object.entries(before) as [CellKey, CellHealth][]);
  let same = true;
  for (const key of keys) {
    const { service, member } = cellOf(key);
    const known = cells.get(key);
    const serviceView = view.services.get(service);
    const thresholds = step.thresholds.of(service);
    const rules = rulesOf(thresholds.outlier, serviceView?.local?.trafficPolicy);
    const peer = own(peers, member);
    const gone = member !== view.self && !view.members.has(member);
    const { cell, wakeMs } = gone
      ? { cell: undefined, wakeMs: undefined }
      : assessCell(known, fresh.get(key)?.evidence, {
          service,
          member,
          nowMs,
          presence,
          thresholds,
          rules,
          slackMs: pathSlackMs(signals.paths.get(member)),
          memberBroken: peer?.data === 'unreachable' || isOut(peer?.state),
          sharedErrors: step.traffic.get(member)?.sharedErrors ?? false,
          spared: () => sparedBy({ service, member }, view, rules, cells, members),
        });
    if (cell === undefined) {
      cells.delete(key);
      same &&= known === undefined;
    } else {
      cells.set(key, cell);
      same = false;
      const verdict = verdictOf(cell, nowMs, thresholds.flapHalfLifeMs);
      if (cell.state !== 'fresh' || verdict.penalty > 0) verdicts.set(key, verdict);
    }
    if (differ(known ?? unknown, cell ?? unknown)) changed.cells.add(key);
    if (wakeMs !== undefined) step.wakeMs = Math.min(step.wakeMs, clockTime(presence, wakeMs));
  }
  return { cells: same ? before : (Object.fromEntries(cells) as HealthState['cells']), verdicts };
};

/** As a cell of which nothing is known is shown. */
const unknown: Shown = { state: 'fresh', reason: 'Healthy', detail: '', sinceMs: 0 };

const regionVerdicts = (
  before: HealthState['regions'],
  regions: Readonly<Record<string, RegionHealth>>,
  step: Step,
): Map<string, Verdict> => {
  const verdicts = new Map<string, Verdict>();
  for (const [name, region] of Object.entries(regions)) {
    if (region.down) verdicts.set(name, verdictOf(region, step.nowMs, step.thresholds.member.flapHalfLifeMs));
    if (region.down !== (own(before, name)?.down ?? false)) step.changed.regions.add(name);
  }
  for (const [name, { down }] of Object.entries(before)) {
    if (down && own(regions, name) === undefined) step.changed.regions.add(name);
  }
  return verdicts;
};

/**
 * One step. `signals` carries the evidence since the last one; evidence told twice is counted once.
 * @param now - ms, on the scale that survives restarts
 */
export const assess = (
  state: HealthState,
  view: View,
  signals: Signals,
  thresholds: PolicyThresholds,
  now: number,
): Assessment => {
  const { presence } = advance(state.presence, now, signals.readBackMs, thresholds.member.silentMs);
  const changed = { members: new Set<string>(), cells: new Set<CellKey>(), regions: new Set<string>() };
  const traffic = tallies(signals.traffic, presence, now);
  const step: Step = { view, signals, thresholds, nowMs: now, presence, traffic, changed, wakeMs: now + pulseMs };
  const { members, verdicts } = assessMembers(state.members, step);
  const judged = assessCells(state.cells, step, verdicts, members);
  const regions = assessRegions(state.regions, view, signals.votes, verdicts, {
    thresholds: thresholds.member,
    nowMs: now,
  });
  const quiet = verdicts.size === 0 && judged.verdicts.size === 0;
  return {
    state: { presence, members, cells: judged.cells, regions },
    verdicts: { members: verdicts, cells: judged.verdicts, regions: regionVerdicts(state.regions, regions, step) },
    changed,
    wakeAt: quiet ? undefined : Math.max(now + 1, step.wakeMs),
  };
};
