/**
 * What this member publishes: its exports, gateways, roots and what it sees of the others. Every replica works it out; the one
 * that leads writes it.
 */
import type { IsthmusError } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { Plan } from '../failover/plan.ts';
import { deniedReaders } from '../federation/export_to.ts';
import { Exports } from '../federation/exports.ts';
import type { ExportProblem, LocalChange, LocalCluster, LocalService } from '../federation/local.ts';
import type { MemberView } from '../federation/view.ts';
import type { LoadedRecord, VantageRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { PathTime } from '../health/signals.ts';
import { type PeerRoundTrip, RttProber } from '../probe/rtt.ts';
import { Publisher, type PublisherEvent } from '../store/publisher.ts';
import { grantsOf } from '../trust/grants.ts';
import type { Member } from '../trust/membership.ts';
import type { GatewayPod } from './cluster.ts';
import { discreet } from './discretion.ts';
import type { Announcement } from './failover.ts';
import type { PublishingOptions, Shared } from './publishing_options.ts';
import { Rights } from './rights.ts';

const federationPort = 15_028;
const hbonePort = 15_008;
const refreshHintS = 300;

const farewellMs = 2_000;

export class Publishing {
  readonly exports: Exports;
  readonly #o: PublishingOptions;
  readonly #publisher: Publisher;
  readonly #rtt: RttProber;
  readonly #rights: Rights;
  /** The local cluster is known: before that, leading would withdraw everything. */
  #complete = false;
  #wantsToLead = false;
  /** What stands in the store is known: a leader withdraws what it does not itself want, the vantage too. */
  #recordsKnown = false;
  /** Our keys are known: what is signed by those that were replaced is refused. */
  #keysKnown = false;
  #members: ReadonlyMap<string, MemberView> = new Map();
  #cluster: LocalCluster | undefined;
  /** Of those for some members alone, the ones that were last said to stand. */
  readonly #namedStanding = new Set<ServiceKey>();
  #peers = '';
  #epoch = 0n;
  #announced = false;
  #gateways = '';
  /** As they were announced last; undefined: for whom they are may be other than then. */
  #grants: Plan['grants'] | undefined = [];

  constructor(options: PublishingOptions) {
    this.#o = options;
    const { config, store, clock, rng } = options;
    this.exports = new Exports({ clusterDomain: config.clusterDomain, self: config.member });
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
    this.#rights = new Rights({
      ...{ clusterset: config.clusterset, member: config.member, clock },
      gateways: config.store.writeEndpoints.length > 0,
      ask: store.rolePermissions?.bind(store),
      looked: () => this.#publisher.recheck(),
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
    const denied = (service.exported.to ?? []).filter((reader) => this.#publisher.denied.has(reader));
    const known = this.exports.problems.get(key) ?? (denied.length > 0 ? deniedReaders(key, denied) : undefined);
    if (known !== undefined || own === undefined || grantsOf(own).namespace(namespace)) return known;
    const message = `the cluster set does not let ${own.name} export services of namespace ${namespace}`;
    return { key, code: 'record/not-granted', message };
  }
  /** Our exports as the others have them. @param own - what the store brought back of ours, which says nothing of single readers' */
  shared(own: MemberView | undefined): Shared {
    return {
      services: { has: (key) => (this.exports.named.has(key) ? this.#saidOf(key) : own?.services.has(key) === true) },
    };
  }
  /** What keeps records from being written, or lets too many read them. */
  get problems(): readonly IsthmusError[] {
    const { lastError, denied } = this.#publisher;
    return [...(lastError === undefined ? [] : [lastError]), ...denied.values(), ...this.#rights.problems];
  }
  get leading(): boolean {
    return this.#publisher.state === 'leading';
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
    this.#cluster = cluster;
    const services = first ? cluster.services.keys() : change.services;
    const named = this.exports.named.size;
    this.exports.update(cluster, { services, pods: change.pods });
    if (named + this.exports.named.size > 0) this.#grants = undefined;
    if (first) this.#setReaders(cluster);
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
    this.#members = members;
    if (!this.#recordsKnown && this.#o.standing().known) {
      this.#recordsKnown = true;
      this.#tryToLead();
    }
    if (this.#cluster !== undefined) this.#setReaders(this.#cluster);
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
    const [self, named, secret] = [this.#o.config.member, this.exports.named, this.#o.keys().seals.now];
    const told = discreet(verdicts, { self, members: this.#members, named, secret });
    this.#must('verdicts', this.exports.setVerdicts(told));
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
    this.#o.metrics.set('isthmus_publish_held_back', this.#publisher.heldBack);
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
    this.#rights.close();
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

  #stands(key: ServiceKey): boolean {
    const targets = this.exports.targets(key);
    return targets.length > 0 && targets.every((target) => this.#publisher.stands(target));
  }

  /** @param all - also those that stand as they stood */
  #tellNamed(all: boolean): void {
    const gone = [...this.#namedStanding].filter((key) => !this.exports.named.has(key));
    for (const key of gone) this.#namedStanding.delete(key);
    const now = [...this.exports.named.keys()];
    this.#o.onNamed([...gone, ...now.filter((key) => this.#namedStanding.has(key) !== this.#saidOf(key) || all)]);
  }

  /** As `#stands`, and remembered as what was told. */
  #saidOf(key: ServiceKey): boolean {
    const stands = this.#stands(key);
    if (stands) this.#namedStanding.add(key);
    else this.#namedStanding.delete(key);
    return stands;
  }

  /** Those who can have records of their own. */
  #setReaders(cluster: LocalCluster): void {
    if (!this.#o.standing().known) return;
    const others = [...this.#members.keys()].filter((name) => name !== this.#o.config.member);
    this.exports.setReaders(new Set(others), cluster);
    if (this.exports.named.size > 0) this.#grants = undefined;
    this.#flush();
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
    metrics.set('isthmus_publish_held_back', this.#publisher.heldBack);
    if (event.kind === 'written' || event.kind === 'denied') this.#tellNamed(event.kind === 'denied');
    if (event.kind === 'denied') {
      log('warn', 'what is for one member alone is refused by the store', { reader: event.reader, error: event.error });
    } else if (event.kind === 'written') metrics.add('isthmus_publish_total', { result: 'ok' });
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
