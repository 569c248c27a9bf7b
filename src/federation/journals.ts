/**
 * Heads of a member's journals and border audits, as its manifests named them. Whoever holds one can tell later that the journal was cut or rewritten.
 *
 * One head for each chain, the highest: a lower one says nothing more, and of two that have the same number the first stays, for the
 * second would be the rewritten one.
 */
import { limits } from '../core/limits.ts';
import type { Manifest } from '../gen/isthmus/v1/records_pb.ts';
import { headsOf, type PublishedHead } from '../records/journal_head.ts';

export class SeenJournals {
  readonly #heads = new Map<string, PublishedHead>();

  get heads(): readonly PublishedHead[] {
    return [...this.#heads.values()];
  }

  note(manifest: Manifest): void {
    for (const head of headsOf(manifest)) this.#note(head);
  }

  #note(head: PublishedHead): void {
    if ((this.#heads.get(head.chain)?.sequence ?? 0) >= head.sequence) return;
    // Newest last: what goes when there are too many is what was heard of least lately.
    this.#heads.delete(head.chain);
    this.#heads.set(head.chain, head);
    const [oldest] = this.#heads.keys();
    if (this.#heads.size > limits.journalAnchorsPerMemberMax && oldest !== undefined) this.#heads.delete(oldest);
  }
}
