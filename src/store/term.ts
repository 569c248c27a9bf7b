/** A writer's term: the time in which one replica writes under an epoch of its own. */
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';

export interface Term {
  readonly epoch: bigint;
  sequence: bigint;
  /** Of the manifest as this term last saw or wrote it: what every write compares. */
  manifestRevision: bigint;
  /** True once a manifest of this term stands in the store. */
  claimed: boolean;
}

const max = (...values: bigint[]): bigint => values.sort((a, b) => (a < b ? 1 : -1))[0] ?? 0n;

/** Above every epoch that is known, and not below the wall clock: also where all that was known is lost. */
export const nextEpoch = (clock: Clock, ...known: (bigint | undefined)[]): bigint =>
  max(...known.map((epoch) => epoch ?? 0n), BigInt(Math.floor(clock.wallMs()))) + 1n;

export const fencedError = (member: string, theirs: bigint, ours: bigint): IsthmusError =>
  new IsthmusError(
    'store/fenced',
    `another writer of ${member} has epoch ${theirs}, this one had ${ours}: it stops writing`,
    { hint: 'normal when the other replica takes over', subject: { member } },
  );

/** Whether a store is behind what it has shown, or another one. */
export class StoreHistory {
  #clusterId: bigint | undefined;
  #revision = 0n;

  /** A lower revision or another cluster id than before. */
  wentBack(clusterId: bigint, revision: bigint): boolean {
    const back = (this.#clusterId !== undefined && clusterId !== this.#clusterId) || revision < this.#revision;
    this.#clusterId = clusterId;
    this.#revision = revision;
    return back;
  }
}

/** A failure that the world can cause; a bug is thrown on. */
export const expected = (error: unknown): IsthmusError => {
  if (error instanceof IsthmusError) return error;
  throw error;
};

/** Who has written for a while without a pause lets what comes next gather: readers freeze a member that never rests. */
export const rest = (clock: Clock): Promise<void> =>
  new Promise((resolve) => clock.after(limits.publishRestMs, () => resolve()));
