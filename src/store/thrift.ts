/**
 * What a publisher does when a store gateway says that it fills too much or writes too fast: it goes on with what is taken of it, and
 * tries the whole again later.
 *
 * A tick is all or nothing, and so is a refusal: one record too many would keep back withdrawals, readiness and the manifest, and peers
 * would see a member go silent that is well. So after a refusal for its quota less is written, step by step, and after one for its rate
 * the manifest alone, over the records that stand there.
 */
import type { Clock, Timer } from '../core/clock.ts';
import type { ErrorCode, IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';

/**
 * - `all`: whatever is not as it should be.
 * - `no-new`: deletions, and what replaces something: as much as a quota of keys leaves.
 * - `no-larger`: deletions, and values that are no longer than those they replace: as much as a quota of bytes leaves.
 * - `deletions`: nothing but those.
 * - `none`: no record.
 */
const portions = ['all', 'no-new', 'no-larger', 'deletions', 'none'] as const;
export type Portion = (typeof portions)[number];

/** Whether what is new in it waits for its quota. */
export const leavesNew = (portion: Portion): boolean => portion !== 'all' && portion !== 'none';

/** What was written too fast may be too much as well: the record of the parts' roots goes with `none`. */
const afterQuota = (portion: Portion): Portion =>
  portion === 'none' ? 'deletions' : (portions[portions.indexOf(portion) + 1] ?? 'none');

export class Thrift {
  readonly #clock: Clock;
  readonly #again: () => void;
  #portion: Portion = 'all';
  #error: IsthmusError | undefined;
  #delayMs: number = limits.publishWholeMinMs;
  #timer: Timer | undefined;

  /** @param again - the whole is to be tried */
  constructor(clock: Clock, again: () => void) {
    this.#clock = clock;
    this.#again = again;
  }

  /** Of the next tick. */
  get portion(): Portion {
    return this.#portion;
  }
  /** Why not all is written; undefined: it is. */
  get error(): IsthmusError | undefined {
    return this.#error;
  }

  /** A tick of this portion was not taken. Errors of other kinds change nothing. @returns whether less is to be tried now */
  refused(portion: Portion, error: IsthmusError): boolean {
    if (error.code !== 'store/quota' && error.code !== 'store/rate') return false;
    this.#error = error;
    this.#portion = error.code === 'store/quota' ? afterQuota(portion) : 'none';
    this.#arm(error.code);
    return this.#portion !== portion;
  }

  /** A tick of this portion was written. */
  taken(portion: Portion): void {
    if (portion !== 'all') return;
    this.#error = undefined;
    this.#delayMs = limits.publishWholeMinMs;
  }

  /** Another term begins with nothing refused. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#portion = 'all';
    this.#error = undefined;
    this.#delayMs = limits.publishWholeMinMs;
  }

  #arm(code: ErrorCode): void {
    if (this.#timer !== undefined) return;
    // Room to write comes with time alone; a quota stays as it is until somebody does something about it.
    const delayMs = code === 'store/rate' ? limits.publishWholeMinMs : this.#delayMs;
    this.#timer = this.#clock.after(delayMs, () => {
      this.#timer = undefined;
      this.#portion = 'all';
      this.#again();
    });
    if (code === 'store/quota') this.#delayMs = Math.min(limits.publishWholeMaxMs, this.#delayMs * 2);
  }
}
