/** The newest entry of a journal as a manifest carries it, and as the journal names it. */
import type { JournalHead, Manifest } from '../gen/isthmus/v1/records_pb.ts';

/** `chain`: 16 hexadecimal digits; `hash`: SHA-256, hexadecimal. */
export interface PublishedHead {
  readonly chain: string;
  readonly sequence: number;
  readonly hash: string;
}

export const toJournalHead = ({ chain, sequence, hash }: PublishedHead): JournalHead => ({
  $typeName: 'isthmus.v1.JournalHead',
  chain,
  sequence: BigInt(sequence),
  hash: new Uint8Array(Buffer.from(hash, 'hex')),
});

/** Undefined when the manifest names none: its writer has no journal, or is of an older version. */
export const journalHeadOf = ({ journal }: Manifest): PublishedHead | undefined =>
  journal === undefined
    ? undefined
    : { chain: journal.chain, sequence: Number(journal.sequence), hash: Buffer.from(journal.hash).toString('hex') };
