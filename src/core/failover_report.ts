/**
 * What a controller says of failover to the command line: why traffic goes where it goes, what a drain would move, what was
 * decided. Versioned by `apiVersion`, as all reports.
 *
 * Ages and deadlines are seconds from `at`, the moment of the report, so that the reader's clock plays no part. `at` itself, and
 * the times of past decisions, are UTC, for people.
 */

import type { DenialReport } from './egress_report.ts';

/** One exporter of a service, the asking cluster itself included. */
export interface StandingReport {
  readonly member: string;
  /** True for the cluster whose view this is. */
  readonly local: boolean;
  /** 0 for the cluster itself, 1 for the first remote tier; null: in no tier. */
  readonly tier: number | null;
  /** Of new connections, 0–100. */
  readonly sharePercent: number;
  /** How much of its full weight it gets: below 100 while it is suspect, ramps or drains. */
  readonly weightPercent: number;
  /** fresh | suspect | quarantined | evicted | unknown (at that time in the past). */
  readonly state: string;
  readonly reason: string;
  /** What was seen, with numbers; may be empty. */
  readonly detail: string;
  readonly ageSeconds: number | null;
  /** When it changes next if nothing else happens; null: when evidence comes. */
  readonly untilSeconds: number | null;
  /** Null: not known, for the past. */
  readonly ready: number | null;
  readonly total: number | null;
}

/** A guard that held something back: `detail` says what was wished and what was done instead. */
export interface HoldReport {
  readonly guard: string;
  readonly member: string | null;
  readonly detail: string;
}

/** A line of the policy that mattered here: what it says, and what follows from it in this case. */
export interface PolicyLine {
  readonly field: string;
  readonly value: string;
  readonly effect: string;
}

/** Something that would change the picture; `inSeconds` when it comes by itself. */
export interface ChangeReport {
  readonly inSeconds: number | null;
  readonly what: string;
  /** The command that brings it about, where there is one. */
  readonly command: string | null;
}

/** A decision as the journal has it. */
export interface DecisionReport {
  /** UTC, ISO 8601. */
  readonly at: string;
  /** Where to find it: `isthmus journal show <entry>`. Empty: not known. */
  readonly entry: string;
  /** Whose journal it is in: each replica keeps its own, and wrote while it decided. */
  readonly replica: string;
  readonly kind: string;
  readonly service: string | null;
  readonly member: string | null;
  readonly rule: string;
  readonly detail: string;
  readonly author: string;
  readonly guards: readonly HoldReport[];
  readonly before: PlacementReport | string | null;
  readonly after: PlacementReport | string | null;
  /** The policy only observes: this is what would have been done. */
  readonly observed: boolean;
  readonly policy: string;
}

/** Shares of a service's traffic: what stays local, then the tiers in order. */
export interface PlacementReport {
  readonly localPercent: number;
  readonly tiers: readonly (readonly {
    readonly member: string;
    readonly weight: number;
    readonly percent: number;
  }[])[];
}

/** Decisions of one replica's journal. */
export interface DecisionListReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'DecisionList';
  readonly member: string;
  readonly replica: string;
  /** UTC. */
  readonly at: string;
  /** Names of policies that only observe now. */
  readonly observing: readonly string[];
  readonly decisions: readonly DecisionReport[];
}

export interface ExplainReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'Explain';
  /** Whether the replica that answered is the one that decides. */
  readonly deciding: boolean;
  readonly service: string;
  /** The cluster whose callers are meant. */
  readonly from: string;
  /** UTC. */
  readonly at: string;
  /** now: from the state that serves; journal: from what was written then; record: from what that cluster publishes. */
  readonly source: 'now' | 'journal' | 'record';
  /** One sentence. */
  readonly headline: string;
  /** What limits this answer: frozen, observing, an old source. */
  readonly notes: readonly string[];
  readonly standings: readonly StandingReport[];
  readonly policy: { readonly name: string; readonly mode: string; readonly lines: readonly PolicyLine[] };
  readonly held: readonly HoldReport[];
  readonly changes: readonly ChangeReport[];
  /** Newest first. */
  readonly decisions: readonly DecisionReport[];
  /** Rules of the egress that concern callers of this service, a line each; absent: there are none. */
  readonly rights?: readonly string[];
  /** Callers that were denied it lately; absent: none. */
  readonly denied?: readonly DenialReport[];
}

/** A cluster's share of one service, with what it would mean for it. */
export interface LandingReport {
  readonly member: string;
  readonly beforePercent: number;
  readonly afterPercent: number;
  readonly ready: number | null;
  readonly total: number | null;
  /** New connections a second that it would get more than now; null: the load is not known. */
  readonly morePerSecond: number | null;
  /** What it has left by its declared capacity, new connections a second; null: no capacity is declared. */
  readonly headroomPerSecond: number | null;
}

export interface MoveReport {
  readonly service: string;
  /** Whose calls these are. */
  readonly client: string;
  /** The client decides by its own view: from here it can only be estimated, from what it publishes. */
  readonly estimated: boolean;
  /** Of the service's new connections at that client, 0–100. */
  readonly movedPercent: number;
  /** New connections a second; null: not known. */
  readonly perSecond: number | null;
  readonly landings: readonly LandingReport[];
  readonly held: readonly HoldReport[];
}

export interface DryRunReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'DryRun';
  readonly at: string;
  /** The cluster that would decide. */
  readonly member: string;
  readonly command: { readonly kind: string; readonly target: string; readonly overSeconds: number };
  readonly moves: readonly MoveReport[];
  /** Services of this cluster that were looked at and stay as they are. */
  readonly unchanged: number;
  /** How the ramp goes: share of all that moves which has moved, after so many seconds. */
  readonly ramp: readonly { readonly afterSeconds: number; readonly percent: number }[];
  /** Guards that would hold, over all services. */
  readonly held: readonly HoldReport[];
  /** True when guards would hold back everything. */
  readonly blocked: boolean;
  readonly notes: readonly string[];
}

export interface CommandReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'Command';
  readonly at: string;
  readonly member: string;
  readonly replica: string;
  readonly author: string;
  /** What the controller decided upon it at once. */
  readonly decisions: readonly DecisionReport[];
}

export interface ObserveReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'Observe';
  readonly member: string;
  readonly at: string;
  /** Oldest first; days without a decision are in it. */
  readonly days: readonly ObservedDay[];
  /** Policies that only observe; when there is none, nothing is withheld. */
  readonly observing: readonly string[];
}

export interface ObservedDay {
  /** UTC, `2026-11-21`. */
  readonly day: string;
  readonly services: readonly { readonly service: string; readonly decisions: readonly DecisionReport[] }[];
}

/** A drain as it stands. */
export interface DrainReport {
  /** `cluster us-west`, `service shop/checkout at us-west`. */
  readonly target: string;
  readonly author: string;
  readonly reason: string;
  readonly ageSeconds: number;
  /** How far the ramp is: 100 means that nothing new goes there. */
  readonly percent: number;
  readonly doneInSeconds: number | null;
  /** Until open connections are ended; null: already, or never. */
  readonly graceSeconds: number | null;
  readonly held: readonly HoldReport[];
}

/** Services that a cluster no longer publishes, and that are kept until that is believed. */
export interface WithdrawalReport {
  readonly member: string;
  readonly services: number;
  /** So many at once that a person, or the death of the member, has to confirm it; else a canary probe does. */
  readonly mass: boolean;
  /** Of the oldest. */
  readonly ageSeconds: number;
  /** Until the last of them is let go. */
  readonly untilSeconds: number;
}

/** The part of a status report that is about failover. */
export interface FailoverReport {
  /** Whether this replica decides; the others serve what it decided. */
  readonly deciding: boolean;
  readonly frozen: { readonly author: string; readonly reason: string; readonly ageSeconds: number } | null;
  /** Names of policies that only observe. */
  readonly observing: readonly string[];
  readonly drains: readonly DrainReport[];
  readonly journal: JournalHealth;
  readonly withdrawals: readonly WithdrawalReport[];
  readonly regions: readonly {
    readonly region: string;
    readonly state: string;
    readonly reason: string;
    readonly detail: string;
    readonly ageSeconds: number;
  }[];
}

export interface JournalHealth {
  /** written: on disk; spooled: kept in memory until the disk takes it; unwritable: it does not. */
  readonly state: 'written' | 'spooled' | 'unwritable';
  /** Entries that are not on disk yet. */
  readonly spooled: number;
  /** Since the newest entry; null: there is none. */
  readonly ageSeconds: number | null;
  /** Why it is not on disk; empty when it is. */
  readonly reason: string;
}

/** What is concluded of a peer or of one service at it. */
export interface VerdictReport {
  readonly state: string;
  readonly reason: string;
  readonly detail: string;
  readonly ageSeconds: number;
  readonly untilSeconds: number | null;
}

/** The named signal that can see a gray failure of a service, when it has one. */
export interface GrayReport {
  /** `GET /healthz`, or the query. */
  readonly probe: string;
}
