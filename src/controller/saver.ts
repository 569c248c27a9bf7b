/**
 * Saving the state of decisions. A disk that hangs must not hold a failover back: it is waited for once, and not again until it answers.
 * One save at a time; what changes meanwhile shares the next.
 */
import type { Clock } from '../core/clock.ts';
import type { Log } from '../ops/log.ts';

export interface SaverOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly make: () => Uint8Array;
  readonly save: (bytes: Uint8Array) => Promise<void>;
}

const waitMs = 1_000;

export class Saver {
  readonly #o: SaverOptions;
  #saving: Promise<void> | undefined;
  #unsaved = false;
  #hung = false;

  constructor(options: SaverOptions) {
    this.#o = options;
  }

  /** Resolves when it is on the disk, or the disk takes too long. Never rejects. */
  async save(): Promise<void> {
    this.#saving ??= this.#all().finally(() => {
      this.#saving = undefined;
      this.#hung = false;
    });
    this.#unsaved = true;
    if (this.#hung) return;
    const { promise, resolve } = Promise.withResolvers<'late'>();
    const timer = this.#o.clock.after(waitMs, () => resolve('late'));
    if ((await Promise.race([this.#saving, promise])) === 'late') this.#hung = true;
    timer.cancel();
  }

  async #all(): Promise<void> {
    // Everything that is asked for in this turn is in it.
    await Promise.resolve();
    while (this.#unsaved) {
      this.#unsaved = false;
      await this.#o.save(this.#o.make()).catch((error: unknown) => {
        this.#o.log('error', 'the state of decisions could not be saved', { error: error as Error });
      });
    }
  }
}
