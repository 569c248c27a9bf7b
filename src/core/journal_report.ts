/** What a controller says of its journal to the command line. Versioned by `apiVersion`, as all reports. */
import type { ProblemReport } from './report.ts';

/** An entry; times are UTC, ISO 8601. */
export interface JournalEntryReport {
  readonly sequence: number;
  /** decision | begin | gap | cut | torn | lost | void */
  readonly kind: string;
  readonly chain: string;
  readonly member: string;
  readonly replica: string;
  readonly epoch: string;
  readonly at: string;
  readonly monotonicMs: number;
  readonly hash: string;
  readonly previous: string;
  /** False: it is not the entry that was signed. */
  readonly intact: boolean;
  /** The entries of one step: the first, and how many. */
  readonly step: { readonly first: number; readonly count: number };
  /** Null: it has none. `left`: why they are not kept. */
  readonly inputs: { readonly digest: string; readonly bytes: number; readonly left: string | null } | null;
  /** What was decided, as the decision room wrote it. */
  readonly body: unknown;
}

export interface JournalHeadReport {
  readonly chain: string;
  readonly sequence: number;
  readonly hash: string;
}

export interface JournalListReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'JournalList';
  readonly member: string;
  readonly replica: string;
  readonly at: string;
  /** The newest entry on the disk; null: there is none. */
  readonly head: JournalHeadReport | null;
  /** In memory, for the disk does not take them; lost for want of memory. */
  readonly spooled: number;
  readonly lost: number;
  /** Why nothing can be written; null: it can. */
  readonly failure: ProblemReport | null;
  readonly problems: readonly ProblemReport[];
  /** Oldest first. */
  readonly entries: readonly JournalEntryReport[];
}

export interface JournalEntryAnswer {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'JournalEntry';
  readonly entry: JournalEntryReport;
}

/** An export, in its own bytes. */
export interface JournalExportReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'JournalExport';
  readonly member: string;
  readonly replica: string;
  readonly text: string;
}

/** Heads of journals that manifests carried: what this controller can testify of its own journal and those of the others. */
export interface JournalAnchorsReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'JournalAnchors';
  readonly member: string;
  readonly anchors: readonly (JournalHeadReport & {
    /** Whose journal it is. */
    readonly of: string;
    /** Who remembers it. */
    readonly source: string;
    /** Of the border audit; undefined: of the journal of decisions. */
    readonly log?: 'audit' | undefined;
  })[];
}
