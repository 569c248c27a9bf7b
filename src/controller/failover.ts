/**
 * Failover, put together: what members publish and what was measured goes in, plans come out, decisions are journalled, shipped to the
 * other replicas and told to the other members.
 */
import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { Decision } from '../failover/decision.ts';
import type { Plan } from '../failover/plan.ts';
import type { Policies } from '../failover/policy.ts';
import type { FederationChange } from '../federation/change.ts';
import type { Decided as Published } from '../federation/decided.ts';
import type { LocalCluster } from '../federation/local.ts';
import type { MemberView, View } from '../federation/view.ts';
import type { HeldShown, LetGoBy } from '../federation/withdrawals.ts';
import type { Command, GraySignal, ProbeResult, TrafficWindow } from '../health/signals.ts';
import { cellOf } from '../health/verdict.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { PeerRoundTrip } from '../probe/rtt.ts';
import { version } from '../version.ts';
import { type BesideChannel, BesideStore } from './beside_store.ts';
import { type Decided, Deciding, type Standing } from './deciding.ts';
import { Detecting } from './detecting.ts';
import { Following, type SavedFollowed } from './following.ts';
import { type HeldAnchor, Journaling } from './journaling.ts';
import { Overheard } from './overheard.ts';
import { PolicyBook } from './policies.ts';
import { Saver } from './saver.ts';
import type { Seals } from './seals.ts';
import { packShipped } from './shipping.ts';
import { StandingSignals } from './standing.ts';
import type { Mark } from './timescale.ts';
import { Withdrawing } from './withdrawing.ts';

/** What of a plan others are told. */
export interface Announcement {
  readonly plan: Plan;
  readonly verdicts: Published;
}

export interface FailoverOptions {
  readonly config: Config;
  readonly recordKey: KeyObject;
  /** What shipped states may be sealed under; another object when that changed. */
  readonly seals: () => Seals;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly epoch: () => bigint;
  /** Whether this replica decides. */
  readonly chosen: () => boolean;
  /** What stands in the store, or stood there, is known. */
  readonly recordsKnown: () => boolean;
  /** Members as their records say. */
  readonly rawMembers: () => ReadonlyMap<string, MemberView>;
  readonly local: () => LocalCluster;
  readonly readBackMs: () => number | null;
  readonly dark?: (member: string) => boolean;
  readonly roundTrips: () => ReadonlyMap<string, PeerRoundTrip>;
  readonly receivingSpill: () => ReadonlySet<ServiceKey>;
  readonly policySpec: () => Readonly<Record<string, unknown>> | undefined;
  readonly anchors: () => readonly HeldAnchor[];
  /** A step is due. */
  readonly wake: () => void;
  /** Services changed without a record having come: something held was let go. */
  readonly onServices: (services: ReadonlySet<ServiceKey>) => void;
  readonly save: (state: Uint8Array) => Promise<void>;
  readonly announce: (announcement: Announcement) => void;
  /** The second way to the other replicas; without it there is the store alone. */
  readonly beside?: BesideChannel;
}

const some = (services: readonly ServiceKey[]): string =>
  `${services.slice(0, 5).join(', ')}${services.length > 5 ? ` and ${services.length - 5} more` : ''}`;

interface SavedHead {
  readonly mark: Mark;
  readonly withdrawals: unknown;
  readonly followed?: SavedFollowed | undefined;
}

/** What is shipped is brought up to date this often, also when nothing was decided: the ages in it grow. */
const shipEveryMs = 30_000;

export class Failover {
  readonly deciding: Deciding;
  readonly journaling: Journaling;
  readonly book: PolicyBook;
  readonly withdrawing: Withdrawing;
  /** For what a replica measures that follows. */
  readonly overheard: Overheard;
  readonly following: Following;
  readonly beside: BesideStore | undefined;
  readonly #o: FailoverOptions;
  readonly #standing = new StandingSignals();
  readonly #detecting = new Detecting();
  #shipped: { readonly version: number; readonly plan: Plan; readonly atMs: number } | undefined;
  #decidedBy: Policies | undefined;
  #journalledAtMs: number | undefined;
  readonly #saver: Saver;

  constructor(options: FailoverOptions) {
    this.#o = options;
    const { config, clock, rng, log, metrics } = options;
    this.#saver = new Saver({ clock, log, make: () => this.#saved(), save: options.save });
    this.book = new PolicyBook({ order: config.failover.order, capabilities: { partialSpill: true } });
    this.journaling = new Journaling({
      member: config.member,
      replica: config.replica,
      recordKey: options.recordKey,
      dir: join(config.state.dir, 'journal'),
      version,
      epoch: options.epoch,
      whenUnwritable: config.failover.whenJournalUnwritable,
      anchors: options.anchors,
      clock,
      rng,
      log,
      metrics,
    });
    this.overheard = new Overheard({
      readBackMs: options.readBackMs,
      quietMs: 2 * config.publish.heartbeatMs,
      heardBeside: () => this.beside?.heard === true,
      take: (result) => this.deciding.probe(result),
    });
    this.deciding = new Deciding({
      clock,
      rng,
      log,
      policies: () => this.book.policies,
      standing: () => this.standing(),
      chosen: options.chosen,
      hearsWriter: () =>
        (options.readBackMs() ?? Number.POSITIVE_INFINITY) < config.publish.silenceMs || this.beside?.heard === true,
      append: (decisions, inputs) => this.journaling.append(decisions, inputs),
      save: () => this.#saver.save(),
      wake: options.wake,
      onDecided: (decisions, seconds) => this.#decided(decisions, seconds),
    });
    this.withdrawing = new Withdrawing({
      self: config.member,
      policies: () => this.book.policies,
      chosen: options.chosen,
      evicted: (member) => this.deciding.verdicts.members.get(member)?.state === 'evicted',
      onHeld: (member, held) => this.#held(member, held),
      onLetGo: (member, letGo) => this.#letGo(member, letGo),
    });
    const { deciding, withdrawing } = this;
    const following = new Following({ ...options, deciding, withdrawing, save: () => void this.#saver.save() });
    this.following = following;
    this.beside =
      options.beside && new BesideStore({ ...options, ...options.beside, deciding, withdrawing, following });
  }

  get members(): ReadonlyMap<string, MemberView> {
    return this.withdrawing.members;
  }
  /** The policies that the newest decisions were made by. */
  get decidedBy(): Policies | undefined {
    return this.#decidedBy;
  }

  /** Standing problems, for `status`. */
  problems(): readonly IsthmusError[] {
    const policy = this.book.problem;
    return [...this.journaling.problems(), ...(policy === undefined ? [] : [policy])];
  }

  /** What manifests said of journals and audits. */
  anchors(): readonly HeldAnchor[] {
    return this.#o.anchors();
  }

  /** When the journal last took something of this run, monotonic ms. */
  get journalledAtMs(): number | undefined {
    return this.#journalledAtMs;
  }

  /** What stands now, for a step. */
  standing(): Standing {
    const { config, clock, readBackMs, roundTrips, receivingSpill } = this.#o;
    return this.#standing.read({
      self: config.member,
      members: this.withdrawing.members,
      monotonicMs: clock.monotonicMs(),
      readBackMs: readBackMs() ?? undefined,
      dark: this.#o.dark,
      roundTrips: roundTrips(),
      receivingSpill: receivingSpill(),
    });
  }

  /** Before anything else. @param saved - of an earlier run */
  async open(saved: Uint8Array | undefined): Promise<IsthmusError | undefined> {
    await this.journaling.open();
    return saved === undefined ? undefined : this.#restore(saved);
  }

  /** Records changed. @returns the services that are to be looked at */
  records(change: Pick<FederationChange, 'services' | 'members' | 'policy'>): ReadonlySet<ServiceKey> {
    if (change.policy) this.policies();
    const more = this.withdrawing.update(this.#o.rawMembers(), change.services, this.deciding.scale.now());
    const adopted = this.following.store();
    return more.size + adopted.size === 0 ? change.services : change.services.union(more).union(adopted);
  }

  /** Objects or the cluster set's default changed. */
  policies(): void {
    const { local, policySpec, wake } = this.#o;
    if (this.book.update(local().failoverPolicies, policySpec())) wake();
  }

  decide(view: View): Decided | Promise<Decided> {
    this.#decidedBy = this.book.policies;
    const decided = this.deciding.decide(view);
    if (decided instanceof Promise) {
      decided.catch((error: unknown) => {
        this.#o.log('error', 'a decision was not made; it is tried again', { error: error as Error });
      });
    }
    return decided;
  }

  probe(result: ProbeResult): void {
    this.#detecting.probe(result);
    this.withdrawing.probed({ ...result, atMs: this.deciding.scale.of(result.atMs) });
    this.deciding.probe(result);
  }
  traffic(windows: readonly TrafficWindow[]): void {
    for (const window of windows) {
      this.#detecting.traffic(window);
      this.deciding.traffic(window);
    }
  }
  gray(signal: GraySignal): void {
    this.#detecting.gray(signal);
    this.deciding.gray(signal);
  }

  async command(command: Command): Promise<readonly Decision[]> {
    const decisions = await this.deciding.command(command);
    if (command.kind === 'confirm-withdrawal') this.withdrawing.confirm(command.member, command.service);
    this.tick();
    return decisions;
  }

  /** About once a second: what is held may run out, what is shipped grows old. */
  tick(): void {
    const nowMs = this.deciding.scale.now();
    const services = this.withdrawing.update(this.#o.rawMembers(), new Set(), nowMs);
    if (services.size > 0) this.#o.onServices(services);
    this.journaling.gauge();
    this.announce();
  }

  /** After a step took effect, and now and then. @param anew - also what was told before: a writer begins */
  announce(anew = false): void {
    this.beside?.tick();
    if (anew) this.#shipped = undefined;
    if (!this.#o.chosen()) {
      this.#shipped = undefined;
      return;
    }
    const { deciding, withdrawing } = this;
    // Before the first step there is nothing to tell, and what an earlier writer told stands.
    if (!deciding.stepped || !this.#o.recordsKnown()) return;
    const { plan } = deciding;
    const decided = deciding.version + withdrawing.version;
    const { atMs, wallMs } = deciding.scale.mark();
    const before = this.#shipped;
    const due = before === undefined || before.version !== decided || atMs - before.atMs >= shipEveryMs;
    if (
      !due &&
      before.plan.draining === plan.draining &&
      before.plan.grants === plan.grants &&
      before.plan.votes === plan.votes
    )
      return;
    this.#shipped = { version: decided, plan, atMs };
    this.following.announced(Math.floor(atMs));
    const { members, cells } = deciding.verdicts;
    const summary: Published['summary'][number][] = [];
    for (const [member, { state, reason }] of members)
      if (state !== 'fresh') summary.push({ service: undefined, member, state, reason });
    for (const [key, { state, reason }] of cells)
      if (state !== 'fresh') summary.push({ ...cellOf(key), state, reason });
    const verdicts = {
      summary,
      frozen: deciding.state.frozen !== undefined,
      state: packShipped(deciding.encoded(), withdrawing.ship(atMs)),
      atMs,
      wallMs,
    };
    this.#o.announce({ plan, verdicts });
  }

  async close(): Promise<void> {
    this.beside?.close();
    this.deciding.close();
    await this.#saver.save();
    await this.journaling.close();
  }

  /** A line of JSON (when, and what is held), then the state of decisions. */
  #restore(bytes: Uint8Array): IsthmusError | undefined {
    const end = bytes.indexOf(0x0a);
    try {
      const head = JSON.parse(Buffer.from(bytes.subarray(0, Math.max(0, end))).toString('utf8')) as SavedHead;
      const restored = this.deciding.restore(bytes.subarray(end + 1), head.mark);
      this.following.restore(head.followed);
      return restored.ok ? this.withdrawing.restore(head.withdrawals, restored.value) : restored.error;
    } catch (cause) {
      return new IsthmusError('state/corrupt', `saved decisions: ${(cause as Error).message}`, { cause });
    }
  }

  #saved(): Uint8Array {
    const { deciding, withdrawing, following } = this;
    const head: SavedHead = {
      mark: deciding.scale.mark(),
      withdrawals: withdrawing.save(),
      followed: following.save(),
    };
    return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), deciding.encoded()]);
  }

  #decided(decisions: readonly Decision[], seconds: number): void {
    const { metrics, clock } = this.#o;
    const nowMs = clock.monotonicMs();
    this.#journalledAtMs = nowMs;
    metrics.observe('isthmus_failover_decide_seconds', seconds);
    for (const { kind } of decisions) metrics.add('isthmus_decisions_total', { kind });
    for (const detected of this.#detecting.detected(decisions, nowMs - seconds * 1000)) {
      metrics.observe('isthmus_failover_detect_seconds', detected);
    }
  }

  /** What became of a withdrawal: no step decides it, so there is nothing to replay. */
  #journal(member: string, rule: 'WithdrawalHeld' | 'Withdrawn', detail: string): void {
    if (!this.#o.chosen()) return;
    const entry: Decision = {
      atMs: this.deciding.scale.now(),
      ...{ kind: 'hold', service: undefined, member, rule, detail: `${member}: ${detail}`, author: 'controller' },
      ...{ guards: [], before: undefined, after: undefined, observed: false, urgent: true },
      policy: this.book.policies.default.name,
    };
    this.journaling.journal.append([entry]).catch((error: unknown) => {
      this.#o.log('error', 'a withdrawal could not be journalled', { error: error as Error });
    });
  }

  #held(member: string, held: readonly HeldShown[]): void {
    const { log, metrics } = this.#o;
    metrics.add('isthmus_withdrawals_held_total', { peer: member }, held.length);
    const mass = held.filter(({ reason }) => reason === 'Mass').length;
    void this.#saver.save();
    log(mass > 0 ? 'warn' : 'info', 'withdrawal held', { peer: member, services: held.length, mass });
    // One record among many waits some moments for its canary: worth a line in the log, not in the journal.
    const kept = held.filter(({ reason }) => reason !== 'Canary').map(({ service }) => service);
    if (kept.length === 0) return;
    const detail = `${kept.length} services vanished from its records and are held: ${some(kept)}`;
    this.#journal(member, 'WithdrawalHeld', detail);
  }

  #letGo(member: string, letGo: readonly { readonly service: ServiceKey; readonly by: LetGoBy }[]): void {
    const by = Object.entries(Object.groupBy(letGo, (each) => each.by)).map(([why, list]) => `${why} ${list?.length}`);
    void this.#saver.save();
    this.#o.log('info', 'withdrawal let go', { peer: member, services: letGo.length, by: by.join(', ') });
    const services = letGo.map(({ service }) => service);
    this.#journal(member, 'Withdrawn', `no longer exported (${by.join(', ')}): ${some(services)}`);
  }
}
