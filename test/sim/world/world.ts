/**
 * Everything together: true time, lines, etcd, clusters with their proxies, and the replicas that run there. Faults take hold of it
 * (apply.ts), invariants look at it.
 */
import type { Command } from '../../../src/health/signals.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { signMembership } from '../../../src/trust/membership.ts';
import type { TestMember } from '../../unit/trust/certificates.ts';
import { SimEtcd } from '../etcd.ts';
import type { Watcher } from '../invariants/invariant.ts';
import { simStore } from '../store.ts';
import { Cluster, type KnownGateway, type Served } from './cluster.ts';
import { emptyDisk, type Word } from './disk.ts';
import { Draw } from './draw.ts';
import { authority, identityOf } from './identities.ts';
import { LineToEtcd } from './line-to-etcd.ts';
import { etcdNode, Network } from './network.ts';
import { policiesNamed, policyNamed } from './policies.ts';
import { Probing } from './probing.ts';
import { addressBase, clusterset, Process } from './process.ts';
import type { Step } from './process-options.ts';
import { Registry } from './registry.ts';
import { guardedNamespace, manyClusters, type Scenario } from './scenario.ts';
import { Slot } from './slot.ts';
import { Time } from './time.ts';
import { type Ground, type Request, Traffic } from './traffic.ts';
import { Truth } from './truth.ts';

export const keys = storeKeys(clusterset);
const flowMs = 250;
const checkMs = 500;
const secondMs = 1_000;
const streamDeadMs = 15_000;

export class World implements Ground {
  readonly scenario: Scenario;
  readonly time = new Time();
  readonly network: Network;
  readonly etcd = new SimEtcd();
  readonly clusters = new Map<string, Cluster>();
  readonly traffics = new Map<string, Traffic>();
  readonly slots: Slot[] = [];
  readonly registry = new Registry();
  readonly truth = new Truth();
  readonly draw: Draw;
  readonly identities = new Map<string, TestMember>();
  /** Faults are lifted for good, and pods no longer fall over. */
  lifted = false;
  requests = 0;
  steps = 0;
  shifts = 0;
  /** Of the hostile member, under way. */
  hostileActs = 0;
  /** When a fault last began or ended. */
  calmSinceMs = 0;
  /** When etcd had which revision, for restores. */
  readonly revisions: { readonly atMs: number; readonly revision: bigint }[] = [];
  readonly #lines = new Map<string, LineToEtcd[]>();
  readonly #commands = new Map<string, Command[]>();
  /** What each member's deciding replica shipped last. */
  readonly #shipped = new Map<string, { readonly word: Word; readonly atMs: number }>();
  readonly #probings = new Map<string, Probing>();
  readonly #gatewayCuts = new Map<string, number>();
  readonly #watcher: Watcher;
  readonly #graySignals: boolean;

  private constructor(scenario: Scenario, watcher: Watcher) {
    this.scenario = scenario;
    this.#watcher = watcher;
    this.draw = new Draw(scenario.seed).fork('world');
    const regions = new Map(scenario.clusters.map(({ name, region }) => [name, region]));
    regions.set(etcdNode, scenario.etcdRegion);
    this.network = new Network(regions, this.draw.fork('network'));
    this.#graySignals = this.draw.fork('gray').chance(0.6);
    for (const spec of scenario.clusters) this.#addCluster(spec);
  }

  static async build(scenario: Scenario, watcher: Watcher): Promise<World> {
    const world = new World(scenario, watcher);
    for (const { name } of scenario.clusters) world.identities.set(name, await identityOf(name));
    world.writeMemberships();
    for (const slot of world.slots) world.start(slot);
    world.time.every(flowMs, () => {
      for (const traffic of world.traffics.values()) traffic.flow(flowMs);
    });
    world.time.every(checkMs, () => world.#check());
    world.time.every(secondMs, () => world.#second());
    return world;
  }

  // the ground of requests

  get nowMs(): number {
    return this.time.nowMs;
  }
  cluster(name: string): Cluster {
    return this.clusters.get(name)!;
  }
  reach(from: string, to: string, gateway: number): boolean {
    const cut = this.#gatewayCuts.get(`${from}|${to}|${gateway}`) ?? 0;
    return cut === 0 && this.network.up(from, to) && this.cluster(to).gatewayUp(gateway);
  }
  reachable(from: string, to: string): boolean {
    const { gateways } = this.cluster(to).spec;
    return Array.from({ length: gateways }, (_, i) => i).some((gateway) => this.reach(from, to, gateway));
  }
  cutGateway(from: string, to: string, gateway: number, by: 1 | -1): void {
    const key = `${from}|${to}|${gateway}`;
    this.#gatewayCuts.set(key, (this.#gatewayCuts.get(key) ?? 0) + by);
  }
  border(receiver: string, reader: string, service: string): number | undefined {
    const grants = this.cluster(receiver).served?.plan.grants.filter((g) => g.service === service) ?? [];
    if (grants.length === 0) return undefined;
    const granted = grants.find((g) => g.reader === reader)?.perSecond ?? 0;
    // A border lets a short burst in.
    return granted === 0 ? 0 : Math.ceil(1.5 * granted) + 1;
  }
  told(request: Request): void {
    this.requests++;
    this.#watcher.request(request, this);
  }

  // what faults do

  reachesEtcd(cluster: string): boolean {
    return this.etcd.state === 'up' && this.network.up(cluster, etcdNode);
  }
  linesChanged(): void {
    for (const lines of this.#lines.values()) for (const line of lines) line.restored();
  }
  /** Something began or ended. */
  faulted(): void {
    this.calmSinceMs = this.nowMs;
  }
  /** Everything is mended, and people let everything come back. */
  lift(): void {
    this.lifted = true;
    this.faulted();
    const who = { author: 'someone', reason: 'all is well' };
    const tell = (): void => {
      for (const name of this.clusters.keys()) {
        for (const member of this.clusters.keys())
          this.command(name, { kind: 'failback', member, service: undefined, ...who });
      }
      this.time.after(10_000, tell);
    };
    if (policyNamed(this.scenario.policy).failback.mode === 'latched') tell();
    for (const name of this.clusters.keys()) this.localChanged(name);
  }
  /** Deciding is stopped, by a person. */
  frozen(cluster: string): boolean {
    return this.leader(cluster)?.state.frozen !== undefined;
  }
  /** What a member grants a reader, as far as the reader knows; undefined: nothing was said. */
  offered(reader: string, member: string, service: string): number | undefined {
    const grants = this.leader(reader)?.federation.members.get(member)?.grants?.grants;
    return grants?.find((grant) => grant.service === service)?.perSecond;
  }
  /** Of all that others grant a reader; infinite when somebody has no limit. */
  offeredInAll(reader: string, service: string): number {
    const plan = this.cluster(reader).served?.plan.services.get(service);
    const others = plan?.standings.filter(({ member }) => member !== reader) ?? [];
    return others.reduce((sum, s) => sum + (this.offered(reader, s.member, service) ?? Number.POSITIVE_INFINITY), 0);
  }
  end(): void {
    for (const slot of this.slots) slot.process?.end();
  }
  localChanged(cluster: string): void {
    for (const slot of this.slots) {
      if (slot.cluster === cluster) slot.process?.o.clock.after(50, () => slot.process?.localChanged());
    }
  }
  command(cluster: string, command: Command): void {
    const waiting = this.#commands.get(cluster) ?? [];
    waiting.push(command);
    this.#commands.set(cluster, waiting);
  }
  probing(cluster: string): Probing {
    return this.#probings.get(cluster)!;
  }
  leader(cluster: string): Process | undefined {
    return this.slots.find((s) => s.cluster === cluster && s.running && s.process?.leads)?.process;
  }
  slotsOf(cluster: string): Slot[] {
    return this.slots.filter((s) => s.cluster === cluster);
  }

  /** Begins a process where nothing holds it down. */
  start(slot: Slot): void {
    if (slot.down > 0 || slot.process !== undefined) return;
    const { cluster: name, replica } = slot;
    this.#learn(slot);
    const cluster = this.cluster(name);
    const line = new LineToEtcd(
      this.etcd,
      () => this.network.up(name, etcdNode),
      (user) => this.#published(user),
    );
    const lines = this.#lines.get(name) ?? [];
    this.#lines.set(name, [...lines.slice(-4), line]);
    const clock = slot.newClock();
    if (slot.stopped > 0) clock.stop();
    const draw = this.draw.fork(`process ${name} ${replica} ${slot.starts++}`);
    const latencyMs = this.network.rttMs(name, etcdNode) / 2;
    slot.process = new Process({
      cluster,
      replica,
      identity: this.identities.get(name)!,
      clock,
      draw,
      store: simStore(line, { clock, rng: draw.fork('store').next, user: name, latencyMs }),
      disk: slot.disk,
      ground: this,
      traffic: this.traffics.get(name)!,
      probing: this.probing(name),
      policies: policiesNamed(this.scenario.policy),
      graySignals: this.#graySignals,
      heartbeatMs: this.clusters.size > manyClusters ? 2_000 : 1_000,
      told: {
        decided: (step) => this.#decided(step),
        serve: (plan, gateways) => this.#serve(slot, { plan, gateways, atMs: this.nowMs, replica }),
        ship: (word) => this.#ship(slot, word),
        changed: (process, change) => this.#watcher.records(process, change, this),
        commands: () => {
          const commands = this.#commands.get(name) ?? [];
          this.#commands.delete(name);
          return commands;
        },
      },
    });
    this.#watcher.started(slot, this);
  }

  /** Ends the process as a crash does. */
  stop(slot: Slot, keepDisk: boolean): void {
    slot.process?.end();
    slot.process = undefined;
    if (!keepDisk) slot.disk = emptyDisk();
  }

  writeMemberships(): void {
    for (const { name, region } of this.scenario.clusters) {
      const { member } = this.identities.get(name)!;
      const hostile = name === this.scenario.hostile;
      const signed = signMembership(
        {
          ...member,
          clusterset,
          sequence: 1n,
          region,
          zone: '',
          network: name,
          addressRanges: [`${addressBase(name)}.0.0/16`],
          namespaces: hostile ? ['shop'] : ['shop', guardedNamespace],
          serviceAccounts: [],
          notBeforeMs: 1_000,
          notAfterMs: 4_000_000_000_000,
        },
        authority.privateKey,
      );
      if (!signed.ok) throw signed.error;
      const puts = [{ key: keys.member(name), value: signed.value }];
      this.etcd.commit('root', { compare: [], puts, deletes: [] });
      this.etcd.allow(name, { read: [keys.root], write: [keys.memberPrefix(name)] });
    }
  }

  #addCluster(spec: Scenario['clusters'][number]): void {
    const { name } = spec;
    const cluster = new Cluster(spec, this.scenario.services);
    this.clusters.set(name, cluster);
    const load = new Map<string, number>();
    for (const service of this.scenario.services) {
      const perSecond = service.load[name];
      if (perSecond !== undefined) load.set(service.key, perSecond);
    }
    const traffic = new Traffic(cluster, load, this, this.draw.fork(`traffic ${name}`));
    this.traffics.set(name, traffic);
    const head = (member: string) => this.registry.newest(member);
    const draw = this.draw.fork(`probing ${name}`);
    this.#probings.set(name, new Probing({ self: name, ground: this, traffic, draw, head }));
    for (let i = 0; i < spec.replicas; i++) this.slots.push(new Slot(spec, i, this.time));
  }

  #published(member: string): void {
    const prefix = keys.memberPrefix(member);
    const head = this.registry.note(member, prefix, this.etcd.snapshot('root', prefix), this.nowMs);
    if (head !== undefined) this.#watcher.published(member, head, this);
  }

  #decided(step: Step): void {
    this.steps++;
    if (step.journal.some(({ before, after }) => before !== undefined || after !== undefined)) this.shifts++;
    this.#watcher.step(step, this);
  }

  /** The member's records have it: for the other replica, and for one that begins with an empty disk. */
  #ship(slot: Slot, word: Word): void {
    // One that was stopped and has lost its lease is fenced by the store.
    const fenced = this.cluster(slot.cluster).lease?.holder !== slot.replica;
    if (!fenced) this.#shipped.set(slot.cluster, { word, atMs: this.nowMs });
    this.time.after(5, () => this.#other(slot)?.receive(word));
  }

  #learn(slot: Slot): void {
    const found = this.#shipped.get(slot.cluster);
    if (slot.disk.state !== undefined || found === undefined) return;
    const { state, plan, holds, nowMs } = found.word;
    const offsetMs = nowMs + this.nowMs - found.atMs - slot.clock.monotonicMs();
    Object.assign(slot.disk, { state, plan, held: holds.held, offsetMs });
  }

  #other(slot: Slot): Process | undefined {
    return this.slots.find((s) => s.cluster === slot.cluster && s !== slot && s.running)?.process;
  }

  #serve(slot: Slot, served: Served): void {
    const cluster = this.cluster(slot.cluster);
    cluster.connected ??= slot.replica;
    if (cluster.connected !== slot.replica) return;
    this.time.after(5 + 15 * this.draw.next(), () => {
      if (cluster.connected !== slot.replica || slot.process === undefined) return;
      if ((cluster.served?.atMs ?? -1) > served.atMs && cluster.served?.replica === slot.replica) return;
      this.#deliver(cluster, served);
    });
  }
  #deliver(cluster: Cluster, served: Served): void {
    const before = cluster.served;
    cluster.served = served;
    this.traffics.get(cluster.name)!.hosts.update(served);
    this.#watcher.served(cluster, before, this);
  }

  /** Proxies whose controller is gone find the other one, if it has something to say. */
  #reconnect(cluster: Cluster): void {
    const slots = this.slotsOf(cluster.name);
    const now = slots.find((s) => s.replica === cluster.connected);
    const lost = now?.process === undefined || (now.clock.stopped && this.nowMs - now.stoppedAtMs > streamDeadMs);
    if (!lost) return;
    const next = slots.find((s) => s.running && s.process?.plan !== undefined);
    if (next?.process?.plan === undefined) return;
    cluster.connected = next.replica;
    const { plan } = next.process;
    const gateways: ReadonlyMap<string, readonly KnownGateway[]> = next.process.gateways();
    this.#deliver(cluster, { plan, gateways, atMs: this.nowMs, replica: next.replica });
  }

  #check(): void {
    for (const cluster of this.clusters.values()) {
      const probing = this.probing(cluster.name);
      this.traffics.get(cluster.name)!.check((member) => probing.healthTimeoutMs(member));
      this.#reconnect(cluster);
    }
  }

  #second(): void {
    this.revisions.push({ atMs: this.nowMs, revision: this.etcd.revision });
    for (const cluster of this.clusters.values()) {
      let changed = false;
      for (const pods of cluster.pods.values()) {
        const ready = pods.ready;
        pods.second(!this.lifted);
        changed ||= pods.ready !== ready;
      }
      if (changed) this.localChanged(cluster.name);
    }
    this.#noteTruth();
    this.#watcher.second(this);
  }

  #noteTruth(): void {
    const talks = new Map<string, boolean>();
    for (const name of this.clusters.keys()) talks.set(name, this.leader(name) !== undefined && this.reachesEtcd(name));
    for (const [from, own] of this.clusters) {
      for (const member of this.clusters.keys()) {
        if (from === member) continue;
        const broken = !own.anyGatewayUp || !this.reachable(from, member);
        // Whoever cannot see the store itself cannot tell.
        const silent = !talks.get(member)! && this.reachesEtcd(from);
        this.truth.note(from, member, { atMs: this.nowMs, broken, silent });
      }
    }
  }
}
