/**
 * Which service to probe next: round and round over all of them, and between two steps those that failed last or are asked for.
 *
 * A sample of ten a second takes minutes to go round a thousand services at a hundred members; a verdict wants several results of one
 * in a row. So what fails is tried again soon, until it has answered a few times. Bounded: when everything fails, the round
 * goes on, and the few that are looked at closely stand for the others.
 */
import type { ServiceKey } from '../core/names.ts';
import { type CellKey, cellKey } from '../health/verdict.ts';

/** A service at one member, and how to ask for it. */
export interface ServiceTarget {
  readonly member: string;
  readonly service: ServiceKey;
  /** `host:port` */
  readonly authority: string;
  /** Identities that may answer inside the tunnel. */
  readonly accept: readonly string[];
}

interface Focus {
  readonly target: ServiceTarget;
  dueMs: number;
  /** In a row. */
  successes: number;
  /** Asked for: stays until that is taken back. */
  readonly wanted: boolean;
}

const focusMax = 100;
const againMs = 1_000;
const successesToLeave = 3;
/** A round takes at least so long: few services are not asked more often than many. */
const roundMs = 5_000;
/** With every member unreachable a turn must not look at all there is. */
const keysPerTurnMax = 200;

export class ServiceRotation {
  readonly #targets = new Map<ServiceKey, readonly ServiceTarget[]>();
  readonly #focus = new Map<CellKey, Focus>();
  #keys: ServiceKey[] = [];
  #at = 0;
  #within = 0;
  #turn = 0;
  #roundFromMs = Number.NEGATIVE_INFINITY;

  /** Where this service can be asked for; none: nowhere. */
  set(service: ServiceKey, targets: readonly ServiceTarget[]): void {
    const known = this.#targets.has(service);
    for (const [key, { target, wanted }] of this.#focus) {
      if (target.service !== service || wanted) continue;
      if (!targets.some(({ member }) => member === target.member)) this.#focus.delete(key);
    }
    if (targets.length === 0) {
      if (!known) return;
      this.#targets.delete(service);
      this.#keys = this.#keys.filter((key) => key !== service);
      return;
    }
    this.#targets.set(service, targets);
    if (!known) this.#keys.push(service);
  }

  /** Cells that somebody waits for, over and over, whatever the rest; replaces those of before. */
  want(targets: readonly ServiceTarget[], nowMs: number): void {
    const keys = new Set(targets.map(({ service, member }) => cellKey(service, member)));
    for (const [key, { wanted }] of this.#focus) if (wanted && !keys.has(key)) this.#focus.delete(key);
    for (const target of targets.slice(0, focusMax)) {
      const key = cellKey(target.service, target.member);
      const before = this.#focus.get(key);
      if (before?.wanted !== true) this.#focus.set(key, { target, dueMs: nowMs, successes: 0, wanted: true });
    }
  }

  /** Undefined: nothing to do now. `may` says which members are worth asking; what is wanted is asked in any case. */
  next(nowMs: number, may: (member: string) => boolean): ServiceTarget | undefined {
    this.#turn++;
    const focus = () => this.#due(nowMs, may);
    const round = () => this.#round(nowMs, may);
    return this.#turn % 2 === 0 ? (focus() ?? round()) : (round() ?? focus());
  }

  /** How a probe ended. */
  noted({ service, member }: ServiceTarget, ok: boolean, nowMs: number): void {
    const key = cellKey(service, member);
    const focus = this.#focus.get(key);
    if (focus !== undefined) {
      focus.successes = ok ? focus.successes + 1 : 0;
      focus.dueMs = nowMs + againMs;
      if (!focus.wanted && focus.successes >= successesToLeave) this.#focus.delete(key);
      return;
    }
    const target = this.#targets.get(service)?.find((one) => one.member === member);
    if (ok || target === undefined || this.#focus.size >= focusMax) return;
    this.#focus.set(key, { target, dueMs: nowMs + againMs, successes: 0, wanted: false });
  }

  /** It could not be asked: soon again. */
  postponed({ service, member }: ServiceTarget, nowMs: number): void {
    const focus = this.#focus.get(cellKey(service, member));
    if (focus !== undefined) focus.dueMs = nowMs + againMs;
  }

  #due(nowMs: number, may: (member: string) => boolean): ServiceTarget | undefined {
    let first: Focus | undefined;
    for (const focus of this.#focus.values()) {
      if (focus.dueMs > nowMs || !(focus.wanted || may(focus.target.member))) continue;
      if (first === undefined || focus.dueMs < first.dueMs) first = focus;
    }
    if (first === undefined) return undefined;
    // Not again before its result is there.
    first.dueMs = nowMs + 60_000;
    return first.target;
  }

  #round(nowMs: number, may: (member: string) => boolean): ServiceTarget | undefined {
    const most = Math.min(this.#keys.length + 1, keysPerTurnMax);
    for (let tries = 0; tries < most; tries++) {
      if (this.#at >= this.#keys.length) this.#at = 0;
      if (this.#at === 0 && this.#within === 0) {
        if (nowMs - this.#roundFromMs < roundMs) return undefined;
        this.#roundFromMs = nowMs;
      }
      const key = this.#keys[this.#at];
      if (key === undefined) return undefined;
      const targets = this.#targets.get(key) ?? [];
      while (this.#within < targets.length) {
        const target = targets[this.#within++]!;
        if (may(target.member) && !this.#focus.has(cellKey(target.service, target.member))) return target;
      }
      this.#within = 0;
      this.#at++;
    }
    return undefined;
  }
}
