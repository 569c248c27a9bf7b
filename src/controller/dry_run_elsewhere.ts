/**
 * What a drain would move for the callers of other clusters. They read in this cluster's records that it drains, and each decides for
 * itself; so this is an estimate, made as `elsewhere.ts` makes it.
 */
import type { HoldReport, MoveReport, StandingReport } from '../core/failover_report.ts';
import type { Policies } from '../failover/policy.ts';
import type { ServiceView, View } from '../federation/view.ts';
import type { DrainTarget } from '../health/signals.ts';
import type { DrainCommand } from './dry_run.ts';
import { type Client, clientOf, estimatedRows, type Opinion } from './elsewhere.ts';
import { movedPercent, type Shares } from './shares.ts';

export interface ElsewhereMoves {
  readonly view: View;
  readonly policies: Policies;
  readonly opinions: ReadonlyMap<string, Opinion>;
  readonly command: DrainCommand;
  /** Lets others run. */
  pause(): Promise<void>;
}

/** Whether our records will tell the others that a service is drained here. */
const tellsOthers = (target: DrainTarget, service: ServiceView, view: View): boolean => {
  if (service.local?.exported === undefined) return false;
  if (target.scope === 'region') return view.members.get(view.self)?.member.region === target.region;
  if (target.member !== view.self) return false;
  // The other gateways of this cluster take over from one that drains: nothing goes to another cluster.
  return target.scope === 'cluster' || (target.scope === 'service' && target.service === service.key);
};

const sharesIn = (rows: readonly StandingReport[]): Shares =>
  new Map(rows.filter((row) => row.sharePercent > 0).map((row) => [row.member, row.sharePercent]));

const move = (service: ServiceView, client: Client, input: ElsewhereMoves): MoveReport | undefined => {
  const { view, command } = input;
  const open = estimatedRows(service, client, view);
  const usesUs = open.some((row) => row.member === view.self && row.sharePercent > 0);
  if (!usesUs) return undefined;
  const drained = estimatedRows(service, client, view, new Set([view.self]));
  const [before, after] = command.kind === 'drain' ? [open, drained] : [drained, open];
  const moved = movedPercent(sharesIn(before), sharesIn(after));
  const held: HoldReport[] =
    moved > 0 || command.kind === 'undrain'
      ? []
      : [
          {
            guard: 'LastCell',
            member: view.self,
            detail: `${client.name} has nobody else with ready endpoints of ${service.key}: it stays with ${view.self}`,
          },
        ];
  if (moved === 0 && held.length === 0) return undefined;
  const share = (rows: readonly StandingReport[], member: string): number =>
    rows.find((row) => row.member === member)?.sharePercent ?? 0;
  return {
    service: service.key,
    client: client.name,
    estimated: true,
    movedPercent: moved,
    perSecond: null,
    landings: open
      .map(({ member, ready, total }) => ({
        member,
        beforePercent: share(before, member),
        afterPercent: share(after, member),
        ready,
        total,
        morePerSecond: null,
        headroomPerSecond: null,
      }))
      .filter((landing) => landing.beforePercent > 0 || landing.afterPercent > 0),
    held,
  };
};

/** A large set has a hundred thousand pairs of a service and a client: others run between so many of them. */
const pairsInOneGo = 500;

export const movesElsewhere = async (input: ElsewhereMoves): Promise<MoveReport[]> => {
  const { view, policies, opinions, command } = input;
  const names = [...view.members.keys()].filter((member) => member !== view.self).sort();
  const clients = names.map((name) => clientOf(name, { view, policy: policies.default, opinions }));
  const moves: MoveReport[] = [];
  let asked = 0;
  for (const service of [...view.services.values()].sort((a, b) => (a.key < b.key ? -1 : 1))) {
    if (!tellsOthers(command.target, service, view)) continue;
    for (const client of clients) {
      if (++asked % pairsInOneGo === 0) await input.pause();
      const found = move(service, client, input);
      if (found !== undefined) moves.push(found);
    }
  }
  return moves;
};
