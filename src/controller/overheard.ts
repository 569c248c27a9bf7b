/**
 * What a replica that follows measures by itself: it is kept aside, and counts once the writer has not been heard for a while.
 *
 * A writer knows more: it has the gateways' reports too, which speak for a peer whose probes fail. So its word goes first. But what
 * takes a region away may take the store's leader with it, and then the word comes late, or not at all. Counting it from then on alone
 * was passed over: the first failures are those that tell.
 */
import type { ProbeResult } from '../health/signals.ts';

/** What is older says nothing of now. */
const keptMs = 5_000;
const keptMax = 1_000;

export interface OverheardOptions {
  /** Age of our own member's newest record, as the store brought it; null: none came yet. */
  readonly readBackMs: () => number | null;
  /** Not heard for longer than this: two of its heartbeats. */
  readonly quietMs: number;
  /** Its word comes beside the store. */
  readonly heardBeside: () => boolean;
  /** In the order in which they were measured. */
  readonly take: (result: ProbeResult) => void;
}

export class Overheard {
  readonly #o: OverheardOptions;
  #kept: ProbeResult[] = [];

  constructor(options: OverheardOptions) {
    this.#o = options;
  }

  probe(result: ProbeResult): void {
    this.#kept.push(result);
    const first = this.#kept.findIndex(({ atMs }) => result.atMs - atMs <= keptMs);
    this.#kept.splice(0, Math.max(first, this.#kept.length - keptMax));
    const { readBackMs, quietMs, heardBeside, take } = this.#o;
    if ((readBackMs() ?? Number.POSITIVE_INFINITY) <= quietMs || heardBeside()) return;
    for (const kept of this.#kept.splice(0)) take(kept);
  }
}
