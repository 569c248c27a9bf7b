/**
 * The loop of decisions: what stands and what happened go into `step`, what it decided goes into the journal, and then takes effect.
 *
 * The replica that was chosen decides, and ships its state in its member's records. The others serve by that state, brought up to
 * date by what they see themselves: such a replica may withdraw what fails, and never brings anything back. Shipping the plan
 * was passed over: readiness changes a hundred times a second, and every replica hears of it by itself.
 */
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { IsthmusError, ok, type Result } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import { seededRng } from '../core/rng.ts';
import type { Decision } from '../failover/decision.ts';
import type { Role } from '../failover/guards.ts';
import { noPlan, type Plan } from '../failover/plan.ts';
import type { Policies } from '../failover/policy.ts';
import { decodeState, encodeState } from '../failover/saved.ts';
import { shiftState } from '../failover/shift.ts';
import { type FailoverState, initialState, type Step, step } from '../failover/step.ts';
import type { View } from '../federation/view.ts';
import type { Command, GraySignal, ProbeResult, Signals, TrafficWindow } from '../health/signals.ts';
import type { Verdicts } from '../health/verdict.ts';
import type { Appended } from '../journal/journal.ts';
import type { Log } from '../ops/log.ts';
import type { StepInputs } from './replay.ts';
import { type Mark, Timescale } from './timescale.ts';

/** What stands, besides the view: everything of `Signals` that is no event. */
export type Standing = Omit<Signals, 'probes' | 'traffic' | 'gray' | 'commands'>;

export interface DecidingOptions {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly policies: () => Policies;
  readonly standing: (nowMs: number) => Standing;
  /** Whether this replica is the one that decides. */
  readonly chosen: () => boolean;
  /** Whether what the deciding replica ships still arrives. When not, what this one withdraws is its own decision. */
  readonly hearsWriter: () => boolean;
  readonly append: (decisions: readonly Decision[], inputs: StepInputs) => Promise<Appended>;
  /** Brings the saved state of decisions up to date on disk. Never rejects: a disk that takes nothing stops no failover. */
  readonly save: () => Promise<void>;
  /** Something happened that a step should hear of. */
  readonly wake: () => void;
  /** After decisions of this replica took effect. */
  readonly onDecided: (decisions: readonly Decision[], seconds: number) => void;
}

export interface Decided {
  readonly plan: Plan;
  /** Services whose plan is another than before. */
  readonly changed: ReadonlySet<ServiceKey>;
}

interface Asked {
  readonly command: Command;
  readonly resolve: (decisions: readonly Decision[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Events that wait for a step: the oldest go first when there are more. */
const eventsMax = 10_000;
const commandsMax = 100;

const busy = (why: string): IsthmusError =>
  new IsthmusError('command/not-writer', `the command was not taken: ${why}`, { hint: 'send it again' });

const bounded = <T>(items: T[], item: T): void => {
  items.push(item);
  if (items.length > eventsMax) items.shift();
};

/** Clocks that differ by less need no shift: it is within what a step takes to come about. */
const shiftMinMs = 100;

const onScale = (state: FailoverState, aheadMs: number): FailoverState =>
  aheadMs < shiftMinMs ? state : shiftState(state, aheadMs);

export class Deciding {
  readonly scale: Timescale;
  readonly #o: DecidingOptions;
  #state: FailoverState = initialState();
  #last: Pick<Step, 'plan' | 'verdicts'> = {
    plan: noPlan,
    verdicts: { members: new Map(), cells: new Map(), regions: new Map() },
  };
  #probes: ProbeResult[] = [];
  #traffic: TrafficWindow[] = [];
  #gray: GraySignal[] = [];
  #asked: Asked[] = [];
  #timer: Timer | undefined;
  /** Of the shipped state that was taken over last. */
  #shipped: object | undefined;
  #encoded: { readonly of: FailoverState; readonly bytes: Uint8Array } | undefined;
  /** Rises with every step that decided something: what is shipped and saved. */
  #version = 0;
  /** Of the newest decision of our own that was begun, or of the state that was restored. */
  #decidedAtMs = 0;
  /** How often a shipped state was taken over: a decision that was begun before is made again. */
  #follows = 0;
  #stepped = false;
  #closed = false;

  constructor(options: DecidingOptions) {
    this.#o = options;
    this.scale = new Timescale(options.clock);
  }

  get state(): FailoverState {
    return this.#state;
  }
  /** A step has been made with a view that we are a part of: what follows from it may be told. */
  get stepped(): boolean {
    return this.#stepped;
  }
  get plan(): Plan {
    return this.#last.plan;
  }
  get verdicts(): Verdicts {
    return this.#last.verdicts;
  }
  /** Changes when there is something new to ship. */
  get version(): number {
    return this.#version;
  }

  /** Events come with monotonic times. */
  probe(result: ProbeResult): void {
    bounded(this.#probes, { ...result, atMs: this.scale.of(result.atMs) });
    this.#o.wake();
  }
  traffic(window: TrafficWindow): void {
    bounded(this.#traffic, { ...window, atMs: this.scale.of(window.atMs) });
    this.#o.wake();
  }
  gray(signal: GraySignal): void {
    bounded(this.#gray, { ...signal, atMs: this.scale.of(signal.atMs) });
    this.#o.wake();
  }

  /** Resolves with what was decided about it, once that took effect. Rejects when the journal does not take it. */
  command(command: Command): Promise<readonly Decision[]> {
    return new Promise((resolve, reject) => {
      if (this.#asked.length >= commandsMax) this.#asked.shift()?.reject(busy('too many commands wait'));
      this.#asked.push({ command, resolve, reject });
      this.#o.wake();
    });
  }

  /**
   * The state of an earlier run. On an error decisions begin anew.
   * @returns by how much times that were saved with it are to be moved on to be of our scale, ms
   */
  restore(bytes: Uint8Array, mark: Mark): Result<number> {
    const decoded = decodeState(bytes);
    if (!decoded.ok) return decoded;
    const aheadMs = this.scale.resume(mark);
    this.#state = onScale(decoded.value, aheadMs);
    this.#decidedAtMs = mark.atMs + aheadMs;
    return ok(aheadMs);
  }

  /** For the disk, and for the other replicas: made once for both. */
  encoded(): Uint8Array {
    if (this.#encoded?.of !== this.#state) this.#encoded = { of: this.#state, bytes: encodeState(this.#state) };
    return this.#encoded.bytes;
  }

  /**
   * What the deciding replica shipped, as our own watch of the store brought it, or beside the store.
   * @param of - the record that it came with: taken over once
   * @returns by how much times that came with it are to be moved on to be of our scale, ms; undefined: it was not taken over.
   * An error: it cannot be read, and changed nothing.
   */
  follow(of: object, bytes: Uint8Array, mark: Mark): Result<number | undefined> {
    // One that was chosen goes on from what was shipped too, unless it has decided since.
    if (this.#shipped === of || (this.#o.chosen() && mark.atMs <= this.#decidedAtMs)) return ok(undefined);
    this.#shipped = of;
    const decoded = decodeState(bytes);
    if (!decoded.ok) return decoded;
    const aheadMs = this.scale.resume(mark);
    this.#state = onScale(decoded.value, aheadMs);
    this.#follows++;
    this.#o.wake();
    return ok(aheadMs);
  }

  /** One step. A promise when something was decided: it takes effect once the journal has it. */
  decide(view: View): Decided | Promise<Decided> {
    const asked = this.#asked;
    this.#asked = [];
    const events = { probes: this.#probes, traffic: this.#traffic, gray: this.#gray };
    this.#probes = [];
    this.#traffic = [];
    this.#gray = [];
    return this.#decide(view, events, asked);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    for (const { reject } of this.#asked.splice(0)) reject(busy('the controller ends'));
  }

  #decide(
    view: View,
    events: Pick<Signals, 'probes' | 'traffic' | 'gray'>,
    asked: readonly Asked[],
  ): Decided | Promise<Decided> {
    const { policies, standing, chosen, rng } = this.#o;
    const began = this.#o.clock.monotonicMs();
    const nowMs = this.scale.now();
    const role: Role = chosen() ? 'writer' : 'cut-off';
    const commands = asked.map(({ command }) => command);
    const signals: Signals = { ...standing(nowMs), ...events, commands };
    const seed = Math.floor(rng() * 2 ** 32);
    const before = this.#state;
    const result = step(before, view, signals, policies(), nowMs, seededRng(seed), role);
    // A replica that serves what another decided keeps no journal of it.
    if (result.journal.length === 0 || (role !== 'writer' && this.#o.hearsWriter())) {
      const decided = this.#commit(result, view);
      for (const { resolve, reject } of asked) {
        if (role === 'writer') resolve([]);
        else reject(busy('another replica decides'));
      }
      return decided;
    }
    const inputs = { state: before, view, signals, policies: policies(), nowMs, seed, role };
    const decidedAtMs = this.#decidedAtMs;
    this.#decidedAtMs = Math.max(decidedAtMs, nowMs);
    const follows = this.#follows;
    const followed = (): boolean => this.#follows !== follows;
    return this.#journalled(result, inputs, followed).then(
      () => {
        // What was decided on a state that is no longer ours: the same events and wishes, with the one that is.
        if (followed()) return this.#decide(view, events, asked);
        const decided = this.#commit(result, view);
        this.#version++;
        this.#o.onDecided(result.journal, (this.#o.clock.monotonicMs() - began) / 1000);
        for (const { command, resolve } of asked) resolve(result.journal.filter((d) => d.author === command.author));
        return decided;
      },
      (error: unknown) => {
        if (this.#decidedAtMs === nowMs) this.#decidedAtMs = decidedAtMs;
        // Only what people asked for can be refused: the same without them.
        for (const { reject } of asked) reject(error);
        if (asked.length > 0) return this.#decide(view, events, []);
        this.#putBack(events);
        throw error;
      },
    );
  }

  /** What was told is not lost with a decision that was not made. */
  #putBack({ probes, traffic, gray }: Pick<Signals, 'probes' | 'traffic' | 'gray'>): void {
    this.#probes = [...probes, ...this.#probes].slice(-eventsMax);
    this.#traffic = [...traffic, ...this.#traffic].slice(-eventsMax);
    this.#gray = [...gray, ...this.#gray].slice(-eventsMax);
  }

  /** On the disk, and the state that it leads to as well: a crash between the two would forget a latch. */
  async #journalled(result: Step, inputs: StepInputs, followed: () => boolean): Promise<void> {
    await this.#o.append(result.journal, inputs);
    if (followed()) return;
    this.#state = result.state;
    await this.#o.save();
  }

  #commit(result: Step, view: View): Decided {
    this.#stepped ||= view.members.has(view.self);
    this.#state = result.state;
    this.#last = result;
    this.#timer?.cancel();
    this.#timer = undefined;
    if (result.wakeAt !== undefined && !this.#closed) {
      const inMs = Math.max(1, this.scale.monotonic(result.wakeAt) - this.#o.clock.monotonicMs());
      this.#timer = this.#o.clock.after(Math.min(inMs, 2 ** 31 - 1), () => this.#o.wake());
    }
    return { plan: result.plan, changed: result.changed };
  }
}
