/**
 * The members as decisions and translations see them: what a member's newest manifest took away stays until its canary was refused,
 * the member is dead by two signals, a person confirmed, or the hold ran out. Adapts the pure rule to records that come in by key.
 */
import type { IsthmusError } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { Policies } from '../failover/policy.ts';
import type { MemberView } from '../federation/view.ts';
import {
  forgetMember,
  type HeldShown,
  holdWithdrawals,
  type LetGoBy,
  noWithdrawals,
  type Withdrawals,
} from '../federation/withdrawals.ts';
import { restoreWithdrawals, type SavedHold, saveWithdrawals } from '../federation/withdrawals_saved.ts';
import {
  adoptWithdrawals,
  type LetGo,
  letGoMax,
  letGoToldMs,
  renewCanaries,
  type Shipped,
} from '../federation/withdrawals_shipped.ts';
import { canaryAnswer } from '../health/reading.ts';
import type { ProbeResult } from '../health/signals.ts';
import type { ShippedHolds } from './shipping.ts';

export interface WithdrawingOptions {
  readonly self: string;
  readonly policies: () => Policies;
  readonly evicted: (member: string) => boolean;
  /** Whether this replica decides: another one lets nothing go by itself. */
  readonly chosen: () => boolean;
  /** Services of a member were let go; for the journal. */
  readonly onLetGo: (member: string, letGo: readonly { readonly service: ServiceKey; readonly by: LetGoBy }[]) => void;
  /** Something began to be held. */
  readonly onHeld: (member: string, held: readonly HeldShown[]) => void;
}

interface Known {
  readonly raw: MemberView;
  readonly shown: MemberView;
}

type Answers = Map<ServiceKey, { readonly answer: 'gone' | 'answers'; readonly atMs: number }>;

const answersMax = 1_000;

export class Withdrawing {
  readonly #o: WithdrawingOptions;
  readonly #known = new Map<string, Known>();
  readonly #members = new Map<string, MemberView>();
  readonly #held = new Map<string, readonly HeldShown[]>();
  readonly #canaries = new Map<string, readonly ServiceKey[]>();
  readonly #answers = new Map<string, Answers>();
  readonly #confirmed = new Map<string, 'all' | Set<ServiceKey>>();
  #state: Withdrawals = noWithdrawals;
  /** What was let go lately, oldest first: for the other replicas. */
  #letGo: LetGo[] = [];
  #deciding = false;
  #version = 0;

  constructor(options: WithdrawingOptions) {
    this.#o = options;
  }

  /** Live. */
  get members(): ReadonlyMap<string, MemberView> {
    return this.#members;
  }
  get held(): ReadonlyMap<string, readonly HeldShown[]> {
    return this.#held;
  }
  /** Services to probe, by member. */
  get canaries(): ReadonlyMap<string, readonly ServiceKey[]> {
    return this.#canaries;
  }

  /** Rises when something is held or let go: what is saved and shipped. */
  get version(): number {
    return this.#version;
  }

  /** For the saved state: no manifest covers what is held. */
  save(): readonly SavedHold[] {
    return saveWithdrawals(this.#state);
  }
  /** For the other replicas. */
  ship(nowMs: number): ShippedHolds {
    this.#letGo = this.#letGo.filter(({ atMs }) => atMs > nowMs - letGoToldMs);
    return { held: this.save(), letGo: this.#letGo };
  }

  /** Before the first `update`. Returns why nothing could be restored. @param aheadMs - see `Timescale.resume` */
  restore(saved: unknown, aheadMs: number): IsthmusError | undefined {
    const restored = restoreWithdrawals(saved, aheadMs);
    if (!restored.ok) return restored.error;
    this.#state = restored.value;
    return undefined;
  }

  /**
   * What the replica that decides holds and let go.
   * @returns services that are other than before
   */
  adopt(shipped: Shipped, raw: ReadonlyMap<string, MemberView>, nowMs: number): ReadonlySet<ServiceKey> {
    const recordOf = (member: string, service: ServiceKey) => this.#members.get(member)?.services.get(service);
    const { state, letGo } = adoptWithdrawals(this.#state, shipped, recordOf);
    const changed = new Set<ServiceKey>();
    for (const [member, held] of state) {
      for (const service of held.keys()) if (recordOf(member, service) === undefined) changed.add(service);
    }
    for (const { member, service } of letGo) {
      const known = this.#known.get(member);
      changed.add(service);
      if (known === undefined) continue;
      const services = new Map(known.shown.services);
      services.delete(service);
      this.#show(member, known.raw, services);
    }
    this.#state = this.#o.chosen() ? this.#renewed(state, nowMs) : state;
    this.#version++;
    for (const name of this.#held.keys()) if (!state.has(name)) this.#released(name);
    return changed.union(this.update(raw, changed, nowMs));
  }

  /** A probe, perhaps of a service whose record is gone. */
  probed(probe: ProbeResult): void {
    const { member, service, atMs } = probe;
    if (service === undefined || this.#canaries.get(member)?.includes(service) !== true) return;
    const answer = canaryAnswer(probe);
    if (answer === undefined) return;
    const answers: Answers = this.#answers.get(member) ?? new Map();
    this.#answers.set(member, answers);
    if (answers.size < answersMax || answers.has(service)) answers.set(service, { answer, atMs });
  }

  confirm(member: string, service: ServiceKey | undefined): void {
    if (service === undefined) this.#confirmed.set(member, 'all');
    else {
      const before = this.#confirmed.get(member);
      if (before !== 'all') this.#confirmed.set(member, new Set([...(before ?? []), service]));
    }
  }

  /**
   * @param touched - services that may differ
   * @returns services that are other than before because something was let go, or is held from before a restart
   */
  update(
    raw: ReadonlyMap<string, MemberView>,
    touched: ReadonlySet<ServiceKey>,
    nowMs: number,
  ): ReadonlySet<ServiceKey> {
    const changed = new Set<ServiceKey>();
    const before = this.#state;
    const chosen = this.#o.chosen();
    if (chosen && !this.#deciding) this.#state = this.#renewed(this.#state, nowMs);
    this.#deciding = chosen;
    for (const name of this.#known.keys()) if (!raw.has(name)) this.#forget(name);
    for (const [name, view] of raw) {
      const known = this.#known.get(name);
      const holding = this.#state.has(name);
      if (known?.raw === view && !holding) continue;
      if (name === this.#o.self) {
        this.#show(name, view, view.services);
        continue;
      }
      // Of a member that is seen for the first time nothing has vanished but what was held before a restart.
      const shown = known ?? this.#show(name, view, new Map(view.services));
      if (known === undefined && !holding) continue;
      this.#one(name, view, shown, touched, nowMs, changed);
      if (known === undefined) for (const service of this.#state.get(name)?.keys() ?? []) changed.add(service);
    }
    if (this.#state !== before) this.#version++;
    return changed;
  }

  #one(
    name: string,
    view: MemberView,
    known: Known,
    touched: ReadonlySet<ServiceKey>,
    nowMs: number,
    changed: Set<ServiceKey>,
  ): void {
    const thresholds = this.#o.policies().default.thresholds;
    const held = this.#state.get(name);
    const result = holdWithdrawals(this.#state, name, known.shown.services, view.services, {
      nowMs,
      membership: view.member,
      thresholds,
      decides: this.#deciding,
      evicted: this.#o.evicted(name),
      confirmed: this.#confirmed.get(name) ?? new Set(),
      answers: this.#answers.get(name) ?? new Map(),
      touched: held === undefined ? touched : new Set([...touched, ...held.keys()]),
    });
    this.#state = result.state;
    this.#confirmed.delete(name);
    for (const { service } of result.letGo) {
      changed.add(service);
      this.#letGo.push({ member: name, service, atMs: nowMs });
    }
    if (this.#letGo.length > letGoMax) this.#letGo.splice(0, this.#letGo.length - letGoMax);
    if (result.held.length > 0) {
      const fresh = result.held.filter(({ service }) => held?.has(service) !== true);
      this.#held.set(name, result.held);
      if (fresh.length > 0) this.#o.onHeld(name, fresh);
    } else this.#released(name);
    if (result.canaries.length > 0) this.#canaries.set(name, result.canaries);
    else this.#canaries.delete(name);
    if (result.letGo.length > 0) this.#o.onLetGo(name, result.letGo);
    this.#show(name, view, result.effective);
  }

  /** The records' own map is live: what is shown is a copy, or a member that withdraws would be compared with itself. */
  #show(name: string, raw: MemberView, services: MemberView['services']): Known {
    const known = { raw, shown: { ...raw, services } };
    this.#known.set(name, known);
    this.#members.set(name, known.shown);
    return known;
  }

  #renewed(state: Withdrawals, nowMs: number): Withdrawals {
    return renewCanaries(state, nowMs, this.#o.policies().default.thresholds.withdrawalHoldMs);
  }

  /** Nothing of it is held any more. */
  #released(name: string): void {
    for (const map of [this.#held, this.#canaries, this.#answers]) map.delete(name);
  }

  #forget(name: string): void {
    this.#state = forgetMember(this.#state, name);
    for (const map of [this.#known, this.#members, this.#held, this.#canaries, this.#answers, this.#confirmed])
      map.delete(name);
  }
}
