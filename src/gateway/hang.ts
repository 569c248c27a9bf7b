/**
 * Which Envoy hangs: decides from probes that go through the Envoys' workers when one has to be ended.
 *
 * A hung process is worse than a dead one, for the kernel goes on giving it connections. So a probe that stays unanswered past
 * its deadline ends it, yet never when the trouble may be anywhere else:
 * - Time counts only as our own ticks saw it. A tick that comes late (the machine was paused, our share of CPU used up)
 *   adds no more than a tick and a half, and while ticks come late the deadline is longer.
 * - The deadline is never below several times what the sibling needs now.
 * - Only while a sibling, serving, answered a probe that was sent later; and only while no other one is being restarted.
 *
 * Envoy's own watchdog was passed over where one worker makes this one sufficient: it kills by wall time, so that after a
 * pause of the machine both siblings end themselves at once.
 */

export interface HangTimes {
  readonly tickMs: number;
  readonly deadlineMs: number;
  readonly deadlineMaxMs: number;
}

export const hangTimes: HangTimes = { tickMs: 50, deadlineMs: 250, deadlineMaxMs: 5_000 };

/** How many times the sibling's latency, and how many times the lateness of our own ticks, a deadline has to allow. */
const latencyFactor = 8;
const lagFactor = 4;

interface Watched {
  serving: boolean;
  /** When the probe that is unanswered was sent. */
  sentMs: number | undefined;
  /** How long it has been waiting, in time that we saw pass. */
  waitedMs: number;
  /** When the newest probe that was answered had been sent. */
  answeredMs: number;
  latencyMs: number;
}

export interface Verdict {
  readonly index: number;
  readonly waitedMs: number;
  readonly deadlineMs: number;
}

export class HangDetector {
  readonly #times: HangTimes;
  readonly #watched: Watched[];
  #lastMs: number | undefined;
  #lagMs = 0;

  constructor(count: number, times: HangTimes = hangTimes) {
    this.#times = times;
    this.#watched = Array.from({ length: count }, () => ({
      serving: false,
      sentMs: undefined,
      waitedMs: 0,
      answeredMs: Number.NEGATIVE_INFINITY,
      latencyMs: 0,
    }));
  }

  /** Serving: initialized, so that its workers run. What is not is not judged and vouches for nobody. */
  serving(index: number, serving: boolean): void {
    const one = this.#watched[index]!;
    if (one.serving === serving) return;
    one.serving = serving;
    one.sentMs = undefined;
    one.waitedMs = 0;
    one.latencyMs = 0;
    one.answeredMs = Number.NEGATIVE_INFINITY;
  }

  /** Whether a new probe should be sent now: one at a time. */
  due(index: number): boolean {
    const one = this.#watched[index]!;
    return one.serving && one.sentMs === undefined;
  }

  sent(index: number, nowMs: number): void {
    const one = this.#watched[index]!;
    one.sentMs = nowMs;
    one.waitedMs = 0;
  }

  answered(index: number, nowMs: number): void {
    const one = this.#watched[index]!;
    if (one.sentMs === undefined) return;
    const tookMs = nowMs - one.sentMs;
    // Rises at once, falls slowly: what was slow a moment ago may be slow again.
    one.latencyMs = Math.max(tookMs, one.latencyMs * 0.9 + tookMs * 0.1);
    one.answeredMs = one.sentMs;
    one.sentMs = undefined;
    one.waitedMs = 0;
  }

  /** Answers in time, as far as we know. */
  alive(index: number): boolean {
    const one = this.#watched[index]!;
    return one.serving && one.waitedMs < this.deadlineMs(index) && one.answeredMs > Number.NEGATIVE_INFINITY;
  }

  deadlineMs(index: number): number {
    const { deadlineMs, deadlineMaxMs } = this.#times;
    const siblings = this.#watched.filter((one, i) => i !== index && one.serving).map((one) => one.latencyMs);
    const slowest = Math.max(0, ...siblings) * latencyFactor;
    return Math.min(deadlineMaxMs, Math.max(deadlineMs, slowest) + this.#lagMs * lagFactor);
  }

  /** Called once a tick. The one to end now, or undefined. */
  tick(nowMs: number): Verdict | undefined {
    const { tickMs } = this.#times;
    const elapsedMs = this.#lastMs === undefined ? tickMs : nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    this.#lagMs = Math.max(0, elapsedMs - tickMs, this.#lagMs * 0.8);
    const seenMs = Math.min(elapsedMs, tickMs * 1.5);
    for (const one of this.#watched) if (one.sentMs !== undefined) one.waitedMs += Math.min(seenMs, nowMs - one.sentMs);
    if (this.#watched.some((one) => !one.serving)) return undefined;
    const overdue = this.#watched
      .map((one, index) => ({ index, waitedMs: one.waitedMs, deadlineMs: this.deadlineMs(index) }))
      .filter(({ index, waitedMs, deadlineMs }) => waitedMs >= deadlineMs && this.#vouched(index))
      .sort((a, b) => b.waitedMs - a.waitedMs);
    return overdue[0];
  }

  /** Whether a sibling answered what it was sent after the probe that this one owes. */
  #vouched(index: number): boolean {
    const sentMs = this.#watched[index]!.sentMs;
    return (
      sentMs !== undefined && this.#watched.some((one, i) => i !== index && one.serving && one.answeredMs > sentMs)
    );
  }
}
