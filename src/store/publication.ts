/**
 * What should stand in the store under our names, what stands there, and so what is to be written: for everybody under our prefix,
 * and a part for each reader that alone may read it. Keys are relative to the prefix; those that begin with `to/<reader>/` belong
 * to that reader's part. The manifest is not among them, and the record of the parts' roots is made here.
 */
import type { IsthmusError } from '../core/errors.ts';
import type { StoreEntry } from '../core/store.ts';
import { codec } from '../records/codec.ts';
import { saltKey } from '../records/readers.ts';
import { Section } from './section.ts';
import { leavesNew, type Portion } from './thrift.ts';
import type { TickWrites } from './tick.ts';

export interface PublicationOptions {
  /** In full. */
  readonly prefix: string;
  readonly manifestKey: string;
  readonly partPrefix: (reader: string) => string;
  /** The random bytes of a part, see `records/readers.ts`. */
  readonly salt: (reader: string) => Uint8Array;
}

export interface PartWrites extends TickWrites {
  readonly reader: string;
}

interface PartSection {
  readonly section: Section;
  /** Why the store does not let us write it; undefined: it does, as far as is known. */
  denied: IsthmusError | undefined;
  /** Until then nothing is known of what stands there. */
  listed: boolean;
}

const usable = ({ denied, listed }: PartSection): boolean => listed && denied === undefined;

/** Relative to our prefix. */
const readersKey = 'readers';
const partKey = /^to\/([^/]+)\/(.+)$/;
/** The state that our replicas go on from fits together, or is none. */
const isState = (key: string): boolean => /^verdicts(?:\/|$)/.test(key);

export class Publication {
  readonly #o: PublicationOptions;
  readonly #public: Section;
  readonly #parts = new Map<string, PartSection>();
  /** Readers of whose parts the readers record in the store tells. */
  #named: ReadonlySet<string> = new Set();

  constructor(options: PublicationOptions) {
    this.#o = options;
    this.#public = new Section(options.prefix, isState);
  }

  get waiting(): boolean {
    return this.#public.waiting || this.#waitingParts().length > 0;
  }
  /** A reader is new, and its part is to be listed before it is written. */
  get unlisted(): boolean {
    return [...this.#parts.values()].some(({ listed }) => !listed);
  }
  /** Of what stands in the store for everybody once everything taken is written. */
  get count(): number {
    return this.#public.count;
  }
  root(): Uint8Array {
    return this.#public.root();
  }
  /** Records that should be written and were left out of a portion. */
  get heldBack(): number {
    return this.#sections().reduce((sum, section) => sum + section.heldBack, 0);
  }
  /** What was left out is looked at again. */
  bringForth(): void {
    for (const section of this.#sections()) section.bringForth();
  }
  /** What was taken is written. */
  written(): void {
    for (const section of this.#sections()) section.written();
  }
  /** Readers whose parts the store does not let us write, and why. */
  get denied(): ReadonlyMap<string, IsthmusError> {
    const denied = new Map<string, IsthmusError>();
    for (const [reader, part] of this.#parts) if (part.denied !== undefined) denied.set(reader, part.denied);
    return denied;
  }
  /** Whether a record stands in the store as it should. */
  stands(key: string): boolean {
    const [, reader, rest] = partKey.exec(key) ?? [];
    if (reader === undefined || rest === undefined) return this.#public.stands(key);
    const part = this.#parts.get(reader);
    return part !== undefined && usable(part) && part.section.stands(rest);
  }

  change(changes: ReadonlyMap<string, Uint8Array | undefined>): void {
    for (const [key, value] of changes) {
      const [, reader, rest] = partKey.exec(key) ?? [];
      if (reader === undefined || rest === undefined) this.#public.set(key, value);
      else this.#changePart(reader, rest, value);
    }
  }

  /** All entries under our prefix, as listed. @returns the readers whose parts are to be listed too */
  compare(entries: readonly StoreEntry[]): readonly string[] {
    this.#public.compare(entries, this.#o.manifestKey);
    const stored = entries.find(({ key }) => key === this.#o.prefix + readersKey);
    const known = stored === undefined ? undefined : codec.readers.decode(stored.value);
    const named = known?.ok === true ? known.value.parts.map(({ reader }) => reader) : [];
    for (const reader of named) this.#part(reader);
    this.#named = new Set(named);
    return [...this.#parts.keys()];
  }

  /** All entries of a reader's part, or why they could not be listed. */
  comparePart(reader: string, entries: readonly StoreEntry[] | IsthmusError): void {
    const part = this.#part(reader);
    part.listed = true;
    if (Array.isArray(entries)) {
      part.denied = undefined;
      part.section.compare(entries);
    } else this.deny(reader, entries as IsthmusError);
    this.#setReaders();
  }

  /** The store refused what is in this part: the others go on without it, until it is compared again. */
  deny(reader: string, error: IsthmusError): void {
    this.#part(reader).denied = error;
  }

  /** To be written before `take`, so that what covers them is never ahead of them. */
  takeParts(portion: Portion = 'all'): readonly PartWrites[] {
    return [...this.#parts]
      .filter(([, part]) => usable(part))
      .map(([reader, { section }]) => {
        // There was room for the part and none for the record that tells of it: it would stand there in vain.
        const inVain = leavesNew(portion) && section.count > 0 && !this.#named.has(reader);
        return { reader, ...(inVain ? section.takeAway() : section.take(portion)) };
      })
      .filter(({ puts, deletes }) => puts.length + deletes.length > 0);
  }

  /** The writes for everybody, with the roots of the parts as they stand now. */
  take(portion: Portion = 'all'): TickWrites {
    // Without new parts it is no longer than the one that stands there, so it is never left out: what covers the others stays true.
    this.#named = new Set(this.#setReaders(leavesNew(portion) ? this.#named : undefined));
    return this.#public.take(portion, readersKey);
  }

  #sections(): Section[] {
    return [this.#public, ...[...this.#parts.values()].map(({ section }) => section)];
  }

  #waitingParts(): [string, PartSection][] {
    return [...this.#parts].filter(([, part]) => usable(part) && part.section.waiting);
  }

  #changePart(reader: string, rest: string, value: Uint8Array | undefined): void {
    const { section } = this.#part(reader);
    // First, so that nothing is ever there without it.
    if (value !== undefined) section.set(saltKey, this.#o.salt(reader));
    section.set(rest, value);
    const records = section.desired.size - (section.desired.has(saltKey) ? 1 : 0);
    section.set(saltKey, records === 0 ? undefined : this.#o.salt(reader));
  }

  #part(reader: string): PartSection {
    const known = this.#parts.get(reader);
    if (known !== undefined) return known;
    const part = { section: new Section(this.#o.partPrefix(reader)), denied: undefined, listed: false };
    this.#parts.set(reader, part);
    return part;
  }

  /** @param among - of these alone; undefined: of all @returns the readers that it tells of */
  #setReaders(among?: ReadonlySet<string>): readonly string[] {
    const parts = [...this.#parts]
      // Without its salt the root would tell what stands there to whoever guesses it.
      .filter(([, part]) => usable(part) && part.section.holds(saltKey))
      .filter(([reader]) => among?.has(reader) !== false)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([reader, { section }]) => ({ $typeName: 'isthmus.v1.ReaderPart' as const, reader, root: section.root() }));
    if (parts.length === 0) {
      this.#public.set(readersKey, undefined);
      return [];
    }
    const record = codec.readers.encode({ $typeName: 'isthmus.v1.ReadersRecord', parts, critical: [] });
    if (!record.ok) throw record.error;
    this.#public.set(readersKey, record.value);
    return parts.map(({ reader }) => reader);
  }
}
