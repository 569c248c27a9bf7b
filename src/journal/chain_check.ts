/**
 * Holds the entries of a file against the seals: each entry's hash is in a signed list under its number.
 *
 * So every line is judged by itself, and one that was changed is named even though all after it still hold. Following the chain from
 * the start was passed over: it stops at the first break, and cannot tell a changed entry from a missing one.
 */
import type { KeyObject } from 'node:crypto';
import { readSeal, type Seal, sealSigned } from './batch.ts';
import { type Entry, entryHash, readEntry } from './entry.ts';
import { entriesShown, type Findings } from './finding.ts';
import { type Line, typeOf } from './lines.ts';

/** A line with its number in the file. */
export interface Numbered {
  readonly line: Line;
  readonly number: number;
}

export interface ChainCheck {
  /** The entries that hold, by number. */
  readonly good: ReadonlyMap<number, { readonly entry: Entry; readonly hash: string }>;
  readonly first: number;
  readonly last: number;
}

const gapShownMax = 10_000;

interface EntryLine extends Numbered {
  readonly entry: Entry | undefined;
  readonly hash: string;
}

interface Place {
  readonly sequence: number;
  readonly number: number;
}

/** Of the places in file order, those that are not in the longest run of rising numbers. */
const outOfPlace = (places: readonly Place[]): readonly Place[] => {
  const ends: number[] = [];
  const before: number[] = new Array(places.length).fill(-1);
  for (const [i, { sequence }] of places.entries()) {
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (places[ends[middle]!]!.sequence < sequence) low = middle + 1;
      else high = middle;
    }
    if (low > 0) before[i] = ends[low - 1]!;
    ends[low] = i;
  }
  const kept = new Set<number>();
  for (let i = ends.at(-1) ?? -1; i >= 0; i = before[i]!) kept.add(i);
  return places.filter((_, i) => !kept.has(i));
};

class Checker {
  readonly #findings: Findings;
  readonly #chain: string;
  readonly #expected = new Map<number, string>();
  readonly #seals: { readonly seal: Seal; readonly number: number }[] = [];
  readonly #sealed = new Set<number>();
  readonly #good = new Map<number, { readonly entry: Entry; readonly hash: string }>();
  readonly #accounted = new Set<number>();

  constructor(chain: string, findings: Findings) {
    this.#chain = chain;
    this.#findings = findings;
  }

  seals(lines: readonly Numbered[], key: KeyObject): void {
    for (const { line, number } of lines) {
      if (typeOf(line) !== 'seal') continue;
      const seal = readSeal(line);
      if (seal === undefined || !sealSigned(line, key)) {
        const at = seal === undefined ? {} : { sequence: seal.first, last: seal.last };
        const of = seal === undefined ? '' : ` of ${entriesShown(seal.first, seal.last)}`;
        this.#findings.add('file', `line ${number}: the seal${of} is not signed by the key of this chain`, {
          ...at,
          line: number,
        });
        continue;
      }
      if (seal.chain !== this.#chain) {
        this.#findings.add('file', `line ${number}: the seal is of chain ${seal.chain}`, { line: number });
        continue;
      }
      if (this.#sealed.has(seal.first)) {
        this.#findings.add('duplicate', `line ${number}: a second seal of ${entriesShown(seal.first, seal.last)}`, {
          sequence: seal.first,
          last: seal.last,
          line: number,
        });
        continue;
      }
      this.#sealed.add(seal.first);
      this.#seals.push({ seal, number });
      for (const [i, hash] of seal.hashes.entries()) this.#expected.set(seal.first + i, hash);
    }
  }

  entries(lines: readonly EntryLine[]): void {
    const places: Place[] = [];
    const bad: EntryLine[] = [];
    for (const one of lines) {
      const sequence = one.entry?.sequence;
      if (one.entry === undefined || sequence === undefined || this.#expected.get(sequence) !== one.hash) bad.push(one);
      else if (this.#good.has(sequence)) {
        this.#findings.add('duplicate', `entry ${sequence} is there twice`, { sequence, line: one.number });
      } else {
        this.#good.set(sequence, { entry: one.entry, hash: one.hash });
        places.push({ sequence, number: one.number });
      }
    }
    for (const { sequence, number } of outOfPlace(places)) {
      this.#findings.add('reordered', `entry ${sequence} is not in its place, it stands on line ${number}`, {
        sequence,
        line: number,
      });
    }
    this.#blame(bad, places);
  }

  /** Which entry a line that does not hold was: the one that its place calls for, else the one that it says. */
  #blame(bad: readonly EntryLine[], places: readonly Place[]): void {
    let next = 0;
    let cursor = this.#start();
    for (const one of bad) {
      while (next < places.length && places[next]!.number < one.number) cursor = places[next++]!.sequence;
      const here = cursor + 1;
      const stated = one.entry?.sequence;
      const open = (sequence: number | undefined): sequence is number =>
        sequence !== undefined &&
        this.#expected.has(sequence) &&
        !this.#good.has(sequence) &&
        !this.#accounted.has(sequence);
      const sequence = open(here) ? here : open(stated) ? stated : undefined;
      if (sequence !== undefined) {
        cursor = sequence;
        this.#accounted.add(sequence);
        const what = one.entry === undefined ? 'cannot be read' : 'is not the one that was signed';
        this.#findings.add('changed', `entry ${sequence} ${what} (line ${one.number})`, { sequence, line: one.number });
      } else if (stated !== undefined) {
        this.#accounted.add(stated);
        this.#findings.add('unsigned', `entry ${stated} on line ${one.number} is in no signed batch`, {
          sequence: stated,
          line: one.number,
        });
      } else {
        this.#findings.add('file', `line ${one.number} is no line of a journal`, { line: one.number });
      }
    }
  }

  #start(): number {
    return this.#seals.reduce((least, { seal }) => Math.min(least, seal.first), Number.MAX_SAFE_INTEGER) - 1;
  }

  /** What the signatures name and the file lacks. @param range - what the file says it holds */
  missing(range: { readonly first: number; readonly last: number }): { readonly first: number; readonly last: number } {
    const lacks = [...this.#expected.keys()].filter(
      (sequence) => !this.#good.has(sequence) && !this.#accounted.has(sequence),
    );
    this.#findings.addRuns('missing', lacks, (shown) => `${shown}: signed, but not in the file`);
    const seals = this.#seals.map(({ seal }) => seal).sort((a, b) => a.first - b.first);
    const first = Math.min(range.first || Number.MAX_SAFE_INTEGER, seals[0]?.first ?? Number.MAX_SAFE_INTEGER);
    const last = Math.max(range.last, seals.at(-1)?.last ?? 0);
    let next = first;
    for (const seal of [...seals, { first: last + 1, last }]) {
      if (seal.first > next) this.#gap(next, seal.first - 1);
      next = Math.max(next, seal.last + 1);
    }
    return { first: last === 0 ? 0 : first, last };
  }

  #gap(first: number, last: number): void {
    const lost = (shown: string): string => `${shown}: not in the file, nor the signature over them`;
    if (last - first >= gapShownMax) {
      this.#findings.add('missing', lost(entriesShown(first, last)), { sequence: first, last });
      return;
    }
    // Entries without a seal were named already.
    const lacks = Array.from({ length: last - first + 1 }, (_, i) => first + i).filter((n) => !this.#accounted.has(n));
    this.#findings.addRuns('missing', lacks, lost);
  }

  /** Each entry names the one before it: only who holds the key could make two signed ones disagree. */
  links(): void {
    for (const [sequence, { entry }] of this.#good) {
      const before = this.#expected.get(sequence - 1);
      if (entry.chain !== this.#chain) {
        this.#findings.add('changed', `entry ${sequence} is of chain ${entry.chain}`, { sequence });
      } else if (before !== undefined && entry.previous !== before) {
        this.#findings.add('changed', `entry ${sequence} follows another entry ${sequence - 1} than the one here`, {
          sequence: sequence - 1,
        });
      }
    }
  }

  result(range: { readonly first: number; readonly last: number }): ChainCheck {
    return { good: this.#good, ...range };
  }
}

/**
 * @param lines - all lines that are neither head nor end, and no inputs
 * @param range - the first and last entry that the file says it holds; 0 when it says nothing
 */
export const checkChain = (
  chain: string,
  key: KeyObject,
  lines: readonly Numbered[],
  range: { readonly first: number; readonly last: number },
  findings: Findings,
): ChainCheck => {
  const checker = new Checker(chain, findings);
  checker.seals(lines, key);
  const entryLines = lines.filter(({ line }) => !['seal', 'segment'].includes(typeOf(line) ?? 'entry'));
  checker.entries(entryLines.map((one) => ({ ...one, entry: readEntry(one.line), hash: entryHash(one.line) })));
  const covered = checker.missing(range);
  checker.links();
  return checker.result(covered);
};
