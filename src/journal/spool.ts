/**
 * What waits to be written. While the disk takes it, for an instant; while it does not, in memory, and no more than there is room for.
 *
 * Inputs go first when it is full: they are large, and an entry says why traffic moved without them. Then the oldest steps go, and are
 * counted: a gap that says how much it lacks can be told from a journal in which nothing happened.
 */
import type { Draft } from './batch.ts';
import { withoutInputs } from './disk.ts';
import type { EntryKind } from './entry.ts';

export interface SpoolBounds {
  readonly entriesMax: number;
  readonly inputsBytesMax: number;
}

export interface Lost {
  readonly entries: number;
  readonly byKind: Readonly<Partial<Record<EntryKind, number>>>;
  readonly fromWallMs: number;
  readonly toWallMs: number;
}

/** One step that waits. `done` is called once, when it is durable or was given up on. */
export interface Waiting {
  readonly draft: Draft;
  /** Somebody asked for it, and is told now when it cannot be written: then it is not written later. */
  readonly refusable: boolean;
  readonly done: (outcome: Outcome) => void;
}

export type Outcome =
  | { readonly durable: true; readonly first: number; readonly last: number }
  | { readonly durable: false };

const inputsBytes = ({ draft }: Waiting): number => draft.inputs?.line?.length ?? 0;

export class Spool {
  readonly #bounds: SpoolBounds;
  #waiting: Waiting[] = [];
  #entries = 0;
  #inputsBytes = 0;
  #lost: Lost | undefined;
  #lostEver = 0;

  constructor(bounds: SpoolBounds) {
    this.#bounds = bounds;
  }

  get entries(): number {
    return this.#entries;
  }
  get empty(): boolean {
    return this.#waiting.length === 0;
  }
  /** Lost since the last gap was written. */
  get lost(): Lost | undefined {
    return this.#lost;
  }

  /** Since the start. */
  get lostEver(): number {
    return this.#lostEver;
  }

  add(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#entries += waiting.draft.bodies.length;
    this.#inputsBytes += inputsBytes(waiting);
    this.#bound();
  }

  /**
   * What waits, oldest first, to be written: whole steps, about so many entries. What was lost is no longer counted here: the caller
   * says it, or gives it back.
   */
  take(entriesMax = Number.POSITIVE_INFINITY): {
    readonly waiting: readonly Waiting[];
    readonly lost: Lost | undefined;
  } {
    let steps = 0;
    for (let entries = 0; steps < this.#waiting.length && entries < entriesMax; steps++) {
      entries += this.#waiting[steps]!.draft.bodies.length;
    }
    const taken = { waiting: this.#waiting.splice(0, steps), lost: this.#lost };
    for (const waiting of taken.waiting) {
      this.#entries -= waiting.draft.bodies.length;
      this.#inputsBytes -= inputsBytes(waiting);
    }
    this.#lost = undefined;
    return taken;
  }

  /** What could not be written, before all that came since. */
  putBack({ waiting, lost }: ReturnType<Spool['take']>): void {
    const since = this.take();
    this.#lost = lost === undefined || since.lost === undefined ? (lost ?? since.lost) : added(lost, since.lost);
    for (const one of [...waiting, ...since.waiting]) this.add(one);
  }

  #bound(): void {
    for (let i = 0; this.#inputsBytes > this.#bounds.inputsBytesMax && i < this.#waiting.length; i++) {
      const waiting = this.#waiting[i]!;
      this.#inputsBytes -= inputsBytes(waiting);
      const draft = withoutInputs(waiting.draft, 'dropped while the journal could not be written');
      this.#waiting[i] = { ...waiting, draft };
    }
    while (this.#entries > this.#bounds.entriesMax && this.#waiting.length > 1) {
      const { draft, done } = this.#waiting.shift()!;
      this.#entries -= draft.bodies.length;
      this.#inputsBytes -= draft.inputs?.line?.length ?? 0;
      this.#lost = added(this.#lost, lostOf(draft));
      this.#lostEver += draft.bodies.length;
      done({ durable: false });
    }
  }
}

const lostOf = ({ kind, bodies, wallMs }: Draft): Lost => ({
  entries: bodies.length,
  byKind: { [kind]: bodies.length },
  fromWallMs: wallMs,
  toWallMs: wallMs,
});

const added = (before: Lost | undefined, more: Lost): Lost => {
  if (before === undefined) return more;
  const byKind = { ...before.byKind };
  for (const [kind, count] of Object.entries(more.byKind)) {
    byKind[kind as EntryKind] = (byKind[kind as EntryKind] ?? 0) + count;
  }
  return {
    entries: before.entries + more.entries,
    byKind,
    fromWallMs: Math.min(before.fromWallMs, more.fromWallMs),
    toWallMs: Math.max(before.toWallMs, more.toWallMs),
  };
};
