/** What verification finds: the entry by its number, what is wrong with it, and how far the check reached. */
import { limits } from '../core/limits.ts';
import type { Anchor } from './export.ts';

/**
 * - `changed`: the entry is not the one that was signed.
 * - `missing`: a signature names an entry that is not in the file.
 * - `reordered`, `duplicate`: it is, but not where, or as often as, it was written.
 * - `unsigned`: nothing vouches for it.
 * - `file`: something that is no entry was changed, added or removed.
 * - `anchor`: another entry was published under this number.
 * - `key`: signed by another key than the one expected.
 */
export type FindingKind = 'changed' | 'missing' | 'reordered' | 'duplicate' | 'unsigned' | 'file' | 'anchor' | 'key';

export interface Finding {
  readonly kind: FindingKind;
  readonly chain: string;
  /** The entry, or the first of several. */
  readonly sequence: number | undefined;
  /** The last of several; undefined: one. */
  readonly last: number | undefined;
  /** Line of the file, from 1. */
  readonly line: number | undefined;
  readonly message: string;
}

/** One chain, or a part of it, in an export. */
export interface SectionReport {
  readonly chain: string;
  readonly member: string;
  readonly replica: string;
  readonly publicKey: string;
  readonly fingerprint: string;
  readonly first: number;
  readonly last: number;
  /** Entries that hold. */
  readonly entries: number;
  readonly fromWallMs: number | undefined;
  readonly toWallMs: number | undefined;
  /** Not the whole chain, but what was asked for. */
  readonly filtered: boolean;
  /** What it must fit to, when it is a part: see `parts`. */
  readonly edges: {
    /** Hash of the entry before the first, as that says; undefined: the first one does not hold. */
    readonly previous: string | undefined;
    readonly lastHash: string | undefined;
    /** The newest entry that the controller had then. */
    readonly newest: number | undefined;
    /** Older entries were removed for want of room, up to this one. */
    readonly removedUpTo: number;
    readonly part: boolean;
    /** Whether parts before, or behind, were not asked for. */
    readonly since: boolean;
    readonly until: boolean;
  };
  readonly anchors: readonly (Anchor & { readonly outcome: 'agrees' | 'differs' | 'beyond' | 'outside' })[];
  readonly inputs: { readonly kept: number; readonly left: number };
  /** What the check does not cover, and what is worth knowing. */
  readonly notes: readonly string[];
}

export interface Verification {
  readonly holds: boolean;
  readonly sections: readonly SectionReport[];
  /** Of chains that are not in the file at all: of another replica, or of a disk that was lost, or removed. */
  readonly absent: readonly Anchor[];
  /** At most so many are kept; `more` counts the others. */
  readonly findings: readonly Finding[];
  readonly more: number;
}

export const entriesShown = (first: number, last: number): string =>
  first === last ? `entry ${first}` : `entries ${first} to ${last}`;

/** Collects, bounded. */
export class Findings {
  readonly chain: string;
  readonly found: Finding[] = [];
  count = 0;

  constructor(chain: string) {
    this.chain = chain;
  }

  add(kind: FindingKind, message: string, at: { sequence?: number; last?: number; line?: number } = {}): void {
    this.count++;
    if (this.found.length >= limits.journalFindingsMax) return;
    const { sequence, last, line } = at;
    this.found.push({ kind, chain: this.chain, sequence, last: last === sequence ? undefined : last, line, message });
  }

  /** One finding for each run of neighbours. */
  addRuns(kind: FindingKind, sequences: readonly number[], message: (shown: string) => string): void {
    const sorted = [...sequences].sort((a, b) => a - b);
    for (let i = 0; i < sorted.length; ) {
      let j = i;
      while (sorted[j + 1] === sorted[j]! + 1) j++;
      const [sequence, last] = [sorted[i]!, sorted[j]!];
      this.add(kind, message(entriesShown(sequence, last)), { sequence, last });
      i = j + 1;
    }
  }
}
