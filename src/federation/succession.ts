/**
 * Which keys count for one member now: those of its membership, or the newest that follow them (`trust/succession.ts`).
 *
 * A link counts the moment that it is seen, whether a manifest covers it or not, for it says who may sign the manifest. What was seen once
 * is never given back: the newest link is kept over restarts, and a store that shows fewer links, or others, changes nothing.
 */
import type { KeyObject } from 'node:crypto';
import type { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { publicKeyOf } from '../records/signed.ts';
import { decodeKeys } from '../records/succession.ts';
import type { Member } from '../trust/membership.ts';
import { type Link, verifyChain } from '../trust/succession.ts';

export interface KeysView {
  /** Of the newest link; 0: those of the membership. */
  readonly number: number;
  /** DER; the newest first, and the one before it for as long as it is accepted. */
  readonly federationCas: readonly Uint8Array[];
  /** When the newest was made, ms since 1970; undefined: with the membership. */
  readonly madeMs: number | undefined;
  /** Until when the keys before are accepted; undefined: no longer, or there are none. */
  readonly overlapUntilMs: number | undefined;
}

interface Pair {
  readonly key: KeyObject;
  readonly ca: Uint8Array;
}

const pairOf = ({ recordKey, federationCa }: Pick<Member, 'recordKey' | 'federationCa'>): Pair => {
  const key = publicKeyOf(recordKey);
  if (!key.ok) throw key.error;
  return { key: key.value, ca: federationCa };
};

export class Succession {
  readonly #context: { readonly clusterset: string; readonly member: string };
  #member: Member | undefined;
  /** The record in which the newest link was seen, for the saved state. */
  #bytes: Uint8Array | undefined;
  /** What came before the membership did. */
  #early: Uint8Array | undefined;
  #newest: Link | undefined;
  #now: Pair | undefined;
  #before: Pair | undefined;
  #problem: IsthmusError | undefined;
  #overlapping = false;

  constructor(clusterset: string, member: string) {
    this.#context = { clusterset, member };
  }

  /** The record that holds the newest link seen; undefined: none was. */
  get bytes(): Uint8Array | undefined {
    return this.#bytes;
  }
  get problem(): IsthmusError | undefined {
    return this.#problem;
  }
  get view(): KeysView {
    return {
      number: this.#newest?.number ?? 0,
      federationCas: this.#pairs().map(({ ca }) => ca),
      madeMs: this.#newest?.madeMs,
      overlapUntilMs: this.#overlapping ? this.#newest?.previousUntilMs : undefined,
    };
  }
  /** Who may sign a manifest, the newest first. */
  get keys(): readonly KeyObject[] {
    return this.#pairs().map(({ key }) => key);
  }

  /** The authority's word: links count from its keys on. */
  setMember(member: Member, wallMs: number): void {
    const again = this.#member !== undefined && Buffer.compare(this.#member.recordKey, member.recordKey) === 0;
    this.#member = member;
    if (again) return;
    const bytes = this.#early ?? this.#bytes;
    this.#early = undefined;
    this.#newest = undefined;
    this.#bytes = undefined;
    this.#problem = undefined;
    this.#now = pairOf(member);
    this.#before = undefined;
    if (bytes !== undefined) this.offer(bytes, wallMs);
  }

  /** What stands in the store as the member's keys, or did before a restart. @returns whether other keys count now */
  offer(bytes: Uint8Array | undefined, wallMs: number): boolean {
    if (bytes === undefined) {
      this.#problem = undefined;
      return false;
    }
    if (this.#member === undefined) {
      this.#early = bytes.length > limits.recordBytesMax ? undefined : new Uint8Array(bytes);
      return false;
    }
    const record = decodeKeys(bytes);
    const chain = record.ok
      ? verifyChain(record.value.links, this.#context, this.#member.recordKey, this.#newest)
      : record;
    this.#problem = chain.ok ? undefined : chain.error;
    const last = chain.ok ? chain.value.at(-1) : undefined;
    if (!chain.ok || last === undefined || last.number === this.#newest?.number) return false;
    // Both verified: one that was known has the digest that was, and what comes after it was verified now.
    const before = chain.value.at(-2);
    this.#newest = last;
    this.#bytes = new Uint8Array(bytes);
    this.#now = pairOf(last);
    this.#before = pairOf(before ?? this.#member);
    this.#overlapping = wallMs < last.previousUntilMs;
    return true;
  }

  /** @returns whether the keys before the newest ended to count */
  tick(wallMs: number): boolean {
    if (!this.#overlapping || wallMs < this.#newest!.previousUntilMs) return false;
    this.#overlapping = false;
    return true;
  }

  #pairs(): readonly Pair[] {
    return [this.#now, this.#overlapping ? this.#before : undefined].filter((pair) => pair !== undefined);
  }
}
