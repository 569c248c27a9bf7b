/**
 * Who was put out, by the authority's word.
 *
 * A mark that was seen once stays: deleting it from the store, or restoring a store from before it, lets nobody back in. It ends no
 * other way than by a membership that the authority signs with a higher sequence.
 */
import { createHash, type KeyObject } from 'node:crypto';
import type { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';
import { type RevocationMark, verifyRevocation } from '../trust/revocation.ts';
import type { SignedMark } from './revocation_text.ts';

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
  #digest: string | undefined;
  #sorted: readonly SignedMark[] | undefined;

  constructor(options: { readonly clusterset: string; readonly authorityKey: KeyObject }) {
    this.#options = options;
  }

  mark(name: string): RevocationMark | undefined {
    return this.#kept.get(name)?.mark;
  }
  /** Marks as they were signed, by name, the newest first. The same array until there is another mark. */
  signed(): readonly SignedMark[] {
    this.#sorted ??= [...this.#kept]
      .sort(([a, x], [b, y]) => y.mark.wallMs - x.mark.wallMs || (a < b ? -1 : 1))
      .map(([name, { bytes }]) => [name, bytes] as const);
    return this.#sorted;
  }
  marks(): Iterable<RevocationMark> {
    return this.#kept.values().map(({ mark }) => mark);
  }
  /** Equal for two readers who know the same marks. */
  get digest(): string {
    if (this.#digest !== undefined) return this.#digest;
    const lines = [...this.#kept].map(([name, { mark }]) => `${name}:${mark.sequence}\n`).sort();
    this.#digest = createHash('sha256').update(lines.join('')).digest('hex').slice(0, 16);
    return this.#digest;
  }
  get problems(): Iterable<IsthmusError> {
    return this.#problems.values();
  }

  closes(name: string, sequence: bigint): boolean {
    const mark = this.mark(name);
    return mark !== undefined && sequence <= mark.sequence;
  }

  /** From the store: what is signed counts, and what is not is a problem. @returns whether anything changed */
  add(name: string, bytes: Uint8Array): boolean {
    const taken = this.learn(name, bytes);
    if (taken === undefined || typeof taken === 'boolean') {
      if (taken !== undefined) this.#problems.delete(name);
      return taken === true;
    }
    if (this.#problems.size < limits.problemsPerMemberMax) this.#problems.set(name, taken);
    return false;
  }

  /**
   * From the saved state or a peer: what is signed counts, wherever it came from.
   * @returns whether anything changed; why it is no mark; undefined: there is no room for it
   */
  learn(name: string, bytes: Uint8Array): boolean | IsthmusError | undefined {
    const kept = this.#kept.get(name);
    if (kept !== undefined && Buffer.compare(kept.bytes, bytes) === 0) return false;
    if (!isDnsLabel(name) || (kept === undefined && this.#kept.size >= marksMax)) return undefined;
    const verified = verifyRevocation(bytes, { ...this.#options, name });
    if (!verified.ok) return verified.error;
    if (kept !== undefined && verified.value.sequence <= kept.mark.sequence) return false;
    this.#kept.set(name, { mark: verified.value, bytes: new Uint8Array(bytes) });
    this.#digest = undefined;
    this.#sorted = undefined;
    return true;
  }

  /** The store holds nothing under a name (any more): what was said of it as a problem goes, the mark stays. */
  gone(name: string): void {
    this.#problems.delete(name);
  }
}
