/**
 * What another cluster's callers get, as far as it can be told from here: its own verdicts (it publishes those that are not
 * healthy), its round trips, the records of all exporters, and the cluster set's order. It may have policies of its own that
 * nobody else sees, so whatever is made from this says that it is an estimate.
 *
 * Asking that cluster's controller was passed over: controllers share nothing but the store, and a cluster that is in trouble
 * is the one that would not answer.
 */
import type { StandingReport } from '../core/failover_report.ts';
import type { FailoverPolicy } from '../failover/policy.ts';
import { readyOf } from '../failover/scene.ts';
import { capacityReady, capacityTotal } from '../federation/capacity.ts';
import type { ServiceView, View } from '../federation/view.ts';
import { cellKey } from '../health/verdict.ts';
import { ranksOf } from './standings.ts';

/** What a member publishes of its verdicts: those that are not `fresh`; service `''` is the member as a whole. */
export interface Opinion {
  readonly frozen: boolean;
  /** Verdicts that did not fit in. */
  readonly more: number;
  readonly summary: readonly {
    readonly service: string;
    readonly member: string;
    readonly state: string;
    readonly reason: string;
  }[];
}

export interface ElsewhereInput {
  readonly view: View;
  /** The cluster set's; another cluster's own policies are not known here. */
  readonly policy: FailoverPolicy;
  readonly opinions: ReadonlyMap<string, Opinion>;
}

/** Whose callers are asked about, with what it knows of each member. */
export interface Client {
  readonly name: string;
  readonly ranks: ReadonlyMap<string, number>;
  /** By `cellKey`, with service `''` for the member as a whole. */
  readonly said: ReadonlyMap<string, Opinion['summary'][number]>;
  /** Members that it does not reach. */
  readonly unreached: ReadonlySet<string>;
}

/** Made once for all services: a set has many, and the order is the same for each. */
export const clientOf = (name: string, { view, policy, opinions }: ElsewhereInput): Client => ({
  name,
  ranks: ranksOf(policy.order, name, view),
  said: new Map((opinions.get(name)?.summary ?? []).map((said) => [cellKey(said.service, said.member), said])),
  unreached: new Set(
    (view.members.get(name)?.vantage?.peers ?? [])
      .filter(({ member, reachable }) => !reachable && member !== name)
      .map(({ member }) => member),
  ),
});

interface Exporter {
  readonly member: string;
  readonly ready: number;
  readonly total: number;
  readonly rank: number;
  readonly state: string;
  readonly reason: string;
  /** Of its full weight, 0–100. */
  readonly weightPercent: number;
  readonly usable: boolean;
}

const exportersOf = (service: ServiceView, client: Client, view: View, avoided: ReadonlySet<string>): Exporter[] => {
  const found = [...service.remotes].map(([name, record]) => ({
    name,
    ready: capacityReady(record),
    total: capacityTotal(record),
  }));
  if (service.local?.exported !== undefined) found.push({ name: view.self, ...readyOf(service.local) });
  return found.map(({ name, ready, total }) => {
    const verdict = client.said.get(cellKey(service.key, name)) ?? client.said.get(cellKey('', name));
    const reachable = !client.unreached.has(name);
    const state = verdict?.state ?? (reachable ? 'fresh' : 'quarantined');
    const out = state === 'quarantined' || state === 'evicted';
    const own = view.members.get(name)?.gateways?.draining === true || service.remotes.get(name)?.draining === true;
    const drained = avoided.has(name) || own;
    const hasGateways = view.members.get(name)?.gateways?.gateways.some((g) => !g.draining) === true;
    return {
      member: name,
      ready,
      total,
      rank: client.ranks.get(name) ?? Number.POSITIVE_INFINITY,
      state,
      reason: drained
        ? 'Draining'
        : (verdict?.reason ?? (reachable ? (ready === 0 ? 'NotReady' : 'Healthy') : 'ProbeFailed')),
      weightPercent: drained || out ? 0 : 100,
      usable: ready > 0 && !out && !drained && (name === client.name || hasGateways),
    };
  });
};

/** The best there is: usable ones, else any with endpoints, for nobody drops a last cell. */
const chosen = (exporters: readonly Exporter[]): readonly Exporter[] => {
  const usable = exporters.filter((e) => e.usable);
  const any = usable.length > 0 ? usable : exporters.filter((e) => e.ready > 0);
  const first = Math.min(...any.map((e) => e.rank));
  return any.filter((e) => e.rank === first);
};

/**
 * Rows as that cluster would show them, in its order.
 * @param avoided - members that get nothing new, as if they were drained
 */
export const estimatedRows = (
  service: ServiceView,
  client: Client,
  view: View,
  avoided: ReadonlySet<string> = new Set(),
): StandingReport[] => {
  const exporters = exportersOf(service, client, view, avoided).sort(
    (a, b) => a.rank - b.rank || (a.member < b.member ? -1 : 1),
  );
  const serving = chosen(exporters);
  const sum = serving.reduce((total, e) => total + e.ready, 0);
  const ranks = [...new Set(exporters.filter((e) => e.member !== client.name).map((e) => e.rank))];
  return exporters.map((e) => ({
    member: e.member,
    local: e.member === client.name,
    tier: e.member === client.name ? 0 : ranks.indexOf(e.rank) + 1,
    sharePercent: serving.includes(e) && sum > 0 ? (100 * e.ready) / sum : 0,
    weightPercent: e.weightPercent,
    state: e.state,
    reason: e.reason,
    detail: '',
    ageSeconds: null,
    untilSeconds: null,
    ready: e.ready,
    total: e.total,
  }));
};
