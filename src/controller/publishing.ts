/**
 * What this member publishes: its exports, gateways, roots and what it sees of the others. Every replica works it out; the one
 * that leads writes it.
 */
import type { Authority } from '../ca/authority.ts';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { Store } from '../core/store.ts';
import type { Plan } from '../failover/plan.ts';
import { Exports } from '../federation/exports.ts';
import type { ExportProblem, LocalChange, LocalCluster, LocalService } from '../federation/local.ts';
import type { MemberView } from '../federation/view.ts';
import type { LoadedRecord, TrustRecord, VantageRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { PathTime } from '../health/signals.ts';
import type { Head } from '../journal/entry.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import { type PeerRoundTrip, RttProber } from '../probe/rtt.ts';
import { Publisher, type PublisherEvent } from '../store/publisher.ts';
import { grantsOf } from '../trust/grants.ts';
import type { Member } from '../trust/membership.ts';
import type { GatewayPod } from './cluster.ts';
import type { Announcement } from './failover.ts';
import type { MemberKeys } from './keys.ts';

export interface PublishingOptions {
  readonly config: Config;
  readonly store: Store;
  readonly keys: () => MemberKeys;
  readonly authority: () => Authority;
  readonly epochFloor: () => bigint;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Our own vantage and trust records as they stand; undefined: there is none. `known`: whether that can be told yet. */
  readonly standing: () => {
    readonly known: boolean;
    readonly vantage: VantageRecord | undefined;
    readonly trust: TrustRecord | undefined;
  };
  /** The newest durable entries of journal and audit: peers hold them, so that one cut short shows. */
  readonly heads: () => { readonly journal: Head | undefined; readonly audit: Head | undefined };
  /** A term was lost to another writer although the lease was ours. */
  readonly onFenced: () => void;
}

/** Of our own records, those that a new term goes on from. */
export const ownSingles = (own: MemberView | undefined) => ({ vantage: own?.vantage, trust: own?.trust });

const federationPort = 15_028;
const hbonePort = 15_008;
const refreshHintS = 300;

const farewellMs = 2_000;

export class Publishing {
  readonly exports: Exports;
  readonly #o: PublishingOptions;
  readonly #publisher: Publisher;
  readonly #rtt: RttProber;
  /** The local cluster is known: before that, leading would withdraw everything. */
  #complete = false;
  #wantsToLead = false;
  /** What stands in the store is known: a leader withdraws what it does not itself want, the vantage too. */
  #recordsKnown = false;
  /** Our keys are known: what is signed by those that were replaced is refused. */
  #keysKnown = false;
  #members: ReadonlyMap<string, MemberView> = new Map();
  #peers = '';
  #epoch = 0n;
  #announced = false;
  #gateways = '';
  /** As they were announced last. */
  #grants: Plan['grants'] = [];

  constructor(options: PublishingOptions) {
    this.#o = options;
    const { config, store, clock, rng } = options;
    this.exports = new Exports({ clusterDomain: config.clusterDomain });
    this.#publisher = new Publisher({
      store,
      clock,
      clusterset: config.clusterset,
      member: config.member,
      recordKey: () => options.keys().recordKey,
      ownKeys: () => options.keys().accepted,
      heartbeatMs: config.publish.heartbeatMs,
      epochFloor: options.epochFloor,
      journalHead: () => options.heads().journal,
      auditHead: () => options.heads().audit,
      onEvent: (event) => this.#told(event),
    });
    this.#rtt = new RttProber({
      clock,
      rng,
      changed: () => {
        this.#setVantage();
        this.#flush();
      },
      // A class once published is left only when the measurements really leave it: a restart or a new writer changes nothing.
      published: (member) => {
        const peer = this.#standing(member);
        return peer === undefined ? undefined : { rttMs: peer.rttMs, varMs: peer.rttVarMs };
      },
    });
    this.#setTrust();
  }

  /** Why a service that should be exported is not, or will not be taken by the others. `own`: our membership. */
  problemOf(service: LocalService | undefined, own: Member | undefined): ExportProblem | undefined {
    if (service?.exported === undefined) return undefined;
    const { key, namespace } = service;
    const known = this.exports.problems.get(key);
    if (known !== undefined || own === undefined || grantsOf(own).namespace(namespace)) return known;
    const message = `the cluster set does not let ${own.name} export services of namespace ${namespace}`;
    return { key, code: 'record/not-granted', message };
  }
  get leading(): boolean {
    return this.#publisher.state === 'leading';
  }
  get lastError(): IsthmusError | undefined {
    return this.#publisher.lastError;
  }
  readBackMs(): number | null {
    return this.#publisher.readBackAgeMs() ?? null;
  }
  path(member: string): PathTime | undefined {
    const estimate = this.#rtt.known.get(member)?.estimate;
    return estimate === undefined ? undefined : { rttMs: estimate.srttMs, varMs: estimate.varMs };
  }
  roundTrips(): ReadonlyMap<string, PeerRoundTrip> {
    return this.#rtt.known;
  }

  local(
    cluster: LocalCluster,
    change: LocalChange,
    gateways: readonly GatewayPod[],
    draining: (pod: string) => boolean,
  ): void {
    const first = !this.#complete;
    this.#complete = true;
    const services = first ? cluster.services.keys() : change.services;
    this.exports.update(cluster, { services, pods: change.pods });
    this.#setGateways(gateways, draining);
    this.#flush();
    if (first) this.#tryToLead();
  }

  /** The gateways' health changed. */
  gateways(pods: readonly GatewayPod[], draining: (pod: string) => boolean): void {
    if (!this.#complete) return;
    this.#setGateways(pods, draining);
    this.#flush();
  }

  /** The members' gateways are what round trips are measured to. */
  members(members: ReadonlyMap<string, MemberView>): void {
    if (!this.#recordsKnown && this.#o.standing().known) {
      this.#recordsKnown = true;
      this.#tryToLead();
    }
    const peers = new Map<string, { address: string; port: number }[]>();
    for (const [name, view] of members) {
      if (name === this.#o.config.member) continue;
      const gateways = view.gateways?.gateways ?? [];
      if (gateways.length > 0)
        peers.set(
          name,
          gateways.map((g) => ({ address: g.address, port: g.federationPort })),
        );
    }
    this.#members = members;
    this.keys();
    const shape = JSON.stringify([...peers]);
    if (shape === this.#peers) return;
    this.#peers = shape;
    this.#rtt.setPeers(peers);
  }

  /** Our keys, or those of others, went on. */
  keys(): void {
    const keys = this.#o.keys();
    this.#must('keys', this.exports.setKeys(keys.links, keys.seen()));
    this.#flush();
    if (this.#keysKnown || !keys.known) return;
    this.#keysKnown = true;
    this.#tryToLead();
  }

  /** This replica was chosen to write: it decides, too. Stays so while the API server is dark. */
  get chosen(): boolean {
    return this.#wantsToLead;
  }
  /** Of the term that writes now; 0 before the first. */
  get epoch(): bigint {
    return this.#epoch;
  }

  /** What was decided, told to the others. */
  announce({ plan, verdicts }: Announcement, local: LocalCluster): void {
    this.#must('draining', this.exports.setDraining(plan.draining, local));
    // Each reader's record is encoded and read back: not for grants that are the very ones of before.
    if (plan.grants !== this.#grants) this.#must('grants', this.exports.setGrants(plan.grants));
    this.#grants = plan.grants;
    this.#must('votes', this.exports.setVotes(plan.votes));
    this.#must('verdicts', this.exports.setVerdicts(verdicts));
    this.#announced = true;
    this.#flush();
    this.#tryToLead();
  }

  lead(): void {
    this.#announced = false;
    this.#wantsToLead = true;
    this.#tryToLead();
  }
  follow(): void {
    this.#wantsToLead = false;
    this.#publisher.resign();
  }
  /** Ends writing, at the end of this process. @param last - nobody takes over: a last manifest says so, if it can be written at once */
  async leave(last: boolean): Promise<void> {
    if (last) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = this.#o.clock.after(farewellMs, resolve);
      await Promise.race([this.#publisher.shutdown(), promise]);
      timer.cancel();
    }
    this.follow();
  }
  /** Our roots may be others than before. */
  trust(): void {
    this.#setTrust();
    this.#flush();
  }
  /** Which roots our proxies have. */
  loaded(record: LoadedRecord): void {
    this.#must('loaded', this.exports.setLoaded(record));
    this.#flush();
  }
  close(): void {
    this.#rtt.close();
    this.#publisher.close();
  }

  #setGateways(pods: readonly GatewayPod[], draining: (pod: string) => boolean): void {
    const { config } = this.#o;
    const gateways = pods.map((pod) => ({
      id: pod.name,
      address: pod.address,
      federationPort,
      hbonePort,
      // One that is not ready yet has no listeners: whoever is sent there is refused.
      draining: pod.terminating || !pod.ready || draining(pod.name),
      locality: pod.locality,
    }));
    const shape = JSON.stringify(gateways);
    if (shape === this.#gateways) return;
    this.#gateways = shape;
    this.#must('gateways', this.exports.setGateways(gateways, `${config.namespace}/${config.gateway.serviceAccount}`));
  }

  #tryToLead(): void {
    // Not before the decisions are among what is wanted: a leader withdraws everything else.
    if (!this.#wantsToLead || !this.#complete || !this.#recordsKnown || !this.#announced) return;
    if (!this.#keysKnown) return;
    this.#setVantage();
    this.#setTrust();
    this.#flush();
    this.#publisher.lead();
  }

  /** The number stays while the roots do, over restarts too, and rises when they change, whatever the clock says. */
  #setTrust(): void {
    const { config, authority, clock } = this.#o;
    const roots = authority()
      .roots.map((root) => new Uint8Array(root.raw))
      .sort(Buffer.compare);
    const before = this.#o.standing().trust;
    const same =
      before?.roots.length === roots.length && roots.every((root, i) => Buffer.compare(root, before.roots[i]!) === 0);
    const risen = (before?.sequence ?? 0n) + 1n;
    const now = BigInt(Math.floor(clock.wallMs()));
    const sequence = same ? before.sequence : risen > now ? risen : now;
    this.#must('trust', this.exports.setTrust({ trustDomain: config.trustDomain, sequence, refreshHintS }, roots));
  }

  #standing(member: string): VantageRecord['peers'][number] | undefined {
    return this.#o.standing().vantage?.peers.find((peer) => peer.member === member);
  }

  /** What was measured here; of members that were not yet, what the record says already. */
  #setVantage(): void {
    const peers = new Map<string, VantageRecord['peers'][number]>();
    for (const peer of this.#o.standing().vantage?.peers ?? []) {
      if (this.#members.has(peer.member)) peers.set(peer.member, peer);
    }
    for (const [member, { published, reachable }] of this.#rtt.known) {
      if (published === undefined) continue;
      const { rttMs, varMs: rttVarMs } = published;
      peers.set(member, { $typeName: 'isthmus.v1.PeerVantage', member, rttMs, rttVarMs, reachable });
    }
    if (peers.size > 0) this.#must('vantage', this.exports.setVantage([...peers.values()]));
  }

  #flush(): void {
    const changes = this.exports.take();
    if (changes.size > 0) this.#publisher.publish(changes);
    this.#o.metrics.set('isthmus_publish_records', this.exports.desired.size);
  }

  #must(what: string, result: { readonly ok: true } | { readonly ok: false; readonly error: IsthmusError }): void {
    if (!result.ok) this.#o.log('error', 'own record refused', { what, error: result.error });
  }

  #told(event: PublisherEvent): void {
    const { log, metrics } = this.#o;
    if (event.kind === 'written') metrics.add('isthmus_publish_total', { result: 'ok' });
    else if (event.kind === 'term') {
      this.#epoch = event.epoch;
      log('info', 'writing begins', { epoch: event.epoch, reason: event.reason });
    } else {
      metrics.add('isthmus_publish_total', { result: event.error.code });
      log('warn', event.kind === 'fenced' ? 'fenced by another writer' : 'records not written', { error: event.error });
      if (event.kind !== 'fenced') return;
      this.#wantsToLead = false;
      this.#o.onFenced();
    }
  }
}
