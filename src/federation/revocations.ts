/**
 * Who was put out, by the authority's word.
 *
 * A mark that was seen once stays: deleting it from the store, or restoring a store from before it, lets nobody back in. It ends no
 * other way than by a membership that the authority signs with a higher sequence.
 */
import type { KeyObject } from 'node:crypto';
import type { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';
import { type RevocationMark, verifyRevocation } from '../trust/revocation.ts';

interface Kept {
  readonly mark: RevocationMark;
  /** As signed, for the saved state and for peers. */
  readonly bytes: Uint8Array;
}

/** Marks outlive their members, so there may be more of them. */
const marksMax = limits.membersMax * 4;

export class Revocations {
  readonly #options: { readonly clusterset: string; readonly authorityKey: KeyObject };
  readonly #kept = new Map<string, Kept>();
  readonly #problems = new Map<string, IsthmusError>();

  constructor(options: { readonly clusterset: string; readonly authorityKey: KeyObject }) {
    this.#options = options;
  }

  mark(name: string): RevocationMark | undefined {
    return this.#kept.get(name)?.mark;
  }
  /** Marks as they were signed, by name, the newest first. */
  *signed(): Generator<readonly [string, Uint8Array]> {
    const newest = [...this.#kept].sort(([, { mark: a }], [, { mark: b }]) => b.wallMs - a.wallMs);
    for (const [name, { bytes }] of newest) yield [name, bytes];
  }
  get problems(): Iterable<IsthmusError> {
    return this.#problems.values();
  }

  closes(name: string, sequence: bigint): boolean {
    const mark = this.mark(name);
    return mark !== undefined && sequence <= mark.sequence;
  }

  /** From the store, the saved state, or a peer: what is signed counts, wherever it came from. @returns whether anything changed */
  add(name: string, bytes: Uint8Array): boolean {
    if (!isDnsLabel(name) || (!this.#kept.has(name) && this.#kept.size >= marksMax)) return false;
    const verified = verifyRevocation(bytes, { ...this.#options, name });
    if (!verified.ok) {
      if (this.#problems.size < limits.problemsPerMemberMax) this.#problems.set(name, verified.error);
      return false;
    }
    this.#problems.delete(name);
    const before = this.mark(name);
    if (before !== undefined && verified.value.sequence <= before.sequence) return false;
    this.#kept.set(name, { mark: verified.value, bytes: new Uint8Array(bytes) });
    return true;
  }

  /** The store holds nothing under a name (any more): what was said of it as a problem goes, the mark stays. */
  gone(name: string): void {
    this.#problems.delete(name);
  }
}
