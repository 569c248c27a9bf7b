/** The real rule for withdrawals, kept for each member of one controller as its wiring keeps it. */

import type { FailoverState } from '../../../src/failover/state.ts';
import type { MemberView } from '../../../src/federation/view.ts';
import { holdWithdrawals, noWithdrawals, type Withdrawals } from '../../../src/federation/withdrawals.ts';
import { restoreWithdrawals, saveWithdrawals } from '../../../src/federation/withdrawals_saved.ts';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import type { Command } from '../../../src/health/signals.ts';
import type { Thresholds } from '../../../src/health/thresholds.ts';
import type { Canary, CanaryAnswer } from './probing.ts';

type Services = ReadonlyMap<string, ServiceRecord>;
const none: Services = new Map();

export class HeldBack {
  readonly #self: string;
  readonly #thresholds: Thresholds;
  readonly #effective = new Map<string, Services>();
  readonly #answers = new Map<string, Map<string, CanaryAnswer>>();
  #confirmed = new Set<string>();
  #state: Withdrawals;
  canaries: readonly Canary[] = [];

  constructor(self: string, thresholds: Thresholds, saved: unknown) {
    this.#self = self;
    this.#thresholds = thresholds;
    const restored = restoreWithdrawals(saved);
    if (!restored.ok) throw restored.error;
    this.#state = restored.value ?? noWithdrawals;
  }

  get saved(): unknown {
    return saveWithdrawals(this.#state);
  }
  /** As they are to be used. */
  services(member: string): Services {
    return this.#effective.get(member) ?? none;
  }
  heard(commands: readonly Command[], answers: readonly CanaryAnswer[]): void {
    for (const command of commands) if (command.kind === 'confirm-withdrawal') this.#confirmed.add(command.member);
    for (const answer of answers) {
      const of = this.#answers.get(answer.member) ?? new Map<string, CanaryAnswer>();
      of.set(answer.service, answer);
      this.#answers.set(answer.member, of);
    }
  }

  /** @returns services whose records are others than before */
  update(
    members: ReadonlyMap<string, MemberView>,
    dirty: ReadonlySet<string>,
    state: FailoverState,
    nowMs: number,
  ): Set<string> {
    const changed = new Set<string>();
    const canaries: Canary[] = [];
    for (const [name, view] of members) {
      if (name === this.#self) continue;
      const before = this.services(name);
      const step = holdWithdrawals(this.#state, name, before, view.services, {
        nowMs,
        membership: view.member,
        thresholds: this.#thresholds,
        evicted: state.health.members[name]?.state === 'evicted',
        confirmed: this.#confirmed.has(name) ? 'all' : new Set(),
        answers: this.#answers.get(name) ?? new Map(),
        touched: this.#effective.has(name) ? dirty : undefined,
      });
      this.#state = step.state;
      for (const key of new Set([...before.keys(), ...step.effective.keys()])) {
        if (before.get(key) !== step.effective.get(key)) changed.add(key);
      }
      this.#effective.set(name, step.effective);
      for (const service of step.canaries) canaries.push({ service, member: name });
    }
    this.canaries = canaries;
    this.#confirmed = new Set();
    return changed;
  }
}
