/**
 * Failover, put together: what members publish and what was measured goes in, plans come out, decisions are journalled, shipped to the
 * other replicas and told to the other members.
 */
import type { KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng } from '../core/clock.ts';
import { fail, IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { Decision } from '../failover/decision.ts';
import type { Plan } from '../failover/plan.ts';
import type { Policies } from '../failover/policy.ts';
import type { FederationChange } from '../federation/change.ts';
import type { Decided as Published } from '../federation/decided.ts';
import type { LocalCluster } from '../federation/local.ts';
import { type MemberView, shippedState, type View } from '../federation/view.ts';
import type { HeldShown, LetGoBy } from '../federation/withdrawals.ts';
import type { Command, GraySignal, ProbeResult, TrafficWindow } from '../health/signals.ts';
import { cellOf } from '../health/verdict.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { PeerRoundTrip } from '../probe/rtt.ts';
import { openState } from '../records/sealed_state.ts';
import { version } from '../version.ts';
import { type Decided, Deciding, type Standing } from './deciding.ts';
import { type HeldAnchor, Journaling } from './journaling.ts';
import { PolicyBook } from './policies.ts';
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
  readonly onDecisions: (decisions: readonly Decision[]) => void;
}

/** What is shipped is compressed: a thousand services times a hundred members are two megabytes of much the same. */
const unzipped = (bytes: Uint8Array): Result<Uint8Array> => {
  try {
    return ok(gunzipSync(bytes, { maxOutputLength: limits.failoverStateBytesMax }));
  } catch (cause) {
    return fail('state/corrupt', `shipped state: ${(cause as Error).message}`, { cause });
  }
};

const some = (services: readonly ServiceKey[]): string =>
  `${services.slice(0, 5).join(', ')}${services.length > 5 ? ` and ${services.length - 5} more` : ''}`;

interface SavedHead {
  readonly mark: Mark;
  readonly withdrawals: unknown;
}

const saveWaitMs = 1_000;
/** What is shipped is brought up to date this often, also when nothing was decided: the ages in it grow. */
const shipEveryMs = 30_000;

export class Failover {
  readonly deciding: Deciding;
  readonly journaling: Journaling;
  readonly book: PolicyBook;
  readonly withdrawing: Withdrawing;
  readonly #o: FailoverOptions;
  readonly #standing = new StandingSignals();
  /** First failing evidence of a peer since it was last well, monotonic ms: from when detection counts. */
  readonly #failingSince = new Map<string, number>();
  #shipped: { readonly version: number; readonly plan: Plan; readonly atMs: number } | undefined;
  #decidedBy: Policies | undefined;
  #journalledAtMs: number | undefined;
  #saving: Promise<void> | undefined;
  #unsaved = false;
  #hung = false;
  /** The record and the parts that were looked at last. */
  #followed: readonly unknown[] = [];

  constructor(options: FailoverOptions) {
    this.#o = options;
    const { config, clock, rng, log, metrics } = options;
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
    this.deciding = new Deciding({
      clock,
      rng,
      log,
      policies: () => this.book.policies,
      standing: () => this.standing(),
      chosen: options.chosen,
      hearsWriter: () => (options.readBackMs() ?? Number.POSITIVE_INFINITY) < config.publish.silenceMs,
      append: (decisions, inputs) => this.journaling.append(decisions, inputs),
      save: () => this.#save(),
      wake: options.wake,
      onDecided: (decisions, seconds) => this.#decided(decisions, seconds),
    });
    this.withdrawing = new Withdrawing({
      self: config.member,
      policies: () => this.book.policies,
      evicted: (member) => this.deciding.verdicts.members.get(member)?.state === 'evicted',
      onHeld: (member, held) => this.#held(member, held),
      onLetGo: (member, letGo) => this.#letGo(member, letGo),
    });
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
    this.#follow();
    return more.size === 0 ? change.services : change.services.union(more);
  }

  /** Objects or the cluster set's default changed. */
  policies(): void {
    const { local, policySpec, wake } = this.#o;
    if (this.book.update(local().failoverPolicies, policySpec())) wake();
  }

  decide(view: View): Decided | Promise<Decided> {
    this.#decidedBy = this.book.policies;
    return this.deciding.decide(view);
  }

  probe(result: ProbeResult): void {
    this.#note(result.member, result.ok);
    this.withdrawing.probed({ ...result, atMs: this.deciding.scale.of(result.atMs) });
    this.deciding.probe(result);
  }
  traffic(windows: readonly TrafficWindow[]): void {
    for (const window of windows) this.deciding.traffic(window);
  }
  gray(signal: GraySignal): void {
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
    if (anew) this.#shipped = undefined;
    if (!this.#o.chosen()) {
      this.#shipped = undefined;
      return;
    }
    const { deciding } = this;
    // Before the first step there is nothing to tell, and what an earlier writer told stands.
    if (!deciding.stepped || !this.#o.recordsKnown()) return;
    const { plan, version: decided } = deciding;
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
    const { members, cells } = deciding.verdicts;
    const summary: Published['summary'][number][] = [];
    for (const [member, { state, reason }] of members)
      if (state !== 'fresh') summary.push({ service: undefined, member, state, reason });
    for (const [key, { state, reason }] of cells)
      if (state !== 'fresh') summary.push({ ...cellOf(key), state, reason });
    const verdicts = {
      summary,
      frozen: deciding.state.frozen !== undefined,
      state: gzipSync(deciding.encoded(), { level: 1 }),
      atMs,
      wallMs,
    };
    this.#o.announce({ plan, verdicts });
  }

  async close(): Promise<void> {
    this.deciding.close();
    await this.#save();
    await this.journaling.close();
  }

  /** Takes over what the replica that decides has shipped. */
  #follow(): void {
    const own = this.#o.rawMembers().get(this.#o.config.member);
    if (own?.verdicts === undefined || (this.#followed[0] === own.verdicts && this.#followed[1] === own.stateParts))
      return;
    this.#followed = [own.verdicts, own.stateParts];
    const shipped = shippedState(own);
    if (!shipped.ok) {
      this.#o.log('error', 'the state shipped by the writer does not fit together', { error: shipped.error });
    } else if (shipped.value !== undefined) {
      const { atMs, wallMs } = own.verdicts;
      const opened = openState(this.#o.recordKey, shipped.value);
      const bytes = opened.ok ? unzipped(opened.value) : opened;
      if (!bytes.ok) {
        this.#o.log('error', 'the state shipped by the writer cannot be unpacked', { error: bytes.error });
        return;
      }
      this.deciding.follow(own.verdicts, bytes.value, { atMs: Number(atMs), wallMs: Number(wallMs) });
    }
  }

  /** A line of JSON (when, and what is held), then the state of decisions. */
  #restore(bytes: Uint8Array): IsthmusError | undefined {
    const end = bytes.indexOf(0x0a);
    try {
      const head = JSON.parse(Buffer.from(bytes.subarray(0, Math.max(0, end))).toString('utf8')) as SavedHead;
      return this.deciding.restore(bytes.subarray(end + 1), head.mark) ?? this.withdrawing.restore(head.withdrawals);
    } catch (cause) {
      return new IsthmusError('state/corrupt', `saved decisions: ${(cause as Error).message}`, { cause });
    }
  }

  #saved(): Uint8Array {
    const head: SavedHead = { mark: this.deciding.scale.mark(), withdrawals: this.withdrawing.save() };
    return Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), this.deciding.encoded()]);
  }

  /**
   * A disk that hangs must not hold a failover back: it is waited for once, and not again until it answers. One save at a time; what
   * changes meanwhile shares the next.
   */
  async #save(): Promise<void> {
    this.#saving ??= this.#saveAll().finally(() => {
      this.#saving = undefined;
      this.#hung = false;
    });
    this.#unsaved = true;
    if (this.#hung) return;
    const { promise, resolve } = Promise.withResolvers<'late'>();
    const timer = this.#o.clock.after(saveWaitMs, () => resolve('late'));
    if ((await Promise.race([this.#saving, promise])) === 'late') this.#hung = true;
    timer.cancel();
  }

  async #saveAll(): Promise<void> {
    // Everything that is asked for in this turn is in it.
    await Promise.resolve();
    while (this.#unsaved) {
      this.#unsaved = false;
      await this.#o.save(this.#saved()).catch((error: unknown) => {
        this.#o.log('error', 'the state of decisions could not be saved', { error: error as Error });
      });
    }
  }

  #note(member: string, ok: boolean): void {
    if (ok) this.#failingSince.delete(member);
    else if (!this.#failingSince.has(member)) this.#failingSince.set(member, this.#o.clock.monotonicMs());
  }

  #decided(decisions: readonly Decision[], seconds: number): void {
    const { metrics, clock } = this.#o;
    this.#journalledAtMs = clock.monotonicMs();
    metrics.observe('isthmus_failover_decide_seconds', seconds);
    for (const { kind, member } of decisions) {
      metrics.add('isthmus_decisions_total', { kind });
      const since = member === undefined ? undefined : this.#failingSince.get(member);
      if (kind !== 'state' || since === undefined) continue;
      metrics.observe('isthmus_failover_detect_seconds', (clock.monotonicMs() - since) / 1000 - seconds);
    }
    this.#o.onDecisions(decisions);
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
    void this.#save();
    log(mass > 0 ? 'warn' : 'info', 'withdrawal held', { peer: member, services: held.length, mass });
    // One record among many waits some moments for its canary: worth a line in the log, not in the journal.
    const kept = held.filter(({ reason }) => reason !== 'Canary').map(({ service }) => service);
    if (kept.length === 0) return;
    const detail = `${kept.length} services vanished from its records and are held: ${some(kept)}`;
    this.#journal(member, 'WithdrawalHeld', detail);
  }

  #letGo(member: string, letGo: readonly { readonly service: ServiceKey; readonly by: LetGoBy }[]): void {
    const by = Object.entries(Object.groupBy(letGo, (each) => each.by)).map(([why, list]) => `${why} ${list?.length}`);
    this.#o.log('info', 'withdrawal let go', { peer: member, services: letGo.length, by: by.join(', ') });
    const services = letGo.map(({ service }) => service);
    this.#journal(member, 'Withdrawn', `no longer exported (${by.join(', ')}): ${some(services)}`);
  }
}
