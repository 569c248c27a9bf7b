/**
 * What our own watch of our own records tells: that our manifests arrive, and that nobody else writes there.
 *
 * A peer's silence counts only while our own manifests read back: if they do not, the store is dark, not the peer. And a record that
 * was changed under us would leave every reader with a manifest that does not match, so it has to be put right.
 */
import type { Manifest } from '../gen/isthmus/v1/records_pb.ts';

const revisionsKept = 256;
const manifestsKept = 8;

const packed = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

export class Witness {
  readonly #nowMs: () => number;
  /** Manifests of this process by their bytes: the one that is known to stand, and those that may. A foreign one is any other. */
  #standing: string | undefined;
  #sent: string[] = [];
  readonly #ours = new Set<bigint>();
  /** Revisions under our prefix that may not be ours; judged when no commit is in flight. */
  #suspects = new Set<bigint>();
  /** Up to here the store was listed. */
  #listed = 0n;
  #head: { readonly epoch: bigint; readonly sequence: bigint } | undefined;
  #headAtMs: number | undefined;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Epoch of the newest manifest of ours that came back, whichever replica wrote it. */
  get epoch(): bigint {
    return this.#head?.epoch ?? 0n;
  }

  ageMs(): number | undefined {
    return this.#headAtMs === undefined ? undefined : this.#nowMs() - this.#headAtMs;
  }

  sending(manifest: Uint8Array): void {
    this.#sent = [...this.#sent.slice(1 - manifestsKept), packed(manifest)];
  }
  stands(manifest: Uint8Array): void {
    this.#standing = packed(manifest);
  }
  isOurs(manifest: Uint8Array): boolean {
    const bytes = packed(manifest);
    return bytes === this.#standing || this.#sent.includes(bytes);
  }
  /** Is it the one that we know to stand? */
  isStanding(manifest: Uint8Array | undefined): boolean {
    return manifest !== undefined && packed(manifest) === this.#standing;
  }

  committed(revision: bigint): void {
    this.#ours.add(revision);
    if (this.#ours.size > revisionsKept) this.#ours.delete(this.#ours.values().next().value!);
  }
  /** @param afresh - the store went back: revisions of before mean nothing any more */
  listed(revision: bigint, afresh: boolean): void {
    this.#listed = revision;
    if (afresh) this.#ours.clear();
  }

  suspect(revision: bigint): void {
    this.#suspects.add(revision);
  }
  /** Did somebody else write since the last list? Ask only when no commit is in flight. */
  foreign(): boolean {
    const found = [...this.#suspects].some((revision) => revision > this.#listed && !this.#ours.has(revision));
    this.#suspects.clear();
    return found;
  }

  readBack({ epoch, sequence }: Manifest): void {
    const head = this.#head;
    if (head !== undefined && (epoch < head.epoch || (epoch === head.epoch && sequence <= head.sequence))) return;
    this.#head = { epoch, sequence };
    this.#headAtMs = this.#nowMs();
  }
}
