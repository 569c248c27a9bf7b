/**
 * From single requests to a signal, for one service at one member.
 *
 * An application that fails three requests of ten is bad, and yet seldom three times in a row. So a round makes several requests, and it
 * is bad when all of them failed, or when too large a share of the last rounds' did.
 */

export interface GrayOutcome {
  readonly ok: boolean;
  /** As `status 503`. */
  readonly detail: string;
  /** It took longer than it may. */
  readonly slow?: true;
}

/** Requests that are remembered: four rounds of three. */
const keptMax = 12;
/** Above this share a service is bad, however its last requests went. */
const badShare = 0.2;
/** Below this many a share says nothing. */
const enough = 6;

export class GrayWindow {
  #kept: GrayOutcome[] = [];

  /** What a round amounts to. `outcomes`: at least one. */
  add(outcomes: readonly GrayOutcome[]): GrayOutcome {
    this.#kept = [...this.#kept, ...outcomes].slice(-keptMax);
    const bad = outcomes.filter(({ ok }) => !ok);
    if (bad.length === outcomes.length) return { ok: false, detail: bad[0]!.detail };
    const failed = this.#kept.filter(({ ok }) => !ok);
    if (this.#kept.length >= enough && failed.length / this.#kept.length > badShare) {
      const detail = `${failed.length} of the last ${this.#kept.length} failed, the latest with ${failed.at(-1)!.detail}`;
      return { ok: false, detail };
    }
    return {
      ok: true,
      detail:
        bad[0] === undefined ? outcomes[0]!.detail : `${bad.length} of ${outcomes.length} failed with ${bad[0].detail}`,
    };
  }
}
