/** What a controller is told before it decides: by its peers' records, by its probes, its gateways and people. */
import type { View } from '../../../src/federation/view.ts';
import type { Command, ControlSignal, GrantOffer, Signals, Vote } from '../../../src/health/signals.ts';
import type { Cluster } from './cluster.ts';
import type { Probing } from './probing.ts';
import type { Ground, Traffic } from './traffic.ts';

const spillRecentMs = 5_000;

export interface Senses {
  readonly cluster: Cluster;
  readonly ground: Ground;
  readonly traffic: Traffic;
  readonly probing: Probing;
  readonly graySignals: boolean;
  readonly told: { commands(): readonly Command[] };
  readonly nowMs: number;
  readonly readBackMs: number | undefined;
  /** Services to ask for, by member, though their records are gone. */
  readonly canaries: ReadonlyMap<string, readonly string[]>;
  /** Since a time on this machine's clock. */
  sinceMs(atMs: number): number;
}

const cellsOf = (view: View, withSelf: boolean): [string, string][] => {
  const cells: [string, string][] = [];
  for (const [key, { remotes, local }] of view.services) {
    for (const member of remotes.keys()) cells.push([key, member]);
    if (withSelf && local !== undefined) cells.push([key, view.self]);
  }
  return cells;
};

/** @param measured - with a round of probes and load reports */
export const sense = (senses: Senses, view: View, measured: boolean): Signals => {
  const { cluster, ground, traffic, probing, nowMs, readBackMs, canaries } = senses;
  const control = new Map<string, ControlSignal>();
  const grants: GrantOffer[] = [];
  const votes: Vote[] = [];
  for (const [name, { freshAtMs, shuttingDown, gateways, member, ...said }] of view.members) {
    if (name === view.self) continue;
    const ageMs = freshAtMs === undefined ? undefined : senses.sinceMs(freshAtMs);
    control.set(name, { ageMs, shuttingDown, draining: gateways?.draining === true });
    for (const { service, perSecond } of said.grants?.grants ?? []) grants.push({ member: name, service, perSecond });
    for (const accused of said.votes?.accused ?? []) {
      votes.push({ voter: name, voterRegion: member.region, accused, down: true, ageMs: ageMs ?? 0 });
    }
  }
  const receivingSpill = new Set<string>();
  for (const [key, pods] of cluster.pods) if (ground.nowMs - pods.spilledAtMs < spillRecentMs) receivingSpill.add(key);
  return {
    control,
    readBackMs,
    paths: probing.paths(),
    votes,
    grants,
    receivingSpill,
    probes: measured
      ? [...probing.round([...control.keys()], cellsOf(view, false), nowMs), ...probing.canaries(canaries, nowMs)]
      : [],
    traffic: measured ? traffic.windows(nowMs) : [],
    gray: measured && senses.graySignals ? probing.gray(cellsOf(view, true), nowMs) : [],
    commands: senses.told.commands(),
  };
};
