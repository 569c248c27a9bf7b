/** What a controller says of its border audit to the command line. The entries themselves come as parts of the chain, to be read there. */
import type { JournalHeadReport } from './journal_report.ts';
import type { ProblemReport } from './report.ts';

export interface AuditReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'Audit';
  readonly member: string;
  readonly replica: string;
  readonly at: string;
  /** False: nothing is written; what is on the disk can still be read. */
  readonly enabled: boolean;
  /** The newest entry on the disk; null: there is none. */
  readonly head: JournalHeadReport | null;
  /** In memory, on their way to the disk. */
  readonly waiting: number;
  /** Lost since the start, for want of disk and memory; a gap in the chain counts them. */
  readonly lost: number;
  /** Gateways (Envoys) that tell of their connections here. */
  readonly sources: readonly string[];
  readonly problems: readonly ProblemReport[];
  /** Oldest first. */
  readonly parts: readonly AuditPartReport[];
}

/** One file of a chain. */
export interface AuditPartReport {
  readonly chain: string;
  /** Number of its first entry. */
  readonly first: number;
  readonly bytes: number;
}

/** A part, in its own bytes: signed head, lines, signed end. */
export interface AuditPartAnswer {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'AuditPart';
  readonly member: string;
  readonly replica: string;
  readonly text: string;
}
