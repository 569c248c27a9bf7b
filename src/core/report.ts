/** What a controller says of itself to the command line: the shapes of the admin API, versioned by `apiVersion`. */

import type { EgressReport } from './egress_report.ts';
import type { FailoverReport, GrayReport, HoldReport, VerdictReport } from './failover_report.ts';

export interface PeerReport {
  readonly member: string;
  readonly region: string;
  readonly network: string;
  readonly control: {
    /** fresh: its manifest rises; silent: it does not; unknown: silence cannot be told, for our own records do not read back; never: nothing accepted yet. */
    readonly state: 'fresh' | 'silent' | 'unknown' | 'never';
    /** Since its sequence last rose; null when never. */
    readonly ageSeconds: number | null;
    readonly epoch: string;
    readonly sequence: string;
    readonly shuttingDown: boolean;
  };
  readonly data: {
    readonly state: 'reachable' | 'degraded' | 'unreachable' | 'unknown';
    readonly rttMs: number | null;
    readonly gateways: number;
  };
  /** Its trust bundle; `registered`: the authority lists the roots that it may hold. Absent: none was accepted yet. */
  readonly trust?: { readonly roots: number; readonly registered: boolean };
  readonly services: number;
  readonly capacity: { readonly ready: number; readonly total: number };
  readonly problems: readonly ProblemReport[];
  /** What is concluded of both planes; absent while nothing decides. */
  readonly verdict?: VerdictReport;
}

export interface ProblemReport {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
}

export interface ServiceReport {
  readonly service: string;
  readonly mode: 'gateway' | 'direct';
  readonly exported: boolean;
  /** The members that it is exported to; absent: all, or none. */
  readonly exportedTo?: readonly string[];
  /** Members that have it, where this cluster does not import it. */
  readonly notImported?: readonly string[];
  readonly local: { readonly ready: number; readonly total: number };
  /** Best tier first. */
  readonly remotes: readonly {
    readonly member: string;
    readonly tier: number;
    readonly ready: number;
    readonly total: number;
  }[];
  /** Who answers a new connection made here now, as far as readiness tells. */
  readonly serving: string;
  readonly problems: readonly ProblemReport[];
  /** Of new connections made here, 0–100; these four are absent while nothing decides. */
  readonly shares?: readonly { readonly member: string; readonly percent: number }[];
  /** Cells, this cluster's own among them, that are not simply healthy. */
  readonly cells?: readonly ({ readonly member: string } & VerdictReport)[];
  readonly held?: readonly HoldReport[];
  /** Null: nothing would notice that it answers, but badly. */
  readonly gray?: GrayReport | null;
}

export interface ProxyReport {
  readonly node: string;
  readonly role: 'ztunnel' | 'gateway';
  readonly connectedSeconds: number;
  readonly state: 'acked' | 'pending' | 'rejected';
  readonly types: readonly { readonly type: string; readonly sent: string; readonly acked: string }[];
  readonly rejected: readonly { readonly resource: string; readonly reason: string }[];
}

/** Who is in, for how long, and who is out. */
export interface MembershipReport {
  /** Of our own membership; null: the authority's word on us is not known. */
  readonly sequence: string | null;
  readonly endsInSeconds: number | null;
  readonly keys: {
    /** How often they were replaced since the membership. */
    readonly number: number;
    readonly ageSeconds: number;
    /** announced: the next are made, peers are being told; overlap: those before are still accepted. */
    readonly stage: 'current' | 'announced' | 'overlap';
    /** Until new ones are made, or those announced are used at the latest. */
    readonly dueInSeconds: number | null;
    readonly late: boolean;
    /** Live peers that have not said that they know the next. */
    readonly waiting: readonly string[];
    readonly federationCaEndsInSeconds: number;
    readonly etcdCertificateEndsInSeconds: number;
    readonly etcdCertificateEndsSoon: boolean;
  };
  /** Memberships that end within 30 days (sooner when they are short), soonest first. */
  readonly ending: readonly { readonly member: string; readonly endsInSeconds: number }[];
  readonly revoked: readonly {
    readonly member: string;
    /** Memberships up to this one are closed. */
    readonly sequence: string;
    readonly sinceSeconds: number;
    readonly reason: string;
  }[];
}

export interface StatusReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'Status';
  readonly clusterset: string;
  readonly member: string;
  readonly replica: string;
  readonly version: string;
  readonly writer: boolean;
  readonly store: {
    readonly connected: boolean;
    readonly endpoint: string;
    readonly version: string;
    readonly revision: string;
    readonly reason: string;
    /** Age of our own manifest as our own watch reads it back: old means that the store is dark, not the peers. */
    readonly readBackSeconds: number | null;
  };
  readonly saved: { readonly ageSeconds: number | null; readonly servingFromDisk: boolean };
  readonly kubernetes: { readonly staleSeconds: number; readonly pending: readonly string[] };
  readonly gateways: readonly { readonly pod: string; readonly healthy: boolean }[];
  /** Absent from controllers of an earlier version. */
  readonly membership?: MembershipReport;
  readonly peers: readonly PeerReport[];
  readonly services: readonly ServiceReport[];
  readonly proxies: readonly ProxyReport[];
  readonly problems: readonly ProblemReport[];
  /** Absent from controllers of an earlier version. */
  readonly egress?: EgressReport;
  /** Absent while nothing decides. */
  readonly failover?: FailoverReport;
}

export interface TraceHop {
  readonly name: string;
  readonly address: string;
  readonly identity: string;
  /** Time of this hop alone. */
  readonly ms: number | null;
  readonly ok: boolean;
  readonly detail: string;
}

export interface TraceReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'Trace';
  readonly from: string;
  readonly service: string;
  readonly path: 'local' | 'gateway' | 'direct';
  readonly ok: boolean;
  readonly hops: readonly TraceHop[];
  /** Where it broke and what to do, when it did. */
  readonly verdict: string;
}
