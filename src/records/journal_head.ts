/** The newest entry of a journal, or of a border audit, as a manifest carries it, and as the journal names it. */
import type { JournalHead, Manifest } from '../gen/isthmus/v1/records_pb.ts';

/** `chain`: 16 hexadecimal digits; `hash`: SHA-256, hexadecimal. */
export interface PublishedHead {
  readonly chain: string;
  readonly sequence: number;
  readonly hash: string;
  /** Undefined: the journal of decisions. */
  readonly log?: 'audit' | undefined;
}

export const toJournalHead = ({ chain, sequence, hash }: PublishedHead): JournalHead => ({
  $typeName: 'isthmus.v1.JournalHead',
  chain,
  sequence: BigInt(sequence),
  hash: new Uint8Array(Buffer.from(hash, 'hex')),
});

const published = ({ chain, sequence, hash }: JournalHead): PublishedHead => ({
  chain,
  sequence: Number(sequence),
  hash: Buffer.from(hash).toString('hex'),
});

/** Those that a manifest names; none when its writer has none, or is of an older version. */
export const headsOf = ({ journal, audit }: Manifest): readonly PublishedHead[] => [
  ...(journal === undefined ? [] : [published(journal)]),
  ...(audit === undefined ? [] : [{ ...published(audit), log: 'audit' as const }]),
];
