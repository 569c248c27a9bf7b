/**
 * The journal of one replica: a decision takes effect once `append` has resolved.
 *
 * One write at a time; what comes meanwhile shares the next one, and so its fsync. When the disk does not take it, what people and
 * drills ask for is refused, since they can wait, and what the controller decides for safety goes on and is kept in memory until the
 * disk is back. Holding back a failover because a disk is full was passed over: the journal is there to explain traffic, not to stop it.
 */
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { fail, IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isAskedFor } from './author.ts';
import type { Draft, Writer } from './batch.ts';
import { type DiskBounds, JournalDisk } from './disk.ts';
import type { Head } from './entry.ts';
import type { JournalFiles } from './files.ts';
import { packInputs } from './inputs.ts';
import { type Outcome, Spool, type SpoolBounds } from './spool.ts';

/** What a body must say for itself. */
export interface Authored {
  /** See `authorKind`. */
  readonly author: string;
}

export type JournalEvent =
  | { readonly kind: 'written'; readonly entries: number }
  /** `again`: the same failure as before. */
  | { readonly kind: 'failed'; readonly error: IsthmusError; readonly again: boolean }
  /** Something on the disk is not as it was written. */
  | { readonly kind: 'problem'; readonly error: IsthmusError };

export interface JournalOptions extends Writer {
  readonly files: JournalFiles;
  readonly clock: Clock;
  readonly rng: Rng;
  /** Of this program. */
  readonly version: string;
  /** Of the writer's term; 0 before the first. */
  readonly epoch: () => bigint;
  /** What becomes of changes that people and drills ask for while nothing can be written. The controller's own always go on. */
  readonly whenUnwritable: 'refuse' | 'spool';
  readonly onEvent: (event: JournalEvent) => void;
  /** Instead of those in `limits`. */
  readonly bounds?: Partial<DiskBounds & SpoolBounds & { readonly batchEntriesMax: number }>;
}

/** `durable: false`: kept in memory for now, and the journal says so (`status`). */
export type Appended =
  | { readonly durable: true; readonly first: number; readonly last: number }
  | { readonly durable: false };

export interface JournalState {
  readonly head: Head | undefined;
  /** Entries in memory that wait for the disk. */
  readonly spooled: number;
  /** Entries that were lost and not yet told in the chain. */
  readonly lost: number;
  /** Entries lost since the start. */
  readonly lostEver: number;
  /** Why nothing can be written; undefined: it can. */
  readonly failure: IsthmusError | undefined;
  /** What was found damaged since the start, newest last, bounded. */
  readonly problems: readonly IsthmusError[];
}

const problemsMax = 16;

export class Journal {
  readonly disk: JournalDisk;
  readonly #o: JournalOptions;
  readonly #spool: Spool;
  #running: Promise<void> | undefined;
  #failure: IsthmusError | undefined;
  #retry: Timer | undefined;
  #problems: IsthmusError[] = [];
  #witnessed: Head | undefined;
  #closed = false;

  constructor(options: JournalOptions) {
    this.#o = options;
    const { bounds = {}, files, clock, rng, version, member, replica, key, log } = options;
    this.#spool = new Spool({
      entriesMax: bounds.entriesMax ?? limits.journalSpoolEntriesMax,
      inputsBytesMax: bounds.inputsBytesMax ?? limits.journalSpoolInputsBytesMax,
    });
    this.disk = new JournalDisk({
      writer: { member, replica, key, log },
      files,
      clock,
      rng,
      version,
      epoch: () => options.epoch().toString(),
      bounds: {
        segmentBytesMax: bounds.segmentBytesMax ?? limits.journalSegmentBytesMax,
        fileBytesMax: bounds.fileBytesMax ?? limits.journalFileBytesMax,
        entriesBytesMax: bounds.entriesBytesMax ?? limits.journalEntriesBytesMax,
        allInputsBytesMax: bounds.allInputsBytesMax ?? limits.journalAllInputsBytesMax,
        freeBytesMin: bounds.freeBytesMin ?? 0,
      },
      onProblem: (error) => this.#problem(error),
    });
  }

  /** Reads where the chain stands. A disk that cannot be read is no reason not to start: see `state`. */
  async open(): Promise<void> {
    try {
      await this.disk.open();
    } catch (error) {
      this.#failed(asProblem(error));
    }
  }

  /** The newest durable entry: what goes into the manifest. */
  head(): Head | undefined {
    return this.disk.head;
  }

  get state(): JournalState {
    return {
      head: this.disk.head,
      spooled: this.#spool.entries,
      lost: this.#spool.lost?.entries ?? 0,
      lostEver: this.#spool.lostEver,
      failure: this.#failure,
      problems: this.#problems,
    };
  }

  /** Whether a change by this author may be tried now: asked before a person's command reaches `step`. */
  canAccept(author: string): Result<true> {
    if (this.#failure === undefined || !isAskedFor(author) || this.#o.whenUnwritable === 'spool') return ok(true);
    return fail(
      'journal/unwritable',
      `the change is refused, for it could not be journalled: ${this.#failure.message}`,
      {
        hint: this.#failure.hint ?? 'give the journal room, then try again',
        cause: this.#failure,
      },
    );
  }

  /**
   * One step's decisions, and the inputs that made them. Resolves when they are durable, or are in memory because they cannot be. Rejects
   * with `journal/unwritable` when a person or a drill asked for one of them and it cannot be written: then the step must not take
   * effect; make it again without their commands.
   *
   * @param inputs - anything that `encodeValue` takes; undefined: there are none
   * @param asker - who asked for what this step decided; `controller`: nobody, and nothing of it can be refused, whoever is named
   *   in it as the author of an older wish. Undefined: the first author that is no controller
   */
  async append(bodies: readonly Authored[], inputs?: unknown, asker = askerOf(bodies)): Promise<Appended> {
    if (bodies.length === 0) return { durable: false };
    const may = this.canAccept(asker);
    if (!may.ok) throw may.error;
    const draft = this.#draft('decision', bodies, inputs);
    if (this.#failure !== undefined || this.#closed) {
      this.#spool.add({ draft, refusable: false, done: () => {} });
      return { durable: false };
    }
    const outcome = await this.#written(draft, this.#o.whenUnwritable === 'refuse' && isAskedFor(asker));
    if (outcome.durable || this.#failure === undefined) return outcome;
    const still = this.canAccept(asker);
    if (still.ok) return outcome;
    throw still.error;
  }

  /** Entries that nobody waits for and that are never refused: written soon, or counted as lost when there is no room for them. */
  record(kind: Draft['kind'], bodies: readonly unknown[]): void {
    if (bodies.length === 0) return;
    this.#spool.add({ draft: this.#draft(kind, bodies, undefined), refusable: false, done: () => {} });
    this.#wake();
  }

  /** A manifest of ours, seen in the store or at a peer, names an entry. When the disk has lost it, this is told, loudly, once. */
  witness(published: Head): void {
    const head = this.disk.head;
    if (published.chain !== this.disk.chain || published.sequence <= (head?.sequence ?? 0)) return;
    if (published.sequence <= (this.#witnessed?.sequence ?? 0)) return;
    this.#witnessed = published;
    const text = `the journal ends at entry ${head?.sequence ?? 0}, and entry ${published.sequence} was published before`;
    this.#problem(
      new IsthmusError('journal/broken', text, {
        hint: 'the disk was restored from an older copy, or entries were removed',
      }),
    );
    this.disk.note('lost', { published });
  }

  /** Tries once more to write what waits, and stops. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#retry?.cancel();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#o.clock.after(limits.journalWriteWaitMs, resolve);
    await Promise.race([this.#last(), promise]);
    timer.cancel();
  }

  async #last(): Promise<void> {
    await this.#running;
    for (let tried = false; !this.#spool.empty && !(tried && this.#failure !== undefined); tried = true)
      await this.#writeAll();
  }

  #draft(kind: Draft['kind'], bodies: readonly unknown[], inputs: unknown): Draft {
    const { clock, epoch } = this.#o;
    return {
      kind,
      epoch: epoch().toString(),
      wallMs: clock.wallMs(),
      monotonicMs: clock.monotonicMs(),
      inputs: inputs === undefined ? undefined : packInputs(inputs),
      bodies,
    };
  }

  /**
   * Waits for the disk, but not for ever: one that hangs must not hold a failover back. What was asked for and is written after all,
   * too late, is followed by an entry that says that it did not take effect.
   */
  #written(draft: Draft, refusable: boolean): Promise<Outcome> {
    return new Promise((resolve) => {
      let late = false;
      const timer = this.#o.clock.after(limits.journalWriteWaitMs, () => {
        late = true;
        const text = `the disk has not answered for ${limits.journalWriteWaitMs} ms`;
        this.#failed(new IsthmusError('journal/unwritable', text, { hint: 'look at the volume of state.dir' }));
        resolve({ durable: false });
      });
      this.#spool.add({
        draft,
        refusable,
        done: (outcome) => {
          timer.cancel();
          if (late && outcome.durable && refusable) this.#void(outcome.first, outcome.last);
          resolve(outcome);
        },
      });
      this.#wake();
    });
  }

  #void(first: number, last: number): void {
    const body = { first, last, reason: 'refused: the journal did not answer in time' };
    this.#spool.add({ draft: this.#draft('void', [body], undefined), refusable: false, done: () => {} });
  }

  #wake(): void {
    if (this.#running !== undefined || this.#retry !== undefined || this.#closed) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      // What came between the last look and now.
      if (!this.#spool.empty) this.#wake();
    });
  }

  async #run(): Promise<void> {
    // Everything appended in this turn of the event loop shares a write.
    await Promise.resolve();
    while (this.#retry === undefined && (!this.#spool.empty || this.#failure !== undefined)) {
      if (this.#spool.empty) await this.#look();
      else await this.#writeAll();
    }
  }

  /** Whether the disk is back, while there is nothing to write: people wait for it. */
  async #look(): Promise<void> {
    try {
      await this.disk.probe();
      this.#works();
    } catch (error) {
      this.#failed(asProblem(error));
    }
  }

  #works(): void {
    this.#failure = undefined;
    this.#retry?.cancel();
    this.#retry = undefined;
  }

  async #writeAll(): Promise<void> {
    const taken = this.#spool.take(this.#o.bounds?.batchEntriesMax);
    const { lost } = taken;
    const gap = lost === undefined ? [] : [this.#draft('gap', [lost], undefined)];
    try {
      const { entries } = await this.disk.write([...gap, ...taken.waiting.map(({ draft }) => draft)]);
      this.#works();
      this.#o.onEvent({ kind: 'written', entries: entries.length });
      let next = entries.length - taken.waiting.reduce((sum, { draft }) => sum + draft.bodies.length, 0);
      for (const { draft, done } of taken.waiting) {
        const first = entries[next]!.sequence;
        next += draft.bodies.length;
        done({ durable: true, first, last: first + draft.bodies.length - 1 });
      }
    } catch (error) {
      this.#failed(asProblem(error));
      this.#giveBack(taken);
    }
  }

  /** What somebody asked for was refused by now, and is not written later; the rest waits for the disk. */
  #giveBack(taken: ReturnType<Spool['take']>): void {
    const kept = taken.waiting.filter(({ refusable }) => !refusable);
    for (const { done } of taken.waiting) done({ durable: false });
    this.#spool.putBack({ waiting: kept.map((waiting) => ({ ...waiting, done: () => {} })), lost: taken.lost });
  }

  #failed(error: IsthmusError): void {
    this.#o.onEvent({ kind: 'failed', error, again: this.#failure?.message === error.message });
    this.#failure = error;
    if (this.#closed) return;
    this.#retry ??= this.#o.clock.after(limits.journalRetryMs, () => {
      this.#retry = undefined;
      this.#wake();
    });
  }

  #problem(error: IsthmusError): void {
    this.#problems = [...this.#problems, error].slice(-problemsMax);
    this.#o.onEvent({ kind: 'problem', error });
  }
}

const askerOf = (bodies: readonly Authored[]): string =>
  bodies.find(({ author }) => isAskedFor(author))?.author ?? 'controller';

const asProblem = (error: unknown): IsthmusError => {
  if (error instanceof IsthmusError) return error;
  throw error;
};
