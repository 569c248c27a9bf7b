/** Our own manifests: signed with the record key of the moment, and known again under any key that was ours. */
import { createPublicKey, type KeyObject } from 'node:crypto';
import type { Manifest } from '../gen/isthmus/v1/records_pb.ts';
import { toJournalHead } from '../records/journal_head.ts';
import { signManifest, verifyManifest } from '../records/manifest.ts';
import { partSalt } from '../records/readers.ts';
import type { PublisherOptions } from './publisher_options.ts';
import type { Term } from './term.ts';

type Options = Pick<
  PublisherOptions,
  'clusterset' | 'member' | 'clock' | 'recordKey' | 'ownKeys' | 'journalHead' | 'auditHead'
>;

export class OwnManifests {
  readonly #o: Options;

  constructor(options: Options) {
    this.#o = options;
  }

  /** @param records - what it is to cover */
  sign(term: Term, records: { root(): Uint8Array; readonly count: number }, shuttingDown: boolean): Uint8Array {
    const { clusterset, member, clock, journalHead, auditHead } = this.#o;
    const [journal, audit] = [journalHead?.(), auditHead?.()];
    const signed = signManifest(
      {
        $typeName: 'isthmus.v1.Manifest',
        clusterset,
        member,
        epoch: term.epoch,
        sequence: term.sequence,
        root: records.root(),
        count: records.count,
        wallMs: BigInt(Math.floor(clock.wallMs())),
        shuttingDown,
        ...(journal === undefined ? {} : { journal: toJournalHead(journal) }),
        ...(audit === undefined ? {} : { audit: toJournalHead(audit) }),
        critical: [],
      },
      this.#recordKey(),
    );
    if (!signed.ok) throw signed.error;
    return signed.value;
  }

  /** Undefined: it is none of ours. */
  verified(bytes: Uint8Array): Manifest | undefined {
    const { clusterset, member, ownKeys } = this.#o;
    for (const key of [createPublicKey(this.#recordKey()), ...(ownKeys?.() ?? [])]) {
      const manifest = verifyManifest(bytes, { clusterset, member, key });
      if (manifest.ok) return manifest.value;
    }
    return undefined;
  }

  /** Of the part for a reader. Another one after the key was replaced: each is as good, for it stands in the part itself. */
  salt(reader: string): Uint8Array {
    return partSalt(this.#recordKey(), this.#o.clusterset, this.#o.member, reader);
  }

  #recordKey(): KeyObject {
    const { recordKey } = this.#o;
    return typeof recordKey === 'function' ? recordKey() : recordKey;
  }
}
